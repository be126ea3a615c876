"""Does a process that keeps its memory fault no more, also in another thread?"""

import subprocess
import sys

import pytest

ASKING = """
import resource, threading, torch
from bale.allocator import keep_freed_memory

def faults(ask):
    ask()
    ask()  # the heap has grown by the first
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        ask()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def ask():
    torch.ones(16 << 20)  # 64 MiB

def ask_beside():
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()

torch.set_num_threads(1)
giving_back = faults(ask)
print(keep_freed_memory(), giving_back, faults(ask), faults(ask_beside))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library is another one")
def test_memory_that_was_freed_is_used_again():
    told = subprocess.run([sys.executable, "-c", ASKING], capture_output=True, text=True, check=True).stdout.split()
    if told[0] == "False":
        pytest.skip("this C library has no such settings")
    giving_back, kept, kept_beside = map(int, told[1:])
    # Memory of 64 MiB is 16384 pages of 4 KiB.
    assert max(kept, kept_beside) < 1000 < 5 * 1000 < giving_back
