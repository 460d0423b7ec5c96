"""The gradient that forward makes along with a reduced loss: what backward would have computed, given away once."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import dshc_fast
from dshc_fast import _direct, _loss_function

# Before torch 2.8 nothing says whether hooks see what is saved: there are two passes then, which give the same.
MAKES = _direct._saving_hooks is not _direct._unknown
KEPT = (torch.float32, torch.float64, torch.bfloat16)
OFFSETS = [0, 3, 4, 9]


def batch(
    seed: int, n: int, sizes: list[int], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Logits with a row of all -inf, one with a NaN and an ignored one among them, where there are so many."""
    generator = torch.Generator().manual_seed(seed)
    offsets = [0, *torch.tensor(sizes).cumsum(0).tolist()]
    logits = (8 * torch.randn((n, offsets[-1]), generator=generator)).to(dtype)
    labels = torch.randint(0, len(sizes), (n,), generator=generator)
    if n > 4:
        logits[1], logits[2, 0], labels[3] = -torch.inf, torch.nan, -100
    return logits, labels, offsets


def by_two_passes(
    logits: torch.Tensor, labels: torch.Tensor, offsets: list[int], weight: float, grad_loss: torch.Tensor
) -> torch.Tensor:
    offsets = torch.tensor(offsets)
    _, stats = torch.ops.dshc_fast.class_softmax_loss(logits, labels, offsets, weight)
    rows = grad_loss.expand(logits.shape[0])
    return torch.ops.dshc_fast.class_softmax_loss_backward(rows, logits, stats, labels, offsets, weight)


def made(loss: torch.Tensor) -> torch.Tensor | None:
    """The gradient that forward keeps."""
    return loss.grad_fn.made[0] if loss.grad_fn.made else None


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.itemsize])


def assert_same_bits(a: torch.Tensor, b: torch.Tensor) -> None:
    """Of NaNs, whose bits mean nothing, that they are in the same places."""
    assert a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan())
    assert torch.equal(bits(a.nan_to_num(0.0)), bits(b.nan_to_num(0.0)))


@pytest.mark.parametrize("dtype", KEPT, ids=str)
@pytest.mark.parametrize("reduction", ("mean", "sum"))
@pytest.mark.usefixtures("simd_level")
@given(
    seed=seeds(),
    n=st.integers(1, 12),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    target=st.sampled_from(("normalized", 0.4)),
    factor=st.sampled_from((1.0, 1.0, 0.25, -2.0, 3.0, 65536.0)),
)
def test_the_same_bits_as_two_passes(dtype, reduction, seed, n, sizes, target, factor) -> None:
    logits, labels, offsets = batch(seed, n, sizes, dtype)
    leaf = logits.clone().requires_grad_()
    loss = dshc_fast.class_softmax_loss(leaf, labels, offsets, target=target, reduction=reduction)
    assert (made(loss) is not None) == MAKES
    (loss * factor).backward()
    above = torch.tensor(factor, dtype=loss.dtype)
    if reduction == "mean":
        above = above / (labels != -100).sum()
    weight = 0.0 if target == "normalized" else target
    assert_same_bits(leaf.grad, by_two_passes(logits, labels, offsets, weight, above))
    rows = dshc_fast.class_softmax_loss(logits, labels, offsets, target=target, reduction="none").double()
    total = (rows.sum() / (labels != -100).sum() if reduction == "mean" else rows.sum()).to(loss.dtype)
    torch.testing.assert_close(loss.detach(), total, rtol=torch.finfo(loss.dtype).eps, atol=0, equal_nan=True)
    with torch.no_grad():
        alone = dshc_fast.class_softmax_loss(leaf, labels, offsets, target=target, reduction=reduction)
    assert_same_bits(alone, loss.detach())


@pytest.mark.parametrize("dtype", KEPT, ids=str)
@pytest.mark.parametrize("width", (2048, 2049, 5000, 65536, 65537))
def test_long_rows(dtype, width: int) -> None:
    """A block of short floats, more than one, the longest row whose exponentials are kept, and one beyond."""
    logits, labels, offsets = batch(width, 5, [width - 1, 1], dtype)
    leaf = logits.clone().requires_grad_()
    dshc_fast.class_softmax_loss(leaf, labels, offsets).backward()
    factor = torch.ones((), dtype=torch.promote_types(dtype, torch.float32)) / 4
    assert_same_bits(leaf.grad, by_two_passes(logits, labels, offsets, 0.0, factor))


@pytest.mark.parametrize("factor", (3.0, -0.7, 0.0, float("inf"), float("nan"), -2.0))
def test_any_other_factor_is_computed_with(factor: float) -> None:
    logits, labels, offsets = batch(0, 4, [3, 2], torch.float32)
    leaf = logits.clone().requires_grad_()
    loss = dshc_fast.class_softmax_loss(leaf, labels, offsets, reduction="sum")
    address = made(loss).data_ptr() if MAKES else None
    (factor * loss).backward()
    assert_same_bits(leaf.grad, by_two_passes(logits, labels, offsets, 0.0, torch.tensor(factor)))
    assert address in (None, leaf.grad.data_ptr()), "no second tensor"


def test_given_away_once() -> None:
    """A later backward has a tensor of its own: what was given away may have been written to."""
    logits, labels, offsets = batch(1, 4, [3, 2], torch.float32)
    base = logits.clone().requires_grad_()
    loss = dshc_fast.class_softmax_loss(base.view(4, 5), labels, offsets)
    (first,) = torch.autograd.grad(loss, base, retain_graph=True)
    kept = first.clone()
    first.zero_()
    assert made(loss) is None
    (second,) = torch.autograd.grad(loss, base, retain_graph=True)
    assert_same_bits(second, kept)
    for _ in range(3):
        loss.backward(retain_graph=True)
    assert torch.equal(base.grad, kept + kept + kept)


@pytest.mark.parametrize("reduction", ("none", "mean", "sum"))
@pytest.mark.parametrize("n", (1, 4))
def test_a_negative_that_is_a_bit(n: int, reduction: str) -> None:
    """Torch's lazy negation, which conjugates leave in what comes from above, and in logits."""
    logits, labels, offsets = batch(6, n, [3, 2], torch.float32)
    leaf, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    seen: list[bool] = []
    for factor in (1.0, 3.0):
        leaf.grad = other.grad = None
        loss = dshc_fast.class_softmax_loss(leaf, labels, offsets, reduction=reduction)
        loss.register_hook(lambda grad: seen.append(grad.is_neg()))
        one = torch.ones_like(loss)
        (factor * (torch.complex(one, loss).conj() * 1j).real.sum()).backward()
        (factor * dshc_fast.class_softmax_loss(other, labels, offsets, reduction=reduction).sum()).backward()
        torch.testing.assert_close(leaf.grad, other.grad)
    assert all(seen)
    negated = torch._neg_view(logits)
    wanted = dshc_fast.class_softmax_loss(-logits, labels, offsets, reduction=reduction)
    torch.testing.assert_close(
        dshc_fast.class_softmax_loss(negated, labels, offsets, reduction=reduction), wanted
    )
    with_gradient = torch._neg_view(leaf)
    assert_same_bits(
        torch.autograd.grad(
            dshc_fast.class_softmax_loss(with_gradient, labels, offsets, reduction=reduction).sum(), leaf
        )[0],
        torch.autograd.grad(
            dshc_fast.class_softmax_loss(-leaf, labels, offsets, reduction=reduction).sum(), leaf
        )[0],
    )


def test_compiled_autograd_gives_it_once_too() -> None:
    """It runs backward with a ctx that is not the one of forward."""
    compiled_autograd = pytest.importorskip("torch._dynamo.compiled_autograd")
    logits, labels, offsets = batch(7, 4, [3, 2], torch.float32)
    leaf = logits.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(dshc_fast.class_softmax_loss(leaf, labels, offsets), leaf)
    for compiler in (lambda graph: graph, torch.compile(backend="eager")):
        loss = dshc_fast.class_softmax_loss(leaf, labels, offsets)
        for factor in (1.0, 1.0, 3.0, 1.0):
            leaf.grad = None
            with compiled_autograd._enable(compiler):
                (factor * loss).backward(retain_graph=True)
            torch.testing.assert_close(leaf.grad, factor * wanted)
            leaf.grad.zero_()


def test_a_tracer_of_backward_sees_the_op() -> None:
    logits, labels, offsets = batch(8, 4, [3, 2], torch.float32)
    leaf = logits.clone().requires_grad_()
    loss = dshc_fast.class_softmax_loss(leaf, labels, offsets)
    (wanted,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    loss = dshc_fast.class_softmax_loss(leaf, labels, offsets)

    def backward(above: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, leaf, above, retain_graph=True)[0]

    traced = make_fx(backward)(torch.ones(()))
    assert "class_softmax_loss_backward" in traced.code
    torch.testing.assert_close(traced(torch.tensor(3.0)), 3 * wanted)


def test_a_default_device_changes_nothing() -> None:
    """It is a mode too, of new tensors, of which a loss makes none that have no device said."""
    logits, labels, offsets = batch(6, 9, [3, 1, 5], torch.float32)
    leaf, offsets = logits.clone().requires_grad_(), torch.tensor(offsets)
    wanted, again = (
        torch.autograd.grad(dshc_fast.class_softmax_loss(leaf, labels, offsets), leaf)[0] for _ in "ab"
    )
    assert_same_bits(wanted, again)
    with torch.device("meta"):
        whole = torch.autograd.grad(dshc_fast.class_softmax_loss(leaf, labels, offsets), leaf)[0]
    loss = dshc_fast.class_softmax_loss(leaf, labels, offsets)
    kept = made(loss)
    with torch.device("meta"):
        apart = torch.autograd.grad(loss, leaf, torch.tensor(1.0, device="cpu"))[0]
    assert_same_bits(whole, wanted)
    assert_same_bits(apart, wanted)
    assert kept is None or apart.data_ptr() == kept.data_ptr()


def test_a_profiler_sees_what_runs_without_it() -> None:
    logits, labels, offsets = batch(7, 9, [3, 1, 5], torch.float32)
    leaf = logits.clone().requires_grad_()
    wanted = torch.autograd.grad(dshc_fast.class_softmax_loss(leaf, labels, offsets), leaf)[0]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        loss = dshc_fast.class_softmax_loss(leaf, labels, offsets)
        kept = made(loss)
        (found,) = torch.autograd.grad(loss, leaf)
    assert_same_bits(found, wanted)
    if MAKES:
        assert found.data_ptr() == kept.data_ptr()
        names = {event.name for event in profile.events()}
        assert "dshc_fast::class_softmax_loss_and_gradient" in names
        assert not any("class_softmax_loss_backward" in name for name in names)


class Watcher(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        return function(*args, **(kwargs or {}))


def test_any_other_mode_may_look_on() -> None:
    with torch.device("cpu"):
        assert _direct._nothing_changes() and not _direct.nothing_watches()
        with Watcher():
            assert not _direct._nothing_changes()
    assert _direct._nothing_changes() and _direct.nothing_watches()


def test_logits_that_changed_are_refused() -> None:
    logits, labels, offsets = batch(2, 4, [3, 2], torch.float32)
    leaf = logits.requires_grad_()
    made_of = leaf * 1
    loss = dshc_fast.class_softmax_loss(made_of, labels, offsets)
    with torch.no_grad():
        made_of.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_not_made_where_nobody_wants_it() -> None:
    logits, labels, offsets = batch(3, 4, [3, 2], torch.float32)
    leaf = logits.clone().requires_grad_()
    call = dshc_fast.class_softmax_loss
    assert (made(call(leaf, labels, offsets)) is not None) == MAKES
    assert made(call(leaf, labels, offsets, reduction="none")) is None
    assert made(call(leaf * 1, labels, offsets, inplace=True)) is None
    assert made(call(leaf.half(), labels, offsets)) is None
    asked: list[bool] = []
    before = _direct.reduced_loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            _loss_function._direct, "reduced_loss", lambda *args: asked.append(args[-1]) or before(*args)
        )
        with torch.no_grad():
            call(leaf, labels, offsets)
        call(logits, labels, offsets)
        assert asked == [False, False]


def test_not_kept_past_hooks_and_checkpoints() -> None:
    """Who moves away what is saved for backward, or makes it again, means all of it."""
    logits, labels, offsets = batch(4, 4, [3, 2], torch.float32)
    leaf, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    with torch.autograd.graph.save_on_cpu():
        loss = dshc_fast.class_softmax_loss(leaf, labels, offsets)
    assert made(loss) is None
    loss.backward()
    kinds: list[torch.Tensor | None] = []

    def step(x: torch.Tensor) -> torch.Tensor:
        found = dshc_fast.class_softmax_loss(x, labels, offsets)
        kinds.append(made(found))
        return found

    checkpoint(step, other, use_reentrant=False).backward()
    assert kinds[0] is None
    assert_same_bits(other.grad, leaf.grad)
    plain = logits.clone().requires_grad_()
    dshc_fast.class_softmax_loss(plain, labels, offsets).backward()
    assert_same_bits(plain.grad, leaf.grad)


def test_a_batch_of_gradients_and_a_second_derivative() -> None:
    logits, labels, offsets = batch(5, 4, [3, 2], torch.float64)
    leaf = logits.clone().requires_grad_()
    loss = dshc_fast.class_softmax_loss(leaf, labels, offsets)
    factors = torch.tensor([1.0, 3.0, 0.5], dtype=torch.float64)
    (found,) = torch.autograd.grad(loss, leaf, factors, retain_graph=True, is_grads_batched=True)
    wanted = by_two_passes(logits, labels, offsets, 0.0, torch.tensor(0.25, dtype=torch.float64))
    torch.testing.assert_close(found, factors[:, None, None] * wanted, rtol=1e-14, atol=1e-16)
    loss = dshc_fast.class_softmax_loss(leaf, labels, offsets)
    (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
    assert gradient.requires_grad
    assert torch.autograd.gradgradcheck(
        lambda x: dshc_fast.class_softmax_loss(x, labels, offsets), leaf.detach().requires_grad_()
    )


def test_through_a_layer() -> None:
    """class_softmax_linear_loss of few sub-classes goes by whole logits, with the same gradient."""
    generator = torch.Generator().manual_seed(6)
    features = torch.randn((6, 4), generator=generator, requires_grad=True)
    weight = torch.randn((9, 4), generator=generator, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 2, -100, 0])
    whole = torch.autograd.grad(
        dshc_fast.class_softmax_loss(features @ weight.T, labels, OFFSETS), (features, weight)
    )
    layer = dshc_fast.class_softmax_linear_loss(features, weight, None, labels, OFFSETS)
    for found, wanted in zip(torch.autograd.grad(layer, (features, weight)), whole, strict=True):
        torch.testing.assert_close(found, wanted)
