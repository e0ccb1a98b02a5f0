"""Where U-Nets of k masks break even with maps that k masks cut."""

import pandas as pd
import pytest
from matplotlib.image import imread

from weakseg.report.k_curve import draw_k_curve
from weakseg.studies.k_curve import best_maps, k_curve, said

MAP = {"refinement": "threshold", "view": "slice", "classifier": "resnet", "gate": "classifier"}
SUPERVISED = {"refinement": "threshold", "view": "supervised", "classifier": "none", "gate": "none"}


def board(maps, unets):
    """Dice of maps by method and point, and of references by name; `val-10` is the headline."""
    rows = [
        {**MAP, "method": method, "operating_point": point, "dice": dice, "mask_budget": 0}
        for method, of_points in maps.items()
        for point, dice in of_points.items()
    ]
    rows += [
        {**SUPERVISED, "method": name, "operating_point": "fixed", "dice": dice, "mask_budget": 64}
        for name, dice in unets.items()
    ]
    table = pd.DataFrame(rows).assign(dataset="brats", source="phantom", region="whole_tumour")
    headline = (table["operating_point"] == "val-10") | (table["view"] == "supervised")
    return table.assign(
        dice_low=table["dice"], dice_high=table["dice"], headline=headline.map({True: "yes", False: "no"})
    )


FLAT = {"label-free": 0.4, "val-1": 0.5, "val-5": 0.5, "val-10": 0.5, "oracle-set": 0.9}


@pytest.mark.parametrize(
    ("unets", "found", "words"),
    [
        ({"unet_k1": 0.5, "unet_k10": 0.7}, (1, None), "at 1 mask or fewer"),
        ({"unet_k1": 0.2, "unet_k5": 0.4, "unet_k10": 0.6}, (10, 5), "between 5 and 10 masks"),
        ({"unet_k1": 0.6, "unet_k5": 0.4, "unet_k10": 0.6}, (10, 5), "between 5 and 10 masks"),
        ({"unet_k1": 0.2, "unet_k10": 0.4}, (None, 10), "above 10 masks"),
    ],
)
def test_break_even(unets, found, words):
    """A U-Net that is better for once has not broken even; all masks are no number of masks."""
    curve = k_curve(board({"gradcam": FLAT}, {**unets, "unet": 0.9}))
    assert curve["k"].tolist() == sorted(int(name.removeprefix("unet_k")) for name in unets)
    assert curve["dice_unet"].tolist() == [unets[f"unet_k{k}"] for k in curve["k"]]
    assert set(curve["dice"]) == {0.5}
    for name, value in zip(("break_even", "below_until"), found, strict=True):
        assert curve[name].isna().all() if value is None else set(curve[name]) == {value}
    assert said(curve) == f"break-even {words}"


def test_only_numbers_of_masks_that_both_have_are_compared():
    curve = k_curve(board({"gradcam": FLAT}, {"unet_k5": 0.6, "unet_k20": 0.1}))
    assert curve[["k", "break_even"]].to_numpy().tolist() == [[5, 5]]
    none = k_curve(board({"gradcam": FLAT}, {"unet": 0.9}))
    assert none.empty
    assert said(none) == "no k that both have"


def test_best_map_is_that_of_the_headline_and_no_null():
    better = {point: dice + 0.1 for point, dice in FLAT.items()}
    table = board({"gradcam": FLAT, "layercam": better, "intensity": dict.fromkeys(FLAT, 0.95)}, {"unet_k1": 0.99})
    best = best_maps(table)
    assert set(best["method"]) == {"layercam"}
    assert best["operating_point"].tolist() == list(FLAT)


def test_figure_is_drawn_without_references_too(tmp_path):
    for number, unets in enumerate(({"unet": 0.9, "unet_k1": 0.2}, {})):
        path = tmp_path / str(number)
        draw_k_curve(board({"gradcam": FLAT}, unets), path)
        assert imread(path.with_suffix(".png")).shape[0] > 300
