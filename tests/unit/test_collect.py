import json

import numpy as np
import pandas as pd
import pytest

from weakseg.errors import WeaksegError
from weakseg.evaluation.collect import ROW_KEY, run, verify
from weakseg.evaluation.histogram import histogram, save
from weakseg.evaluation.records import read_records, write_records
from weakseg.evaluation.thresholds import CURVE, SHOWN


def scores(key="aaaa0000", method="gradcam", cases=("1", "2")):
    setting = dict.fromkeys(ROW_KEY, "same") | {"method": method}
    return pd.DataFrame([{"run": key, **setting, "role": "test", "case": case, "seed": 0} for case in cases])


def both():
    return pd.concat([scores(), scores("bbbb1111", "random")], ignore_index=True)


def test_table_of_the_plan_is_fine():
    verify(both(), ["bbbb1111", "aaaa0000"])
    verify(both(), iter(["aaaa0000", "bbbb1111"]))


def test_missing_run():
    with pytest.raises(WeaksegError, match=r"run cccc2222 is planned but missing; run snakemake again$"):
        verify(both(), ["aaaa0000", "bbbb1111", "cccc2222"])


def test_unplanned_run():
    with pytest.raises(WeaksegError, match=r": run bbbb1111 is not planned; run"):
        verify(both(), ["aaaa0000"])


def test_rows_that_stand_twice():
    twice = pd.concat([both(), scores("cccc2222").iloc[:1]])
    with pytest.raises(WeaksegError, match=": 1 rows stand twice; run"):
        verify(twice, ["aaaa0000", "bbbb1111", "cccc2222"])


@pytest.mark.parametrize("column", [*ROW_KEY, "role", "case", "seed"])
def test_rows_that_differ_in_one_part_of_the_key_are_two(column):
    other = scores("bbbb1111", cases=["1"])
    other[column] = 7
    verify(pd.concat([scores(cases=["1"]), other]), ["aaaa0000", "bbbb1111"])


def test_all_faults_at_once():
    with pytest.raises(WeaksegError) as caught:
        verify(pd.concat([both(), scores()]), ["aaaa0000", "cccc2222"])
    for part in ("cccc2222 is planned but missing", "bbbb1111 is not planned", "2 rows stand twice"):
        assert part in str(caught.value)


def test_stage_joins_and_sorts(context, tmp_path):
    folders = [tmp_path / "brats-slice-cam-s0-aaaa0000", tmp_path / "brats-slice-nulls-s0-bbbb1111"]
    tables = [scores(cases=("2", "1")), scores("bbbb1111", "centre")]
    setting = dict.fromkeys(CURVE, "same")
    relevance, lesion = np.array([[[0.305, 0.905]]], np.float32), np.array([[[False, True]]])
    for folder, table, method in zip(folders, tables, ("gradcam", "centre"), strict=True):
        folder.mkdir()
        table.to_parquet(folder / "scores.parquet")
        (folder / "left_out.csv").write_text("dataset,operating_point,reason\nbrats,val-20,too few\n")
        (folder / "run.json").write_text(json.dumps({"params": setting}))
        keys = pd.DataFrame({"role": ["test"], "method": [method], "refinement": ["threshold"]})
        save(folder / "histograms.parquet", keys, [histogram(relevance, lesion, lesion | True, 1.0)])
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "run.json").write_text('{"label": "brats"}')
    (labels / "summary.json").write_text('{"lesion": 7, "dropped": 0.1}')
    running = context("collect")
    running.upstream |= {"scores": folders, "labels": [labels]}
    running.upstream |= {role: [] for role in ("classifiers", "maps", "truth", "preprocess")}
    run(running)
    joined = pd.read_parquet(running.out / "scores.parquet")
    expected = [("centre", "1"), ("centre", "2"), ("gradcam", "1"), ("gradcam", "2")]
    assert list(zip(joined["method"], joined["case"], strict=True)) == expected

    records = read_records(running.out / "records.json")
    assert records["left_out"].values.tolist() == [["brats", "val-20", "too few"]]
    assert records["labels"].to_dict("records") == [{"dataset": "brats", "lesion": 7, "dropped": 0.1}]
    curves = records["thresholds"].set_index("method")["dice"]
    # Both voxels, the lesion alone, nothing.
    by_hand = [2 / 3 if threshold < 0.305 else 1.0 if threshold < 0.905 else 0.0 for threshold in SHOWN]
    np.testing.assert_allclose(curves["gradcam"], by_hand, atol=1e-6)

    running.upstream["scores"] = [folders[0], folders[0]]
    with pytest.raises(WeaksegError, match="2 rows stand twice"):
        run(running)


def test_records_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "records.json"
    table = pd.DataFrame({"name": ["b", "a"], "auc": [0.1 + 0.2, float("nan")], "number": [1, 2]})
    write_records(path, {"classifiers": table, "none": table.iloc[:0]})
    found = read_records(path)
    pd.testing.assert_frame_equal(found["classifiers"], table)
    assert list(found["none"]) == list(table)
    assert not len(found["none"])
    assert "NaN" not in path.read_text()
