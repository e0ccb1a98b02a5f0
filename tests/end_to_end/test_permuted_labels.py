"""With training labels permuted, maps fall to the level of an untrained network."""

import shutil

import pandas as pd
from tests.runner import SLOW, run_stages

from weakseg import config_text, plan
from weakseg.data.labels import UNLABELLED
from weakseg.execution import write_json
from weakseg.integrity import fingerprints, read_record
from weakseg.randomness import rng

SETTINGS = {
    "name": "permuted",
    "seeds": [0],
    "data": {
        "brats": {"phantom": {"cases": 30, "shape": [32, 32, 24], "shift_cases": 0}},
        "instance": None,
        "kits": None,
    },
    "views": {"volume": None},
    "classifiers": {"resnet": {"training": {"epochs": 12, "patience": 12, "least_steps": 0}}},
    "maps": {"gate": ["none"], "methods": {"gradcam": None, **dict.fromkeys(SLOW)}},
    "refinements": {"chains": ["threshold"], "declared": None},
    "references": {"methods": []},
    "protocol": {"operating_points": ["oracle-set"]},
}


DATA = ("phantom", "index", "preprocess", "truth", "labels")


def mean_dice(planned):
    """Mean Dice by method, ungated, at the best threshold of the test set."""
    run_stages(planned, "classifier", "maps", "mean_mask")
    tables = [pd.read_parquet(run.folder / "scores.parquet") for run in run_stages(planned, "scores")]
    return pd.concat(tables).groupby("method")["dice"].mean()


def permute_labels(folder):
    slices = pd.read_csv(folder / "slices.csv")
    labelled = slices["label"] != UNLABELLED
    slices.loc[labelled, "label"] = rng(0, "permute").permutation(slices.loc[labelled, "label"])
    slices.to_csv(folder / "slices.csv", index=False)
    write_json(folder / "run.json", read_record(folder) | {"files": fingerprints(folder)})


def test_permuted_labels_leave_nothing_to_explain(tmp_path, monkeypatch):
    honest, permuted = tmp_path / "honest", tmp_path / "permuted"
    honest.mkdir()
    monkeypatch.chdir(honest)
    planned = plan.build(config_text.load(SETTINGS))
    run_stages(planned, *DATA)
    shutil.copytree(honest, permuted)
    learnt = mean_dice(planned)
    monkeypatch.chdir(permuted)
    permute_labels(planned.of_stage("labels")[0].folder)
    nothing = mean_dice(planned)
    assert learnt["layercam"] > learnt["untrained"] + 0.1
    assert nothing["layercam"] < learnt["untrained"] + 0.05
