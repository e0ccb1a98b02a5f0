"""How generators of counterfactuals are trained, chosen and judged."""

import pytest
from tests.plans_factory import FEW

from weakseg import catalogue, config_text, plan
from weakseg.errors import WeaksegError
from weakseg.plan_counterfactuals import plan_counterfactuals
from weakseg.plan_views import evaluator_of, views_of

COUNTERFACTUAL = {"coin": {"seeds": 2}, "singla": {"seeds": 2}}


def test_counterfactuals_of_slices_are_chosen_by_another_classifier():
    planned = plan.build(config_text.load({"views": {"volume": {}}, "maps": {"methods": FEW | COUNTERFACTUAL}}))
    fits = planned.of_stage("map_fit")
    assert {run.label for run in fits} == {
        f"{name}-slice-counterfactual-s{seed}-f0" for name in catalogue.DATASETS for seed in (0, 1)
    }
    for run in fits:
        dataset, seed = run.label.split("-")[0], run.params["seed"]
        (selector,) = run.upstream["selector"]
        assert planned.runs[selector].label == f"{dataset}-slice-resnet-s{seed + 1}-f0"
        assert set(run.upstream) == {"index", "preprocess", "classifier", "selector"}
        assert set(run.params["methods"]) == {"coin", "singla"}
    explaining = [run for run in planned.of_stage("maps") if "coin" in run.params["methods"]]
    assert len(explaining) == len(fits)
    for run in explaining:
        assert set(run.upstream) == {"index", "preprocess", "classifier", "fitted"}
    # The selectors are explained anyway.
    assert len(planned.of_stage("classifier")) == len(catalogue.DATASETS) * 3
    (collect,), (models,) = planned.of_stage("collect"), planned.of_stage("models")
    for run in (collect, models):
        read = {planned.runs[key].params["architecture"] for key in run.upstream["classifiers"]}
        assert read == {"resnet", "resnet3d"}
    assert not any("densenet" in str(path) for path in planned.published)


def test_another_reading_of_counterfactuals_learns_nothing_and_runs_where_they_run():
    signed = {"methods": FEW | {"coin": {"where": ["kits-slice"], "seeds": 1}, "coin_signed": {}}}
    planned = plan.build(config_text.load({"maps": signed}))
    (fit,) = planned.of_stage("map_fit")
    assert set(fit.params["methods"]) == {"coin"}
    (run,) = (run for run in planned.of_stage("maps") if "coin_signed" in run.params["methods"])
    assert run.upstream["fitted"] == [fit.key]
    coin, reading = run.params["methods"]["coin"], run.params["methods"]["coin_signed"]
    assert reading == coin | {"channel": "soft_tissue", "sign": -1}


def test_judges_of_counterfactual_images_are_asked_with_masks_for_scores_alone():
    brats = {"data": {"instance": None, "kits": None}, "maps": {"methods": FEW | COUNTERFACTUAL}}
    planned = plan.build(config_text.load(brats))
    fitting = next(run for run in planned.of_stage("map_fit") if run.params["seed"] == 1)
    data = {stage: planned.of_stage(stage)[0].key for stage in ("index", "preprocess", "labels", "truth")}
    view = next(view for view in views_of(planned.config, "brats") if view.name == "slice")
    judge = plan.plan_classifier(planned, "brats", data, *evaluator_of(planned.config, view, 1), 0)
    assert planned.runs[judge].label == "brats-slice-densenet-s3-f0"
    networks = [*fitting.upstream["classifier"], judge, fitting.key]
    methods = {"coin": fitting.params["methods"]["coin"]}
    key = plan_counterfactuals(planned, "brats-variant", data, *networks, methods, view, 1, 0)
    run = planned.runs[key]
    assert (run.stage, run.label) == ("counterfactuals", "brats-variant-s1-f0")
    classifier, evaluator, fitted = ([network] for network in networks)
    expected = {role: [key] for role, key in data.items()}
    assert run.upstream == expected | {"classifier": classifier, "evaluator": evaluator, "fitted": fitted}
    assert run.params["methods"] == methods
    assert (run.params["dataset"], run.params["region"], run.params["seed"]) == ("brats", "whole_tumour", 1)
    plan.check_truth_access(planned)


def test_reconstruction_by_region_reads_organ_masks_where_there_are_any():
    kits = {"data": {"brats": None, "instance": None}, "maps": {"methods": FEW | {"coin": {"carl": True}}}}
    planned = plan.build(config_text.load(kits))
    for run in planned.of_stage("map_fit"):
        assert [planned.runs[key].stage for key in run.upstream["anatomy"]] == ["anatomy"]
    assert all("anatomy" not in run.upstream for run in planned.of_stage("maps"))
    with pytest.raises(WeaksegError, match=r"carl needs organ masks, which data.brats has not"):
        plan.build(config_text.load({"maps": kits["maps"]}))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"where": ["brats-volume"]}, "counterfactuals are made of slices"),
        ({"skips": 5}, "less than or equal to 4"),
        ({"training": {"checkpoint": 10, "generator_every": 20}}, "so the generator would not learn"),
    ],
)
def test_impossible_counterfactuals_are_refused(settings, fault):
    with pytest.raises(WeaksegError, match=fault):
        config_text.load({"maps": {"methods": {"coin": settings}}})
