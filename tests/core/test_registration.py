"""The ops are proper torch ops: schemas, opcheck, fake tensors, torch.compile, autograd under both."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from callers import twin_loss
from ops_table import DATA_SIZED, OFFSETS, OPS, good_calls, leaves, tensors
from torch._subclasses.fake_tensor import FakeTensorMode

import dshc_fast
from dshc_fast import reference

# Dynamo traces hamming_radius and hamming_pairs, whose output size is data, when allowed to.
DYNAMIC_OUTPUTS = torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)


def registered(op: str):
    return getattr(torch.ops.dshc_fast, op).default


def positional(op: str, call: dict[str, Any]) -> tuple[tuple, dict]:
    """The public arguments as the schema of the registered op wants them; its defaults fill the rest."""
    call = dict(call)
    device = next(value.device for value in call.values() if isinstance(value, torch.Tensor))
    if isinstance(call.get("class_offsets"), list):
        kinds = {a.name: str(a.type) for a in registered(op)._schema.arguments}
        if kinds["class_offsets"] == "Tensor":
            call["class_offsets"] = torch.tensor(call["class_offsets"], device=device)
    if op == "multilabel_codes":
        call["threshold"] = torch.zeros(call["logits"].shape[1], device=device)
    args, kwargs, missing, skipped = [], {}, [], False
    for argument in registered(op)._schema.arguments:
        if argument.name not in call:
            if not argument.has_default_value():
                missing.append(argument.name)
            skipped = True
            continue
        if argument.kwarg_only or skipped:
            kwargs[argument.name] = call[argument.name]
        else:
            args.append(call[argument.name])
    assert not missing, (
        f"{op}: the schema asks for {missing}, which no public argument is called: {registered(op)._schema}"
    )
    return tuple(args), kwargs


@pytest.mark.parametrize("op", OPS)
def test_registered(op: str) -> None:
    schema = registered(op)._schema
    assert schema.name == f"dshc_fast::{op}"
    assert not schema.is_mutable, "ops change none of their inputs"
    assert op in dshc_fast.__all__ and callable(getattr(reference, op))


METRICS = ("hamming_histogram", "average_precision", "mean_average_precision", "retrieval_curves")
CODING = (
    "pack_codes",
    "class_softmax_loss",
    "class_softmax_linear_loss",
    "codes_from_features",
    "codes_from_logits",
    "center_codes_from_logits",
    "multilabel_codes",
)
KEYWORDS = {
    "allowed": ("hamming_topk", "hamming_radius", "asymmetric_topk", *METRICS),
    "check": (*CODING, *METRICS, "asymmetric_topk"),
    "score": ("hamming_distance", "hamming_topk", "hamming_radius", *METRICS),
    "n_bits": METRICS,
}


@pytest.mark.parametrize(
    ("op", "keyword"), [(op, keyword) for keyword, ops in KEYWORDS.items() for op in ops]
)
def test_keywords_are_in_the_schemas(op: str, keyword: str) -> None:
    names = [argument.name for argument in registered(op)._schema.arguments]
    assert keyword in names, f"{op}: {registered(op)._schema}"


@pytest.mark.parametrize("op", OPS)
def test_opcheck(op: str, device: str) -> None:
    args, kwargs = positional(op, tensors(good_calls()[op], device))
    tests = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(registered(op), args, kwargs, test_utils=tests)


@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
def test_opcheck_loss_with_gradient(reduction: str, device: str) -> None:
    call = tensors(good_calls()["class_softmax_loss"], device) | {"reduction": reduction}
    call["logits"].requires_grad_()
    args, kwargs = positional("class_softmax_loss", call)
    torch.library.opcheck(registered("class_softmax_loss"), args, kwargs)


@pytest.mark.parametrize("chunk", (4, 9))
def test_opcheck_linear_loss_with_gradient(chunk: int, device: str) -> None:
    call = tensors(good_calls()["class_softmax_linear_loss"], device) | {"chunk": chunk}
    for name in ("features", "weight", "bias"):
        call[name].requires_grad_()
    args, kwargs = positional("class_softmax_linear_loss", call)
    torch.library.opcheck(registered("class_softmax_linear_loss"), args, kwargs)


@pytest.mark.parametrize("n_query", (0, 3))
@pytest.mark.parametrize("op", [op for op in OPS if op not in DATA_SIZED])
def test_fake_tensors(op: str, n_query: int) -> None:
    """On fake tensors a public op gives the real one's shapes, dtypes and strides."""
    call = tensors(good_calls(n_query=n_query)[op])
    real = leaves(getattr(dshc_fast, op)(**call))
    with FakeTensorMode(allow_non_fake_inputs=False) as mode:
        faked = {k: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for k, v in call.items()}
        fake = leaves(getattr(dshc_fast, op)(**faked))
    for a, b in zip(real, fake, strict=True):
        assert (a.shape, a.dtype, a.stride(), a.device) == (b.shape, b.dtype, b.stride(), b.device)


@pytest.mark.parametrize(("op", "n_rows"), (("hamming_radius", 3), ("hamming_pairs", 20)))
def test_fake_radius(op: str, n_rows: int) -> None:
    """One output size is data: a fake gives an unbacked size there, and the offsets' size is known."""
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    call = tensors(good_calls()[op])
    with FakeTensorMode(shape_env=ShapeEnv()) as mode:
        faked = {k: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for k, v in call.items()}
        fake = getattr(dshc_fast, op)(**faked)
    assert fake.offsets.shape == (n_rows + 1,) and fake.offsets.dtype == torch.int64
    assert (
        fake.indices.dtype == torch.int64 and fake.distances.dtype == torch.int32 and fake.indices.ndim == 1
    )


def test_no_memory_for_a_billion() -> None:
    """Sizes past 2**31 by type alone: shapes of results that no machine here could hold."""
    with FakeTensorMode() as mode, mode:
        database = torch.empty((3 * 2**31, 8), dtype=torch.uint8)
        queries = torch.empty((10, 8), dtype=torch.uint8)
        found = dshc_fast.hamming_topk(queries, database, 2**31 + 5)
        assert found.indices.shape == (10, 2**31 + 5) and found.indices.dtype == torch.int64
        assert dshc_fast.hamming_distance(queries, database).shape == (10, 3 * 2**31)
        assert dshc_fast.unpack_codes(database, 64).shape == (3 * 2**31, 64)


@pytest.mark.parametrize("op", OPS)
def test_compile(op: str, device: str) -> None:
    """fullgraph, dynamic: one graph without breaks, right for two sizes."""
    torch._dynamo.reset()
    call = tensors(good_calls()[op], device)
    names = [k for k, v in call.items() if isinstance(v, torch.Tensor)]
    rest = {k: v for k, v in call.items() if k not in names}

    def function(*args):
        return leaves(getattr(dshc_fast, op)(**dict(zip(names, args, strict=True)), **rest))

    with DYNAMIC_OUTPUTS:
        compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
        for seed, n_query, n_db in ((1, 3, 20), (2, 5, 33)):
            other = tensors(good_calls(seed, n_query, n_db)[op], device)
            args = [other[name] for name in names]
            for a, b in zip(compiled(*args), function(*args), strict=True):
                assert torch.equal(a, b), op


@pytest.mark.parametrize(
    "options",
    [
        {"k": 4, "ties": "index", "denominator": "min"},
        {"ties": "best", "score": "overlap"},
        {"ties": "worst", "k": 3},
    ],
    ids=str,
)
def test_compile_metric_options(options: dict, device: str) -> None:
    torch._dynamo.reset()
    call = tensors(good_calls()["average_precision"], device)

    def function(queries, database, query_labels, database_labels, allowed):
        ap = dshc_fast.average_precision(
            queries, database, query_labels, database_labels, allowed=allowed, **options
        )
        return ap, dshc_fast.mean_average_precision(
            queries, database, query_labels, database_labels, empty="skip", allowed=allowed, **options
        )

    args = (*call.values(), torch.arange(20, device=device) % 4 != 0)
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for a, b in zip(compiled(*args), function(*args), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("reduction", ("mean", "sum", "none"))
def test_compile_training(reduction: str, device: str) -> None:
    """Forward and backward through a layer, compiled: the gradients of the eager run, at two batch sizes."""
    torch._dynamo.reset()
    layer = torch.nn.Linear(5, 9, device=device)
    module = dshc_fast.ClassSoftmaxLoss(OFFSETS, reduction=reduction).to(device)

    def step(inputs, labels):
        outputs = layer(inputs)
        return module(outputs, labels).sum() + dshc_fast.class_softmax_loss(outputs, labels, OFFSETS)

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (6, 11):
        inputs, labels = torch.randn(n, 5, device=device), torch.arange(n, device=device) % 3
        gradients = []
        for function in (step, compiled):
            layer.zero_grad()
            loss = function(inputs, labels)
            loss.backward()
            gradients.append((loss.detach(), layer.weight.grad.clone(), layer.bias.grad.clone()))
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("autocast", (False, True))
@pytest.mark.parametrize("chunk", (4, 9))
def test_compile_linear_training(chunk: int, autocast: bool, device: str) -> None:
    """A head whose logits never exist, compiled: loss and gradients of the eager run, at two batch sizes."""
    torch._dynamo.reset()
    body, head = torch.nn.Linear(5, 6, device=device), torch.nn.Linear(6, 9, device=device)
    module = dshc_fast.ClassSoftmaxLinearLoss(OFFSETS, chunk=chunk).to(device)
    parameters = [*body.parameters(), *head.parameters()]

    def step(inputs, labels):
        with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
            return module(body(inputs), head.weight, head.bias, labels)

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend="aot_eager")
    for n in (6, 11):
        inputs, labels = torch.randn(n, 5, device=device), torch.arange(n, device=device) % 3
        both = []
        for function in (step, compiled):
            loss = function(inputs, labels)
            both.append([loss.detach(), *torch.autograd.grad(loss, parameters)])
        torch.testing.assert_close(*both)


def test_compile_logits_to_map(device: str) -> None:
    """The whole way in one graph: logits, codes, ranking, mAP."""
    torch._dynamo.reset()
    rng = np.random.default_rng(1)
    logits = torch.from_numpy(rng.standard_normal((30, 9)).astype(np.float32)).to(device)
    labels = torch.from_numpy(rng.integers(0, 3, 30)).to(device)
    codebook = torch.from_numpy(rng.integers(0, 256, (9, 4), dtype=np.uint8)).to(device)

    def whole(logits, labels, codebook):
        codes = dshc_fast.codes_from_logits(logits, codebook, 1)
        value = dshc_fast.mean_average_precision(codes[:7], codes[7:], labels[:7], labels[7:])
        return value, dshc_fast.hamming_topk(codes[:7], codes[7:], 5).indices

    compiled = torch.compile(whole, fullgraph=True, dynamic=True, backend="aot_eager")
    for a, b in zip(compiled(logits, labels, codebook), whole(logits, labels, codebook), strict=True):
        assert torch.equal(a, b)


def test_gradient_of_a_part_of_the_graph(device: str) -> None:
    """torch.autograd.grad through the op to an earlier tensor."""
    logits = torch.randn(4, 9, device=device, requires_grad=True)
    labels = torch.arange(4, device=device) % 3
    loss = dshc_fast.class_softmax_loss(logits * 2, labels, OFFSETS, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, logits)
    (expected,) = torch.autograd.grad(twin_loss(logits * 2, labels, OFFSETS, reduction="sum"), logits)
    torch.testing.assert_close(gradient, expected)
