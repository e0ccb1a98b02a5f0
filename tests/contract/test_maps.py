"""The contract that every map method is held to, exact CAMs of networks known in closed form, and the gate."""

from __future__ import annotations

import itertools
import json
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from importlib import import_module

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import ndimage
from torch import nn

from weakseg import catalogue, nifti
from weakseg.config import Config
from weakseg.data.views import Units
from weakseg.maps import base, cam, nulls
from weakseg.maps.base import Explained
from weakseg.networks import freeze, resnet, save_weights
from weakseg.plan import build
from weakseg.randomness import rng

MODALITIES = ["t1", "t1ce", "t2", "flair"]
ARCHITECTURE = {"blocks": [1, 1, 1, 1], "width": 4, "stem_stride": 1}
SHAPE = (22, 26)
POSITIONS = np.array([2, 3, 4, 6, 7])
DEFAULTS = {
    name: params
    for run in build(Config()).of_stage("maps")
    if run.label.startswith("brats-")
    for name, params in run.params["methods"].items()
}
"""The parameters that the default configuration gives each method for brain MRI."""
METHODS = [name for name, method in catalogue.METHODS.items() if not method.null]
NULLS = [name for name, method in catalogue.METHODS.items() if method.null]


def network(seed=0):
    """A frozen tiny ResNet whose batch norms have seen some data; a copy of its own for each caller."""
    return deepcopy(trained(seed))


@cache
def trained(seed):
    model = resnet(4, ARCHITECTURE, seed).train()
    with torch.no_grad():
        model(torch.from_numpy(rng(seed, "data").normal(size=(16, 4, *SHAPE)).astype(np.float32)))
    return freeze(model, "cpu")


def units(case="a"):
    """Five slices of noise inside an ellipse that is off the centre."""
    x, y = np.indices(SHAPE)
    inside = ((x - 9) / 8) ** 2 + ((y - 14) / 10) ** 2 <= 1
    foreground = np.stack([inside, inside, inside.T[: SHAPE[0], :].repeat(2, 1)[:, :26] & inside, inside, inside])
    image = rng(0, "image").normal(size=(5, 4, *SHAPE)).astype(np.float32) * foreground[:, None]
    affine = np.array([[1.0, 0, 0, -9], [0, 1.5, 0, 4], [0, 0, 4.0, 30], [0, 0, 0, 1]])
    return Units(image, foreground, POSITIONS, case, affine, (*SHAPE, 9))


def explained(selected=(0, 1, 2, 3, 4), seed=0, **changes):
    parts = {"units": units(), "network": network(), "untrained": network(1), **changes}
    return Explained(selected=np.array(selected), channels=MODALITIES, seed=seed, device="cpu", **parts)


def explain_of(name):
    """The function of a method's family, for this method alone: explained -> (M, 1, X, Y)."""
    explain = import_module(f"weakseg.maps.{catalogue.METHODS[name].family}").explain
    return lambda task: explain(task, {name: DEFAULTS[name]})[name]


# The contract. Each check takes a function from what is to be explained to raw maps.


def check_form(explain):
    """(M, 1, X, Y) float32, finite and not all the same."""
    for selected in ((0, 1, 2, 3, 4), (1, 3), (2,)):
        maps = explain(explained(selected))
        assert maps.shape == (len(selected), 1, *SHAPE)
        assert maps.dtype == np.float32
        assert np.isfinite(maps).all()
        assert np.ptp(maps) > 0


def check_constant_image(explain):
    """Finite where the image has no contrast, be it 0 or not."""
    for value in (0.0, 1.5):
        maps = explain(explained(units=replace(units(), image=np.full_like(units().image, value))))
        assert np.isfinite(maps).all()


def check_alone(explain):
    """The map of a unit does not depend on the others that are explained with it, nor on their order."""
    together = explain(explained())
    atol = 1e-5 * np.abs(together).max()
    for index in range(len(together)):
        np.testing.assert_allclose(explain(explained((index,)))[0], together[index], rtol=0, atol=atol)
    np.testing.assert_allclose(explain(explained((4, 1, 2))), together[[4, 1, 2]], rtol=0, atol=atol)


def check_repeats(explain):
    """Bytes depend on the seed and on no global generator."""
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    first = explain(explained())
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(explain(explained()), first)


def check_untouched(explain):
    """Networks, units and selection stay as they are, and no hook is left."""
    task = explained()
    before = [state_of(model) for model in (task.network, task.untrained)]
    explain(task)
    for model, (tensors, facts) in zip((task.network, task.untrained), before, strict=True):
        tensors_now, facts_now = state_of(model)
        assert facts_now == facts
        for name, tensor in tensors.items():
            assert torch.equal(tensors_now[name], tensor), name
    for name in ("image", "foreground", "positions"):
        np.testing.assert_array_equal(getattr(task.units, name), getattr(units(), name))
    np.testing.assert_array_equal(task.selected, np.arange(5))


def state_of(model):
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    facts = [
        (name, module.training, *(len(getattr(module, kind)) for kind in hooks))
        for name, module in model.named_modules()
    ]
    facts += [(name, weight.requires_grad, weight.grad is None) for name, weight in model.named_parameters()]
    return tensors, facts


class Brightness(nn.Module):
    """Its logit is the mean of the positive part of FLAIR, in the disguise of a ResNet."""

    def __init__(self):
        super().__init__()
        self.layer1 = nn.Conv2d(4, 1, 1, bias=False)
        self.layer2, self.layer3, self.layer4 = nn.ReLU(), nn.Identity(), nn.Identity()
        nn.init.zeros_(self.layer1.weight)[0, MODALITIES.index("flair")] = 1

    def forward(self, images):
        return self.layer4(self.layer3(self.layer2(self.layer1(images)))).mean((2, 3))


def check_direction(explain):
    """Larger means more evidence: a square that alone raises the logit stands out."""
    with torch.no_grad():
        model = Brightness()
    image = units().image * 0
    image[:, MODALITIES.index("flair"), 6:11, 10:17] = 3
    image[:, MODALITIES.index("t1"), 11:15, 10:17] = 3
    maps = explain(explained(units=replace(units(), image=image), network=freeze(model, "cpu")))
    square = np.zeros(SHAPE, bool)
    square[6:11, 10:17] = True
    for one in maps[:, 0]:
        assert one[square].mean() > one[~square].mean()


def check_network_counts(explain):
    """Another classifier gets another map, and its forwards are counted."""
    task = explained()
    first = explain(task)
    assert task.forwards >= len(first)
    assert not np.allclose(explain(explained(network=network(5))), first)


COMMON = [check_form, check_constant_image, check_alone, check_repeats, check_untouched]


def test_every_method_of_the_catalogue_is_in_the_default_configuration():
    assert set(DEFAULTS) == set(catalogue.METHODS)


@pytest.mark.parametrize("check", [*COMMON, check_direction, check_network_counts])
@pytest.mark.parametrize("name", METHODS)
def test_method(name, check):
    check(explain_of(name))


@pytest.mark.parametrize("name", METHODS)
def test_family_gives_each_method_what_it_gets_alone(name):
    family = catalogue.METHODS[name].family
    methods = {other: DEFAULTS[other] for other in METHODS if catalogue.METHODS[other].family == family}
    maps = import_module(f"weakseg.maps.{family}").explain(explained(), methods)
    assert set(maps) == set(methods)
    np.testing.assert_array_equal(maps[name], explain_of(name)(explained()))


class TestNulls:
    @pytest.mark.parametrize("check", COMMON)
    @pytest.mark.parametrize("name", NULLS)
    def test_contract(self, name, check):
        check(explain_of(name))

    @pytest.mark.parametrize("name", NULLS)
    def test_zero_outside_the_foreground(self, name):
        maps = explain_of(name)(explained())
        np.testing.assert_array_equal(maps[:, 0][~units().foreground], 0)

    @pytest.mark.parametrize("name", NULLS)
    def test_classifier_does_not_count(self, name):
        np.testing.assert_array_equal(explain_of(name)(explained(network=network(5))), explain_of(name)(explained()))

    def test_random_is_uniform_and_depends_on_seed_and_case(self):
        explain, inside = explain_of("random"), units().foreground
        values = explain(explained())[:, 0][inside]
        assert values.min() >= 0
        assert values.max() < 1
        np.testing.assert_allclose(np.quantile(values, [0.25, 0.5, 0.75]), [0.25, 0.5, 0.75], atol=0.05)
        for other in (explained(seed=1), explained(units=units("b"))):
            assert abs(np.corrcoef(explain(other)[:, 0][inside], values)[0, 1]) < 0.1

    def test_centre_falls_with_the_distance_in_mm(self):
        maps, foreground = explain_of("centre")(explained())[:, 0], units().foreground
        inside = np.argwhere(foreground)
        place = np.stack([inside[:, 1] * 1.0, inside[:, 2] * 1.5, POSITIONS[inside[:, 0]] * 4.0], axis=1)
        distance = np.linalg.norm(place - place.mean(axis=0), axis=1)
        np.testing.assert_allclose(maps[foreground], 1 - distance / distance.max(), atol=1e-5)

    @pytest.mark.parametrize(("channel", "sign"), [("flair", 1), ("t1", -1)])
    def test_intensity_is_brightness_or_darkness_against_the_mean(self, channel, sign):
        params = {"channel": channel, "sign": sign, "floor": None}
        maps = nulls.explain(explained((1, 3)), {"intensity": params})["intensity"]
        image, inside = units().image[:, MODALITIES.index(channel)], units().foreground
        expected = np.where(inside, sign * (image - image[inside].mean()), 0)
        np.testing.assert_allclose(maps[:, 0], expected[[1, 3]], atol=1e-6)

    def test_intensity_below_the_floor_is_no_evidence(self):
        params = {"channel": "flair", "sign": -1, "floor": -0.5}
        maps = nulls.explain(explained(), {"intensity": params})["intensity"]
        image, inside = units().image[:, MODALITIES.index("flair")], units().foreground
        tissue = inside & (image >= -0.5)
        np.testing.assert_allclose(maps[:, 0][tissue], image[tissue].mean() - image[tissue], atol=1e-6)
        assert not maps[:, 0][~tissue].any()

    def test_untrained_is_layercam_of_the_other_network(self):
        task = explained()
        have = explain_of("untrained")(task)[:, 0]
        (want,) = cam.cams(task.untrained, torch.from_numpy(units().image), {"layercam": "layer1"}, "cpu").values()
        np.testing.assert_allclose(have, want[:, 0] * units().foreground, rtol=1e-6)
        assert task.forwards == 5
        assert not np.array_equal(explain_of("untrained")(explained(untrained=network(7)))[:, 0], have)

    @pytest.mark.parametrize("name", ["random", "centre", "intensity"])
    def test_no_forwards(self, name):
        task = explained()
        explain_of(name)(task)
        assert task.forwards == 0


# Bad methods, each planted for the check that must find it.


def good(task):
    return explain_of("layercam")(task)


def contrast(task):
    image = task.units.image[task.selected].mean(1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return (image - image.mean()) / image.std((1, 2, 3), keepdims=True)


def scaled_over_the_batch(task):
    maps = good(task)
    return maps / maps.max()


def unseeded(task):
    return good(task) + np.random.default_rng().random((len(task.selected), 1, *SHAPE), dtype=np.float32)


def global_generator(task):
    return good(task) + torch.rand(len(task.selected), 1, *SHAPE).numpy()


def leaves_a_hook(task):
    task.network.layer1.register_forward_hook(lambda *_: None)
    return good(task)


def leaves_a_backward_hook(task):
    task.network.layer1.register_full_backward_hook(lambda *_: None)
    return good(task)


def trains_batch_norm(task):
    task.network.train()(torch.from_numpy(task.units.image))
    task.network.eval()
    return good(task)


def leaves_training_mode(task):
    maps = good(task)
    task.network.train()
    return maps


def asks_for_gradients(task):
    task.network.requires_grad_(True)
    return good(task)


def writes_into_the_image(task):
    task.units.image[:] += 1
    return good(task)


def inverted(task):
    return -good(task)


def ignores_the_classifier(task):
    return explain_of("untrained")(task)


def forgets_forwards(task):
    return good(replace(task))


PLANTED = [
    (lambda task: good(task)[:, 0], check_form),
    (lambda task: good(task).astype(np.float64), check_form),
    (lambda task: good(explained()), check_form),
    (lambda task: 0 * good(task), check_form),
    (contrast, check_constant_image),
    (scaled_over_the_batch, check_alone),
    (unseeded, check_repeats),
    (unseeded, check_alone),
    (global_generator, check_repeats),
    (leaves_a_hook, check_untouched),
    (leaves_a_backward_hook, check_untouched),
    (trains_batch_norm, check_untouched),
    (leaves_training_mode, check_untouched),
    (asks_for_gradients, check_untouched),
    (writes_into_the_image, check_untouched),
    (inverted, check_direction),
    (ignores_the_classifier, check_network_counts),
    (forgets_forwards, check_network_counts),
]


@pytest.mark.parametrize(("bad", "check"), PLANTED)
def test_planted_method_is_found(bad, check):
    with pytest.raises(AssertionError):
        check(bad)


# Class activation maps in closed form.


class Linear(nn.Module):
    """A convolution, then one weight for each activation: the gradient of the logit is those weights."""

    def __init__(self, size, stride=1):
        super().__init__()
        spatial_dims = len(size)
        convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims]
        generator = rng(0, "linear", str(size))
        self.layer = convolution(2, 3, 3, padding=1, stride=stride)
        kernel = generator.normal(size=(3, 2, *[3] * spatial_dims))
        self.layer.weight.data = torch.from_numpy(kernel.astype(np.float32))
        self.layer.bias.data = torch.from_numpy(generator.normal(size=3).astype(np.float32))
        grid = [-(-side // stride) for side in size]
        self.head = nn.Parameter(torch.from_numpy(generator.normal(0.3, 1, size=(3, *grid)).astype(np.float32)))

    def forward(self, images):
        return (self.layer(images) * self.head).flatten(1).sum(1, keepdim=True)

    def activations(self, images):
        """The convolution without torch: (N, 3, *spatial)."""
        kernels, biases = self.layer.weight.detach().numpy(), self.layer.bias.detach().numpy()
        parts = zip(kernels, biases, strict=True)
        channels = [
            bias + np.array([sum(map(partial(ndimage.correlate, mode="constant"), image, kernel)) for image in images])
            for kernel, bias in parts
        ]
        return np.stack(channels, axis=1)


SIZES = [(7, 9), (5, 6, 4)]


def linear_case(size):
    model = freeze(Linear(size), "cpu")
    images = rng(1, "images").normal(size=(3, 2, *size)).astype(np.float32)
    return model, images, model.activations(images), model.head.numpy()


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
def test_gradcam_in_closed_form(size):
    model, images, activations, gradient = linear_case(size)
    weights = gradient.reshape(3, -1).mean(1)
    expected = np.maximum(np.einsum("k,nk...->n...", weights, activations), 0)[:, None]
    maps = cam.cams(model, torch.from_numpy(images), {"gradcam": "layer"}, "cpu")
    np.testing.assert_allclose(maps["gradcam"], expected, atol=1e-5)
    assert (expected > 0.1).any()


@pytest.mark.parametrize("size", SIZES, ids=["2D", "3D"])
def test_layercam_in_closed_form(size):
    model, images, activations, gradient = linear_case(size)
    expected = np.maximum((np.maximum(gradient, 0) * activations).sum(1, keepdims=True), 0)
    maps = cam.cams(model, torch.from_numpy(images), {"layercam": "layer"}, "cpu")
    np.testing.assert_allclose(maps["layercam"], expected, atol=1e-5)
    assert (expected > 0.1).any()


def test_gradcam_after_global_average_pooling_is_cam():
    """With pooling, the gradient is w_k / voxels everywhere, so Grad-CAM is CAM (Zhou et al. 2016) over voxels."""
    model, images, activations, _ = linear_case((7, 9))
    model.head.data = torch.tensor([0.5, -2.0, 1.5]).reshape(3, 1, 1).expand(3, 7, 9) / 63
    expected = np.maximum(0.5 * activations[:, 0] - 2 * activations[:, 1] + 1.5 * activations[:, 2], 0) / 63
    maps = cam.cams(model, torch.from_numpy(images), {"gradcam": "layer"}, "cpu")
    np.testing.assert_allclose(maps["gradcam"][:, 0], expected, atol=1e-6)


def test_coarse_maps_are_interpolated_linearly():
    size = (8,)
    model = freeze(Linear(size, stride=2), "cpu")
    images = rng(1, "images").normal(size=(2, 2, *size)).astype(np.float32)
    coarse = np.maximum((np.maximum(model.head.numpy(), 0) * model.activations(images)[..., ::2]).sum(1), 0)
    # Voxel centres of the fine grid lie at -1/4, 1/4, 3/4, ... of the coarse one; beyond its ends values are kept.
    places = np.clip((np.arange(8) + 0.5) / 2 - 0.5, 0, 3)
    expected = np.array([np.interp(places, np.arange(4), line) for line in coarse])
    maps = cam.cams(model, torch.from_numpy(images), {"layercam": "layer"}, "cpu")
    np.testing.assert_allclose(maps["layercam"][:, 0], expected, atol=1e-5)


def test_batch_size_does_not_matter(monkeypatch):
    model, images, _, _ = linear_case((7, 9))
    layers = {"gradcam": "layer", "layercam": "layer"}
    whole = cam.cams(model, torch.from_numpy(images), layers, "cpu")
    monkeypatch.setattr(cam, "BATCH", 2)
    for name, maps in cam.cams(model, torch.from_numpy(images), layers, "cpu").items():
        np.testing.assert_allclose(maps, whole[name], rtol=1e-5, atol=1e-6)


def test_hooks_go_when_the_network_fails():
    model = network()
    with pytest.raises(RuntimeError):
        cam.cams(model, torch.zeros(1, 3, *SHAPE), {"gradcam": "layer3"}, "cpu")
    assert state_of(model)[1] == state_of(network())[1]


# The gate, through the whole stage.

CASES = {"a": "test", "b": "test", "c": "shift", "d": "train", "e": "val"}
LOGITS = {"a": [-1, 2, 0.5, 3, -2], "b": [-1, -1, -1, -1, -1], "c": [4, 4, 4, 4, 4], "e": [-3, 1, 1, 0, 0]}
PASSING = {"a": [1, 2, 3], "b": [], "c": [0, 1, 2, 3, 4]}
"""At the threshold 0.5, which one logit equals."""


@pytest.fixture
def upstream(tmp_path):
    """Results of index, preprocess and classifier, made by hand."""
    folders = {role: tmp_path / role for role in ("index", "preprocess", "classifier")}
    for folder in folders.values():
        folder.mkdir()
    columns = {"case": list(CASES), "patient": list(CASES), "grade": "HGG", "source": "phantom"}
    pd.DataFrame({**columns, "role_f0": list(CASES.values())}).to_csv(folders["index"] / "cases.csv", index=False)
    (folders["preprocess"] / "run.json").write_text(json.dumps({"params": {"channels": MODALITIES}}))
    made = units()
    for case in CASES:
        image, foreground = np.zeros((4, *made.shape), np.float32), np.zeros(made.shape, np.uint8)
        image[..., POSITIONS] = np.moveaxis(made.image, 0, 3)
        foreground[..., POSITIONS] = np.moveaxis(made.foreground, 0, 2)
        nifti.write(folders["preprocess"] / f"images/{case}.nii", image, made.affine)
        nifti.write(folders["preprocess"] / f"foreground/{case}.nii.gz", foreground, made.affine)
    rows = [
        {"case": case, "position": position, "role": CASES[case], "label": 0, "logit": logit}
        for case, logits in LOGITS.items()
        for position, logit in zip(POSITIONS, logits, strict=True)
    ]
    pd.DataFrame(rows).to_csv(folders["classifier"] / "predictions.csv", index=False)
    (folders["classifier"] / "metrics.json").write_text(json.dumps({"threshold": 0.5, "roles": {}}))
    (folders["classifier"] / "run.json").write_text(json.dumps({"params": ARCHITECTURE}))
    save_weights(folders["classifier"] / "weights.safetensors", network())
    return folders


@pytest.fixture
def run_maps(context, upstream):
    def run(family, gate="classifier"):
        methods = {name: DEFAULTS[name] for name in DEFAULTS if catalogue.METHODS[name].family == family}
        params = {"methods": methods, "gate": gate, "seed": 0, "fold": 0, "min_foreground_mm2": 10}
        running = context("maps", params, **upstream)
        deterministic = torch.are_deterministic_algorithms_enabled()
        base.run(running)
        torch.use_deterministic_algorithms(deterministic)
        return running

    return run


def nonzero_units(folder, name, case):
    volume, _ = nifti.read(folder / name / f"{case}.nii.gz")
    assert volume.shape == units().shape
    filled = np.flatnonzero(volume.any(axis=(0, 1)))
    assert np.isin(filled, POSITIONS).all()
    return list(np.searchsorted(POSITIONS, filled))


FAMILIES = sorted({method.family for method in catalogue.METHODS.values()})


@pytest.mark.parametrize("family", FAMILIES)
def test_units_that_do_not_pass_get_zero_maps(run_maps, family):
    running = run_maps(family)
    for name, (case, passing) in itertools.product(running.params["methods"], PASSING.items()):
        assert nonzero_units(running.out, name, case) == passing, (name, case)
    assert running.counts["units"] == 15
    assert running.counts["units_gated"] == 7
    assert running.truth_opened == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_without_gate_every_unit_is_explained(run_maps, family):
    running = run_maps(family, "none")
    for name, case in itertools.product(running.params["methods"], PASSING):
        assert nonzero_units(running.out, name, case) == [0, 1, 2, 3, 4]
    assert running.counts["units_gated"] == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_units_that_do_not_pass_cost_no_forwards(run_maps, monkeypatch, family):
    seen = []
    monkeypatch.setattr(base, "freeze", lambda model, device: counted(freeze(model, device), seen))
    gated = run_maps(family).counts["forwards"]
    passed = sum(seen)
    seen.clear()
    ungated = run_maps(family, "none").counts["forwards"]
    assert gated == passed
    assert ungated == sum(seen)
    assert gated == ungated * 8 / 15


def counted(model, seen):
    model.register_forward_pre_hook(lambda _module, inputs: seen.append(len(inputs[0])))
    return model


def test_only_tested_cases_are_mapped(run_maps):
    running = run_maps("cam")
    for name in running.params["methods"]:
        assert sorted(path.name for path in (running.out / name).iterdir()) == [f"{case}.nii.gz" for case in "abc"]


def test_maps_are_those_of_the_trained_network(run_maps):
    running = run_maps("cam")
    expected = explain_of("gradcam")(explained(PASSING["a"]))[:, 0]
    volume, affine = nifti.read(running.out / "gradcam/a.nii.gz")
    np.testing.assert_allclose(
        np.moveaxis(volume[..., POSITIONS[PASSING["a"]]], 2, 0), expected, atol=1e-4 * expected.max()
    )
    np.testing.assert_array_equal(affine, units().affine)


def test_untrained_null_is_another_network(run_maps):
    """Not the initial weights of the classifier, which a short training hardly moves."""
    running = run_maps("nulls", "none")
    start = explain_of("untrained")(explained(untrained=freeze(resnet(4, ARCHITECTURE, 0), "cpu")))[:, 0]
    volume, _ = nifti.read(running.out / "untrained/a.nii.gz")
    have = np.moveaxis(volume[..., POSITIONS], 2, 0)
    assert np.abs(have - start).max() > 0.1 * start.max()
