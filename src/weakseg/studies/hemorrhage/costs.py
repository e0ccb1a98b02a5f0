"""What a segmentation costs when it is used: classifier, CAM and clusters, against the student alone.

Each is timed in a process of its own on one thread, so that the memory it takes can be told; a third process that does
nothing but read the images says what libraries and images take.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.index import read_cases
from weakseg.data.views import Windowed, read_units
from weakseg.evaluation.protocol import normalise
from weakseg.execution import Context
from weakseg.maps.base import Explained, explain_of, read_networks
from weakseg.maps.gated import Gate
from weakseg.networks import freeze
from weakseg.refinements.case import Case
from weakseg.refinements.chains import refine_map
from weakseg.refinements.student import Student, refine
from weakseg.sequences import ResNetLSTM, middle_logits

CONTENDERS = ("images", "classifier+CAM+clusters", "student")


def run(context: Context) -> None:
    """Write ``costs.csv``: by contender ``parameters``, ``seconds`` a case (median) and ``peak_memory_mib``.

    The figures are those of this machine at this time: no other table is made of them.
    """
    cases = read_cases(context.folder("index"))
    tested = sorted(cases.loc[cases[f"role_f{context.params['fold']}"] == "test", "case"])[: context.params["cases"]]
    rows = []
    for name in CONTENDERS:
        # A fresh interpreter: a forked one would begin with the memory of this one.
        with get_context("spawn").Pool(1) as pool:
            rows.append(pool.apply(measure, (context, name, tested)))
    pd.DataFrame(rows).to_csv(context.out / "costs.csv", index=False)


def measure(context: Context, name: str, cases: Sequence[str]) -> dict[str, Any]:
    """Segment cases one after the other, once more than is timed: the first time, libraries warm up."""
    torch.set_num_threads(1)
    segment, networks = _contender(context, name)
    seconds = []
    for case in [cases[0], *cases]:
        started = time.perf_counter()
        segment(case)
        seconds.append(time.perf_counter() - started)
    return {
        "contender": name,
        "parameters": sum(parameter.numel() for network in networks for parameter in network.parameters()),
        "seconds": float(np.median(seconds[1:])),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "cases": len(cases),
    }


def _contender(context: Context, name: str) -> tuple[Callable[[str], object], list[nn.Module]]:
    """What segments a case, and the networks that it needs."""
    if name == "images":
        return lambda case: np.asarray(_case(context, case).image).sum(), []
    if name == "student":
        channels = context.record("preprocess")["params"]["channels"]
        width = context.record("refinement")["params"]["settings"]["student"]["width"]
        student = Student(len(channels), width, 0)
        file = context.folder("refinement") / "students" / f"{context.params['student']}.safetensors"
        student.load_state_dict(load_file(file))
        freeze(student, "cpu")

        def by_student(case: str) -> object:
            of_case = _case(context, case)
            return refine(np.zeros(of_case.foreground.shape), of_case, student=student, device="cpu")

        return by_student, [student]
    trained, untrained = read_networks(context)
    assert isinstance(trained, ResNetLSTM)
    explain = explain_of(context.params["methods"])
    gate = Gate(context)

    def by_classifier(case: str) -> object:
        of_case = _case(context, case)
        units = read_units(context.folder("preprocess"), case, context.params)
        assert isinstance(units, Windowed)
        # The gate has kept its calls; they are made again, since they cost forwards.
        middle_logits(trained, units.image, units.windows, "cpu")
        selected = gate.passing(units)
        volume = np.zeros(units.foreground.shape, dtype=np.float32)
        if len(selected):
            explained = Explained(units, selected, trained, untrained, [], context.params["seed"], "cpu")
            ((_, maps),) = explain(explained, context.params["methods"]).items()
            volume[selected] = maps[:, 0]
        relevance = normalise(units.stack(volume), of_case.foreground)
        return refine_map(relevance, of_case, ["clusters"], {"clusters": context.params["clusters"]})

    return by_classifier, [trained]


def _case(context: Context, name: str) -> Case:
    preprocessed = context.folder("preprocess")
    foreground, affine = read_foreground(preprocessed, name)
    return Case(nifti.open_channels(image_file(preprocessed, name)), foreground, nifti.spacing_of(affine))
