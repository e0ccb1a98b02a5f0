"""The configuration as people write and read it: faults in one line each, and the table of all keys."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ValidationError

from weakseg.config import Config
from weakseg.config_data import Section
from weakseg.errors import WeaksegError, nearest


def load(raw: dict[str, Any], overlays: Sequence[object] = ()) -> Config:
    """Check a configuration as read from YAML, with the names of the files that were laid over ``config.yaml``.

    Raises:
        WeaksegError: one line for each fault, with the key and, for a misspelt one, the nearest that exists; or an
            overlay has no name of its own and would publish over the default's tables.
    """
    try:
        config = Config.model_validate(raw)
    except ValidationError as error:
        lines = [_explain(fault) for fault in error.errors()]
        raise WeaksegError("config: " + "\nconfig: ".join(lines)) from None
    if overlays and config.name == "default":
        raise WeaksegError(f"{overlays[-1]}: no `name`; give it one, its results appear in results/<name>/")
    return config


def _explain(fault: Any) -> str:
    location = [part for part in fault["loc"] if part != "[key]"]
    where = ".".join(_shown(str(part)) for part in location)
    if fault["type"] == "extra_forbidden":
        known = [name for name, _ in _children(location[:-1])]
        return f"{where}: unknown key{nearest(str(location[-1]), known)}"
    if fault["type"] == "literal_error":
        expected = fault["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"{where}: {fault['input']!r} is not possible{nearest(str(fault['input']), expected)}"
    message = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "value_error":
        # Messages about a section begin with the key inside it.
        inside = where and message.split(":")[0].replace(".", "").isidentifier()
        return f"{where}.{message}" if inside else f"{where}: {message}" if where else message
    return f"{where}: {message[0].lower()}{message[1:]}, got {fault['input']!r}"


def _shown(key: str) -> str:
    """A key as it is, or as Python writes it where it is no plain text: YAML lets anything through."""
    return key if key and key.isprintable() else ascii(key)


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """Yield the section classes inside an annotation such as ``dict[str, X | None]``."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _sections(argument)


def _children(location: list[Any]) -> list[tuple[str, Any]]:
    """The fields of the section at a location; names of data sets are stepped over."""
    section: type[Section] = Config
    for part in location:
        field = section.model_fields.get(str(part))
        inner = next(_sections(field.annotation), None) if field else None
        section = inner or section
    return list(section.model_fields.items())


def reference() -> str:
    """The table of every key with its default and meaning, as Markdown, for ``config/README.md``."""
    lines = ["| key | default | meaning |", "| --- | --- | --- |"]

    def walk(section: Section, prefix: str) -> None:
        for name, field in type(section).model_fields.items():
            value, path = getattr(section, name), f"{prefix}{name}"
            inner = next(_sections(field.annotation), None)
            if inner is not None:
                if field.description:
                    lines.append(f"| `{path}` | {'`null`' if value is None else ''} | {field.description} |")
                walk(inner() if value is None else value, f"{path}.")
            else:
                lines.append(f"| `{path}` | `{_yaml(value)}` | {field.description} |")

    walk(Config(), "")
    return "\n".join(lines)


def _yaml(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_yaml(item) for item in value) + "]"
    return str(value)
