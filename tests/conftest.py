"""Fixtures shared by all tests: SIMD levels, devices, hypothesis settings.

Tests that need more than the CPU say why they are skipped; nothing is skipped silently.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from backends import BACKENDS, HAS_CUDA, LEVEL, SIMD_LEVELS, Backend
from effort import PROFILE, examples
from hypothesis import HealthCheck, settings

import dshc_fast

# The machine may be slow or shared: no deadline. One example costs a millisecond or so, for every SIMD level.
settings.register_profile(
    PROFILE,
    deadline=None,
    max_examples=examples(25),
    derandomize=PROFILE != "long",
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
settings.load_profile(PROFILE)

# Of the orders of a kernel's threads the interpreter's random one finds most; the others are for the thorough run.
QUICK_ORDERS = ("random",)


@pytest.hookimpl(tryfirst=True)  # before pytest selects by marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks `gpu`: what a fixture sends to CUDA, and cuda/test_device*.py. `property`: what hypothesis drives, which a
    thorough run does again with more examples. `deep`: what only a thorough run does, besides what is marked so by
    hand."""
    for item in items:
        given = item.callspec.params if hasattr(item, "callspec") else {}
        places = [getattr(value, "device", value) for value in given.values()]
        if item.path.name.startswith("test_device") or any(
            place == "cuda" for place in places if isinstance(place, str)
        ):
            item.add_marker(pytest.mark.gpu)
        if getattr(item.obj, "is_hypothesis_test", False):
            item.add_marker(pytest.mark.property)
        if given.get("order", "random") not in QUICK_ORDERS:
            item.add_marker(pytest.mark.deep)


@pytest.fixture(autouse=True)
def _same_draws(request: pytest.FixtureRequest) -> None:
    """What a test draws without a seed of its own is the same in every run, whatever ran before it in its process."""
    seed = zlib.crc32(request.node.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global one is what a test without a generator would use
    torch.manual_seed(seed)


@pytest.fixture(params=SIMD_LEVELS)
def simd_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set this machine can run, forced in turn."""
    dshc_fast.set_simd_level(request.param)
    yield request.param
    dshc_fast.set_simd_level(LEVEL)


@pytest.fixture(params=["cpu", "cuda"] if HAS_CUDA else ["cpu"])
def device(request: pytest.FixtureRequest) -> str:
    """Each device the native module was built for and this machine has."""
    return request.param


@pytest.fixture(params=BACKENDS, ids=lambda b: b.level or b.device)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Every way an op can run here: each SIMD level of the CPU, and CUDA."""
    chosen: Backend = request.param
    if chosen.level is not None:
        dshc_fast.set_simd_level(chosen.level)
    yield chosen
    dshc_fast.set_simd_level(LEVEL)


@pytest.fixture
def threads() -> Iterator[None]:
    """Gives back the thread count a test changes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
