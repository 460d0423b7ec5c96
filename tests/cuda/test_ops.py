"""The Python side of the CUDA ops, without a GPU: the reasons it gives for not running, and what it hands to the
native module. The kernels themselves are tested in test_kernels.py and its neighbours; on a GPU, in test_device*.py."""

from __future__ import annotations

import contextlib
import functools
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from cuda_on_the_cpu import N_QUERY, OnTheCpu, stand_in
from strategies import make_codes

from dshc_fast import (
    HammingDatabase,
    _cuda_ops,
    _device_values,
    _linear_ops,
    _loss_function,
    _ops,
    codes,
    losses,
    reference,
)


def build(cuda: bool, runtime: int = 13000, driver: int = 13000) -> SimpleNamespace:
    return SimpleNamespace(
        CUDA=cuda, CUDA_RUNTIME=runtime, cuda=SimpleNamespace(driver_version=lambda: driver)
    )


@pytest.mark.parametrize(
    ("native", "of_torch", "words"),
    [
        (build(False), "13.0", ["without CUDA kernels", "nvcc", "pip install .", ".cpu()"]),
        (build(True, driver=0), "13.0", ["no CUDA driver", "13.0"]),
        (build(True, driver=12080), "13.0", ["13.0", "12.8", "update the driver"]),
        (build(True), "12.4", ["13.0", "12.4", "CUDA 12 toolkit"]),
        (build(True), None, ["13.0", "none"]),
    ],
)
def test_why_cuda_cannot_run(
    native: SimpleNamespace, of_torch: str | None, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cuda_ops, "native", native)
    monkeypatch.setattr(torch.version, "cuda", of_torch)
    why = _cuda_ops.unusable()
    assert why is not None and all(word in why for word in words), why


def test_cuda_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    for driver in (13000, 13020, 14000):  # a newer driver runs older programs
        monkeypatch.setattr(_cuda_ops, "native", build(True, driver=driver))
        assert _cuda_ops.unusable() is None


def cases() -> dict[str, tuple]:
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(256, (40, 5), generator=generator).to(torch.uint8)
    values = torch.randn(7, 20, generator=generator)
    offsets = torch.tensor([0, 5, 12, 20])
    labels = torch.randint(3, (40,), generator=generator)
    allowed = torch.rand(6, 40, generator=generator) < 0.5
    multi_hot = torch.rand(40, 70, generator=generator) < 0.1
    loss = torch.ops.dshc_fast.class_softmax_loss(values, labels[:7], offsets)
    pairs = codes[:N_QUERY], codes
    layer = (
        values[:, :9].contiguous(),
        torch.randn(20, 9, generator=generator),
        torch.randn(20, generator=generator),
    )
    return {
        "pack_codes": (values,),
        "unpack_codes": (codes, 37, True),
        "hamming_distance": (*pairs, "overlap"),
        "hamming_topk": (*pairs, 9, "overlap", allowed),
        "asymmetric_topk": (torch.randn(N_QUERY, 37, generator=generator), codes, 9, allowed),
        "hamming_radius": (*pairs, 17, "hamming", allowed),
        "hamming_pairs": (codes, 17),
        "hamming_histogram": (*pairs, labels[:6], labels, "hamming", 38, allowed, False),
        "average_precision": (*pairs, multi_hot[:6], multi_hot, 7, "index", "min"),
        "retrieval_metric": (*pairs, multi_hot[:6], multi_hot, "ndcg", 7, "index", "exponential"),
        "class_softmax_loss": (values, labels[:7], offsets, 0.5),
        "class_softmax_loss_backward": (loss[0], values, loss[1], labels[:7], offsets, 0.5),
        "class_softmax_loss_backward_": (loss[0], values, loss[1], labels[:7], offsets, 0.5),
        "class_softmax_linear_loss": (*layer, labels[:7], offsets, 0.5, -100, 6),
        "class_softmax_linear_loss_backward": (loss[0], *layer, loss[1], labels[:7], offsets, 0.5, -100, 6),
        "codes_from_features": (*layer, codes[:20], 3, "probability", 6),
        "codes_from_logits": (values, codes[:20], 3, "probability"),
        "center_codes_from_logits": (values, offsets, codes[:3]),
        "multilabel_codes": (values, torch.tensor(0.25)),
    }


@pytest.fixture
def cuda_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What CUDA tensors would be handed to, for host tensors."""
    stand_in(monkeypatch)


def answer(module: ModuleType, op: str) -> object:
    """The op's answer; of an op in place, what it wrote over."""
    arguments = cases()[op]
    found = getattr(module, f"_{op}")(*arguments)
    return arguments[1] if op.endswith("_") else found


WANTED = {op: answer(_ops, op) for op in _ops.SCHEMAS} | {
    op: answer(_linear_ops, op) for op in _linear_ops.SCHEMAS
}


@pytest.mark.parametrize("op", [*_ops.SCHEMAS, *_linear_ops.SCHEMAS])
def test_what_is_handed_over(op: str, cuda_on_the_cpu: None) -> None:
    """Run on host tensors, with the CPU ops behind it, each implementation gives what its CPU twin gives."""
    module = _cuda_ops if op in _ops.SCHEMAS else _linear_ops
    torch.testing.assert_close(answer(module, op), WANTED[op])


def take_the_way_of_a_gpu(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_loss_function._direct, "on_one_gpu", lambda *tensors: True)
    patch.setattr(_loss_function._direct, "reduced_loss", lambda *arguments: None)
    patch.setattr(_cuda_ops, "loss_and_gradient", _cuda_ops._loss_and_gradient)
    patch.setattr(_cuda_ops, "rescale_gradient", _cuda_ops._rescale_gradient)


@pytest.mark.parametrize("reduction", ("mean", "sum"))
@pytest.mark.parametrize("factor", (1.0, 0.5, 3.0))
def test_the_gradient_made_with_the_loss(
    reduction: str, factor: float, cuda_on_the_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: forward makes it, the first backward has it rescaled where it lies, a later one computes it anew."""
    logits, labels, offsets, weight = cases()["class_softmax_loss"]
    labels[2] = -100
    leaf, wanted = logits.clone().requires_grad_(), logits.clone().requires_grad_()

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        loss = losses.class_softmax_loss(x, labels, offsets, target=weight, reduction=reduction)
        return factor * loss

    loss_of(wanted).backward()
    with monkeypatch.context() as patch:
        take_the_way_of_a_gpu(patch)
        loss = loss_of(leaf)
        function = loss.grad_fn.next_functions[0][0]
        (gradient,) = function.made
        assert gradient is not None and function.on_gpu
        (found,) = torch.autograd.grad(loss, leaf, retain_graph=True)
        assert found.data_ptr() == gradient.data_ptr()
        torch.testing.assert_close(found, wanted.grad)
        found.zero_()
        torch.testing.assert_close(torch.autograd.grad(loss, leaf)[0], wanted.grad)


@pytest.mark.parametrize(("forward", "backward"), ((0, 0), (7, 7), (7, 0), (0, 7), (7, 8)))
def test_the_gradient_of_another_graph_stays(
    forward: int, backward: int, cuda_on_the_cpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded into one CUDA graph with forward, backward takes what forward made; else it computes anew, as a graph
    that is replayed alone would find what its last replay changed."""
    logits, labels, offsets, weight = cases()["class_softmax_loss"]
    leaf, wanted = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    (3 * losses.class_softmax_loss(wanted, labels, offsets, target=weight)).backward()
    take_the_way_of_a_gpu(monkeypatch)
    monkeypatch.setattr(OnTheCpu, "capture", forward)
    loss = losses.class_softmax_loss(leaf, labels, offsets, target=weight)
    (gradient,) = loss.grad_fn.made
    before = gradient.clone()
    monkeypatch.setattr(OnTheCpu, "capture", backward)
    (found,) = torch.autograd.grad(3 * loss, leaf)
    torch.testing.assert_close(found, wanted.grad)
    assert (found.data_ptr() == gradient.data_ptr()) is (forward == backward)
    assert torch.equal(gradient, before) is (forward != backward)


@pytest.mark.parametrize(("n", "block"), ((0, 64), (1, 64), (300, 64), (300, 4096), (1100, 1)))
def test_pairs_in_blocks(n: int, block: int, cuda_on_the_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put together from radius searches, with equal codes, items that find nothing, and blocks of any size."""
    monkeypatch.setattr(_cuda_ops, "PAIR_BLOCK", block)
    codes = torch.from_numpy(make_codes(np.random.default_rng(n), n, 3, "near"))
    codes[::3] = torch.from_numpy(make_codes(np.random.default_rng(1), len(codes[::3]), 3))
    for radius in (0, 2, 9, 24, 10**12):
        torch.testing.assert_close(
            _cuda_ops._hamming_pairs(codes, radius), reference.hamming_pairs(codes, radius)
        )
    if n:
        prepared = HammingDatabase(codes)._tensors
        torch.testing.assert_close(
            _cuda_ops._hamming_pairs(codes, 5, prepared), reference.hamming_pairs(codes, 5)
        )


def test_the_kernel_of_topk(cuda_on_the_cpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable chooses the kernel, read at each call; a name that is none is refused."""
    call = functools.partial(_cuda_ops._hamming_topk, *cases()["hamming_topk"])
    expected = call()
    for name in ("rows", "popc", "mma", "automatic"):
        monkeypatch.setenv("DSHC_CUDA_TOPK", name)
        torch.testing.assert_close(call(), expected)
    assert _cuda_ops.native.cuda.kernels == [0, 1, 2, 3, 0]
    monkeypatch.setenv("DSHC_CUDA_TOPK", "fast")
    with pytest.raises(
        ValueError, match="DSHC_CUDA_TOPK must be one of automatic, rows, popc, mma, got 'fast'"
    ):
        call()


def test_checks_name_the_row(request: pytest.FixtureRequest) -> None:
    """On request CUDA tensors are checked as CPU tensors are, in the same words."""
    logits = torch.randn(4, 6)
    offsets, labels = torch.tensor([0, 2, 6]), torch.tensor([0, 1, 5, -100])
    codes = torch.zeros((6, 2), dtype=torch.uint8)
    layer = torch.randn(4, 3), torch.randn(6, 3), None
    hidden = torch.randn(4, 3), torch.randn(6, 3), torch.tensor([0.0, 1.0, torch.nan, 0.0, torch.nan, 0.0])
    nan, infinite = logits.clone(), logits.clone()
    nan[2, 3], infinite[1, 0] = torch.nan, torch.inf
    wrong = {
        "pack_codes": (nan, True),
        "codes_from_logits": (infinite, codes, 2, "probability", True),
        "center_codes_from_logits": (nan, offsets, codes[:2], True),
        "multilabel_codes": (nan, torch.tensor(0.0), True),
        "class_softmax_loss": (logits, labels, offsets, 0.0, -100, True),
        "class_softmax_linear_loss": (*layer, labels, offsets, 0.0, -100, 4, None, True),
        "codes_from_features": (*hidden, codes, 2, "mean", 4, None, True),
    }

    def messages(module: ModuleType) -> list[str]:
        found = []
        for op, arguments in wrong.items():
            with pytest.raises(ValueError) as error:
                getattr(_linear_ops if op in _linear_ops.SCHEMAS else module, f"_{op}")(*arguments)
            found.append(str(error.value))
        return found

    on_the_cpu = messages(_ops)
    request.getfixturevalue("cuda_on_the_cpu")
    assert messages(_cuda_ops) == on_the_cpu
    with pytest.raises(ValueError, match="class_offsets"):
        _cuda_ops._class_softmax_loss(logits, labels[:4] * 0, torch.tensor([0, 3, 2]), check=True)


def test_devices_that_differ_are_named() -> None:
    """Torch sends an op to CUDA if any tensor lies there, the first or another: the error names two that differ."""
    on_cpu, elsewhere = (
        torch.zeros((2, 8), dtype=torch.uint8),
        torch.zeros((2, 8), dtype=torch.uint8, device="meta"),
    )
    names = ("queries", "database", "score", "prepared")
    with pytest.raises(ValueError, match="^database must be on cpu, where queries is, got meta$"):
        _cuda_ops._refuse_devices(names, (on_cpu, elsewhere, "hamming"), {})
    with pytest.raises(ValueError, match="^prepared must be on cpu, where queries is, got meta"):
        _cuda_ops._refuse_devices(names, (on_cpu, on_cpu), {"prepared": [elsewhere]})


@pytest.mark.parametrize("values", ([0, 3, 6, 9], [0], [5, 4, 3], [0, 2, 3], [1.5, 2.5], [7, 7, 7]))
def test_values_reach_a_device(values: list, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ways to CUDA, taken on the CPU: counted out, filled in during a capture, copied from pinned memory."""
    dtype = torch.float64 if isinstance(values[0], float) else torch.int64
    plain = _device_values.on_device(values, dtype, torch.device("cpu"))
    assert plain.tolist() == values
    device = SimpleNamespace(type="cuda")
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    right = {name: getattr(torch, name) for name in ("arange", "empty")}
    for name, function in right.items():
        monkeypatch.setattr(
            torch, name, lambda *sizes, device, function=function, **how: function(*sizes, **how)
        )
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device, non_blocking: tensor)
    for capturing in (False, True):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda capturing=capturing: capturing)
        found = _device_values.on_device(values, dtype, device)
        assert found.dtype == dtype and found.tolist() == values


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64, np.int16, np.int64])
def test_offsets_of_every_integer_dtype_reach_a_device(dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch counts out no unsigned numbers."""
    monkeypatch.setattr(codes, "on_device", lambda values, dtype, device: (values, dtype, device.type))
    device = SimpleNamespace(type="cuda")
    assert codes.as_offsets(np.array([0, 3, 6], dtype), device) == ([0, 3, 6], torch.int64, "cuda")


def test_what_waits_for_the_device_is_tagged() -> None:
    """Compilers keep it out of their CUDA graphs."""
    tag = getattr(torch.Tag, "cudagraph_unsafe", None)
    if tag is None:
        pytest.skip(f"torch {torch.__version__} has no tag cudagraph_unsafe")
    assert tag in torch.ops.dshc_fast.hamming_radius.default.tags
    assert tag in torch.ops.dshc_fast.hamming_pairs.default.tags
    assert tag not in torch.ops.dshc_fast.hamming_topk.default.tags
