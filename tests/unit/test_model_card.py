import copy

import numpy as np
import pytest
import yaml

from weakseg.data.preprocess import to_grid
from weakseg.networks import resnet_lstm
from weakseg.report.models import card

RECORD = {
    "label": "kits-slice-resnet-s1-f2",
    "key": "0123abcd",
    "stage": "classifier",
    "stage_version": 3,
    "params": {
        "blocks": [1, 1, 1, 1],
        "width": 16,
        "stem_stride": 2,
        "seed": 1,
        "fold": 2,
        "training": {
            "epochs": 20,
            "patience": 8,
            "batch_size": 32,
            "learning_rate": 1e-3,
            "weight_decay": 1e-2,
            "augmentation": True,
        },
    },
    "counts": {"labels_used": 500, "training_units": 400},
    "packages": {"torch": "2.13.0", "monai": "1.6.1", "numpy": "2.4.0"},
    "seconds": 12.3,
    "threads": 4,
}
SCORES = {
    "units": 50,
    "positive": 20,
    "auc": 0.98765,
    "sensitivity": 0.9,
    "specificity": 0.8,
    "plain_auc": {"position": 0.6, "soft_tissue_p99": 0.7},
}
CHECKSUM = "ab" * 32
METRICS = {"threshold": -0.12345678901234, "roles": {"test": SCORES, "val": {**SCORES, "auc": 0.5}}}
DATA = {
    "index": {"dataset": "kits", "data_seed": 20220, "roots": ["/home/somebody/kits23"], "digests": ["0a1b2c"]},
    "preprocess": {
        "channels": ["soft_tissue"],
        "spacing": [0.8, 0.8, 3.0],
        "size": [400, 320, 200],
        "windows": {"soft_tissue": [60, 400]},
        "foreground": "kidneys",
    },
    "labels": {"region": "tumour", "min_lesion_mm2": 20},
}


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


@pytest.mark.parametrize("phantom", [True, False])
def test_phantom_and_real_models_are_told_apart(phantom):
    text = card(RECORD, METRICS, DATA, phantom, CHECKSUM)
    facts = front_matter(text)
    assert facts["license"] == ("apache-2.0" if phantom else "other")
    assert {"kits", "phantom" if phantom else "real-data"} <= set(facts["tags"])
    assert ("phantom model" in text) == phantom
    assert ("no patient's image was used" in text) == phantom
    assert "**Not for clinical use**" in text
    assert (
        "made-up images (a phantom), data seed 20220 |" if phantom else "real images, digest of their files `0a1b2c`"
    ) in text
    assert ("| licence | Apache-2.0, as weakseg itself |" in text) == phantom


def test_what_the_card_says():
    text = card(RECORD, METRICS, DATA, True, CHECKSUM)
    for part in (
        "resampled to 0.8 x 0.8 x 3 mm, cropped or padded to 400 x 320 x 200 voxels",
        "HU windows (level/width) soft_tissue 60/400",
        "| seed, fold | 1, 2 |",
        "| threshold | -0.12345678901234:",
        "500 slices, 400 of them for training",
        "run `0123abcd` of stage `classifier`, version 3, with torch 2.13.0, monai 1.6.1, numpy 2.4.0 |",
        f"| weights | `weights.safetensors`, SHA-256 `{CHECKSUM}` |",
    ):
        assert part in text, part
    (result,) = front_matter(text)["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "roc_auc", "value": 0.988}]
    assert result["dataset"] == {"type": "kits", "name": "kits (phantom), test patients"}
    rows = [line for line in text.splitlines() if " 0.900 | 0.800 | 0.700 |" in line]
    assert rows == [
        "| validation | 50 | 20 | 0.500 | 0.900 | 0.800 | 0.700 |",
        "| test | 50 | 20 | 0.988 | 0.900 | 0.800 | 0.700 |",
    ]


def test_a_classifier_of_volumes_tells_of_grades():
    data = {role: facts for role, facts in DATA.items() if role != "labels"}
    text = card({**RECORD, "label": "brats-volume-resnet3d-s1-f2"}, METRICS, data, True, CHECKSUM)
    for part in (
        "# Volume classifier, phantom model: brats-volume-resnet3d-s1-f2",
        "(N, 1, X, Y, Z) float32",
        "logit of high grade (HGG)",
        "500 volumes, 400 of them for training",
        "the best validation likelihood kept",
        "| volumes | number | HGG |",
        "spatial_dims=3)",
    ):
        assert part in text, part
    assert "slice" not in text


def test_a_classifier_of_sequences_tells_of_its_window_and_can_be_built():
    lstm = {"hidden": 5, "layers": 1, "bidirectional": True, "window": {"slices": 3, "distance_mm": 4.5}}
    text = card({**RECORD, "params": RECORD["params"] | lstm}, METRICS, DATA, True, CHECKSUM)
    for part in (
        "# Sequence classifier, phantom model",
        "the middle one of 3 slices 4.5 mm apart shows a lesion (tumour)",
        "N is a multiple of 3, a window after another; channels soft_tissue",
        "(N, 2), at `[1::3, 0]` the logit of each window's middle slice",
        "a bidirectional LSTM, layers 1, channels 5",
        "500 slices, 400 of them for training",
    ):
        assert part in text, part
    (building,) = (line for line in text.splitlines() if line.startswith("network = "))
    names = {"resnet_lstm": resnet_lstm}
    exec(building, names)
    assert names["network"].lstm.hidden_size == 5
    assert names["network"].length == 3


def test_where_when_and_how_fast_it_was_made_is_not_in_the_card():
    other, data = copy.deepcopy(RECORD) | {"seconds": 99.9, "threads": 1}, copy.deepcopy(DATA)
    data["index"]["roots"] = ["/elsewhere"]
    assert card(other, METRICS, data, False, CHECKSUM) == card(RECORD, METRICS, DATA, False, CHECKSUM)


def test_windows_stand_in_the_order_of_the_channels_and_on_the_scale_of_preprocessing():
    windows = {"bone": [600, 2800], "brain": [40, 80]}  # as a record has them: sorted
    preprocess = {**DATA["preprocess"], "channels": ["brain", "bone"], "windows": windows}
    text = card(RECORD, METRICS, {**DATA, "preprocess": preprocess}, True, CHECKSUM)
    assert "brain 40/80, bone 600/2800: the level is 0, an eighth of the width 1, cut to [-4, 4]" in text
    hu = np.array([[[-1000, 40, 50, 1000]]], dtype=np.float32)
    image, _, _ = to_grid(hu[None], np.ones_like(hu, dtype=bool), np.eye(4), None, None, [(40, 80)], "a")
    assert image.ravel().tolist() == [-4, 0, 1, 4]
