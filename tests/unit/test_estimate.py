"""What runs ask for, against what they then do; and how rates of finished runs are told."""

import json
import math

import pytest
from tests import maps_factory as made
from tests.paper_factory import BRATS, INSTANCE, KITS, write_paper_data
from tests.runner import REPOSITORY

from weakseg import plan
from weakseg.config_text import load
from weakseg.estimate import timing
from weakseg.estimate.asks import Asked, Passes, asked_of, explaining
from weakseg.estimate.extent import Extent, extent_of
from weakseg.estimate.forecast import as_text, forecast
from weakseg.estimate.rates import Rates, shipped, told_by
from weakseg.estimate.timing import TRIALS, Measured, Timer, cut
from weakseg.execution import write_json
from weakseg.runs import Run
from weakseg.workflow import read_config

EXTENT = Extent({"train": 6, "val": 2, "test": 2}, 4, (*made.SHAPE, 9), (1, 1.5, 4), 5, 0.5)
CLASSIFIER = Run("classifier", "brats-slice-resnet-s0-f0", made.ARCHITECTURE, {}, "c")
NETWORKS = {
    "classifier": made.ARCHITECTURE,
    "unet": {"channels": [4, 8], "residual_units": 0, "patch": [16, 16, 1]},
    "student": {"width": 2},
    "field": {"width": 2},
    "generators": {"width": 2, "skips": 4, "perturbation": True, "conditions": 1, "generator_every": 2},
    "cmff": {"width": 2, "network": "cmff", "guidance": "mask"},
    "cmft": {"width": 2},
}
NOT_TOLD = {"maps/optimal", "repeatability", "refinement", "viewer"}
"""What the shipped rates do not know yet: it had not finished in the benchmark that told them."""
SIZES = {"cmff": (4, 32, 32, 32), "cmft": (4, 32, 32, 32)}


class Clock(Timer):
    """Takes a second for every image, forward or step, through networks of 1,000 bytes."""

    def __init__(self):
        self.device = "cpu"

    def of(self, passes):
        return Measured(1.0, 1.0, 1000)


@pytest.mark.parametrize(
    "name",
    ["gradcam", "layercam", "integrated_gradients", "smoothgrad", "scorecam", "rise", "occlusion", "lime", "untrained"],
)
def test_methods_ask_for_as_many_forwards_as_they_take(name):
    params = made.BY_VIEW["slice"][name] | ({"reliability": None} if name == "rise" else {})
    task = made.explained()
    made.explain(task, {name: params})
    forwards, steps = explaining({name: params}, CLASSIFIER, {}, EXTENT, CLASSIFIER, (4, *made.SHAPE))
    each = task.forwards / len(task.selected)
    if name == "occlusion":
        # Windows without foreground cost nothing, which the size alone does not tell.
        assert 0.4 * (forwards + steps) < each <= forwards + steps
    else:
        assert forwards + steps == pytest.approx(each, abs=1)


def test_methods_of_a_family_of_cams_share_their_forward():
    methods = {name: made.BY_VIEW["slice"][name] for name in ("gradcam", "layercam", "hirescam")}
    assert explaining(methods, CLASSIFIER, {}, EXTENT, CLASSIFIER, (4, *made.SHAPE)) == (0, 1)


def test_a_classifier_asks_for_its_steps_and_its_validation():
    training = {"epochs": 3, "patience": 8, "least_steps": 12, "batch_size": 10}
    run = Run("classifier", "x", {**made.ARCHITECTURE, "training": training, "fold": 0}, {}, "k")
    (passes,) = asked_of(run, {}, EXTENT).passes
    # 30 slices in 3 batches: 12 steps are 4 epochs, not 3.
    assert passes.steps == 4 * 30
    assert passes.forwards == 4 * 10 + 20


def test_a_gate_lets_through_the_share_of_slices_with_a_lesion():
    of = {"methods": {"gradcam": {"layer": "layer3"}}, "roles": ["test", "val"], "fold": 0, "view": "slice"}
    asked = {
        gate: asked_of(Run("maps", "x", {**of, "gate": gate}, {"classifier": ["c"]}, "k"), {"c": CLASSIFIER}, EXTENT)
        for gate in ("classifier", "none")
    }
    assert asked["none"].passes[0].steps == 4 * 5
    assert asked["classifier"].passes[0].steps == 4 * 5 * 0.5


def test_sizes_of_data_sets_are_told_by_names_and_headers(tmp_path, monkeypatch):
    monkeypatch.chdir(write_paper_data(tmp_path))
    config = read_config([REPOSITORY / "config" / "paper.yaml"])
    plans = plan.build(config)
    extents = {
        run.params["dataset"]: extent_of(run, plans.runs, config) for run in plans.runs.values() if run.stage == "index"
    }
    assert {name: extent.cases for name, extent in extents.items()} == {
        "brats": pytest.approx(BRATS),
        "instance": pytest.approx(INSTANCE),
        "kits": pytest.approx(KITS),
    }
    assert extents["brats"].roles["test"] == pytest.approx(BRATS / 5)
    # `size` where it is set, and the stored axes turned to X, Y, Z where it is not.
    assert extents["kits"].grid == (400, 320, 200)
    assert extents["instance"].grid == (math.ceil(512 * 0.83), 512, math.ceil(30 * 1.33))
    monkeypatch.setenv("FOLDER", "data")
    instance = config.data.instance.model_copy(update={"path": "$FOLDER/INSTANCE22"})
    elsewhere = config.model_copy(update={"data": config.data.model_copy(update={"instance": instance})})
    (index,) = (run for run in plans.of_stage("index") if run.label == "instance")
    assert extent_of(index, plans.runs, elsewhere) == extents["instance"]


@pytest.mark.parametrize("kind", list(TRIALS))
def test_every_kind_of_network_can_be_measured(kind, monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0)
    size = SIZES.get(kind, (4, 32, 32))
    measured = Timer().of(Passes(kind, NETWORKS[kind], size))
    assert 0 < measured.forward < measured.step
    assert measured.weights > 100


def test_large_images_are_cut_to_be_measured():
    assert cut((4, 240, 240, 155), 2**18) == (4, 60, 60, 38)
    assert cut((4, 64, 64), 2**18) == (4, 64, 64)


def test_a_large_image_is_taken_to_need_time_in_proportion(monkeypatch):
    monkeypatch.setitem(timing.VALUES, "cpu", 4 * 32 * 32)
    monkeypatch.setattr(Timer, "_time", lambda self, call: 1.0)
    timer = Timer()
    small, large = (timer.of(Passes("classifier", made.ARCHITECTURE, (4, edge, edge))) for edge in (32, 128))
    assert large.forward == pytest.approx(16 * small.forward)


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """A finished run of 50 processor seconds and 600 bytes beside its record."""
    monkeypatch.chdir(tmp_path)
    run = Run("maps", "x", {}, {}, "00000000")
    run.folder.mkdir(parents=True)
    write_json(run.record, {"cpu_seconds": 50.0, "seconds": 90.0})
    (run.folder / "map").write_bytes(b"0" * (600 - run.record.stat().st_size))
    return run


def test_finished_runs_tell_their_own_time_and_size(finished):
    asked = Asked("maps/cam", megavoxels=20, passes=[Passes("classifier", {}, (1,), steps=96)], kept=20)
    rates = told_by({"a": finished}, {"a": asked}, Clock(), Rates(start=1, io=0.05, groups={"scores": 3}))
    # 50 s less a second to start and one to write, for 96 images.
    assert rates.groups == {"maps/cam": 0.5, "scores": 3}
    assert rates.seconds(asked, Clock()) == pytest.approx(50)
    assert rates.size(asked, Clock()) == pytest.approx(600)
    assert rates.runs == {"maps/cam": 1}


def test_a_group_that_nobody_ran_takes_what_its_networks_take():
    asked = Asked("maps/new", megavoxels=10, passes=[Passes("classifier", {}, (1,), forwards=7)])
    assert Rates(start=1, io=0.1).seconds(asked, Clock()) == pytest.approx(1 + 1 + 7)


def test_weights_are_counted_by_their_network():
    asked = Asked("classifier", passes=[], weights=[Passes("classifier", {}, (1,))])
    assert Rates(1, 0.1, bytes={"classifier": 500.0}).size(asked, Clock()) == 1000


def test_every_run_of_the_default_has_a_rate(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load({})
    plans = plan.build(config)
    found = forecast(plans.runs, config, shipped(), Clock())
    assert len(found.runs) == len(plans.runs)
    assert (found.runs["seconds"] > 0).all()
    text = as_text(found)
    table = dict(line.split(maxsplit=1) for line in text.splitlines()[1:] if line)
    assert int(table["all"].split()[0]) == len(plans.runs)
    asked = {asked_of(run, plans.runs, extent_of(run, plans.runs, config)).rate for run in plans.runs.values()}
    assert asked - set(shipped().groups) <= NOT_TOLD


def test_shipped_rates_are_numbers():
    rates = shipped()
    assert all(value >= 0 for value in [*rates.groups.values(), *rates.bytes.values()])
    assert json.dumps(rates.runs)
