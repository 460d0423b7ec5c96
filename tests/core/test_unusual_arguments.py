"""Arguments that are almost right: arrays and tensors of rare kinds, numbers beyond every dtype, names with a NUL. Each
is refused by a plain TypeError or ValueError that names the argument."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from ops_table import DATA_SIZED, OPS, good_calls, leaves, same_answer, tensors
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_map

import dshc_fast
from dshc_fast import HammingDatabase

ARGUMENTS = [
    (op, name) for op in OPS for name, value in good_calls()[op].items() if isinstance(value, np.ndarray)
]
ARGUMENTS += [("multilabel_codes", "threshold"), ("retrieval_curves", "ranks"), ("hamming_topk", "allowed")]
ARGUMENTS += [("class_softmax_loss", "class_offsets"), ("center_codes_from_logits", "class_offsets")]
NO_NUMBERS = ("V0", "V4", "S0", "S3", "U0", [], [("a", "u1")], object, "M8[s]", "m8[s]")


def refused(function, error: type[Exception], name: str, **call: Any) -> None:
    with pytest.raises(error, match=rf"\b{name}\b") as caught:
        function(**call)
    assert type(caught.value) is error


@pytest.mark.parametrize("dtype", NO_NUMBERS, ids=str)
@pytest.mark.parametrize(("op", "name"), ARGUMENTS)
def test_arrays_of_no_numbers(op: str, name: str, dtype: Any) -> None:
    """Items of no bytes among them."""
    array = np.zeros((3, 9), dtype)
    refused(getattr(dshc_fast, op), TypeError, name, **good_calls()[op] | {name: array})


def rare_tensors() -> dict[str, torch.Tensor]:
    x = torch.eye(3, 9)
    return {
        "quantized": torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
        "nested": torch.nested.nested_tensor([x, x]),
        "jagged": torch.nested.nested_tensor([x, x], layout=torch.jagged),
        "coo": x.to_sparse(),
        "csr": x.to_sparse_csr(),
        "mkldnn": x.to_mkldnn(),
    }


@pytest.mark.parametrize("kind", rare_tensors())
@pytest.mark.parametrize(("op", "name"), ARGUMENTS)
def test_tensors_that_are_not_dense(op: str, name: str, kind: str) -> None:
    call = tensors(good_calls()[op]) | {name: rare_tensors()[kind]}
    refused(getattr(dshc_fast, op), TypeError, name, **call)


@pytest.mark.parametrize("op", OPS)
def test_masked_arrays(op: str) -> None:
    """No mask is dropped in silence: one that masks nothing is no matter, any other is refused."""
    call = good_calls()[op]
    for name, value in call.items():
        if isinstance(value, np.ndarray):
            unmasked, masked = (
                np.ma.masked_array(value, mask=np.zeros(value.shape, bool)),
                np.ma.masked_array(value),
            )
            masked[-1] = np.ma.masked
            assert same_answer(
                getattr(dshc_fast, op)(**call | {name: unmasked}), getattr(dshc_fast, op)(**call)
            )
            n_masked = value[-1].size
            with pytest.raises(
                ValueError, match=rf"^{name} must have no masked entries, got a masked array with {n_masked}$"
            ):
                getattr(dshc_fast, op)(**call | {name: masked})


@pytest.mark.parametrize(
    "op", ("class_softmax_loss", "class_softmax_linear_loss", "center_codes_from_logits")
)
@pytest.mark.parametrize(
    ("offsets", "error"),
    [
        ([0, 3, 10**30], ValueError),
        ([0, 3, -(10**30)], ValueError),
        ([0, 3, 10**5000], ValueError),
        ([0, 3, np.uint64(2**63)], ValueError),
        (np.array([0, 3, 2**63], np.uint64), ValueError),
        ([0, "3", 9], TypeError),
        ([0, True, 9], TypeError),
        (range(3), TypeError),
        (None, TypeError),
    ],
    ids=lambda value: str(value)[:30] if not isinstance(value, list) else type(value[-1]).__name__,
)
def test_class_offsets(op: str, offsets: Any, error: type[Exception]) -> None:
    refused(getattr(dshc_fast, op), error, "class_offsets", **good_calls()[op] | {"class_offsets": offsets})


@pytest.mark.parametrize("module", (dshc_fast.ClassSoftmaxLoss, dshc_fast.ClassSoftmaxLinearLoss))
def test_modules_refuse_at_once(module: type) -> None:
    for offsets in ([0, 3, 10**30], torch.tensor([0, 3, 9], device="meta")):
        with pytest.raises(ValueError, match="class_offsets"):
            module(offsets)
    with pytest.raises(ValueError, match="target"):
        module([0, 3, 9], target=10**400)
    with pytest.raises(ValueError, match="chunk must be 1 or more .*got 0"):
        dshc_fast.ClassSoftmaxLinearLoss([0, 3, 9], chunk=0)


@pytest.mark.parametrize("op", ("class_softmax_loss", "class_softmax_linear_loss"))
def test_targets(op: str) -> None:
    call, function = good_calls()[op], getattr(dshc_fast, op)
    refused(function, ValueError, "target", **call, target=10**400)
    for target in (
        np.ones(2),
        np.ones(1),
        np.array(1.0),
        np.complex64(1),
        np.True_,
        True,
        1j,
        None,
        torch.ones(()),
    ):
        refused(function, TypeError, "target", **call, target=target)
    for target in (Fraction(1, 2), np.float32(0.5), np.float64(0.5)):
        assert function(**call, target=target) == function(**call, target=0.5)
    assert function(**call, target=np.int8(1)) == function(**call, target=1)


def test_thresholds() -> None:
    call = good_calls()["multilabel_codes"]
    for threshold in (10**400, [10**400] * 9):
        refused(dshc_fast.multilabel_codes, ValueError, "threshold", **call, threshold=threshold)
    for threshold in (True, 1j, "0", None, [[1.0], [1.0, 2.0]]):
        refused(dshc_fast.multilabel_codes, TypeError, "threshold", **call, threshold=threshold)


def test_ranks() -> None:
    call = good_calls()["retrieval_curves"]
    refused(dshc_fast.retrieval_curves, ValueError, "ranks", **call, ranks=torch.tensor([1], device="meta"))
    for ranks in (b"\1", {1}, np.ones((1, 1), int), np.ones(1), torch.tensor(1), "1"):
        refused(dshc_fast.retrieval_curves, TypeError, "ranks", **call, ranks=ranks)


def test_a_level_with_a_nul() -> None:
    """A C string ends there: the level in front of it would be set."""
    before = dshc_fast.get_simd_level()
    for level in ("generic\0", "generic\0avx2", "", "\ud800", "Generic"):
        with pytest.raises(ValueError, match="level must be one of"):
            dshc_fast.set_simd_level(level)
    assert dshc_fast.get_simd_level() == before


def test_numpy_features_and_a_parameter() -> None:
    """Kinds mix on the CPU, and the answer is of the features' kind: a numpy loss, which holds no graph."""
    call = good_calls()["class_softmax_linear_loss"]
    weight, bias = (torch.nn.Parameter(torch.from_numpy(call[name])) for name in ("weight", "bias"))
    for chunk in (4, None):
        wanted = dshc_fast.class_softmax_linear_loss(**call | {"chunk": chunk})
        found = dshc_fast.class_softmax_linear_loss(**call | {"chunk": chunk, "weight": weight, "bias": bias})
        assert type(found) is type(wanted) is np.float32 and found == wanted
        module = dshc_fast.ClassSoftmaxLinearLoss(call["class_offsets"], chunk=chunk)
        assert module(call["features"], weight, bias, call["labels"]) == wanted
        features = torch.from_numpy(call["features"]).requires_grad_()
        loss = module(features, weight.detach().numpy(), call["bias"], call["labels"])
        loss.backward()
        assert loss.item() == wanted and features.grad.any()


def test_the_linear_loss_speaks_of_features() -> None:
    call = good_calls()["class_softmax_linear_loss"]
    for chunk in (4, None):
        with pytest.raises(
            ValueError, match=r"labels must have shape \(3,\), one per row of features, got \(2,\)"
        ):
            dshc_fast.class_softmax_linear_loss(**call | {"labels": call["labels"][:2], "chunk": chunk})


# ---- tensors without memory of their own ----


class Wrapper(torch.Tensor):
    """Stands for another tensor and has no storage of its own."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Wrapper:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        args, kwargs = tree_map(lambda t: t.inner if isinstance(t, cls) else t, (args, kwargs or {}))
        return tree_map(lambda t: cls(t) if isinstance(t, torch.Tensor) else t, function(*args, **kwargs))


CODES, LABELS, HOT = torch.zeros(16, 3, dtype=torch.uint8), torch.arange(16) % 3, torch.ones(16, 5)
WITHOUT_MEMORY = "must hold values .*without memory of its own"


def prepare_fake(codes: torch.Tensor, labels: torch.Tensor) -> None:
    with FakeTensorMode() as mode:
        HammingDatabase(mode.from_tensor(codes), mode.from_tensor(labels))


def prepare_in_fake_mode(codes: torch.Tensor, labels: torch.Tensor) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        HammingDatabase(codes, labels)


PREPARATIONS = {
    "fake": prepare_fake,
    "in fake mode": prepare_in_fake_mode,
    "wrapper": lambda codes, labels: HammingDatabase(Wrapper(codes), labels),
    "wrapper of labels": lambda codes, labels: HammingDatabase(codes, Wrapper(labels)),
    "functionalize": lambda codes, labels: torch.func.functionalize(
        lambda c: HammingDatabase(c, labels).codes
    )(codes),
    "vmap": lambda codes, labels: torch.vmap(lambda c: HammingDatabase(c, labels).codes)(codes[None]),
    "vmap of labels": lambda codes, labels: torch.vmap(lambda y: HammingDatabase(codes, y).codes)(
        labels[None]
    ),
    "grad": lambda codes, labels: torch.func.grad(lambda x, c: (x, HammingDatabase(c))[0])(
        torch.ones(()), codes
    ),
}


@pytest.mark.parametrize("n", (3, 16))
@pytest.mark.parametrize("labels", (LABELS, HOT), ids=("ids", "multi-hot"))
@pytest.mark.parametrize("how", PREPARATIONS)
def test_a_database_of_tensors_without_memory(how: str, labels: torch.Tensor, n: int) -> None:
    """No address of theirs may reach the native module: refused, few rows or many."""
    with pytest.raises(ValueError, match=WITHOUT_MEMORY):
        PREPARATIONS[how](CODES[:n], labels[:n])


@pytest.mark.deep
def test_a_database_under_compile() -> None:
    """Preparing is no part of a graph: it breaks there, and the answer is right."""
    torch._dynamo.reset()

    def search(queries, codes):
        return dshc_fast.hamming_topk(queries * 1, HammingDatabase(codes), 3).indices

    compiled = torch.compile(search, backend="eager")
    assert torch.equal(compiled(CODES[:2], CODES), search(CODES[:2], CODES))


@pytest.mark.parametrize("op", [op for op in OPS if op not in DATA_SIZED])
def test_wrappers_reach_the_ops_unwrapped(op: str) -> None:
    """A registered op gets what a wrapper stands for, never the wrapper."""
    call = tensors(good_calls()[op])
    wrapped = {name: Wrapper(v) if isinstance(v, torch.Tensor) else v for name, v in call.items()}
    if "class_offsets" in wrapped:
        wrapped["class_offsets"] = torch.tensor(wrapped["class_offsets"])
    found, wanted = (leaves(getattr(dshc_fast, op)(**given)) for given in (wrapped, call))
    assert any(isinstance(part, Wrapper) for part in found)
    unwrapped = tuple(part.inner if isinstance(part, Wrapper) else part for part in found)
    assert same_answer(unwrapped, tuple(wanted))


@pytest.mark.parametrize("op", OPS)
def test_a_default_device_is_of_new_tensors(op: str) -> None:
    """What an op makes lies where its arguments do."""
    call = good_calls()[op]
    wanted = getattr(dshc_fast, op)(**call), getattr(dshc_fast, op)(**tensors(call))
    with torch.device("meta"):
        found = getattr(dshc_fast, op)(**call), getattr(dshc_fast, op)(**tensors(call))
    assert all(same_answer(a, b) for a, b in zip(found, wanted, strict=True))


def test_databases_and_metrics_under_a_default_device() -> None:
    queries, labels = CODES[:2], torch.tensor([2**63 + 1], dtype=torch.uint64).expand(len(CODES))
    wanted = dshc_fast.hamming_topk(queries, CODES, 3)
    with torch.device("meta"):
        made = HammingDatabase(CODES, labels, tables=True)
        for database in (made, pickle.loads(pickle.dumps(made))):
            assert database.tables["items"].device.type == "cpu"
            assert same_answer(dshc_fast.hamming_topk(queries, database, 3), wanted)
            assert (dshc_fast.average_precision(queries, database, labels[:2]) == 1).all()
        metric = dshc_fast.HammingMAP()
        metric.update(CODES, labels, False)
        metric.update(queries, labels[:2], [True, True])
        assert metric.compute() == 1


def test_codes_whose_sign_is_a_bit() -> None:
    """Their memory holds other values."""
    negative = torch._neg_view((-CODES.to(torch.int16)).to(torch.uint8))
    assert torch.equal(HammingDatabase(negative).codes, CODES)
    wanted = dshc_fast.hamming_topk(CODES[:2], CODES, 3)
    assert same_answer(dshc_fast.hamming_topk(CODES[:2], HammingDatabase(negative), 3), wanted)


@pytest.mark.parametrize("value", (2**63 - 1, 2**64 + 7, -(2**63) - 1, 10**400))
@pytest.mark.parametrize("through", ("function", "linear", "module"))
def test_ignore_index_is_a_label(value: int, through: str) -> None:
    """Cut to int64 it would be another one, or stand for all that int64 cannot hold."""
    calls = {
        "function": lambda **more: dshc_fast.class_softmax_loss(
            torch.zeros(1, 2), torch.tensor([0]), [0, 2], **more
        ),
        "linear": lambda **more: dshc_fast.class_softmax_linear_loss(
            torch.zeros(1, 3), torch.zeros(2, 3), None, torch.tensor([0]), [0, 2], **more
        ),
        "module": lambda **more: dshc_fast.ClassSoftmaxLoss([0, 2], **more),
    }
    with pytest.raises(ValueError, match=r"ignore_index must be between -2\^63 and 2\^63 - 2, got "):
        calls[through](ignore_index=value)
    calls[through](ignore_index=2**63 - 2)
    calls[through](ignore_index=-(2**63))


def test_queries_in_a_transform_against_a_database() -> None:
    """Prepared outside, searched inside."""
    database = HammingDatabase(CODES, LABELS)
    queries = torch.arange(12, dtype=torch.uint8).view(2, 2, 3)
    found = torch.vmap(lambda q: dshc_fast.hamming_topk(q, database, 3).indices)(queries)
    assert torch.equal(found, torch.stack([dshc_fast.hamming_topk(q, database, 3).indices for q in queries]))


def freed(tensor: torch.Tensor) -> torch.Tensor:
    """Its shape is left, its memory is not."""
    copy = tensor.clone()
    copy.untyped_storage().resize_(0)
    return copy


@pytest.mark.parametrize("op", OPS)
def test_tensors_whose_memory_was_freed(op: str) -> None:
    """Each argument in turn: refused by name, where the process used to crash."""
    call = tensors(good_calls()[op])
    if isinstance(call.get("class_offsets"), list):
        call["class_offsets"] = torch.tensor(call["class_offsets"])
    for name, value in call.items():
        # Steps of torch read these first, and torch guards its own.
        if not isinstance(value, torch.Tensor) or name in ("features", "weight", "bias", "class_offsets"):
            continue
        if op == "reverse_bit_order" or op == "codes_from_features" and name != "codebook":
            continue
        with pytest.raises(ValueError, match=f"{FREED}|^allowed {FREED}" if name == "allowed" else FREED):
            getattr(dshc_fast, op)(**call | {name: freed(value)})


FREED = "must hold values, got a tensor whose storage was freed"


def test_masks_and_gradients_whose_memory_was_freed() -> None:
    bits = torch.tensor([0b100], dtype=torch.uint8)
    for mask in (bits, bits.expand(2, 1).contiguous(), torch.tensor([False, False, True])):
        assert dshc_fast.hamming_topk(CODES[:2], CODES[:3], 2, allowed=mask).indices.tolist() == [[2, -1]] * 2
        with pytest.raises(ValueError, match=f"^allowed {FREED}"):
            dshc_fast.hamming_topk(CODES[:2], CODES[:3], 2, allowed=freed(mask))
    op, logits = torch.ops.dshc_fast, torch.randn(3, 4)
    labels, offsets = torch.tensor([0, 1, 0]), torch.tensor([0, 2, 4])
    loss, stats = op.class_softmax_loss(logits, labels, offsets)
    for name, wrong in (("stats", (loss, freed(stats))), ("grad_loss", (freed(loss), stats))):
        grad_loss, kept = wrong
        for call in (op.class_softmax_loss_backward, op.class_softmax_loss_backward_):
            with pytest.raises(ValueError, match=f"^{name} {FREED}"):
                call(grad_loss, logits.clone(), kept, labels, offsets)
