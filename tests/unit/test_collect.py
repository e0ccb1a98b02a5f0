import pandas as pd
import pytest

from weakseg.errors import WeaksegError
from weakseg.evaluation.collect import ROW_KEY, run, verify


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
    for folder, table in zip(folders, tables, strict=True):
        folder.mkdir()
        table.to_parquet(folder / "scores.parquet")
        (folder / "left_out.csv").write_text("dataset,operating_point,reason\nbrats,val-20,too few\n")
    running = context("collect")
    running.upstream["scores"] = folders
    run(running)
    joined = pd.read_parquet(running.out / "scores.parquet")
    expected = [("centre", "1"), ("centre", "2"), ("gradcam", "1"), ("gradcam", "2")]
    assert list(zip(joined["method"], joined["case"], strict=True)) == expected

    assert (running.out / "tables/left_out.csv").read_text().count("val-20") == 1

    running.upstream["scores"] = [folders[0], folders[0]]
    with pytest.raises(WeaksegError, match="2 rows stand twice"):
        run(running)
