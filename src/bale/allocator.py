"""How does a process keep the memory that it frees? The C library gives large pieces back, and asks for them again.

A network's intermediate results are such pieces: each one then begins with a page fault for every 4 KiB, in the kernel,
where threads wait for each other. What the right settings are is ours; what they mean, glibc's manual says (mallopt).
"""

from __future__ import annotations

import ctypes
import sys

# Their numbers in glibc's malloc.h, and values: nothing is given back, every thread has the one heap that can grow.
_SETTINGS = (
    (-1, 2**31 - 1),  # M_TRIM_THRESHOLD, bytes free at the heap's end from which on they are given back
    (-2, 64 * 2**20),  # M_TOP_PAD, bytes by which it grows at least
    (-3, 2**30),  # M_MMAP_THRESHOLD, bytes from which on a piece is not of the heap, and given back when it is freed
    (-8, 1),  # M_ARENA_MAX
)


def keep_freed_memory() -> bool:
    """Let this process use what it freed again instead of giving it back; return whether the C library can.

    For all threads and from now on, as long as the process lives: for programs, not for libraries. Memory stays at its
    highest. The same from outside: MALLOC_TRIM_THRESHOLD_ and its like, or another allocator.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is None:
        return False
    taken = [mallopt(name, value) == 1 for name, value in _SETTINGS]
    return all(taken)
