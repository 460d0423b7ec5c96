"""What only a GPU can show: equality with the CPU at size, streams, graphs, no hidden synchronisation, mixed precision.

`benchmarks/on_gpu.py` runs this file among the others; without a GPU it skips, saying so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from device_only import OFFSETS, need_a_device, random_codes

import dshc_fast

need_a_device()

TEN_MILLION, BATCH = 10_000_000, 64
TOPK_KERNELS = ("automatic", "rows", "popc", "mma")  # what DSHC_CUDA_TOPK takes


def equal(a: object, b: object) -> bool:
    """Equal to the bit; AP, which is computed in float64 on both sides, to 1e-12."""
    parts = zip(a, b, strict=True) if isinstance(a, tuple) else ((a, b),)
    for x, y in parts:
        x, y = x.cpu(), y.cpu()
        same = (
            torch.equal(x, y)
            if not x.is_floating_point()
            else torch.allclose(x, y, rtol=1e-12, atol=0, equal_nan=True)
        )
        if not same:
            return False
    return True


def capturable(
    n_query: int = 9, n_db: int = 3000, n_bytes: int = 8
) -> dict[str, tuple[Callable, list[torch.Tensor]]]:
    """The ops that never synchronise, each with CUDA inputs that a captured graph may overwrite."""
    queries, database = random_codes(n_query, n_bytes, 1).cuda(), random_codes(n_db, n_bytes, 2).cuda()
    labels = [torch.arange(n, device="cuda") % 5 for n in (n_query, n_db)]
    logits = torch.randn(n_query, 100, generator=torch.Generator().manual_seed(3)).cuda()
    codebook, offsets = random_codes(100, n_bytes, 4).cuda(), torch.tensor(OFFSETS, device="cuda")
    centers, threshold = random_codes(3, n_bytes, 5).cuda(), torch.zeros((), device="cuda")
    classes = torch.arange(n_query, device="cuda") % 3
    return {
        "pack_codes": (dshc_fast.pack_codes, [logits]),
        "unpack_codes": (lambda c: dshc_fast.unpack_codes(c, 8 * n_bytes), [queries]),
        "hamming_distance": (dshc_fast.hamming_distance, [queries, database]),
        "hamming_topk": (lambda q, d: dshc_fast.hamming_topk(q, d, 50), [queries, database]),
        "hamming_histogram": (dshc_fast.hamming_histogram, [queries, database, *labels]),
        "average_precision": (dshc_fast.average_precision, [queries, database, *labels]),
        "average_precision_index": (
            lambda *a: dshc_fast.average_precision(*a, ties="index", k=500),
            [queries, database, *labels],
        ),
        "ndcg": (dshc_fast.ndcg, [queries, database, *labels]),
        "reciprocal_rank_index": (
            lambda *a: dshc_fast.reciprocal_rank(*a, ties="index", k=500),
            [queries, database, *labels],
        ),
        "mean_average_precision": (dshc_fast.mean_average_precision, [queries, database, *labels]),
        "class_softmax_loss": (dshc_fast.class_softmax_loss, [logits, classes, offsets]),
        "codes_from_logits": (lambda z, b: dshc_fast.codes_from_logits(z, b, 5), [logits, codebook]),
        "center_codes_from_logits": (dshc_fast.center_codes_from_logits, [logits, offsets, centers]),
        "multilabel_codes": (dshc_fast.multilabel_codes, [logits, threshold]),
    }


@pytest.mark.parametrize("n_bytes", [4, 8, 32])
def test_ten_million_codes(n_bytes: int) -> None:
    """Byte-equal to the CPU on 1e7 codes."""
    n = 10_000_000
    database, queries = random_codes(n, n_bytes, 0), random_codes(7, n_bytes, 1)
    labels = [torch.arange(m) % 11 for m in (7, n)]
    on_gpu = [tensor.cuda() for tensor in (queries, database, *labels)]
    assert equal(dshc_fast.hamming_topk(*on_gpu[:2], 1000), dshc_fast.hamming_topk(queries, database, 1000))
    radius = 3 * n_bytes
    assert equal(
        dshc_fast.hamming_radius(*on_gpu[:2], radius), dshc_fast.hamming_radius(queries, database, radius)
    )
    assert equal(
        dshc_fast.hamming_histogram(*on_gpu), dshc_fast.hamming_histogram(queries, database, *labels)
    )
    for ties in ("expected", "index"):
        assert equal(
            dshc_fast.average_precision(*on_gpu, ties=ties),
            dshc_fast.average_precision(queries, database, *labels, ties=ties),
        )


@functools.lru_cache(maxsize=1)
def batch(kind: str) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """64 queries and ten million codes of 64 bits, on the CPU and on the device."""
    queries, database = random_codes(BATCH, 8, 1), random_codes(TEN_MILLION, 8, 2)
    if kind == "duplicated":
        generator = torch.Generator().manual_seed(3)
        database = database[:1000][torch.randint(1000, (TEN_MILLION,), generator=generator)]
    elif kind == "tied":
        database = torch.zeros_like(database)
    return [queries, database], [queries.cuda(), database.cuda()]


@functools.lru_cache(maxsize=1)
def expected_topk(kind: str, n_query: int, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    queries, database = batch(kind)[0]
    return tuple(dshc_fast.hamming_topk(queries[:n_query], database, k))


@pytest.mark.parametrize("kernel", TOPK_KERNELS)
@pytest.mark.parametrize("k", [1, 100, 2048, 2049])
@pytest.mark.parametrize("kind", ["random", "duplicated", "tied"])
def test_batch_against_ten_million(kind: str, k: int, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte-equal to the CPU, whichever kernel works, below and above the k that the one-pass kernels take."""
    monkeypatch.setenv("DSHC_CUDA_TOPK", kernel)
    assert equal(tuple(dshc_fast.hamming_topk(*batch(kind)[1], k)), expected_topk(kind, BATCH, k))


@pytest.mark.parametrize("kernel", TOPK_KERNELS)
@pytest.mark.parametrize("kind", ["random", "duplicated", "tied"])
def test_all_of_ten_million(kind: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """k = n: every item, in order."""
    monkeypatch.setenv("DSHC_CUDA_TOPK", kernel)
    queries, database = batch(kind)[1]
    found = dshc_fast.hamming_topk(queries[:1], database, TEN_MILLION)
    assert equal(tuple(found), expected_topk(kind, 1, TEN_MILLION))


@pytest.mark.parametrize("kernel", TOPK_KERNELS)
@pytest.mark.parametrize("kind", ["random", "duplicated", "tied"])
def test_batch_on_a_side_stream(kind: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten million codes copied, ranked and freed on a stream of its own, with no wait between."""
    monkeypatch.setenv("DSHC_CUDA_TOPK", kernel)
    queries, database = batch(kind)[1]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        copy = database.clone()
        found = dshc_fast.hamming_topk(queries, copy, 100)
        del copy  # the allocator may hand the memory on; only work on this stream can
        torch.empty(8 * TEN_MILLION, dtype=torch.uint8, device="cuda").fill_(1)
    stream.synchronize()
    assert equal(tuple(found), expected_topk(kind, BATCH, 100))


@pytest.mark.parametrize("kernel", TOPK_KERNELS)
@pytest.mark.parametrize("kind", ["random", "duplicated", "tied"])
def test_batch_in_a_cuda_graph(kind: str, kernel: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captured on other queries, replayed twice: what one replay leaves behind does not meet the next."""
    monkeypatch.setenv("DSHC_CUDA_TOPK", kernel)
    queries, database = batch(kind)[1]
    held = queries.flip(0).contiguous()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        dshc_fast.hamming_topk(held, database, 100)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = dshc_fast.hamming_topk(held, database, 100)
    held.copy_(queries)
    for _ in range(2):
        graph.replay()
        torch.cuda.synchronize()
        assert equal(tuple(found), expected_topk(kind, BATCH, 100))


@pytest.mark.parametrize("name", list(capturable()))
def test_side_stream(name: str) -> None:
    """On a stream of its own, with inputs that are not contiguous and made on that stream."""
    op, inputs = capturable()[name]
    expected = op(*inputs)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        strided = [torch.stack([x, x], dim=x.dim())[..., 0] if x.dim() else x.clone() for x in inputs]
        answers = op(*strided)
        del strided  # the allocator may hand the memory on; only work on this stream can
        torch.empty(1 << 20, device="cuda").fill_(1)
    stream.synchronize()
    assert equal(answers, expected)


@pytest.mark.parametrize("name", list(capturable()))
def test_cuda_graph(name: str) -> None:
    """Captured once and replayed on other inputs."""
    op, inputs = capturable()[name]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        op(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answers = op(*inputs)
    inputs[0].copy_(inputs[0].flip(0))
    graph.replay()
    torch.cuda.synchronize()
    assert equal(answers, op(*inputs))


@pytest.mark.parametrize("name", list(capturable()))
def test_never_synchronises(name: str) -> None:
    op, inputs = capturable()[name]
    op(*inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        op(*inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_lists_reach_the_device_inside_a_graph() -> None:
    """Class offsets, thresholds and ranks given as lists: no wait, and no copy that a capture refuses."""
    codes, labels = random_codes(50, 8, 1).cuda(), torch.arange(50, device="cuda") % 5
    logits, classes = torch.randn(9, 100, device="cuda"), torch.arange(9, device="cuda") % 3
    centers, thresholds = random_codes(3, 8, 2).cuda(), torch.linspace(-1, 1, 100).tolist()

    def step() -> list[torch.Tensor]:
        curves = dshc_fast.retrieval_curves(codes[:7], codes, labels[:7], labels, ranks=[1, 7, 20])
        loss = dshc_fast.class_softmax_loss(logits, classes, OFFSETS)
        center_codes = dshc_fast.center_codes_from_logits(logits, OFFSETS, centers)
        return [*curves, loss, center_codes, dshc_fast.multilabel_codes(logits, thresholds)]

    torch.cuda.set_sync_debug_mode("error")
    try:
        wanted = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_the_device_stays_set() -> None:
    """On a second device, ops and HammingDatabase leave the caller's device as it was."""
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device here, two are needed")
    codes = random_codes(100, 8, 1).to("cuda:1")
    hot = torch.nn.functional.one_hot(torch.arange(100, device="cuda:1") % 5).bool()
    database = dshc_fast.HammingDatabase(codes, hot)
    assert torch.cuda.current_device() == 0
    dshc_fast.average_precision(codes[:5], database, hot[:5])
    assert torch.cuda.current_device() == 0 and torch.zeros(1, device="cuda").device.index == 0


def test_devices_that_differ_are_named() -> None:
    queries, database = random_codes(3, 8, 1), random_codes(9, 8, 2).cuda()
    for first, second, words in (
        (queries, database, "database must be on cpu, where queries is, got cuda:0"),
        (database, queries, "database must be on cuda:0, where queries is, got cpu"),
    ):
        with pytest.raises(ValueError, match=words):
            dshc_fast.hamming_topk(first, second, 1)
