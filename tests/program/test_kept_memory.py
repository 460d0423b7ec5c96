"""Freed memory is kept inside the block and given back behind it, where malloc is glibc's and nobody else tuned it."""

import ctypes
import os
import subprocess
import sys
import textwrap

import pytest

from dshc import kept_memory as module
from dshc.kept_memory import kept_between, kept_memory

glibc = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
needs_glibc = pytest.mark.skipif(not glibc, reason="malloc is not glibc's")

COUNT = """
    import resource
    import torch
    from dshc.kept_memory import kept_memory

    def faults():
        # Pages that the system had to give, over steps that each take and free 3 blocks of 64 MiB.
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            blocks = [torch.ones(16 << 20) for _ in range(3)]
            del blocks  # before the next step's are taken: how many are there at once is the same in every step
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    def resident():
        return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() >> 20

    free, before = faults(), resident()
    with kept_memory():
        with kept_memory():
            faults()
        # A block within the block has not given anything back.
        kept, inside = faults(), resident()
    print(free, kept, before, inside, resident())
"""


def counted(**environment):
    code = textwrap.dedent(COUNT)
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(number) for number in run.stdout.split()]


@pytest.mark.deep
@needs_glibc
def test_pages_are_not_taken_anew_inside_and_are_given_back_behind():
    free, kept, before, inside, after = counted(GLIBC_TUNABLES="")
    assert kept < free / 20, "the same blocks are taken from what was freed"
    assert inside > before + 150 and after < inside - 150  # MiB: two of three blocks at least


@pytest.mark.deep
@needs_glibc
@pytest.mark.parametrize("name", ["MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_a_malloc_that_was_tuned_is_left_alone(name):
    value = "glibc.malloc.arena_max=1" if name == "GLIBC_TUNABLES" else "1"
    free, kept, *_ = counted(**{name: value})
    assert kept > free / 2


def test_the_block_passes_errors_on():
    with pytest.raises(KeyError), kept_memory():
        raise KeyError


def test_batches_come_in_order_and_memory_is_kept_from_the_second_on():
    seen = []
    for n in range(4):
        found = []
        for item in kept_between(iter(range(n))):
            found.append(item)
            seen.append((n, item, module._memory.n_inside))
        assert found == list(range(n)) and module._memory.n_inside == 0
    if glibc and not module._tuned():
        assert [inside for *_, inside in seen] == [0, 0, 1, 0, 1, 1]
    batches = kept_between(range(5))
    assert [next(batches), next(batches)] == [0, 1]
    batches.close()  # left half way
    assert module._memory.n_inside == 0
