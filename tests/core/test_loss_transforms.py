"""The losses under torch.func and forward-mode differentiation: the twin's answers under the same transform, or, where
the twin cannot be transformed (vmap), those of one call a member."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import forward_ad
from torch.func import (
    functional_call,
    grad,
    grad_and_value,
    hessian,
    jacfwd,
    jacrev,
    jvp,
    stack_module_state,
    vjp,
    vmap,
)

import dshc_fast
from dshc_fast import reference

OFFSETS = [0, 3, 4, 9]
REDUCTIONS = ("none", "mean", "sum")
CHUNKS = (4, None)  # in chunks, and as whole logits


def draw(seed: int, *shape: int, dtype=torch.float64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


LABELS = torch.tensor([0, 2, -100, 1, 1])
LOGITS, TANGENT = draw(1, 5, 9), draw(2, 5, 9)
LAYER = draw(3, 5, 6), draw(4, 9, 6), draw(5, 9)
LAYER_DIMS = [  # features, weight, bias, labels
    (0, None, None, 0),
    (0, 0, 0, 0),
    (None, 0, None, None),
    (None, None, 0, None),
    (0, None, None, None),
]
LAYER_TANGENT = draw(6, 5, 6), draw(7, 9, 6), draw(8, 9)
TRANSFORMS = {
    "grad": lambda f, x, _: grad(lambda x: f(x).sum())(x),
    "grad_and_value": lambda f, x, _: grad_and_value(lambda x: f(x).sum())(x),
    "vjp": lambda f, x, _: [part for out, pull in [vjp(f, x)] for part in (out, *pull(torch.ones_like(out)))],
    "jvp": lambda f, x, t: jvp(f, (x,), (t,)),
    "jacrev": lambda f, x, _: jacrev(f)(x),
    "jacfwd": lambda f, x, _: jacfwd(f)(x),
    "hessian": lambda f, x, _: hessian(f)(x),  # forward over reverse
    "reverse over reverse": lambda f, x, _: jacrev(jacrev(f))(x),
    "reverse over forward": lambda f, x, _: jacrev(jacfwd(f))(x),
    "third": lambda f, x, t: grad(lambda x: (hessian(lambda x: f(x).sum())(x) * t.sum()).square().sum())(x),
}


def twin(logits: torch.Tensor, **options) -> torch.Tensor:
    return reference.class_softmax_loss(logits, LABELS, torch.tensor(OFFSETS), **options)


@pytest.mark.parametrize("target", ("normalized", 0.4))
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("transform", TRANSFORMS)
def test_loss(transform: str, reduction: str, target: str | float) -> None:
    options = {"reduction": reduction, "target": target}
    apply = TRANSFORMS[transform]
    torch.testing.assert_close(
        apply(lambda x: dshc_fast.class_softmax_loss(x, LABELS, OFFSETS, **options), LOGITS, TANGENT),
        apply(lambda x: twin_without_masks(x, **options), LOGITS, TANGENT),
    )


def twin_without_masks(logits: torch.Tensor, *, reduction: str, target: str | float) -> torch.Tensor:
    """The twin row by row: its boolean masks are nothing vmap takes, and jacrev and hessian are made of vmap."""
    rows, offsets = [], torch.tensor(OFFSETS)
    for i, label in enumerate(LABELS.tolist()):
        if label == -100:
            rows.append(logits[i].sum() * 0)
            continue
        log_p = torch.log_softmax(logits[i], 0)[offsets[label] : offsets[label + 1]]
        rows.append(-log_p.mean() if target == "normalized" else -target * log_p.sum())
    loss = torch.stack(rows)
    return {"none": loss, "sum": loss.sum(), "mean": loss.sum() / (LABELS != -100).sum()}[reduction]


def test_the_rows_are_the_twin() -> None:
    for reduction in REDUCTIONS:
        options = {"reduction": reduction, "target": 0.4}
        torch.testing.assert_close(twin_without_masks(LOGITS, **options), twin(LOGITS, **options))


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("argument", (0, 1, 2), ids=("features", "weight", "bias"))
@pytest.mark.parametrize("transform", [name for name in TRANSFORMS if name != "third"])
def test_linear_loss(transform: str, argument: int, chunk: int | None) -> None:
    def of(function):
        return lambda x: function([x if i == argument else t for i, t in enumerate(LAYER)])

    def ours(layer):
        return dshc_fast.class_softmax_linear_loss(*layer, LABELS, OFFSETS, chunk=chunk)

    def plain(layer):
        return twin_without_masks(torch.nn.functional.linear(*layer), reduction="mean", target="normalized")

    apply = TRANSFORMS[transform]
    given = LAYER[argument], LAYER_TANGENT[argument]
    torch.testing.assert_close(apply(of(ours), *given), apply(of(plain), *given))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_linear_loss_of_all_at_once(chunk: int | None) -> None:
    def ours(*layer):
        return dshc_fast.class_softmax_linear_loss(*layer, LABELS, OFFSETS, reduction="none", chunk=chunk)

    def plain(*layer):
        return twin_without_masks(torch.nn.functional.linear(*layer), reduction="none", target="normalized")

    torch.testing.assert_close(jvp(ours, LAYER, LAYER_TANGENT), jvp(plain, LAYER, LAYER_TANGENT))
    for transform in (jacrev, jacfwd, lambda f, argnums: hessian(lambda *x: f(*x).sum(), argnums)):
        found, wanted = (transform(f, argnums=(0, 1, 2))(*LAYER) for f in (ours, plain))
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("in_dims", [(0, 0), (1, 0), (0, None), (None, 0), (2, 1)], ids=str)
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_vmap(in_dims: tuple, reduction: str) -> None:
    batch, labels = draw(9, 3, 4, 9), torch.arange(12).view(3, 4) % 3
    labels[1, 2] = -100
    given = [whole[0] if dim is None else whole for whole, dim in zip((batch, labels), in_dims, strict=True)]

    def loss(logits, labels):
        return dshc_fast.class_softmax_loss(logits, labels, OFFSETS, reduction=reduction)

    members = [[t if dim is None else t[i] for t, dim in zip(given, in_dims, strict=True)] for i in range(3)]
    moved = [t if dim is None else t.movedim(0, dim) for t, dim in zip(given, in_dims, strict=True)]
    torch.testing.assert_close(vmap(loss, in_dims)(*moved), torch.stack([loss(*m) for m in members]))
    found = vmap(grad(lambda *m: loss(*m).sum()), in_dims)(*moved)
    torch.testing.assert_close(found, torch.stack([grad(lambda *m: loss(*m).sum())(*m) for m in members]))


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("in_dims", LAYER_DIMS, ids=str)
def test_vmap_linear(in_dims: tuple, chunk: int | None) -> None:
    """Batches of features are more rows; those of weights are an ensemble."""
    whole = draw(9, 3, 4, 6), draw(10, 3, 9, 6), draw(11, 3, 9), torch.arange(12).view(3, 4) % 3
    given = [t[0] if dim is None else t for t, dim in zip(whole, in_dims, strict=True)]
    members = [[t if dim is None else t[i] for t, dim in zip(given, in_dims, strict=True)] for i in range(3)]

    def loss(features, weight, bias, labels):
        return dshc_fast.class_softmax_linear_loss(features, weight, bias, labels, OFFSETS, chunk=chunk)

    torch.testing.assert_close(vmap(loss, in_dims)(*given), torch.stack([loss(*m) for m in members]))
    gradients = grad(loss, argnums=(0, 1, 2))
    one_by_one = [torch.stack(parts) for parts in zip(*[gradients(*m) for m in members], strict=True)]
    torch.testing.assert_close(list(vmap(gradients, in_dims)(*given)), one_by_one)


def test_vmap_of_nothing_and_of_vmap() -> None:
    labels = torch.zeros(2, 0, dtype=torch.int64)
    assert vmap(lambda x, y: dshc_fast.class_softmax_loss(x, y, OFFSETS, reduction="sum"))(
        torch.zeros(2, 0, 9), labels
    ).tolist() == [0, 0]
    batch, labels = draw(9, 2, 3, 4, 9), torch.arange(24).view(2, 3, 4) % 3

    def loss(x, y):
        return dshc_fast.class_softmax_loss(x, y, OFFSETS)

    rows = [torch.stack([loss(batch[i, j], labels[i, j]) for j in range(3)]) for i in range(2)]
    wanted = torch.stack(rows)
    torch.testing.assert_close(vmap(vmap(loss))(batch, labels), wanted)


class Head(torch.nn.Module):
    """A network and its loss, as ensembles and per-sample gradients are made of."""

    def __init__(self, chunk: int | None) -> None:
        super().__init__()
        self.head = torch.nn.Linear(6, 9)
        self.of_logits, self.of_layer = (
            dshc_fast.ClassSoftmaxLoss(OFFSETS),
            dshc_fast.ClassSoftmaxLinearLoss(OFFSETS, chunk=chunk),
        )

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return self.of_logits(self.head(features), labels) + self.of_layer(
            features, self.head.weight, self.head.bias, labels
        )


@pytest.mark.parametrize("chunk", CHUNKS)
def test_functional_call(chunk: int | None) -> None:
    """Gradients of the whole batch, and of each item, as plain backward gives them."""
    module, features = Head(chunk), draw(3, 5, 6, dtype=torch.float32)
    parameters = dict(module.named_parameters())

    def loss(parameters, features, labels):
        return functional_call(module, parameters, (features, labels))

    def plain(features, labels):
        value = module(features, labels)
        return dict(
            zip(parameters, torch.autograd.grad(value, list(parameters.values())), strict=True)
        ), value

    torch.testing.assert_close(grad_and_value(loss)(parameters, features, LABELS), plain(features, LABELS))
    labels = LABELS.clamp(0)
    found, values = vmap(grad_and_value(loss), (None, 0, 0))(parameters, features[:, None], labels[:, None])
    for i in range(5):
        gradients, value = plain(features[i : i + 1], labels[i : i + 1])
        torch.testing.assert_close(values[i], value)
        torch.testing.assert_close({k: v[i] for k, v in found.items()}, gradients)


def test_an_ensemble_shares_its_offsets() -> None:
    members, features = [Head(4) for _ in range(3)], draw(3, 5, 6, dtype=torch.float32)
    parameters, buffers = stack_module_state(members)

    def loss(parameters, buffers):
        return functional_call(members[0], (parameters, buffers), (features, LABELS))

    with pytest.raises(
        ValueError, match="class_offsets must be the same for the whole batch of vmap .*got batched ones"
    ):
        vmap(loss)(parameters, buffers)
    one = {name: buffer[0] for name, buffer in buffers.items()}
    found = vmap(loss, (0, None))(parameters, one)
    torch.testing.assert_close(found, torch.stack([m(features, LABELS) for m in members]))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_forward_mode_without_func(chunk: int | None) -> None:
    wanted = jvp(
        lambda x: twin_without_masks(x, reduction="mean", target="normalized"), (LOGITS,), (TANGENT,)
    )
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(LOGITS, TANGENT)
        found = forward_ad.unpack_dual(dshc_fast.class_softmax_loss(dual, LABELS, OFFSETS))
        torch.testing.assert_close((found.primal, found.tangent), wanted)
        weight = forward_ad.make_dual(LAYER[1], LAYER_TANGENT[1])
        layer = LAYER[0], weight, LAYER[2]
        linear = forward_ad.unpack_dual(
            dshc_fast.class_softmax_linear_loss(*layer, LABELS, OFFSETS, chunk=chunk)
        )
        logits = torch.nn.functional.linear(*layer)
        whole = forward_ad.unpack_dual(dshc_fast.class_softmax_loss(logits, LABELS, OFFSETS))
        torch.testing.assert_close(linear, whole)
    leaves = [t.clone().requires_grad_() for t in LAYER]

    def loss(*layer):
        return dshc_fast.class_softmax_linear_loss(*layer, LABELS, OFFSETS, chunk=chunk)

    assert torch.autograd.gradcheck(loss, leaves, check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(loss, leaves, check_fwd_over_rev=True)


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=str)
def test_short_dtypes(dtype) -> None:
    """Loss and tangent in float32, the gradient in the logits' dtype, as in a plain call."""
    logits = LOGITS.to(dtype)

    def loss(x):
        return dshc_fast.class_softmax_loss(x, LABELS, OFFSETS)

    leaf = logits.clone().requires_grad_()
    loss(leaf).backward()
    found, value = grad_and_value(loss)(logits)
    assert torch.equal(found, leaf.grad) and torch.equal(value, loss(logits))
    primal, tangent = jvp(loss, (logits,), (TANGENT.to(dtype),))
    assert primal.dtype == tangent.dtype == torch.float32
    exact = jvp(loss, (logits.double(),), (TANGENT.to(dtype).double(),))
    torch.testing.assert_close((primal, tangent), tuple(t.float() for t in exact))


def test_inplace_has_no_effect() -> None:
    before = LOGITS.clone()
    found = grad(lambda x: dshc_fast.class_softmax_loss(x, LABELS, OFFSETS, inplace=True))(LOGITS)
    torch.testing.assert_close(
        found, grad(lambda x: dshc_fast.class_softmax_loss(x, LABELS, OFFSETS))(LOGITS)
    )
    assert torch.equal(LOGITS, before)


def test_errors_speak_of_a_member() -> None:
    batch, labels = torch.zeros(2, 4, 9), torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"labels must have shape \(4,\), one per row of logits, got \(3,\)"):
        vmap(lambda x, y: dshc_fast.class_softmax_loss(x, y, OFFSETS))(batch, labels)
    with pytest.raises(ValueError, match=r"logits must have shape .*got \(9,\)"):
        vmap(lambda x, y: dshc_fast.class_softmax_loss(x, y, OFFSETS))(batch[0], labels[0, :1].expand(4))
    with pytest.raises(ValueError, match=r"labels\[\d\] must be a class id .*got 7"):
        grad(lambda x: dshc_fast.class_softmax_loss(x, labels[0] + 7, OFFSETS))(batch[0, :3])


@pytest.mark.parametrize("chunk", (None, 4), ids=("logits", "linear"))
@pytest.mark.parametrize("transform", ("grad", "grad of grad", "vmap", "vmap of grad", "jvp"))
def test_compiled_transforms(transform: str, chunk: int | None, device: str) -> None:
    """Torch before 2.14 traced into the forward of a Function here, to an op that no transform takes."""
    torch._dynamo.reset()
    labels, offsets = LABELS.to(device), torch.tensor(OFFSETS, device=device)
    weight = LAYER[1].to(device)
    argument = (LOGITS if chunk is None else LAYER[0]).to(device)
    batch, tangent = torch.stack([argument, 2 * argument]), torch.ones_like(argument)

    def loss(x):
        if chunk is None:
            return dshc_fast.class_softmax_loss(x, labels, offsets)
        return dshc_fast.class_softmax_linear_loss(x, weight, None, labels, offsets, chunk=chunk)

    function, given = {
        "grad": (grad(loss), argument),
        "grad of grad": (grad(lambda x: grad(loss)(x).square().sum()), argument),
        "vmap": (vmap(loss), batch),
        "vmap of grad": (vmap(grad(loss)), batch),
        "jvp": (lambda x: jvp(loss, (x,), (tangent,)), argument),
    }[transform]
    compiled = torch.compile(function, backend="aot_eager")
    torch.testing.assert_close(compiled(given), function(given))
