"""A Slurm on this host that lives as long as the tests: two nodes, two fake GPUs, no accounting."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = Path("/etc/slurm/slurm.conf")
"""Where Slurm looks by itself. ``SLURM_CONF`` would not do: Snakemake's plugin removes it inside jobs."""
FOLDER = "weakseg-slurm"
"""The name of the folder with everything of the cluster; the configuration's link tells by it whose it is."""
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")

SLURM_CONF = """\
ClusterName=weakseg-tests
SlurmctldHost=localhost
SlurmctldPort=26817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
MpiDefault=none
SwitchType=switch/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
# Without control groups: memory is looked at every second, and a step that takes too much is killed.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={folder}/prolog
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=1,sched_interval=2,bf_interval=2
# What is done stays in sight.
MinJobAge=3600
KillWait=5
ReturnToService=2
# The nodes pass for larger than the host, so that jobs which ask for much run side by side.
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=one NodeHostname=localhost NodeAddr=127.0.0.1 Port=26818 CPUs=4 RealMemory=200000
NodeName=two NodeHostname=localhost NodeAddr=127.0.0.1 Port=26819 CPUs=4 RealMemory=200000 Gres=gpu:2 Weight=10
PartitionName=cpu Nodes=one,two Default=YES MaxTime=2-0 State=UP
PartitionName=gpu Nodes=two MaxTime=2-0 State=UP
"""
# Any two character devices pass for GPUs: Slurm hands out their numbers, and nobody opens them.
GRES_CONF = """\
AutoDetect=off
NodeName=two Name=gpu File=/dev/null
NodeName=two Name=gpu File=/dev/zero
"""
PROLOG = """\
#!/bin/sh
echo "$SLURM_JOB_ID ${{CUDA_VISIBLE_DEVICES:-none}}" >> {folder}/devices
"""
"""Runs before each task, in its environment."""


class CannotRunError(Exception):
    """Why there can be no such cluster here."""


@dataclass(frozen=True)
class Job:
    """One attempt at a job of the workflow, as Slurm remembers it."""

    number: int
    rule: str
    state: str
    partition: str
    node: str
    memory: str
    gpus: int
    array: str
    """The number of the array that it is a task of; empty without one."""

    @property
    def is_over(self) -> bool:
        return self.state not in {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}


class Cluster:
    """The daemons and their folder."""

    def __init__(self, parent: Path, configuration: Path = CONFIGURATION) -> None:
        self.folder = parent / FOLDER
        self.configuration = configuration
        self.daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Install what is missing, write the configuration, start all daemons and wait until the nodes are idle.

        Raises:
            CannotRunError: not root, Slurm cannot be had, or this host belongs to another cluster.
        """
        self._claim()
        install()
        self._write()
        munge = self.folder / "munge"
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self._daemon("munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *files)
        until(lambda: (munge / "socket").exists(), "munge")
        configuration = ("-D", "-f", str(self.folder / "slurm.conf"))
        self._daemon("slurmctld", "-c", *configuration)
        for node in ("one", "two"):
            self._daemon("slurmd", "-N", node, *configuration)
        states = ("sinfo", "--noheader", "--Node", "--format=%T")
        until(lambda: set(self.command(*states).split()) == {"idle"}, "idle nodes")

    def stop(self) -> None:
        """Cancel all jobs, end the daemons and take the configuration away."""
        try:
            if self.daemons:
                self.command("scancel", "--user=root")
                until(lambda: all(job.is_over for job in self.jobs()), "jobs to end")
        finally:
            for daemon in reversed(self.daemons):
                daemon.terminate()
                daemon.wait(timeout=30)
            if self.configuration.is_symlink() and self.configuration.readlink().parent == self.folder:
                self.configuration.unlink()

    def jobs(self, rule: str | None = None) -> list[Job]:
        """All jobs so far, or those of a rule, in the order of their submission."""
        lines = self.command("scontrol", "show", "job", "--oneliner").splitlines()
        jobs = [_job(dict(re.findall(r"(\S+?)=(\S*)", line))) for line in lines if line.startswith("JobId=")]
        return sorted((job for job in jobs if rule in (None, job.rule)), key=lambda job: job.number)

    def devices(self) -> dict[int, str]:
        """``CUDA_VISIBLE_DEVICES`` as each job found it."""
        lines = (self.folder / "devices").read_text().split("\n")
        return {int(number): devices for number, devices in (line.split() for line in lines if line)}

    def command(self, *command: str) -> str:
        """What a command of Slurm prints."""
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout

    def _claim(self) -> None:
        """Make sure that this host may be ours, and end what a killed session of tests left."""
        if os.geteuid() != 0:
            raise CannotRunError("a Slurm of one's own needs root")
        link = self.configuration
        if not os.path.lexists(link) and "SLURM_CONF" not in os.environ:
            return
        if not link.is_symlink() or link.readlink().parent.name != FOLDER or "SLURM_CONF" in os.environ:
            place = os.environ.get("SLURM_CONF", link)
            raise CannotRunError(f"{place} is another cluster's; it is left as it is")
        pids = link.readlink().with_name("pids")
        owner, *daemons = pids.read_text().split() if pids.exists() else ["none"]
        if Path(f"/proc/{owner}").exists():
            raise CannotRunError(f"other tests, process {owner}, have their Slurm on this host just now")
        for pid in daemons:
            program = Path(f"/proc/{pid}/comm")
            if program.exists() and program.read_text().strip() in {"munged", "slurmctld", "slurmd"}:
                os.kill(int(pid), signal.SIGKILL)

    def _write(self) -> None:
        for name in ("munge", "state", "spool-one", "spool-two"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "munge" / "key").write_bytes(os.urandom(128))
        (self.folder / "munge" / "key").chmod(0o400)
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(folder=self.folder))
        (self.folder / "gres.conf").write_text(GRES_CONF)
        (self.folder / "prolog").write_text(PROLOG.format(folder=self.folder))
        (self.folder / "prolog").chmod(0o755)
        self.configuration.parent.mkdir(exist_ok=True)
        self.configuration.unlink(missing_ok=True)
        self.configuration.symlink_to(self.folder / "slurm.conf")

    def _daemon(self, *command: str) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        self.daemons.append(daemon)
        pids = [os.getpid(), *(daemon.pid for daemon in self.daemons)]
        (self.folder / "pids").write_text(" ".join(map(str, pids)))


def install() -> None:
    """Install Slurm from Debian unless it is there.

    Raises:
        CannotRunError: there is no apt, or it fails.
    """
    if all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "munged")):
        return
    if not shutil.which("apt-get"):
        raise CannotRunError("there is neither Slurm nor apt-get to install it with")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(["apt-get", "--quiet", *command], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise CannotRunError(f"apt-get could not install {', '.join(PACKAGES)}: {done.stderr.strip()[-300:]}")


def _job(facts: dict[str, str]) -> Job:
    rule = re.match(r"rule_(.*?)(_wildcards_.*)?$", facts["Comment"])
    gpus = re.search(r"gpu:(\d+)", facts.get("TresPerJob", ""))
    return Job(
        number=int(facts["JobId"]),
        rule=rule[1] if rule else "",
        state=facts["JobState"],
        partition=facts["Partition"],
        node=facts.get("NodeList", ""),
        memory=facts.get("MinMemoryNode", ""),
        gpus=int(gpus[1]) if gpus else 0,
        array=facts.get("ArrayJobId", ""),
    )


def until(is_so: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.5)
