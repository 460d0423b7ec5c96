"""Fixtures shared by all tests: SIMD levels, devices, hypothesis settings.

Tests that need more than the CPU say why they are skipped; nothing is skipped silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, settings
from training_runs import copy, features, finished, labelled  # noqa: F401  (fixtures)

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
settings.load_profile("dshc")

_BUILD = dshc_fast.build_info()
SIMD_LEVELS: tuple[str, ...] = tuple(_BUILD["simd_levels"])
HAS_CUDA = bool(_BUILD["cuda"]) and torch.cuda.is_available()


class Backend(NamedTuple):
    """Where an op runs: a torch device, and on the CPU the instruction set."""

    device: str
    level: str | None


_BACKENDS = [Backend("cpu", level) for level in SIMD_LEVELS] + ([Backend("cuda", None)] if HAS_CUDA else [])


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


@pytest.fixture(params=_BACKENDS, ids=lambda b: b.level or b.device)
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
