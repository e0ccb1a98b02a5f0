"""The whole way on tiny CT phantoms, inside this process."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.runner import SLOW, methods_of, run_stages

from weakseg import catalogue, config_text, nifti, plan
from weakseg.config import Config
from weakseg.data.grid import preprocessed_cases, read_foreground, resample

SHAPES = {"instance": (48, 48, 24), "kits": (40, 32, 20)}
OPTIMAL = {"where": None, "width": 4, "training": {"epochs": 1}}


@pytest.fixture(scope="module", params=SHAPES)
def finished(request, tmp_path_factory):
    """A data set's plan after all its stages, run in a folder of its own."""
    directory = tmp_path_factory.mktemp(request.param)
    settings = {
        "seeds": [0],
        "data": {
            **dict.fromkeys(catalogue.DATASETS),
            request.param: {"phantom": {"cases": 15, "shape": SHAPES[request.param], "shift_cases": 2}},
        },
        "classifiers": {"resnet": {"training": {"epochs": 2, "least_steps": 0}}},
        "maps": {"methods": {**dict.fromkeys(SLOW), "optimal_perturbation": OPTIMAL}},
        "refinements": {"chains": ["threshold"], "declared": None},
        "references": {"methods": []},
        "protocol": {"bootstrap": 100},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        planned = plan.build(config_text.load(settings))
        run_stages(planned, *catalogue.STAGES)
    return request.param, planned, directory


def test_every_method_is_on_the_leaderboard(finished):
    name, planned, directory = finished
    board = pd.read_csv(directory / planned.of_stage("leaderboard")[0].folder / "tables" / "leaderboard.csv")
    assert set(board["method"]) == methods_of(planned.config)
    assert set(board["dataset"]) == {name}
    assert set(board["source"]) == {"phantom"}
    assert set(board["anatomy"].fillna("none")) == {"kidneys" if name == "kits" else "none"}


def test_channels_are_the_windows_in_their_order(finished):
    name, planned, directory = finished
    preprocess = directory / planned.of_stage("preprocess")[0].folder
    index = directory / planned.of_stage("index")[0].folder
    raw = json.loads((index / "images.json").read_text())
    windows = Config().datasets[name].windows
    for case in preprocessed_cases(preprocess):
        foreground, affine = read_foreground(preprocess, case)
        image = nifti.open_channels(preprocess / "images" / f"{case}.nii")
        # Kidney CT is cut around the kidneys.
        hu = resample(*nifti.read(directory / raw[case]["ct"]), foreground.shape, affine, "nearest")
        for channel, (level, width) in zip(image, windows.values(), strict=True):
            expected = np.clip((hu - level) / width * 8, -4, 4)
            np.testing.assert_allclose(channel, np.where(foreground, expected, 0), atol=1e-5)


def test_lesions_lie_in_the_foreground(finished):
    """What preprocessing cuts off cannot be found: at most a twentieth of all lesion voxels."""
    _, planned, directory = finished
    folder = directory / planned.of_stage("preprocess")[0].folder
    truth = directory / planned.of_stage("truth")[0].folder / "grid"
    label = {"instance": 1, "kits": 2}[finished[0]]
    inside = outside = 0
    for case in preprocessed_cases(folder):
        lesion = nifti.read(truth / f"{case}.nii.gz")[0] == label
        foreground, _ = read_foreground(folder, case)
        inside += (lesion & foreground).sum()
        outside += (lesion & ~foreground).sum()
    assert inside > 0
    assert outside <= 0.05 * (inside + outside)
