"""What a stage keeps for resuming comes back as it was, and a file from elsewhere runs nothing."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from weakseg import resuming
from weakseg.evaluation.reading import Source

VALUE = {
    Source(Path("maps/cam"), "cam", "threshold", 0, frozenset({"a", "b"})): [
        np.arange(6, dtype=np.float32).reshape(2, 3).T,
        np.array(2.5),
        np.array([True, False]),
    ],
    ("plain", 1): (None, True, 0.1, float("inf"), "a; rm -rf x", [np.float32(0.1), np.int64(7), np.bool_(True)]),
}


def test_everything_comes_back_as_it_was(tmp_path):
    resuming.save(tmp_path / "kept", VALUE)
    found = resuming.load(tmp_path / "kept")
    assert list(found) == list(VALUE)
    (arrays, plain), (wanted, wanted_plain) = found.values(), VALUE.values()
    for one, other in zip(arrays, wanted, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other, strict=True)
    assert plain == wanted_plain
    assert [type(value) for value in plain[-1]] == [np.float32, np.int64, np.bool_]
    assert np.isnan(_kept(tmp_path, float("nan")))


def test_a_table_comes_back_with_its_types(tmp_path):
    table = pd.DataFrame({"case": ["a", "<script>"], "dice": [0.1, np.nan], "n": [1, 2], "hit": [True, False]})
    pd.testing.assert_frame_equal(_kept(tmp_path, table), table)


def test_what_cannot_be_kept_is_refused_at_once(tmp_path):
    with pytest.raises(TypeError, match="cannot be kept"):
        resuming.save(tmp_path / "kept", [object()])
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_runs_nothing(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    (tmp_path / "kept").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ValueError, match="not what a stage keeps"):
        resuming.load(tmp_path / "kept")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "tree",
    [
        ["dataclass", ["os", "system", ["touch owned"]]],
        ["dataclass", ["weakseg.execution", "write_json", ["owned", 1]]],
        ["dataclass", ["weakseg.execution", "Path", ["owned"]]],
        ["dataclass", ["weakseg.no_such", "Source", []]],
        ["call", ["os.system"]],
        ["array", "no such"],
        ["number", ["no such", 1]],
        [1, 2, 3],
    ],
)
def test_a_file_names_no_code(tmp_path, monkeypatch, tree):
    monkeypatch.chdir(tmp_path)
    save_file({}, tmp_path / "kept", metadata={"tree": json.dumps(tree)})
    with pytest.raises(ValueError, match="not what a stage keeps"):
        resuming.load(tmp_path / "kept")
    assert not (tmp_path / "owned").exists()


def test_what_was_cut_off_is_done_again(context):
    done = []

    def work(_, item):
        done.append(item)
        return item * 2

    running = context("scores")
    assert running.map_cases_resumably(work, [1, 2, 3], "test") == [2, 4, 6]
    (running.state / "test-1.safetensors").write_bytes(b"")
    assert running.map_cases_resumably(work, [1, 2, 3], "test") == [2, 4, 6]
    assert done == [1, 2, 3, 2]


def test_a_checkpoint_that_was_cut_off_is_dropped(tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "training.pt").write_bytes(b"PK\x03\x04 and no more")
    resuming.drop_damaged(tmp_path)
    assert list((tmp_path / "unet").iterdir()) == []


def _kept(folder, value):
    resuming.save(folder / "kept", value)
    return resuming.load(folder / "kept")
