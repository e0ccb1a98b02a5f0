"""Studies are targets of their own, beside the benchmark."""

import itertools

import pytest
from tests.runner import REPOSITORY, snakemake

from weakseg import plan
from weakseg.config import Config
from weakseg.config_text import load
from weakseg.errors import WeaksegError
from weakseg.studies.plans import build_all, coin, cross_modality, hemorrhage, refinements, relevance_maps, sneak_attack
from weakseg.workflow import read_config

SNEAKING = {"sneak_maps", "sneak_masks", "sneak_classifier", "sneak_tables"}


def stages(planned):
    return {run.stage for run in planned.runs.values()}


def test_the_benchmark_has_no_study():
    assert not stages(plan.build(Config())) & SNEAKING


def test_default_is_one_data_set_two_seeds_and_one_network():
    planned = sneak_attack(Config())
    assert {run.label for run in planned.of_stage("classifier")} == {
        "brats-slice-resnet-s0-f0",
        "brats-slice-resnet-s1-f0",
    }
    filters = {
        (run.params["filter"], run.params["kept"], run.params["shown"]) for run in planned.of_stage("sneak_classifier")
    }
    per_map = itertools.product(("gradcam", "layercam", "random"), ("hard", "soft", "inverse"))
    per_mask = itertools.product(("truth", "truth-area", "area"), ("hard", "inverse"))
    assert filters == {(*chosen, shown) for chosen in [*per_map, *per_mask] for shown in ("image", "filter")} | {
        ("foreground", "hard", "filter")
    }
    assert len(planned.of_stage("sneak_classifier")) == 2 * 31
    assert len(planned.runs) < 120


def test_every_network_starts_and_trains_alike():
    """All that may differ between the classifiers of a seed is what they are shown."""
    planned = sneak_attack(Config())
    shown = {"filter", "kept", "shown", "keep"}
    runs = planned.of_stage("classifier") + planned.of_stage("sneak_classifier")
    for seed in (0, 1):
        same = [
            {name: value for name, value in run.params.items() if name not in shown}
            for run in runs
            if run.params["seed"] == seed
        ]
        assert len(same) == 32
        assert all(params == same[0] for params in same)


def test_layers_are_named_by_architecture():
    planned = sneak_attack(load({"studies": {"sneak_attack": {"architectures": ["densenet", "efficientnet"]}}}))
    layers = {
        run.label.split("-")[2]: [method.get("layer") for method in run.params["methods"].values()]
        for run in planned.of_stage("sneak_maps")
    }
    assert layers == {
        "densenet": ["features.denseblock3", "features.denseblock1", None],
        "efficientnet": ["_blocks.4", "_blocks.1", None],
    }


def test_several_layers_become_those_of_another_architecture():
    changed = {
        "maps": {"methods": {"layercam": {"layer": ["layer1", "layer3"]}}},
        "studies": {"sneak_attack": {"architectures": ["densenet"], "methods": ["layercam"], "seeds": [0]}},
    }
    (run,) = sneak_attack(load(changed)).of_stage("sneak_maps")
    assert run.params["methods"] == {"layercam": {"layer": ["features.denseblock1", "features.denseblock3"]}}


def test_only_filters_of_masks_read_masks():
    planned = sneak_attack(Config())
    readers = {
        run.stage for run in planned.runs.values() if "truth" in {above.stage for above in planned.upstream_runs(run)}
    }
    assert readers == {"labels", "sneak_masks"}
    for run in planned.of_stage("sneak_classifier"):
        above = {above.stage for above in planned.upstream_runs(run)}
        assert ("sneak_masks" in above) == run.params["filter"].startswith("truth"), run.label
        assert ("sneak_maps" in above) == (run.params["filter"] in ("gradcam", "layercam", "random")), run.label


@pytest.mark.parametrize("stage", sorted(SNEAKING - {"sneak_masks"}))
def test_no_other_stage_of_the_study_may(stage):
    planned = sneak_attack(Config())
    victim = planned.of_stage(stage)[0]
    planned.add(stage, victim.label, victim.params, **victim.upstream, more=planned.of_stage("truth")[0].key)
    with pytest.raises(WeaksegError, match="would read truth masks"):
        plan.check_truth_access(planned)


def test_paper_runs_three_networks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MICCAI_BraTS2020_TrainingData", "INSTANCE22", "kits23"):
        (tmp_path / "data" / name).mkdir(parents=True)
    plans = build_all(read_config([REPOSITORY / "config" / "paper.yaml"]))
    assert len(plans["sneak_attack"].of_stage("classifier")) == 3 * 3
    assert sum(len(planned.runs) for planned in plans.values()) < 2000


def test_a_study_that_is_left_out_plans_nothing():
    planned = sneak_attack(load({"studies": {"sneak_attack": None}}))
    assert not planned.runs
    assert not planned.published


def test_a_method_that_is_left_out_has_no_filters():
    planned = sneak_attack(load({"maps": {"methods": {"layercam": None}}}))
    assert {tuple(run.params["methods"]) for run in planned.of_stage("sneak_maps")} == {("gradcam", "random")}
    assert "layercam" not in {run.params["filter"] for run in planned.of_stage("sneak_classifier")}


def test_first_data_set_that_is_not_left_out_is_taken():
    assert {run.label for run in sneak_attack(load({"data": {"brats": None}})).of_stage("sneak_masks")} == {"instance"}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {"data": {"kits": None}, "studies": {"sneak_attack": {"dataset": "kits"}}},
            "config: studies.sneak_attack.dataset: data.kits is null; name one of ['brats', 'instance']",
        ),
        (
            {"studies": {"sneak_attack": {"kep": 0.1}}},
            "config: studies.sneak_attack.kep: unknown key; did you mean keep?",
        ),
    ],
)
def test_bad_configuration_names_key_and_fix(raw, message):
    with pytest.raises(WeaksegError) as caught:
        load(raw)
    assert message in str(caught.value)


def test_snakemake_knows_the_target(tmp_path):
    said = snakemake(tmp_path, "-n", "sneak_attack").stdout
    counts = {
        line.split()[0]: int(line.split()[1])
        for line in said.splitlines()
        if len(line.split()) == 2 and line.split()[1].isdigit()
    }
    assert counts["sneak_classifier"] == 62
    assert counts["publish_sneak_attack"] == 1
    assert not {"scores", "leaderboard", "publish", "supervoxels"} & set(counts)


def test_relevance_maps_have_three_seeds_and_regions():
    planned = relevance_maps(Config())
    assert len(planned.of_stage("volume_classifier")) == 3
    assert len(planned.of_stage("scores")) == 3 * 3 + 8
    assert {tuple(run.params["roles"]) for run in planned.of_stage("maps")} == {("test", "val")}
    assert {run.params["region"] for run in planned.of_stage("scores")} == {
        "whole_tumour",
        "tumour_core",
        "enhancing_tumour",
    }
    assert len(planned.runs) < 100


def test_relevance_maps_share_the_classifiers_of_the_benchmark():
    config = load({"seeds": [0, 1, 2], "views": {"volume": {"seeds": None}}})
    shared = {run.key for run in plan.build(config).of_stage("volume_classifier")}
    assert {run.key for run in relevance_maps(config).of_stage("volume_classifier")} == shared


def test_variants_differ_from_the_study_in_one_thing():
    planned = relevance_maps(Config())
    maps = [run for run in planned.of_stage("maps") if "-relevance-s0" in run.label]
    own, *others = maps
    changed = [
        {
            *(name for name in own.params["methods"]["relevance_map"] if of(run, name) != of(own, name)),
            *(role for role in own.upstream if run.upstream[role] != own.upstream[role]),
        }
        for run in others
    ]
    assert changed == [{"supervoxels"}] * 3 + [{"fills"}] * 3


def of(run, name):
    return run.params["methods"]["relevance_map"][name]


def test_variants_are_snapped_alike():
    planned = relevance_maps(Config())
    (own,) = {key for run in planned.of_stage("refinement") for key in run.upstream["supervoxels"]}
    assert planned.runs[own].params["segments"] == 400


@pytest.mark.parametrize("raw", [{"studies": {"relevance_maps": None}}, {"data": {"brats": None}}])
def test_relevance_maps_can_be_left_out(raw):
    planned = relevance_maps(load(raw))
    assert not planned.runs
    assert not planned.published


def test_coin_trains_every_row_on_anomalies_and_shares_tumours_with_the_benchmark():
    planned, benchmark = coin(Config()), plan.build(Config())
    fits = planned.of_stage("map_fit")
    # Nine rows, three without a loss, two longer ones; and COIN with Singla et al. on tumours.
    assert len(fits) == 9 + 3 + 2 + 1
    (both,) = (run for run in fits if set(run.params["methods"]) == {"coin", "singla"})
    assert both.key in benchmark.runs
    assert {run.label for run in planned.of_stage("classifier")} == {
        f"{data}-slice-{network}-f0"
        for data in ("kits", "anomalies")
        for network in ("resnet-s0", "resnet-s1", "densenet-s2")
    }
    steps = sorted(
        run.params["methods"]["coin"]["training"]["steps"] for run in fits if "coin" in run.params["methods"]
    )
    # Those of the benchmark are on tumours.
    assert steps == [200] + [300] * 4 + [600, 1200]


def test_rows_of_coin_have_the_settings_of_the_benchmark_but_their_own():
    fits = coin(load({"studies": {"coin": {"steps": 100}}})).of_stage("map_fit")
    methods = Config().maps.methods
    (without,) = (run for run in fits if run.params["methods"].get("coin", {}).get("consistency") == 0)
    lasting = {"steps": 100, "checkpoint": 25}

    def shorter(params):
        return {**params, "training": {**params["training"], **lasting}}

    assert without.params["methods"]["coin"] == shorter({**methods.coin.parameters, "consistency": 0})
    rows = [run.params["methods"]["singla"] for run in fits if list(run.params["methods"]) == ["singla"]]
    assert [row["skips"] for row in rows] == [0, 0, 1, 2, 3, 4, 4, 4]
    assert rows[-1] == shorter(methods.singla.parameters)
    assert ["anatomy" in run.upstream for run in fits if list(run.params["methods"]) == ["singla"]] == [True] * 6 + [
        False
    ] * 2


def test_coin_runs_on_kidneys_wherever_the_benchmark_has_its_methods():
    elsewhere = {"coin": {"where": ["brats-slice"]}, "rise": None}
    planned = coin(load({"maps": {"methods": elsewhere}}))
    assert len(planned.of_stage("map_fit")) == 15
    assert not any("rise" in run.params["methods"] for run in planned.of_stage("maps"))


@pytest.mark.parametrize(
    "raw", [{"studies": {"coin": None}}, {"data": {"kits": None}}, {"maps": {"methods": {"singla": None}}}]
)
def test_coin_can_be_left_out(raw):
    assert not coin(load(raw)).runs


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"data": {"kits": {"foreground": "body"}}}, "set data.kits.foreground to kidneys, or studies.coin to null"),
        ({"studies": {"coin": {"rows": ["A", "COIN"]}}}, "rows: H and COIN are compared with each other; name both"),
    ],
)
def test_coin_says_what_it_needs(raw, message):
    with pytest.raises(WeaksegError, match=message):
        coin(load(raw))


def test_hemorrhage_repeats_both_classifiers_and_tries_the_rest_once():
    config = Config(seeds=[0, 1, 2])
    planned, benchmark = hemorrhage(config), plan.build(config)
    assert {run.key for run in planned.of_stage("classifier")} <= {run.key for run in benchmark.of_stage("classifier")}
    windows = [(run.params["window"]["slices"], run.params["seed"]) for run in planned.of_stage("sequence_classifier")]
    assert sorted(windows) == [(1, 0), (3, 0), (3, 0), (3, 0), (3, 1), (3, 2), (5, 0), (7, 0)]
    (tables,) = planned.of_stage("hemorrhage_tables")
    arms = tables.params["arms"]
    assert len(arms) == len(tables.upstream["scores"]) == 3 + 3 + 3 + 2 + 1
    assert [arm["compared"] for arm in arms] == [True] * 6 + [False] * 6
    assert len(planned.runs) < 70


def test_fewer_training_patients_reach_classifier_and_student_alone():
    planned = hemorrhage(Config())
    for share in planned.of_stage("hemorrhage_share"):
        below = {run.stage for run in planned.runs.values() if share in planned.upstream_runs(run)}
        assert below == {"sequence_classifier", "refinement", "scores"}


def test_the_students_of_the_study_learn_from_grad_cam():
    for run in hemorrhage(Config()).of_stage("refinement"):
        assert run.params["chains"] == {"clusters": None, "clusters+student": ["gradcam"]}


@pytest.mark.parametrize(
    "raw",
    [{"studies": {"hemorrhage": None}}, {"data": {"instance": None}}, {"maps": {"methods": {"gradcam": None}}}],
)
def test_hemorrhage_can_be_left_out(raw):
    assert not hemorrhage(load(raw)).runs


def test_hemorrhage_needs_a_slice_in_the_middle():
    with pytest.raises(WeaksegError, match="of 4 slices none is in the middle; take 3 or 5"):
        load({"studies": {"hemorrhage": {"lengths": [4]}}})


def test_every_map_of_the_benchmark_goes_through_every_refinement():
    planned, benchmark = refinements(Config()), plan.build(Config())
    assert {run.key for run in planned.of_stage("maps")} <= set(benchmark.runs)
    assert len(planned.of_stage("scores")) == len(planned.of_stage("refinement")) == 3
    for run in planned.of_stage("refinement"):
        chains = dict(run.params["chains"])
        taught = ["gradcam", "layercam", "coin", *(["relevance_map"] if "brats" in run.label else []), "intensity"]
        assert chains.pop("student") == taught
        assert chains == dict.fromkeys(("supervoxel", "clusters", "random_walker", "crf"))
        explained = {method for key in run.upstream["maps"] for method in planned.runs[key].params["methods"]}
        assert explained >= {"gradcam", "layercam", "coin", "mean_mask", "intensity", "untrained"}


@pytest.mark.parametrize(
    ("chains", "message"),
    [
        (["crff"], "chains: crff: unknown refinement 'crff'; did you mean crf?"),
        (["threshold"], "threshold is what all others are compared with; leave it out"),
    ],
)
def test_refinements_names_bad_chains(chains, message):
    with pytest.raises(WeaksegError) as caught:
        load({"studies": {"refinements": {"chains": chains}}})
    assert message in str(caught.value)


def test_cross_modality_trains_every_row_and_shares_cyclegans():
    planned = cross_modality(Config())
    trained = planned.of_stage("cmff")
    # Ten rows with all labelled cases, three of them with 4 and 12 as well.
    assert len(trained) == 3 * (10 + 3 * 2)
    assert len(planned.of_stage("cmft")) == 3 * 2
    given = {(run.params["initial"], run.params["seed"]): set() for run in trained if "transition" in run.upstream}
    for run in trained:
        if "transition" in run.upstream:
            given[run.params["initial"], run.params["seed"]] |= set(run.upstream["transition"])
    assert {initial for initial, _ in given} == {"cmft", "self"}
    assert all(len(keys) == 1 for keys in given.values())


def test_cyclegans_of_the_study_read_no_truth():
    planned = cross_modality(Config())
    above = {planned.runs[key].stage for run in planned.of_stage("cmft") for key in run.upstream["preprocess"]}
    assert above == {"preprocess"}
    assert all(set(run.upstream) == {"index", "preprocess"} for run in planned.of_stage("cmft"))


@pytest.mark.parametrize(
    "raw",
    [
        {"studies": {"cross_modality": None}},
        {"data": {"brats": None}},
        {"data": {"brats": {"modalities": ["t1ce", "flair"]}}},
    ],
)
def test_cross_modality_can_be_left_out(raw):
    planned = cross_modality(load(raw))
    assert not planned.runs
    assert not planned.published
