"""Whatever a header or a configuration says: a right result, or one clear line for each fault. Never a traceback."""

from __future__ import annotations

import gzip
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runner import REPOSITORY

from weakseg import nifti, plan
from weakseg.config import Config
from weakseg.config_text import load
from weakseg.data.checks import check_case
from weakseg.data.layouts import RawCase
from weakseg.data.slabs import open_volume, slabs
from weakseg.errors import WeaksegError
from weakseg.workflow import _read_yaml

INPUTS = 1000
fuzzed = settings(
    max_examples=INPUTS, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

SHAPE = (4, 3, 5)
FIELDS = nib.Nifti1Header().structarr.dtype
WORDS = ("nan", "inf", "-inf", "0", "-1", "1e-45", "3e38")


@contextmanager
def clearly(*named: object) -> Iterator[None]:
    """Errors are lines for people: of a length that is read, with no code in them, and what they are about."""
    try:
        yield
    except WeaksegError as error:
        lines = str(error).splitlines()
        if not lines or not all(0 < len(line) < 2000 and "Traceback" not in line for line in lines):
            raise AssertionError(f"unclear: {error!r}") from error
        if not all(str(name) in str(error) for name in named):
            raise AssertionError(f"does not name {named}: {error!r}") from error
        raise


def _valid() -> bytes:
    data = np.arange(math.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    return nib.Nifti1Image(data, np.diag([1.0, 1.5, 2.0, 1.0])).to_bytes()


VALID = _valid()


@st.composite
def headers(draw: st.DrawFn) -> bytes:
    """A file with some fields of its header, some of its bytes, or its end changed."""
    content = bytearray(VALID)
    for name in draw(st.lists(st.sampled_from(FIELDS.names), max_size=3, unique=True)):
        kind, offset = FIELDS.fields[name][:2]
        base = kind.base
        if base.kind == "f":
            number = draw(st.sampled_from(WORDS).map(float) | st.floats(width=32))
        elif base.kind == "i":
            number = draw(
                st.integers(-(2 ** (8 * base.itemsize - 1)), 2 ** (8 * base.itemsize - 1) - 1) | st.integers(-2, 9)
            )
        else:
            number = draw(st.binary(min_size=kind.itemsize, max_size=kind.itemsize))
        place = draw(st.integers(0, kind.itemsize // base.itemsize - 1)) * base.itemsize if base.kind in "fi" else 0
        raw = number if isinstance(number, bytes) else np.array(number).astype(base, casting="unsafe").tobytes()
        content[offset + place : offset + place + len(raw)] = raw
    for place in draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] = draw(st.integers(0, 255))
    end = draw(st.just(len(content)) | st.integers(0, len(content)))
    return bytes(content[:end])


@fuzzed
@given(content=headers(), packed=st.booleans())
def test_nifti_headers(tmp_path_factory: pytest.TempPathFactory, content: bytes, packed: bool) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / ("fuzz.nii.gz" if packed else "fuzz.nii")
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _whole(path)
        _by_slabs(path)
        _checked(path)


def _whole(path: Path) -> None:
    with suppress(WeaksegError), clearly(path):
        data, affine = nifti.read(path)
        assert data.dtype == np.float32
        assert sorted(data.shape) == sorted(nib.load(path).shape)
        assert affine.shape == (4, 4)


def _by_slabs(path: Path) -> None:
    """What is read slab by slab is what is read at once."""
    with suppress(WeaksegError), clearly(path):
        volume = open_volume(path)
        data = np.empty(volume.shape, np.float32)
        for part in slabs(volume):
            data[part.place] = part.data
        np.testing.assert_array_equal(data, nifti.read(path)[0])


def _checked(path: Path) -> None:
    case = RawCase("case", "case", None, {"ct": path}, path)
    faults = check_case(case, "instance").faults
    assert all(fault and "\n" not in fault for fault in faults)


BASE: dict[str, Any] = yaml.safe_load((REPOSITORY / "config" / "smoke.yaml").read_text())
DEFAULT: dict[str, Any] = yaml.safe_load((REPOSITORY / "config.yaml").read_text())

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.integers(-2, 30)
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["phantom", "$HOME", "~", "layer1", "val-k", "a; rm -rf x", "<script>", "../..", "\x00", "1e3"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


def _leaves(tree: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [(*above, name) for name in tree]
    for name, value in tree.items():
        if isinstance(value, dict):
            found += _leaves(value, (*above, name))
    return found


KEYS = sorted({*_leaves(Config().model_dump()), *_leaves(DEFAULT)})


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, Any]:
    """The smoke configuration with some keys, known or not, set to anything."""
    raw = yaml.safe_load(yaml.safe_dump(BASE))
    for path in draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)):
        place = raw
        for name in path[:-1]:
            if not isinstance(place.get(name), dict):
                place[name] = {}
            place = place[name]
        name = draw(st.just(path[-1]) | st.just(path[-1]) | st.text(max_size=5))
        place[name] = draw(values)
    return raw


@fuzzed
@given(raw=configurations())
def test_configurations(tmp_path_factory: pytest.TempPathFactory, raw: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.getbasetemp())
        with suppress(WeaksegError), clearly():
            planned = plan.build(load(raw, ["fuzz.yaml"]))
            assert planned.of_stage("collect")
            for run in planned.runs.values():
                assert run.folder.resolve().is_relative_to(Path.cwd().resolve())


@settings(fuzzed, max_examples=200)
@given(text=st.text(st.sampled_from("name: {}[]&*!|>-#%@`\"'\n\t ,?x1\x00é"), max_size=40))
def test_yaml(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_text(text)
    with suppress(WeaksegError), clearly(path):
        assert isinstance(_read_yaml(path), dict)


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch owned']",
        "name: !!python/name:os.system",
        "a: &a [x, x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n<<: 1",
    ],
)
def test_yaml_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.yaml").write_text(text)
    with pytest.raises(WeaksegError, match=r"evil\.yaml: no valid YAML"):
        _read_yaml(Path("evil.yaml"))
    assert not (tmp_path / "owned").exists()
