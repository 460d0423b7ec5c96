"""Before anything is timed: every op on the device gives what the CPU back end gives, integers to the bit, AP to 1e-12,
the loss to its precision; on a side stream and in a CUDA graph too; top-k in every form of its kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

import dshc_fast
from dshc_fast import _linear_ops
from dshc_fast._metric_shapes import METRICS
from gpu import codes
from gpu.clock import captured
from gpu.forms import CHOICE, form

BITS = (32, 64, 128, 256, 512, 1024)
LOSS_TOLERANCE = {
    torch.float32: 1e-5,
    torch.bfloat16: 2e-2,
}  # of the largest value; what is compared rounds once
Call = Callable[..., object]


class Check(NamedTuple):
    """`op(*inputs)` on the device against the CPU; `ways`: "plain", "stream", "graph"."""

    name: str
    op: Call
    inputs: list[Tensor]
    forms: tuple[str, ...] = (CHOICE,)
    ways: tuple[str, ...] = ("plain",)
    tolerance: float = 0.0


def parts(answer: object) -> list[Tensor]:
    return [part.detach().cpu() for part in (answer if isinstance(answer, tuple) else (answer,))]


def differs(found: object, wanted: object, tolerance: float) -> str:
    """Where two answers differ, in words; empty where they do not."""
    for i, (x, y) in enumerate(zip(parts(found), parts(wanted), strict=True)):
        if x.shape != y.shape or x.dtype != y.dtype:
            return f"part {i}: {tuple(x.shape)} {x.dtype}, wanted {tuple(y.shape)} {y.dtype}"
        if not x.is_floating_point():
            wrong = x != y
        elif tolerance:
            wrong = ~((x.double() - y.double()).abs() <= tolerance * y.double().abs().nan_to_num().max())
        else:
            wrong = ~torch.isclose(x, y, rtol=1e-12, atol=0, equal_nan=True)
        if wrong.any():
            at = tuple(wrong.nonzero()[0].tolist())
            return f"part {i}: {int(wrong.sum())} of {wrong.numel()} differ, first at {at}: {x[at]}, wanted {y[at]}"
    return ""


def on_side_stream(op: Call, inputs: list[Tensor]) -> object:
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        answer = op(*(x.clone() for x in inputs))
    stream.synchronize()
    return answer


def in_graph(op: Call, inputs: list[Tensor]) -> object:
    """Captured on inputs of another order, replayed on the right ones."""
    held = [x.clone() for x in inputs]
    held[0].copy_(inputs[0].flip(0))
    replay = captured(lambda: op(*held))
    held[0].copy_(inputs[0])
    answer = replay()
    torch.cuda.synchronize()
    return answer


WAYS: dict[str, Callable[[Call, list[Tensor]], object]] = {
    "plain": lambda op, inputs: op(*inputs), "stream": on_side_stream, "graph": in_graph}  # fmt: skip
REHEARSED = dict.fromkeys(WAYS, WAYS["plain"])


def run(check: Check, device: str, ways: dict[str, Callable]) -> Iterator[dict[str, str]]:
    """One record for each form and way: result "equal", "refused" (the form does not take it), or what differs."""
    wanted = check.op(*check.inputs)
    for name in check.forms:
        for way in check.ways:
            words = [check.name, *([name] if len(check.forms) > 1 else []), way]
            record = {"name": ", ".join(words), "result": "equal"}
            with form(name):
                try:
                    inputs = [x.to(device) for x in check.inputs]
                    record["result"] = (
                        differs(ways[way](check.op, inputs), wanted, check.tolerance) or "equal"
                    )
                except ValueError as error:
                    record |= {"result": "refused", "note": str(error).splitlines()[0][:160]}
                except RuntimeError as error:
                    record["result"] = f"{type(error).__name__}: {str(error).splitlines()[0][:160]}"
            yield record


# ---- what is checked ----


def topk(k: int) -> Call:
    return lambda queries, database: tuple(dshc_fast.hamming_topk(queries, database, k))


def data(kind: str, n_bits: int, n_query: int, n_db: int) -> list[Tensor]:
    return [codes.make(kind, n_bits, n_query, "cpu", 1), codes.make(kind, n_bits, n_db, "cpu", 0)]


def topk_checks(forms: tuple[str, ...], scale: int) -> Iterator[Check]:
    """`scale` divides the sizes, for a rehearsal."""
    chosen = (CHOICE, *forms)
    for n_bits in BITS:
        for kind in codes.KINDS:
            for n_db, ks in (
                (20_000 // scale, (1, 10, 100, 2048, 2049, 20_000)),
                (300_000 // scale, (1, 100, 2048)),
            ):
                inputs = data(kind, n_bits, 70, n_db)
                for k in dict.fromkeys(min(k, n_db) for k in ks):
                    yield Check(
                        f"hamming_topk, {kind}, {n_bits} bits, n {n_db:,}, k {k:,}", topk(k), inputs, chosen
                    )
    for n_query, n_db, k in ((1, 1, 1), (1, 31, 7), (3, 4097, 4097), (129, 5000, 33), (1, 2_000_000 // scale, 100),
                             (8, 2_000_000 // scale, 1000), (1024 // scale, 500_000 // scale, 100)):  # fmt: skip
        for kind in ("random", "clustered", "tied"):
            yield Check(f"hamming_topk, {kind}, 64 bits, {n_query} x {n_db:,}, k {k}", topk(k),
                        data(kind, 64, n_query, n_db), chosen)  # fmt: skip
    inputs = data("clustered", 64, 40, 100_000 // scale)
    allowed = torch.rand(inputs[1].shape[0], generator=torch.Generator().manual_seed(0)) < 0.5
    yield Check("hamming_topk, half allowed", lambda q, d, a: tuple(dshc_fast.hamming_topk(q, d, 100, allowed=a)),
                [*inputs, allowed], chosen)  # fmt: skip
    yield Check("hamming_topk, overlap", lambda q, d: tuple(dshc_fast.hamming_topk(q, d, 100, score="overlap")), inputs,
                chosen)  # fmt: skip
    for n_query in (1, 40):
        yield Check(f"hamming_topk, {n_query} queries", topk(100), [inputs[0][:n_query], inputs[1]], chosen,
                    ("stream", "graph"))  # fmt: skip


def metric_checks(scale: int) -> Iterator[Check]:
    both = ("plain", "stream", "graph")
    for kind in codes.KINDS:
        for n_bits in (32, 64, 256):
            inputs = data(kind, n_bits, 40, 30_000 // scale)
            labelled = [*inputs, *(codes.labels(len(x), "cpu", seed) for seed, x in enumerate(inputs))]
            name = f"{kind}, {n_bits} bits"
            ways = both if kind == "clustered" and n_bits == 64 else ("plain",)
            outputs = torch.randn((40, n_bits), generator=torch.Generator().manual_seed(0))
            for k in (10, 5000 // scale):
                yield Check(f"asymmetric_topk, {name}, k {k}",
                            lambda u, d, k=k: tuple(dshc_fast.asymmetric_topk(u, d, k)), [outputs, inputs[1]],
                            ways=ways)  # fmt: skip
            for radius in (0, 2):
                call = lambda d, radius=radius: tuple(dshc_fast.hamming_pairs(d, radius))  # noqa: E731
                yield Check(f"hamming_pairs, {name}, radius {radius}", call, inputs[1:])
            for radius in (0, 3, n_bits // 3):
                yield Check(f"hamming_radius, {name}, radius {radius}",
                            lambda q, d, radius=radius: tuple(dshc_fast.hamming_radius(q, d, radius)), inputs,
                            ways=ways[:2])  # fmt: skip
            yield Check(f"hamming_histogram, {name}", lambda *x: tuple(dshc_fast.hamming_histogram(*x)), labelled,
                        ways=ways)  # fmt: skip
            for ties in ("expected", "index"):
                for k in (None, 500):
                    yield Check(f"average_precision, {name}, ties {ties}, k {k}",
                                lambda *x, k=k, ties=ties: dshc_fast.average_precision(*x, k=k, ties=ties), labelled,
                                ways=ways)  # fmt: skip


def loss_and_gradient(logits: Tensor, labels: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.detach().requires_grad_()
    loss = dshc_fast.class_softmax_loss(logits, labels, offsets, reduction="none")
    return loss, torch.autograd.grad(loss, logits, torch.ones_like(loss))[0]


def mean_and_gradient(logits: Tensor, labels: Tensor, offsets: Tensor) -> tuple[Tensor, ...]:
    """The gradient that comes with the mean, as it is and times 3; float16 needs a factor, or it is subnormal."""
    logits = logits.detach().requires_grad_()
    scale = 1024.0 if logits.dtype == torch.float16 else 1.0
    loss = scale * dshc_fast.class_softmax_loss(logits, labels, offsets)
    again = 3 * dshc_fast.class_softmax_loss(logits, labels, offsets)
    return loss, torch.autograd.grad(loss, logits)[0], torch.autograd.grad(scale * again, logits)[0]


def logit_checks(scale: int) -> Iterator[Check]:
    generator = torch.Generator().manual_seed(0)
    for dtype, tolerance in LOSS_TOLERANCE.items():
        for n, outputs, classes in ((256, 310, 10), (64, 30_000 // scale, 10)):
            logits = torch.randn((n, outputs), generator=generator).to(dtype)
            labels = torch.randint(classes, (n,), generator=generator)
            offsets = torch.arange(classes + 1) * (outputs // classes)
            codebook = codes.make("random", 64, outputs, "cpu", 0)
            name = f"{n} x {outputs}, {str(dtype).removeprefix('torch.')}"
            yield Check(f"class_softmax_loss and gradient, {name}", loss_and_gradient, [logits, labels, offsets],
                        ways=("plain", "stream", "graph"), tolerance=tolerance)  # fmt: skip
            yield Check(f"class_softmax_loss, mean and gradient, {name}", mean_and_gradient,
                        [logits, labels, offsets], ways=("plain", "stream", "graph"), tolerance=tolerance)  # fmt: skip
            for k in (1, 4, 5):
                yield Check(f"codes_from_logits, {name}, k {k}",
                            lambda z, b, k=k: dshc_fast.codes_from_logits(z, b, k), [logits, codebook],
                            ways=("plain", "stream", "graph"))  # fmt: skip


def layer_checks(scale: int) -> Iterator[Check]:
    """What takes the linear layer with it. Codes are exact on whole numbers, which every order of a sum gives alike,
    and which tie often."""
    generator = torch.Generator().manual_seed(0)
    outputs, classes, ways = 30_000 // scale, 10, ("plain", "stream", "graph")
    shapes = (64, 96), (outputs, 96), (outputs,)
    layer = [torch.randn(shape, generator=generator) for shape in shapes]
    offsets = torch.arange(classes + 1) * (outputs // classes)
    labels = torch.randint(classes, (64,), generator=generator)
    yield Check("class_softmax_linear_loss and gradients", linear_loss_and_gradients, [*layer, labels, offsets],
                ways=ways, tolerance=1e-4)  # fmt: skip
    layer = [torch.randint(-2, 3, shape, generator=generator).float() for shape in shapes]
    codebook = codes.make("random", 64, outputs, "cpu", 0)
    yield Check("codes_from_features", lambda f, w, b, c: dshc_fast.codes_from_features(f, w, b, c, 5),
                [*layer, codebook], ways=ways)  # fmt: skip


def linear_loss_and_gradients(*inputs: Tensor) -> tuple[Tensor, ...]:
    layer = [tensor.detach().requires_grad_() for tensor in inputs[:3]]
    loss = dshc_fast.class_softmax_linear_loss(*layer, *inputs[3:])
    return loss, *torch.autograd.grad(loss, layer)


def in_small_chunks(*inputs: Tensor) -> tuple[Tensor, ...]:
    """The layer's loss in several chunks of rows, each with the gradient over its logits."""
    assert inputs[1].shape[0] > _linear_ops.CHUNK, "fewer sub-classes are one chunk"
    before = _linear_ops.CUDA_LOGITS, _linear_ops.ROW_LOGITS
    _linear_ops.CUDA_LOGITS = _linear_ops.ROW_LOGITS = 12 * inputs[1].shape[0]
    try:
        return linear_loss_and_gradients(*inputs)
    finally:
        _linear_ops.CUDA_LOGITS, _linear_ops.ROW_LOGITS = before


# Rows held in registers; rows that begin off a vector and end inside a step of those kept in shared memory; rows longer
# than shared memory keeps. (rows, sub-classes, classes)
LOSS_SHAPES = (33, 310, 10), (9, 3001, 3), (3, 40_003, 7)


def smoke_checks(forms: tuple[str, ...]) -> Iterator[Check]:
    """Every op once, at sizes small enough for a sanitizer; top-k in each form, on databases that one pass takes."""
    kinds = {"near": "clustered", "tied": "tied"}
    for name, kind in kinds.items():
        for n_bits in (64, 256) if kind == "clustered" else (64,):
            inputs = data(kind, n_bits, 9, 70_000)
            yield Check(f"hamming_topk, {name}, {n_bits} bits", topk(100), inputs, (CHOICE, *forms))
    queries, database = data("clustered", 64, 9, 3000)
    labels = [codes.labels(len(x), "cpu", seed) for seed, x in enumerate((queries, database))]
    hot = [torch.nn.functional.one_hot(x, 10).bool() for x in labels]
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((33, 77), generator=generator)
    logits, codebook = torch.randn((33, 310), generator=generator), codes.make("random", 64, 310, "cpu", 0)
    classes, offsets = torch.arange(33) % 10, torch.arange(11) * 31
    centers = codes.make("random", 64, 10, "cpu", 1)
    layer = [
        torch.randint(-2, 3, shape, generator=generator).float() for shape in ((33, 16), (310, 16), (310,))
    ]

    yield Check("pack_codes", dshc_fast.pack_codes, [values])
    yield Check("unpack_codes", lambda c: dshc_fast.unpack_codes(c, 61, signed=True), [queries])
    yield Check("reverse_bit_order", dshc_fast.reverse_bit_order, [queries])
    yield Check("hamming_distance", dshc_fast.hamming_distance, [queries, database])
    for k in (9, 3000):
        call = lambda u, d, k=k: tuple(dshc_fast.asymmetric_topk(u, d, k))  # noqa: E731
        yield Check(f"asymmetric_topk, {k}", call, [values[:, :64].contiguous(), database])
    for radius in (0, 3):
        call = lambda d, radius=radius: tuple(dshc_fast.hamming_pairs(d, radius))  # noqa: E731
        yield Check(f"hamming_pairs, {radius}", call, [database])
    for radius in (3, 30):
        call = lambda q, d, radius=radius: tuple(dshc_fast.hamming_radius(q, d, radius))  # noqa: E731
        yield Check(f"hamming_radius, {radius}", call, [queries, database])
    for name, of_items in (("class ids", labels), ("multi-hot", hot)):
        inputs = [queries, database, *of_items]
        yield Check(f"hamming_histogram, {name}", lambda *x: tuple(dshc_fast.hamming_histogram(*x)), inputs)
        for ties in ("expected", "index", "best", "worst"):
            call = lambda *x, ties=ties: dshc_fast.average_precision(*x, ties=ties, k=500)  # noqa: E731
            yield Check(f"average_precision, {name}, {ties}", call, inputs)
            for metric in METRICS:
                call = lambda *x, metric=metric, ties=ties: dshc_fast.retrieval_metric(*x, metric, ties=ties)  # noqa: E731
                yield Check(f"retrieval_metric, {metric}, {name}, {ties}", call, inputs)
        yield Check(f"mean_average_precision, {name}", dshc_fast.mean_average_precision, inputs)
        curves = lambda *x: tuple(dshc_fast.retrieval_curves(*x))  # noqa: E731
        yield Check(f"retrieval_curves, {name}", curves, inputs)
        prepared = lambda q, d, a, b: dshc_fast.average_precision(q, dshc_fast.HammingDatabase(d, b), a)  # noqa: E731
        yield Check(f"HammingDatabase, {name}", prepared, inputs)
    for dtype, tolerance in LOSS_TOLERANCE.items():
        yield Check(f"class_softmax_loss and gradient, {dtype}", loss_and_gradient,
                    [logits.to(dtype), classes, offsets], tolerance=tolerance)  # fmt: skip
        for n, outputs, n_classes in LOSS_SHAPES:
            rows = torch.randn((n, outputs), generator=generator).to(dtype)
            of_rows = torch.arange(n) % n_classes
            of_rows[1] = -100
            starts = torch.arange(n_classes + 1) * outputs // n_classes
            yield Check(f"class_softmax_loss, mean and gradient, {n} x {outputs}, {dtype}", mean_and_gradient,
                        [rows, of_rows, starts], tolerance=tolerance)  # fmt: skip
        for k in (1, 5, 31):
            call = lambda z, b, k=k: dshc_fast.codes_from_logits(z, b, k)  # noqa: E731
            yield Check(f"codes_from_logits, {dtype}, k {k}", call, [logits.to(dtype), codebook])
    yield Check("class_softmax_linear_loss and gradients", linear_loss_and_gradients, [*layer, classes, offsets],
                tolerance=1e-4)  # fmt: skip
    wide = [torch.randn(shape, generator=generator) for shape in ((33, 16), (9000, 16), (9000,))]
    yield Check("class_softmax_linear_loss and gradients, chunks of rows", in_small_chunks,
                [*wide, classes, torch.arange(11) * 900], tolerance=1e-4)  # fmt: skip
    yield Check("codes_from_features", lambda f, w, b, c: dshc_fast.codes_from_features(f, w, b, c, 5),
                [*layer, codebook])  # fmt: skip
    yield Check("center_codes_from_logits", dshc_fast.center_codes_from_logits, [logits, offsets, centers])
    yield Check("multilabel_codes", dshc_fast.multilabel_codes, [logits])


def all_checks(forms: tuple[str, ...], rehearsal: bool) -> Iterator[Check]:
    scale = 50 if rehearsal else 1
    for group in (topk_checks(forms, scale), metric_checks(scale), logit_checks(scale), layer_checks(scale)):
        yield from group
