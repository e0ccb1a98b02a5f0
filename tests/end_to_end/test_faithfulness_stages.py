"""The stages `faithfulness` and `repeatability` on the maps of the smoke run."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from tests.end_to_end.conftest import SMOKE
from tests.runner import methods_of

from weakseg import catalogue, nifti, plan
from weakseg.data.index import read_cases
from weakseg.data.views import slice_units
from weakseg.evaluation import explanations, repeatability
from weakseg.evaluation.faithfulness import CASCADE
from weakseg.execution import Context, read_record
from weakseg.maps.base import read_networks
from weakseg.maps.gated import Gate
from weakseg.workflow import read_config

EXPLAINING = methods_of(read_config([SMOKE])) - {"mean_mask"}
"""The methods that are asked; the mean of masks does not explain a classifier."""


@pytest.fixture
def run(smoke, monkeypatch):
    monkeypatch.chdir(smoke)
    (run,) = plan.build(read_config([SMOKE])).of_stage("faithfulness")
    return run


@pytest.fixture
def values(run):
    return pd.read_parquet(run.folder / "values.parquet")


@pytest.fixture
def again(run, tmp_path):
    """The context of the same run with other parameters, in a folder of its own."""

    def make(**params):
        # The seed is that of the run's only classifier.
        changed = {**run.params, "seed": 0, **params}
        return Context(run.stage, run.key, changed, folders_of(run), tmp_path, tmp_path / "state")

    return make


def folders_of(run):
    planned = plan.build(read_config([SMOKE]))
    return {role: [planned.runs[key].folder for key in keys] for role, keys in run.upstream.items()}


def passing(context):
    """Indices of the units of each tested case that pass the gate, where there are any."""
    cases = read_cases(context.folder("index"))
    gate, found = Gate(context), {}
    for case in cases.loc[cases["role_f0"] == "test", "case"]:
        units = slice_units(context.folder("preprocess"), case, context.params["min_foreground_mm2"])
        if len(indices := gate.passing(units)):
            found[case] = units, indices
    return found


def test_every_method_is_asked_about_every_case_that_passes(values, again):
    assert set(values["case"]) == set(passing(again()))
    assert not values["value"].isna().any()
    areas = values[values["metric"].isin(["deletion", "insertion"])]
    for _, rows in areas.groupby(["case", "metric"]):
        found = set(zip(rows["method"], rows["variant"], strict=True))
        assert found == {(method, name) for method in EXPLAINING for name in ("zero", "blur", "noise")}
    again_random = values[values["metric"] == "randomised_ssim"]
    assert set(again_random["variant"]) == set(CASCADE)
    assert again_random["case"].nunique() == min(4, values["case"].nunique())


def test_maps_that_ignore_the_network_do_not_change_with_its_weights(values):
    rows = values[values["metric"].isin(["randomised_spearman", "randomised_ssim"])]
    null = rows["method"].map(lambda name: catalogue.METHODS[name].null)
    np.testing.assert_allclose(rows.loc[null, "value"], 1, rtol=1e-6)
    assert rows.loc[~null, "value"].max() < 0.99


def test_forwards_are_counted_and_no_mask_is_opened(run, again, monkeypatch):
    seen = []

    def watched(context):
        networks = read_networks(context)
        networks[0].register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
        return networks

    monkeypatch.setattr(explanations, "read_networks", watched)
    context = again(randomised_cases=0)
    explanations.run(context)
    methods, inner = len(EXPLAINING), run.params["steps"] - 1
    assert context.counts["forwards"] == sum(seen)
    assert sum(seen) == context.counts["slices"] * 3 * (2 + 2 * methods * inner)
    record = read_record(run.folder)
    assert record["counts"]["slices"] == context.counts["slices"]
    # On top, two methods that pass slices through a network, four times for each of the randomised cases.
    extra = record["counts"]["forwards"] - sum(seen)
    cases = sorted(min(len(indices), run.params["slices"]) for _, indices in passing(context).values())
    assert sum(cases) == context.counts["slices"]
    assert 2 * 4 * sum(cases[:4]) <= extra <= 2 * 4 * sum(cases[-4:])
    assert record["truth_opened"] == {}
    assert record["masks_used"] == []


def test_deletion_step_by_step(again):
    """All slices that pass, computed the long way from what is on disk."""
    context = again(slices=1000, randomised_cases=0, baselines=["zero"])
    explanations.run(context)
    values = pd.read_parquet(context.out / "values.parquet").set_index(["method", "metric", "case"])["value"]
    network, _ = read_networks(context)
    predictions = pd.read_csv(context.folder("classifier") / "predictions.csv")
    scale = np.std(predictions.loc[predictions["role"] == "val", "logit"])
    (folder,) = (folder for folder in context.upstream["maps"] if (folder / "centre").exists())
    for case, (units, indices) in passing(context).items():
        relevance, _ = nifti.read(folder / "centre" / f"{case}.nii.gz")
        found = []
        for index in indices:
            image, inside = units.image[index], units.foreground[index]
            threshold = np.sort(relevance[:, :, units.positions[index]][inside])[::-1]
            logits = []
            for step in range(11):
                taken = round(step / 10 * len(threshold))
                gone = relevance[:, :, units.positions[index]] >= (threshold[taken - 1] if taken else np.inf)
                with torch.no_grad():
                    logits.append(network(torch.from_numpy(np.where(gone & inside, 0, image))[None]).item())
            found.append(np.trapezoid(logits[0] - np.array(logits), dx=0.1))
        # A few pixels of equal nearness to the centre come in another order.
        assert values["centre", "deletion", case] == pytest.approx(np.mean(found) / scale, abs=0.03)


def test_a_fold_without_any_slice_that_passes_leaves_an_empty_table(again, monkeypatch):
    monkeypatch.setattr(explanations.Gate, "passing", lambda *_: np.array([], int))
    context = again()
    explanations.run(context)
    assert pd.read_parquet(context.out / "values.parquet").empty


def test_the_same_maps_twice_repeat_perfectly(run, tmp_path):
    folders = folders_of(run)
    maps = folders["maps"] * 2
    upstream = {"index": folders["index"], "preprocess": folders["preprocess"], "maps": maps}
    params = {name: run.params[name] for name in ("dataset", "view", "classifier", "gate")}
    context = Context("repeatability", "0123abcd", params, upstream, tmp_path, tmp_path / "state")
    repeatability.run(context)
    values = pd.read_parquet(tmp_path / "values.parquet")
    cases = read_cases(folders["index"][0])
    tested = cases.loc[cases["role_f0"] == "test", "case"]
    assert set(zip(values["method"], values["case"], strict=True)) == set(product(EXPLAINING, tested))
    assert set(values["metric"]) == {"repeated_spearman", "repeated_dice"}
    np.testing.assert_allclose(values["value"], 1)
    assert set(values["seed"]) == {"all"}


def test_table_has_every_method(smoke):
    table = pd.read_csv(smoke / "results/smoke/tables/faithfulness.csv")
    assert set(table["method"]) == set(EXPLAINING)
    # One seed: nothing to repeat.
    assert set(table["metric"]) == {"deletion", "insertion", "randomised_spearman", "randomised_ssim"}
    assert (table["low"] <= table["mean"] + 1e-6).all()
    assert (table["mean"] <= table["high"] + 1e-6).all()
    assert not table.loc[table["method"] == "random", "minus_random"].any()
