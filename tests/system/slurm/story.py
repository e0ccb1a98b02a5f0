"""One small configuration on a cluster where much goes wrong, with notes of what was seen on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import yaml
from tests.runner import REPOSITORY, SLOW
from tests.system.slurm.cluster import Cluster, Job, until

from weakseg import config_text, plan, runs

SETTINGS = {
    "name": "cluster",
    "seeds": [0, 1],
    "data": {
        "brats": {"phantom": {"cases": 10, "shape": [32, 32, 24], "shift_cases": 0}},
        "instance": None,
        "kits": None,
    },
    "views": {"volume": None},
    # Long enough to be cancelled: half a minute on an idle core.
    "classifiers": {"resnet": {"width": 4, "training": {"epochs": 400, "patience": 400, "least_steps": 0}}},
    "maps": {"methods": dict.fromkeys(SLOW)},
    "refinements": {"declared": None},
    "references": {"methods": []},
    "protocol": {"val_k": [1]},
}
STAGES = ("phantom", "index", "preprocess", "truth", "labels", "classifier", "models", "maps")
"""What is run of it: 12 jobs."""

TOO_LITTLE = 300
"""MB that preprocess is given at first. It needs 450 to 700, by how Slurm counts what its processes share."""
ENOUGH = 16 * TOO_LITTLE
"""MB of its second attempt."""

LIMIT = 900
"""Seconds after which a run of Snakemake is killed; on two idle cores none takes 150."""

RESULTS = runs.RESULTS / "runs"
PROFILES = REPOSITORY / "profiles"


@dataclass
class Finished:
    """A run of Snakemake that came to its end."""

    status: int
    printed: str


class Controller:
    """Snakemake that has been started; it is killed, with all its children, where the context is left too early."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        programs = [str(Path(sys.executable).parent), os.environ["PATH"]]
        place = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(directory)]
        self.log = directory / f"controller-{len(list(directory.glob('controller-*')))}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                ["snakemake", *place, *arguments],
                cwd=directory,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PATH": os.pathsep.join(programs)},
                start_new_session=True,
                # What a shell has put in the background ignores it, and so would all that it starts.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def finish(self) -> Finished:
        """Wait for the end."""
        return Finished(self.process.wait(LIMIT), self.log.read_text())

    def until(self, is_so: Callable[[], object], what: str) -> None:
        """Wait until something is so, while Snakemake goes on."""
        until(lambda: self.process.poll() is not None or is_so(), what, LIMIT)
        assert self.process.poll() is None, f"over before {what}:\n{self.log.read_text()[-6000:]}"


@dataclass
class Story:
    """What happened, in this order."""

    cluster: Cluster
    directory: Path
    cancelled: Finished = field(init=False)
    """Its node was drained under `index`, `preprocess` had too little memory, and in training it was interrupted."""
    jobs_when_cancelled: list[Job] = field(init=False)
    files_when_cancelled: set[Path] = field(init=False)
    checkpoints_when_cancelled: list[Path] = field(init=False)
    resumed: Finished = field(init=False)
    arrays: Finished = field(init=False)
    again: Finished = field(init=False)

    def __post_init__(self) -> None:
        self.site = self.directory / "site"
        self.site.mkdir()
        (self.site / "profile.yaml").write_text(yaml.safe_dump(site_profile()))
        self.configuration = self.directory / "cluster.yaml"
        self.configuration.write_text(yaml.safe_dump(SETTINGS))
        with chdir(self.directory):
            everything = plan.build(config_text.load(SETTINGS))
        self.planned = [run for run in everything.runs.values() if run.stage in STAGES]

    def tell(self) -> None:
        until_models, maps = self.targets("models"), self.targets("maps")
        with self.start("slurm", *until_models) as controller:
            controller.until(lambda: self.running("index"), "index runs")
            self.cluster.command("scontrol", "update", "NodeName=one", "State=DRAIN", "Reason=tests")
            controller.until(lambda: self.checkpoints() and len(self.running("classifier")) == 2, "training")
            controller.process.send_signal(signal.SIGINT)
            self.cancelled = controller.finish()
        until(lambda: all(job.is_over for job in self.cluster.jobs()), "jobs to end")
        self.jobs_when_cancelled = self.cluster.jobs()
        self.files_when_cancelled = self.files()
        self.checkpoints_when_cancelled = self.checkpoints()
        self.cluster.command("scontrol", "update", "NodeName=one", "State=RESUME")
        self.resumed = self.run("slurm", *until_models)
        self.arrays = self.run("slurm-array", *maps)
        self.again = self.run("slurm", *until_models, *maps)

    def start(self, profile: str, *targets: str) -> Controller:
        """Start Snakemake with a profile of this repository and, over it, what this site needs."""
        over = [PROFILES / "slurm", *([PROFILES / profile] if profile != "slurm" else []), self.site]
        profiles = [word for path in over for word in ("--profile", str(path))]
        return Controller(self.directory, *profiles, "--configfile", str(self.configuration), "--", *targets)

    def run(self, profile: str, *targets: str) -> Finished:
        with self.start(profile, *targets) as controller:
            return controller.finish()

    def targets(self, stage: str) -> list[str]:
        return [str(run.record) for run in self.planned if run.stage == stage]

    def records_of(self, stage: str) -> list[Path]:
        return [self.directory / target for target in self.targets(stage)]

    def running(self, rule: str) -> list[Job]:
        return [job for job in self.cluster.jobs(rule) if job.state == "RUNNING"]

    def checkpoints(self) -> list[Path]:
        """What trainings keep of their epochs until they are done."""
        return list((self.directory / runs.STATE).glob("*/training.pt"))

    def files(self) -> set[Path]:
        """All files of results; what is being written lies in hidden folders."""
        found = (self.directory / RESULTS).glob("*/[!.]*/**/*")
        return {path.relative_to(self.directory / RESULTS) for path in found if path.is_file()}

    @staticmethod
    def below_runs(path: Path) -> Path:
        return path.relative_to(RESULTS)


def site_profile() -> dict:
    """What a site changes of ``profiles/slurm``: the device, as the GPUs are none, and how states are asked for."""
    of_repository = yaml.safe_load((PROFILES / "slurm" / "profile.yaml").read_text())["set-resources"]
    resources = {rule: {**values, "device": "cpu"} for rule, values in of_repository.items()}
    return {
        "set-resources": {**resources, "preprocess": {"mem_mb": f"attempt**4 * {TOO_LITTLE}"}},
        "slurm-status-command": "squeue",  # without accounting
        "slurm-init-seconds-before-status-checks": 2,
        "seconds-between-status-checks": 3,
        "latency-wait": 15,
    }
