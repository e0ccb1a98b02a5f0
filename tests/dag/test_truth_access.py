"""No plan lets a blind stage read masks."""

import pytest
from tests.plans_factory import BOTH_VIEWS, FEW, FITTING
from tests.runner import REPOSITORY

from weakseg import catalogue, config_text, plan
from weakseg.errors import WeaksegError

BLIND = [
    "classifier",
    "sequence_classifier",
    "volume_classifier",
    "map_fit",
    "maps",
    "refinement",
    "supervoxels",
    "faithfulness",
    "repeatability",
]


@pytest.mark.parametrize("stage", BLIND)
def test_a_blind_stage_that_takes_a_mask_is_refused(stage):
    every = {"views": {"sequence": {}, **BOTH_VIEWS["views"]}, "maps": {"methods": FEW | FITTING}}
    planned = plan.build(config_text.load(every))
    truth = planned.of_stage("truth")[0].key
    victim = planned.of_stage(stage)[0]
    planned.add(stage, victim.label, victim.params, **victim.upstream, masks=truth)
    with pytest.raises(WeaksegError, match=f"{stage}/{victim.label}: would read truth masks"):
        plan.check_truth_access(planned)


def test_allow_list_is_what_the_design_says():
    assert {name for name, stage in catalogue.STAGES.items() if stage.purposes} == {
        "labels",
        "anomalies",
        "mean_mask",
        "references",
        "scores",
        "counterfactuals",
        "collect",
        "figures",
        "viewer",
        "sneak_masks",
        "coin_tables",
        "hemorrhage_tables",
        "relevance_tables",
        "cmff",
        "cross_modality_tables",
    }


@pytest.mark.parametrize(("file", "reader"), [("masks.json", "truth"), ("organs.json", "anatomy")])
def test_only_truth_and_anatomy_read_mask_files(file, reader):
    """Masks' paths are in files of their own, for KiTS in both; no other module names them."""
    sources = (REPOSITORY / "src").rglob("*.py")
    readers = {path.stem for path in sources if file in path.read_text()}
    assert readers == {"index", reader}
