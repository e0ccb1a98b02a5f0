"""The papers' grid: every method, five folds, three seeds, over 369, 100 and 489 cases."""

import pytest
from tests.paper_factory import write_paper_data
from tests.runner import REPOSITORY

from weakseg import catalogue
from weakseg.data import inventory
from weakseg.studies.plans import build_all
from weakseg.workflow import read_config


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The plans of ``config/paper.yaml``, and the folders that were walked for them."""
    walked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(write_paper_data(tmp_path_factory.mktemp("paper")))
        digest = inventory._content_digest
        patch.setattr(inventory, "_content_digest", lambda root, cache: walked.append(root) or digest(root, cache))
        return build_all(read_config([REPOSITORY / "config" / "paper.yaml"])), walked


def test_paper_grid_is_planned_in_under_2000_jobs(planned):
    plans, _ = planned
    assert len(plans["all"].runs) < 2000
    assert len({key for plan in plans.values() for key in plan.runs}) < 2000


def test_paper_grid_has_every_method_fold_and_seed(planned):
    of_slices = [
        run for run in planned[0]["all"].runs.values() if run.stage in ("maps", "mean_mask") and "-slice-" in run.label
    ]
    asked = {
        (run.label.split("-")[0], method, run.params.get("seed"), run.params["fold"])
        for run in of_slices
        for method in run.params["methods"]
    }
    assert asked == {
        (dataset, method, seed, fold)
        for dataset in catalogue.DATASETS
        for method in catalogue.METHODS
        for seed in (0, 1, 2)
        for fold in range(5)
    }


def test_each_folder_is_walked_once_for_all_plans(planned):
    _, walked = planned
    assert len(walked) == 3
