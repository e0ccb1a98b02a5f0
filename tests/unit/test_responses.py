"""What a lesion is like, and from where on a method is above the best null."""

import numpy as np
import pandas as pd
import pytest

from weakseg.evaluation.contrast import contrast
from weakseg.studies.responses import PANEL, best_null, responding, responses, running


def test_contrast_is_that_of_the_clearest_channel():
    foreground, lesion = np.ones((2, 4, 1), bool), np.zeros((2, 4, 1), bool)
    foreground[:, 3], lesion[:, 2:] = False, True
    dull, clear = np.zeros((2, 4, 1)), np.zeros((2, 4, 1))
    dull[0, :2] = clear[0, :2] = 2
    # Around: mean 1, standard deviation 1. What lies outside of the foreground does not count.
    dull[:, 2], clear[:, 2], clear[:, 3] = 1.5, -2, 100
    assert contrast(np.stack([dull, clear]), lesion, foreground) == pytest.approx(3)
    assert contrast(np.stack([dull]), lesion, foreground) == pytest.approx(0.5)
    assert np.isnan(contrast(np.stack([dull]), lesion & ~foreground, foreground))


def test_running_means_follow_the_cause():
    cause, dice = pd.Series([6.0, 1, 2, 3, 4, 5]), pd.Series([60.0, 10, 20, 30, 40, 50])
    places, means = running(cause, dice)
    np.testing.assert_allclose(places, [3, 4])
    np.testing.assert_allclose(means, [30, 40])
    np.testing.assert_allclose(running(cause[:2], dice[:2]), [[3.5], [35]])


@pytest.fixture
def cases():
    """Ten lesions: Grad-CAM is above the better null from the sixth on, LayerCAM never, at its largest at least."""
    rows = []
    for case in range(10):
        dice = {"random": 0.1, "intensity": 0.5, "gradcam": 0.1 * case, "layercam": 0.9 - 0.1 * case}
        for method, value in dice.items():
            facts = dict.fromkeys(PANEL, "same") | {"method": method, "case": str(case), "dice": value}
            rows.append(facts | {"lesion_ml": 10.0 * (case + 1), "contrast": np.nan})
    return pd.DataFrame(rows)


def test_a_method_passes_the_best_null_where_its_running_mean_does(cases):
    assert best_null(cases) == "intensity"
    table = responses(cases).query("against == 'lesion_ml'").set_index("method")
    assert set(table["null"]) == {"intensity"}
    # Means of five neighbours: of case 3 to 7 first 0.5, then 0.6, at lesions of 70 ml.
    assert table.loc["gradcam", "above_from"] == pytest.approx(70)
    assert pd.isna(table.loc["layercam", "above_from"])
    assert pd.isna(table.loc["intensity", "above_from"])
    assert table.loc["gradcam", "spearman"] == pytest.approx(1)
    assert table.loc["layercam", "spearman"] == pytest.approx(-1)
    assert pd.isna(table.loc["random", "spearman"])


def test_without_contrast_there_is_nothing_to_say_about_it(cases):
    assert set(responses(cases)["against"]) == {"lesion_ml"}


def test_contrast_is_joined_by_case():
    scores = pd.DataFrame(
        dict.fromkeys(PANEL, "same")
        | {"dataset": name, "operating_point": "val-10", "method": "gradcam", "refinement": "threshold"}
        | {"role": "test", "case": "1", "seed": seed, "dice": 0.2 + 0.2 * seed, "lesion_ml": 3.0}
        for name in ("brats", "kits")
        for seed in (0, 1)
    )
    known = pd.DataFrame({"dataset": ["kits"], "case": ["1"], "contrast": [2.5]})
    found = responding(scores, known).set_index("dataset")
    assert found.loc["kits", "contrast"] == 2.5
    assert np.isnan(found.loc["brats", "contrast"])
    assert found["dice"].tolist() == pytest.approx([0.3, 0.3])
