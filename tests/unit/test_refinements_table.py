"""The table of the target ``refinements`` says what each refinement adds to each map."""

import pandas as pd
import pytest
from matplotlib.image import imread

from weakseg.studies.refinements import tables


def scores():
    rows = []
    for method, raw in (("layercam", 0.4), ("intensity", 0.6)):
        for chain, gain in (("threshold", 0.0), ("crf", 0.1), *((("student", 0.3),) if method == "layercam" else ())):
            for point in ("label-free", "val-10"):
                for patient in range(12):
                    rows.append(
                        {
                            "dataset": "brats",
                            "source": "phantom",
                            "region": "whole_tumour",
                            "method": method,
                            "refinement": chain,
                            "operating_point": point,
                            "patient": f"p{patient}",
                            "case": f"c{patient}",
                            "role": "test",
                            "seed": 0,
                            "lesion_ml": 5.0,
                            "dice": raw + gain + 0.01 * patient + (0.05 if point == "val-10" else 0),
                        }
                    )
    table = pd.DataFrame(rows)
    # What is no tested case with a lesion does not count.
    return pd.concat([table, table.assign(role="shift", dice=0), table.assign(case="free", lesion_ml=0, dice=0)])


@pytest.fixture
def made(context, tmp_path):
    folder = tmp_path / "scores"
    folder.mkdir()
    scores().to_parquet(folder / "scores.parquet")
    running = context("refinements_tables", {"data_seed": 0, "bootstrap": 200}, scores=folder)
    tables.run(running)
    return running.out


def test_gains_are_paired_by_patient(made):
    table = pd.read_csv(made / "tables/refinements.csv").set_index(["method", "refinement", "operating_point"])
    assert len(table) == (2 + 1) * 2
    row = table.loc[("layercam", "student", "val-10")]
    assert row["gain"] == pytest.approx(0.3)
    assert row["dice_raw"] == pytest.approx(0.4 + 0.05 + 0.055)
    assert row["dice"] == pytest.approx(row["dice_raw"] + 0.3)
    assert (row["low"], row["high"]) == pytest.approx((0.3, 0.3))
    assert row["n_patients"] == 12
    assert table.loc[("intensity", "crf", "label-free"), "gain"] == pytest.approx(0.1)


def test_figure_can_be_read(made):
    height, width, _ = imread(made / "figures/refinements.png").shape
    assert min(height, width) > 200
