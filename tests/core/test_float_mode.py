"""Whether denormal numbers count as zero is a mode of each thread: one call has that of its caller, on all threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

import dshc_fast

TINY = 1e-40  # a denormal float32; 1e-310 is a denormal float64
N = 20_000


def packed(dtype: torch.dtype) -> torch.Tensor:
    return dshc_fast.pack_codes(torch.full((N, 64), TINY if dtype == torch.float32 else 1e-310, dtype=dtype))


def multilabel() -> torch.Tensor:
    return dshc_fast.multilabel_codes(torch.full((N, 64), TINY), 0.0)


def best_two() -> torch.Tensor:
    """The larger of 0 and a denormal: where that is zero the first column is as good."""
    logits = torch.tensor([[0.0, TINY, -1.0]]).repeat(N, 1)
    return dshc_fast.codes_from_logits(logits, torch.tensor([[1], [2], [4]], dtype=torch.uint8), 1)


def loss_gradient() -> torch.Tensor:
    """Probabilities that are denormal."""
    logits = torch.tensor([[0.0, -95.0]]).repeat(N, 1).requires_grad_()
    dshc_fast.class_softmax_loss(
        logits, torch.zeros(N, dtype=torch.int64), [0, 1, 2], reduction="sum"
    ).backward()
    return logits.grad


CALLS: dict[str, Callable[[], torch.Tensor]] = {
    "pack_codes": lambda: packed(torch.float32),
    "pack_codes, float64": lambda: packed(torch.float64),
    "multilabel_codes": multilabel,
    "codes_from_logits": best_two,
    "class_softmax_loss": loss_gradient,
}
SHOWS_THE_MODE = ("pack_codes", "pack_codes, float64")


@pytest.fixture(params=(False, True), ids=("denormals", "flushed"))
def flushed(request: pytest.FixtureRequest) -> Iterator[bool]:
    if not torch.set_flush_denormal(request.param):
        pytest.skip("torch cannot flush denormals on this processor")
    yield request.param
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("name", CALLS)
def test_one_mode_a_call(name: str, flushed: bool, simd_level: str, threads) -> None:
    torch.set_num_threads(3)
    # Workers that were born in the other mode, or have worked in it, take over this one.
    torch.set_flush_denormal(not flushed)
    CALLS[name]()
    torch.set_flush_denormal(flushed)
    found = CALLS[name]()
    assert torch.equal(found, found[:1].expand_as(found)), "rows of one answer differ"
    torch.set_num_threads(1)
    assert torch.equal(found, CALLS[name]())
    if name in SHOWS_THE_MODE:
        assert bool((found == (0 if flushed else 255)).all())


def test_small_halves_are_no_denormal_floats(flushed: bool, simd_level: str) -> None:
    """float16 goes down to 6e-8, where float32 is far from its denormals: no mode changes what they are."""
    least = torch.finfo(torch.float16).smallest_normal
    values = torch.tensor([[least / 64, least, -least, 0.0]], dtype=torch.float16)
    book = torch.tensor([[1], [2], [4], [8]], dtype=torch.uint8)
    assert dshc_fast.multilabel_codes(values).tolist() == [[0b0011]]
    assert dshc_fast.codes_from_logits(values, book, 1).tolist() == [[2]]
    assert dshc_fast.codes_from_logits(values[:, [0, 3]], book[:2], 1).tolist() == [[1]]
    assert dshc_fast.center_codes_from_logits(values[:, [3, 0]], [0, 1, 2], book[:2]).tolist() == [[2]]


def test_every_half_is_the_float_it_is(flushed: bool, simd_level: str) -> None:
    """By where it stands against thresholds: its own value, and a little less."""
    halves = torch.arange(2**16, dtype=torch.int32).to(torch.int16).view(torch.float16)
    halves = halves[halves.isfinite()]
    values = halves.double()
    below = values - torch.where(values == 0, 1e-9, values.abs() * 1e-9)
    for first in range(0, len(halves), 4096):
        part = slice(first, first + 4096)
        row = halves[None, part]
        assert not bool(dshc_fast.multilabel_codes(row, values[part]).any())
        codes = dshc_fast.multilabel_codes(row, below[part])
        assert bool(dshc_fast.unpack_codes(codes, row.shape[1]).all())
