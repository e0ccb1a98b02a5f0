"""What Snakemake itself costs on the papers' grid."""

import subprocess
import sys

import pytest
from tests.paper_factory import write_paper_data
from tests.runner import REPOSITORY, snakemake

pytestmark = pytest.mark.system

PAPER = ("--configfile", str(REPOSITORY / "config" / "paper.yaml"), "--dry-run", "--quiet")

# A program's peak of memory is counted from that of the process that starts it, and pytest's is high after other tests:
# a small process between them.
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
"""


def test_dry_run_of_the_paper_grid_takes_under_15_seconds_and_half_a_gib(tmp_path):
    write_paper_data(tmp_path)
    snakemake(tmp_path, *PAPER)  # reads the files once
    place = ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(tmp_path), "--cores", "2"]
    command = [sys.executable, "-m", "snakemake", *place, *PAPER]
    measured = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak = measured.stdout.split()
    # Processor seconds: what else the machine does makes no difference to them.
    assert float(seconds) < 15
    assert int(peak) < 512 * 1024  # KiB; Snakemake's imports alone take a third of it
