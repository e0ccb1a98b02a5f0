"""What a stage has done before a kill, in files that hold values and no code: arrays in safetensors, the rest as JSON.

A pickle would run whatever the file says. Here only what is listed can be read back, and of classes only this package's
dataclasses.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

PACKAGE = "weakseg."


def save(path: Path, value: Any) -> None:
    """Write a value in one rename.

    Args:
        path: file to write.
        value: None, numbers (those of NumPy too), texts, paths, arrays of numbers, data frames, this package's
            dataclasses, and tuples, lists, sets and dictionaries of these.

    Raises:
        TypeError: the value holds something else.
    """
    arrays: dict[str, NDArray] = {}
    tree = json.dumps(_pack(value, arrays))
    temporary = path.with_suffix(".partial")
    save_file(arrays, temporary, metadata={"tree": tree})
    temporary.replace(path)


def load(path: Path) -> Any:
    """Read what :func:`save` wrote; it is equal to what was saved, types included.

    Raises:
        ValueError: the file is damaged, or none of :func:`save`.
    """
    try:
        with safe_open(path, framework="numpy") as stored:
            tree = json.loads(stored.metadata()["tree"])
            return _unpack(tree, stored.get_tensor)
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise ValueError(f"{path}: not what a stage keeps ({error})") from error


def drop_damaged(state: Path) -> None:
    """Remove the checkpoints in a stage's state that a crash of the machine cut off, so that training starts anew."""
    for path in state.rglob("*.pt"):
        if not zipfile.is_zipfile(path):
            path.unlink()


def _pack(value: Any, arrays: dict[str, NDArray]) -> Any:
    """JSON of a value: plain values as they are, all others as [kind, content]; arrays are put aside."""
    if value is None or type(value) in (bool, int, float, str):
        return value

    def each(values: Any) -> list[Any]:
        return [_pack(one, arrays) for one in values]

    match value:
        case np.generic():
            return ["number", [value.dtype.str, value.item()]]
        case np.ndarray() if value.dtype.kind in "biuf":
            name = str(len(arrays))
            arrays[name] = np.ascontiguousarray(value).reshape(value.shape)
            return ["array", name]
        case pd.DataFrame():
            buffer = BytesIO()
            value.to_parquet(buffer)
            return ["frame", _pack(np.frombuffer(buffer.getvalue(), np.uint8), arrays)]
        case Path():
            return ["path", str(value)]
        case list() | tuple() | set() | frozenset():
            return [type(value).__name__, each(value)]
        case dict():
            return ["dict", [each(value), each(value.values())]]
    kind = type(value)
    if dataclasses.is_dataclass(value) and kind.__module__.startswith(PACKAGE):
        fields = [getattr(value, field.name) for field in dataclasses.fields(value)]
        return ["dataclass", [kind.__module__, kind.__qualname__, each(fields)]]
    raise TypeError(f"{kind.__module__}.{kind.__qualname__} cannot be kept for resuming")


def _unpack(packed: Any, array: Callable[[str], NDArray]) -> Any:
    if not isinstance(packed, list):
        return packed
    kind, content = packed

    def each(values: Any) -> list[Any]:
        return [_unpack(one, array) for one in values]

    match kind:
        case "number":
            return np.dtype(content[0]).type(content[1])
        case "array":
            return array(content)
        case "frame":
            return pd.read_parquet(BytesIO(_unpack(content, array).tobytes()))
        case "path":
            return Path(content)
        case "dict":
            return dict(zip(each(content[0]), each(content[1]), strict=True))
        case "dataclass":
            return _dataclass(*content[:2])(*each(content[2]))
        case "list" | "tuple" | "set" | "frozenset":
            return {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}[kind](each(content))
    raise ValueError(f"unknown kind {kind}")


def _dataclass(module: str, name: str) -> type:
    """A dataclass of this package; nothing else is ever called."""
    found = getattr(import_module(module), name) if module.startswith(PACKAGE) else None
    if not (isinstance(found, type) and dataclasses.is_dataclass(found) and found.__module__ == module):
        raise ValueError(f"{module}.{name} is no dataclass of this package")
    return found
