"""The memory of one large CT: 512 x 512 x 600 voxels."""

import re
import sys

import pytest
from tests.runner import REPOSITORY, call

pytestmark = pytest.mark.system


def test_data_stages_of_a_large_ct_stay_under_4_gib():
    printed = call(REPOSITORY, sys.executable, "benchmarks/preprocess.py").stdout
    peaks = {
        (line[:28].strip(), line[28:40].strip()): int(found[1])
        for line in printed.splitlines()
        if (found := re.search(r"(\d+) MiB$", line))
    }
    assert sum(stage == "preprocess" for _, stage in peaks) == 2
    assert max(peaks.values()) < 4096, printed
