"""The study's own arithmetic: IoU of pixels together, differences, and ranks beside the published ones."""

import numpy as np
import pandas as pd
import pytest

from weakseg.studies.coin import tables
from weakseg.studies.coin.paper import TABLE_3


def readouts(overlaps, table="table_3", patients=6):
    """Rows of one slice a patient in which each row overlaps with so many of 100 pixels, a little more each patient."""
    rows = [
        {
            **{"part": "anomalies", "table": table, "row": row, "method": "coin", "patient": f"p{n}", "case": f"p{n}"},
            **{"position": 3, "predicted": 100, "lesion": 100, "both": overlap + n},
        }
        for row, overlap in overlaps.items()
        for n in range(patients)
    ]
    return pd.DataFrame(rows)


def scores(dice):
    rows = [
        {"table": "table_3", "row": row, "patient": f"p{n}", "operating_point": "val-10", "dice": value + n / 100}
        for row, value in dice.items()
        for n in range(6)
    ]
    return pd.DataFrame(rows)


def test_iou_of_counts():
    pixels = np.array([[50, 100, 100], [0, 0, 10], [0, 0, 0], [7, 7, 7]])
    np.testing.assert_allclose(tables.iou(pixels), [50 / 150, 0, 0, 1])


def test_pixels_of_all_slices_count_together():
    found = readouts({"COIN": 0}, patients=2)
    found.loc[0, ["predicted", "lesion", "both"]] = [10, 10, 10]
    found.loc[1, ["predicted", "lesion", "both"]] = [90, 60, 0]
    tested = pd.DataFrame(
        [
            {**dict(zip(tables.PLACE, ("anomalies", "table_3", "COIN", "coin"), strict=True)), **one}
            for one in (
                {"patient": "p0", "operating_point": "val-10", "dice": 0.2},
                {"patient": "p1", "operating_point": "val-10", "dice": 0.6},
            )
        ]
    )
    (row,) = tables._rows(found, tested, 0, 200)
    assert row["iou_micro"] == pytest.approx(10 / 160)
    assert row["iou_case"] == pytest.approx(0.5)
    assert (row["iou_micro_low"], row["iou_micro_high"]) == (0, 1)
    assert row["dice_val-10"] == pytest.approx(0.4)


def test_ranks_of_rows_in_the_published_order():
    """Perfect where ours rise as the published do, and -1 the other way round."""
    order = sorted(TABLE_3, key=lambda row: TABLE_3[row].iou)
    # H and D change places in nothing: all published IoU differ.
    rising = {row: 10 * (1 + place) for place, row in enumerate(order)}
    falling = {row: 1 - 0.1 * place for place, row in enumerate(order)}
    found = {row["score"]: row for row in tables._ranks(readouts(rising), scores(falling), 0, 200)}
    assert found["iou_micro"]["spearman"] == pytest.approx(1)
    assert found["iou_micro"]["low"] == pytest.approx(1)
    assert found["dice_val-10"]["spearman"] == pytest.approx(-1)
    assert found["iou_micro"]["rows"] == 9


def test_ablations_and_lengths_have_no_rank():
    together = pd.concat([readouts({"A": 10, "H": 20, "COIN": 60}), readouts({"2x": 99}, "lengths")])
    found = {row["score"]: row for row in tables._ranks(together, scores({"A": 0.1, "H": 0.2, "COIN": 0.3}), 0, 200)}
    assert found["iou_micro"]["rows"] == 3
