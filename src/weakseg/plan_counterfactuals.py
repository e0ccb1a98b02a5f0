"""The run that asks judges about the counterfactual images of a fold. Free of torch."""

from __future__ import annotations

from typing import Any

from weakseg.plan_views import View
from weakseg.runs import Plan


def plan_counterfactuals(
    plan: Plan,
    label: str,
    data: dict[str, str],
    classifier: str,
    evaluator: str,
    fitted: str,
    methods: dict[str, dict[str, Any]],
    view: View,
    seed: int,
    fold: int,
) -> str:
    """Add a run of the stage ``counterfactuals`` and return its key.

    Args:
        plan: to add to.
        label: what the run's label begins with, such as ``kits-slice``; seed and fold follow.
        data: keys of :func:`weakseg.plan.plan_data`.
        classifier: key of the explained classifier.
        evaluator: key of the judge that only reports; :func:`weakseg.plan_views.judges_of` says how it is trained.
        fitted: key of the ``map_fit`` in which the generators were trained for that classifier.
        methods: parameters of generators by the name that they were fitted under, as given to it; all or some of them.
        view: of slices.
        seed: of the classifier.
        fold: whose test cases are asked about.
    """
    config = plan.config
    params = {
        "dataset": plan.runs[data["index"]].params["dataset"],
        "region": plan.runs[data["labels"]].params["region"],
        "methods": methods,
        "blur_mm": config.protocol.faithfulness.blur_mm,
        "bootstrap": config.protocol.bootstrap,
        "data_seed": config.data_seed,
        "seed": seed,
        "fold": fold,
        **view.units,
    }
    upstream = {role: data[role] for role in ("index", "preprocess", "labels", "truth")}
    judges = {"classifier": classifier, "evaluator": evaluator}
    return plan.add("counterfactuals", f"{label}-s{seed}-f{fold}", params, **upstream, **judges, fitted=fitted)
