"""Fixtures shared by all tests: SIMD levels, devices, hypothesis settings.

Tests that need more than the CPU say why they are skipped; nothing is skipped silently.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from backends import BACKENDS, HAS_CUDA, SIMD_LEVELS, Backend
from hypothesis import HealthCheck, settings

import dshc_fast

# The machine may be slow or shared: no deadline. One example costs a millisecond or so, for every SIMD level.
settings.register_profile(
    "dshc",
    deadline=None,
    max_examples=25,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
settings.register_profile("dshc-long", settings.get_profile("dshc"), max_examples=500, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dshc"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what runs on a GPU: the tests that a fixture sends to CUDA, and those of cuda/test_device.py."""
    for item in items:
        given = getattr(item, "callspec", None)
        places = [getattr(value, "device", value) for value in given.params.values()] if given else []
        if item.path.name == "test_device.py" or any(
            place == "cuda" for place in places if isinstance(place, str)
        ):
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(params=SIMD_LEVELS)
def simd_level(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set this machine can run, forced in turn."""
    dshc_fast.set_simd_level(request.param)
    yield request.param
    dshc_fast.set_simd_level(None)


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
    dshc_fast.set_simd_level(None)


@pytest.fixture
def threads() -> Iterator[None]:
    """Gives back the thread count a test changes."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
