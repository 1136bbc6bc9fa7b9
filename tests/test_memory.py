import platform
import subprocess
import sys

import pytest

_STEPS = """
import resource, torch
from fromnoise.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        blocks = [torch.zeros(2**19) for _ in range(8)]  # 2 MiB each, all freed at the end of the step
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

without = faults()
keep_freed_memory()
faults()
print(without, faults())
"""


@pytest.mark.alone
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's way with memory")
def test_memory_freed_by_a_step_serves_the_next():
    done = subprocess.run([sys.executable, "-c", _STEPS], capture_output=True, text=True, check=True, timeout=120)
    without, kept = map(int, done.stdout.split())
    assert without > 5_000, "the system was not asked for memory in every step: nothing to keep"
    assert kept < without / 10
