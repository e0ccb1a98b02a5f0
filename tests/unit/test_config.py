import json

import pytest
import yaml
from tests.runner import REPOSITORY

from weakseg.config import Config
from weakseg.config_text import load, reference
from weakseg.errors import WeaksegError
from weakseg.plan import build
from weakseg.workflow import read_config


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"dta": {}}, "config: dta: unknown key; did you mean data?"),
        ({"maps": {"methods": {"gradcm": {}}}}, "config: maps.methods.gradcm: unknown key; did you mean gradcam?"),
        ({"data": {"brats": {"spacin": 1}}}, "config: data.brats.spacin: unknown key; did you mean spacing?"),
        ({"data": {"brts": {}}}, "config: data.brts: unknown key; did you mean brats?"),
        ({"seeds": "three"}, "config: seeds: input should be a valid list, got 'three'"),
        ({"data": {"brats": {"modalities": ["t1", "flare"]}}}, "'flare' is not possible; did you mean flair?"),
        ({"data": {"brats": {"modalities": ["t1"]}}}, "intensity.channel: flair is not among the channels"),
        ({"data": {"brats": {"modalities": ["flair", "flair"]}}}, "each may be named once"),
        ({"data": {"brats": {"split": {"test": 0.6, "val": 0.5}}}}, "leave no patient to train on"),
        ({"data": {"brats": {"shift_path": "/x"}}}, "phantoms bring their own shift fold"),
        ({"data": {"brats": None, "instance": None, "kits": None}}, "keep at least one"),
        ({"refinements": {"chains": ["supervoxl"]}}, "unknown refinement 'supervoxl'; did you mean supervoxel?"),
        ({"refinements": {"chains": ["random_walk"]}}, "did you mean random_walker?"),
        ({"refinements": {"random_walker": {"low": 0.9}}}, "low: 0.9 must lie below high, 0.9"),
        ({"refinements": {"clusters": {"number": 1}}}, "refinements.clusters.number"),
        ({"refinements": {"clusters": {"algorithm": "otsu"}}}, "refinements.clusters.algorithm"),
        ({"refinements": {"crf": {"appearance_mm": 1}}}, "refinements.crf.appearance_mm"),
        ({"refinements": {"chains": ["components+supervoxel"]}}, "components works on masks, so it must come last"),
        ({"refinements": {"chains": ["threshold+supervoxel"]}}, "write supervoxel"),
        ({"refinements": {"chains": ["supervoxel+supervoxel"]}}, "each step once"),
        ({"name": "My Run"}, "config: name:"),
        ({"name": "runs"}, "config: name: runs is a folder of results/ already"),
        ({"data": {"brats": {"spacing": [0, 1, 1]}}}, "config: data.brats.spacing.0: input should be greater than 0"),
        ({"maps": {"gate": ["none", "none"]}}, "config: maps.gate: each may be named once"),
        (
            {"maps": {"methods": {"layercam": {"layer": "layr1"}}}},
            "config: maps.methods.layercam.layer: 'layr1' is not possible; did you mean layer1?",
        ),
        (
            {"maps": {"methods": {"layercam": {"layer": ["layer1", "layer9"]}}}},
            "config: maps.methods.layercam.layer: 'layer9' is not possible; did you mean",
        ),
        (
            {"maps": {"methods": {"layercam": {"layer": ["layer1"]}}}},
            "config: maps.methods.layercam.layer: a list names two or more stages, each once",
        ),
        (
            {"maps": {"methods": {"cam": {"layer": "layer3"}}}},
            "config: maps.methods.cam.layer: 'layer3' is not possible; did you mean layer4?",
        ),
        (
            {"views": {"sequence": {"slices": 4}}},
            "config: views.sequence.slices: of 4 slices none is in the middle; take 3 or 5",
        ),
        (
            {"views": {"sequence": {"slices": 0}}},
            "config: views.sequence.slices: input should be greater than or equal",
        ),
        ({"views": {"sequence": {"distance_mm": 0}}}, "config: views.sequence.distance_mm: input should be greater"),
        ({"views": {"sequence": {"K": 3}}}, "config: views.sequence.K: unknown key"),
        ({"views": {"sequnce": {}}}, "config: views.sequnce: unknown key; did you mean sequence?"),
        (
            {"classifiers": {"resnet_lstm": {"hiden": 3}}},
            "classifiers.resnet_lstm.hiden: unknown key; did you mean hidden?",
        ),
        (
            {"maps": {"methods": {"gradcam": {"where": ["instance-sequnce"]}}}},
            "'instance-sequnce' is not possible; did you mean instance-sequence?",
        ),
        ({"data": {"brats": {"path": ""}}}, "config: data.brats.path: string should have at least 1 character"),
        ({"classifiers": {"resnet": {"training": {"learning_rate": float("inf")}}}}, "should be a finite number"),
    ],
)
def test_bad_configuration_names_key_and_fix(raw, message):
    with pytest.raises(WeaksegError) as caught:
        load(raw)
    assert message in str(caught.value)


def test_equal_values_make_equal_plans():
    """20 and 20.0 are one setting, so they must not make two keys."""
    written = load({"data": {"brats": {"min_lesion_mm2": 20}}, "refinements": {"components": {"opening_mm": 3}}})
    assert set(build(written).runs) == set(build(Config()).runs)


def test_a_section_in_part_keeps_the_defaults_of_its_place():
    """Data sets have defaults of their own, and what is left out must not fall back to those of the section's class."""
    given = {"kits": {"phantom": {"cases": 5}, "intensity": {"sign": 1}}, "brats": {"phantom": {"cases": 5}}}
    config = load({"data": given, "studies": {"sneak_attack": {"training": {"patience": 2}}}})
    assert config.data.kits.phantom == Config().data.kits.phantom.model_copy(update={"cases": 5})
    assert config.data.kits.phantom.shape != config.data.brats.phantom.shape
    assert config.data.kits.intensity.channel == "soft_tissue"
    assert config.studies.sneak_attack.training.epochs == Config().studies.sneak_attack.training.epochs


def test_an_overlay_needs_a_name():
    with pytest.raises(WeaksegError, match=r"mine.yaml: no `name`"):
        load({}, ["mine.yaml"])


def test_all_faults_are_listed_at_once():
    with pytest.raises(WeaksegError) as caught:
        load({"dta": 1, "seeds": "x"})
    assert len(str(caught.value).splitlines()) == 2


def test_config_yaml_is_the_default():
    assert read_config() == Config()


@pytest.mark.parametrize("overlay", ["smoke", "glioma_small", "paper"])
def test_overlays_are_valid_and_publish_elsewhere(overlay):
    assert read_config([REPOSITORY / "config" / f"{overlay}.yaml"]).name == overlay


def test_schema_has_not_drifted():
    schema = json.loads((REPOSITORY / "schemas" / "config.schema.json").read_text())
    assert schema == Config.model_json_schema(), "run `make schemas`"


def test_reference_has_not_drifted():
    assert (REPOSITORY / "config" / "README.md").read_text().endswith(reference() + "\n"), "run `make schemas`"


def test_reference_names_every_key_of_the_default():
    def leaves(node, prefix=""):
        for name, value in node.items():
            if isinstance(value, dict):
                yield from leaves(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}"

    table = reference()
    keys = list(leaves(yaml.safe_load((REPOSITORY / "config.yaml").read_text())))
    assert len(keys) > 10
    for key in keys:
        assert f"`{key}`" in table
