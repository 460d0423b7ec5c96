"""What the tests of methods share: steps, passes, and the checks that every loss is held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from threads_as_processes import in_processes
from torch import Tensor

from dshc.methods import Pass, Step

__all__ = [
    "a_pass",
    "assert_classes_are_parted",
    "assert_half_is_computed_in_single",
    "assert_processes_are_one",
    "near_axes",
    "own_classes",
    "step_of",
    "three_classes",
    "train",
]


def step_of(labels: Tensor, items: Tensor | None = None, **values: Any) -> Step:
    """A step of the items 0, 1, ..., or of those given."""
    return Step(labels=labels, items=torch.arange(len(labels)) if items is None else items, **values)


def a_pass(outputs: Tensor, labels: Tensor, epoch: int, asked: list[int] | None = None) -> Pass:
    """A pass over all items; ``asked`` gets the epoch whenever outputs or features are asked for."""

    def give() -> Tensor:
        if asked is not None:
            asked.append(epoch)
        return outputs

    return Pass(give, give, labels, torch.Generator(), epoch=epoch)


def own_classes(labels: Tensor) -> list[list[int]]:
    """The classes of each item, of class ids or multi-hot rows."""
    return [[int(y)] if y.ndim == 0 else torch.nonzero(y).flatten().tolist() for y in labels]


def assert_half_is_computed_in_single(loss: Callable[[Tensor], Tensor], outputs: Tensor) -> None:
    """Under autocast, too: the loss of bfloat16 is that of the same numbers in float32, its gradient bfloat16."""
    half = outputs.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss(half)
    found.backward()
    assert found.dtype == torch.float32 and half.grad is not None and half.grad.dtype == torch.bfloat16
    assert found.item() == loss(half.detach().float()).item()


def assert_processes_are_one(
    loss: Callable[[Tensor, Step], Tensor],
    outputs: Tensor,
    labels: Tensor,
    items: Tensor | None = None,
    *,
    parameters: Sequence[Tensor] = (),
    rel: float = 1e-12,
) -> None:
    """The mean over two processes of losses and gradients is the loss and gradient of one with all rows.

    Gradients are those by the outputs and by ``parameters``.
    """
    items = torch.arange(len(labels)) if items is None else items
    leaf = outputs.detach().clone().requires_grad_()
    wanted = [leaf, *parameters]
    whole = loss(leaf, step_of(labels, items))
    expected = torch.autograd.grad(whole, wanted)
    half = len(outputs) // 2

    def work(rank: int, gather: Callable[[Tensor], Tensor]) -> Tensor:
        mine = slice(half * rank, half * rank + half)
        return loss(leaf[mine], step_of(labels[mine], items[mine], gather=gather, own=mine))

    mean = torch.stack(in_processes(2, work)).mean()
    assert mean.item() == pytest.approx(whole.item(), rel=rel)
    found = torch.autograd.grad(mean, wanted)
    assert all(torch.allclose(a, b) for a, b in zip(found, expected, strict=True))


def three_classes() -> tuple[Tensor, Tensor]:
    """Features ``(30, 5)`` of three classes that lie apart, and their ids; from torch's generator."""
    ids = torch.arange(3).repeat(10)
    return torch.eye(3)[ids] @ torch.randn(3, 5) + 0.1 * torch.randn(30, 5), ids


def near_axes() -> tuple[Tensor, Tensor]:
    """Features ``(32, 5)`` of four classes, each near an axis of its own, and their ids; from torch's generator."""
    labels = torch.arange(4).repeat(8)
    return torch.eye(4, 5)[labels] + 0.05 * torch.randn(32, 5), labels


def train(
    method: Any,
    features: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    n_steps: int,
    about: Callable[[int], dict[str, Any]] = lambda n: {},
) -> list[float]:
    """The losses of so many steps over all items; ``about(n)`` is what step n says beside labels and items."""
    losses = []
    for n in range(n_steps):
        loss = method.loss(method.head(features), step_of(labels, **about(n)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def assert_classes_are_parted(bits: Tensor, ids: Tensor) -> None:
    """Any two items of one class are nearer to each other than any two of different ones."""
    distances, alike = (bits[:, None] != bits).sum(2), ids[:, None] == ids
    assert distances[alike].max() < distances[~alike].min()
