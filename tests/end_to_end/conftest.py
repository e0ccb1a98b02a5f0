from pathlib import Path

import pytest
from tests.runner import REPOSITORY, SLOW, run_stages, snakemake

from weakseg import catalogue, config_text, plan
from weakseg.workflow import publish

SMOKE = REPOSITORY / "config" / "smoke.yaml"
VOLUME = {
    "name": "volume",
    "seeds": [0, 1],
    "data": {
        "brats": {
            "phantom": {"cases": 15, "shape": [32, 32, 24], "shift_cases": 2},
            "supervoxels": {"segments": 60},
        },
        "instance": None,
        "kits": None,
    },
    "views": {"volume": {"seeds": None}},
    "maps": {"methods": dict.fromkeys(("cam", "gradcampp", "xgradcam", "hirescam", *SLOW))},
    "classifiers": {
        "resnet": {"width": 4, "training": {"epochs": 1, "least_steps": 0}},
        "resnet3d": {"width": 4, "training": {"epochs": 2, "batch_size": 4}},
    },
    "refinements": {"chains": ["threshold", "supervoxel+components", "clusters+random_walker+crf"], "declared": None},
    "references": {"methods": []},
    "protocol": {"val_k": [1], "draws": 2, "bootstrap": 200, "faithfulness": {"slices": 1, "randomised_cases": 0}},
    "studies": {
        "sneak_attack": None,
        "relevance_maps": {
            "seeds": [0, 1],
            "val_patients": 1,
            "methods": {"optimal_perturbation": {"width": 2, "training": {"epochs": 1}}},
            "variants": {"segments": [30], "fills": ["blur"], "areas": [20]},
        },
    },
}
BLIND = ("volume_classifier", "maps")


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """The working directory of the one smoke run through Snakemake that all tests share."""
    directory = tmp_path_factory.mktemp("smoke")
    snakemake(directory, "--configfile", str(SMOKE))
    return directory


@pytest.fixture(scope="session")
def volume(tmp_path_factory):
    """A finished plan of both views and its folder; blind stages ran while masks were away."""
    folder = tmp_path_factory.mktemp("volume")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        planned = plan.build(config_text.load(VOLUME))
        run_stages(planned, "phantom", "index", "preprocess", "truth", "labels", "supervoxels", "classifier")
        hidden = {path: folder / str(number) for number, path in enumerate(masks_of())}
        for path, away in hidden.items():
            path.rename(away)
        run_stages(planned, *BLIND)
        for path, away in hidden.items():
            away.rename(path)
        run_stages(planned, *catalogue.STAGES)
        publish(planned.destination, [run.folder for run in planned.published_runs])
    return planned, folder


def masks_of():
    """All lesion masks of the plan ``volume`` in the working directory."""
    masks = [*Path("data").rglob("*_seg.nii.gz"), *Path("results/runs/truth").iterdir()]
    assert len(masks) == 15 + 2 + 1
    return masks
