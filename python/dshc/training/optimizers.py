"""Optimizers as a table, and which parameters go where.

Every group of an optimizer carries ``factor``, its share of the peak learning rate, so that a schedule sets one
number: :func:`set_learning_rate`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import InputError, one_of

if TYPE_CHECKING:
    from ..methods.base import Method
    from .settings import OptimSettings

__all__ = ["OPTIMIZERS", "OptimizerRow", "build_optimizers", "set_learning_rate"]

Group = dict[str, Any]
Optimizers = list[torch.optim.Optimizer]


class _Trained(Protocol):
    backbone: nn.Module
    method: Method


@dataclass(frozen=True)
class OptimizerRow:
    """A row of the table: its name, what it is, and how it is built.

    ``build(groups, hidden, settings)`` takes the groups, the 2-d weights of hidden layers among them, and settings
    whose ``lr`` is set.
    """

    name: str
    description: str
    build: Callable[[list[Group], list[nn.Parameter], OptimSettings], Optimizers]


def _sgd(groups: list[Group], hidden: list[nn.Parameter], settings: OptimSettings) -> Optimizers:
    # torch refuses Nesterov's form without momentum, where both are the same.
    momentum = settings.momentum
    return [torch.optim.SGD(groups, lr=settings.lr, momentum=momentum, nesterov=momentum > 0)]


def _adamw(groups: list[Group], hidden: list[nn.Parameter], settings: OptimSettings) -> Optimizers:
    # One kernel instead of a chain of operations for every weight (benchmarks/step_profile.py: update).
    return [torch.optim.AdamW(groups, lr=settings.lr, fused=True)]


def _rmsprop(groups: list[Group], hidden: list[nn.Parameter], settings: OptimSettings) -> Optimizers:
    return [torch.optim.RMSprop(groups, lr=settings.lr, momentum=settings.momentum)]


def _muon(groups: list[Group], hidden: list[nn.Parameter], settings: OptimSettings) -> Optimizers:
    if not hasattr(torch.optim, "Muon"):
        raise InputError(
            f"optimizer 'muon' must have torch 2.9 or newer, got {torch.__version__}; take adamw"
        )
    taken = {id(weight) for weight in hidden}
    if not taken:
        raise InputError(
            "optimizer 'muon' must have a 2-d weight of a linear layer in the backbone to train, got none; take "
            "adamw or sgd"
        )
    by_muon = [{**group, "params": [w for w in group["params"] if id(w) in taken]} for group in groups]
    by_adamw = [{**group, "params": [w for w in group["params"] if id(w) not in taken]} for group in groups]
    # Scaled to the size of AdamW's steps, one learning rate serves both (Liu et al., Muon is Scalable for LLM
    # Training, section 2.2).
    optimizers: Optimizers = [
        torch.optim.Muon(
            [group for group in by_muon if group["params"]],
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=settings.momentum > 0,
            adjust_lr_fn="match_rms_adamw",
        )
    ]
    if others := [group for group in by_adamw if group["params"]]:
        optimizers.append(torch.optim.AdamW(others, lr=settings.lr, fused=True))
    return optimizers


OPTIMIZERS: dict[str, OptimizerRow] = {
    row.name: row
    for row in (
        OptimizerRow("sgd", "stochastic gradient descent with Nesterov momentum", _sgd),
        OptimizerRow("adamw", "Adam with decoupled weight decay", _adamw),
        OptimizerRow("rmsprop", "steps divided by the running size of the gradient, with momentum", _rmsprop),
        OptimizerRow(
            "muon", "orthogonalised steps for linear layers of the backbone, AdamW for the rest", _muon
        ),
    )
}


def build_optimizers(hasher: _Trained, settings: OptimSettings) -> Optimizers:
    """The optimizers of ``settings`` for what can be trained in ``hasher.backbone`` and ``hasher.method``.

    Every parameter that requires gradients is in exactly one group, in this order: backbone, the method's head, the
    method's others; weights of more than one dimension are decayed, the others (biases, normalisation) not. There
    are two such groups; with ``backbone_lr`` two for the backbone and two for the rest; and behind them those of
    :meth:`~dshc.methods.Method.parameter_groups`, whose own ``weight_decay`` holds for all that they name. A group's
    ``factor`` is ``backbone_lr / lr``, the ``lr_factor`` of the method's own group, or 1.

    Raises :class:`InputError` where there is nothing to train, ``lr`` is not set, or this torch lacks the optimizer;
    ``ValueError`` where a method names a parameter twice or one that is not its own.
    """
    if settings.optimizer not in OPTIMIZERS:
        raise one_of("optimizer", settings.optimizer, OPTIMIZERS)
    if settings.lr is None:
        raise InputError("lr must be set to build an optimizer, got nothing")
    backbone, method = hasher.backbone, hasher.method
    own, named = _own_groups(method, settings.weight_decay)
    of_backbone = _trainable(backbone.parameters(), without=named)
    of_method = _trainable([*method.head.parameters(), *method.parameters()], without=[*named, *of_backbone])

    groups: list[Group] = []
    if settings.backbone_lr is None:
        groups += _split([*of_backbone, *of_method], settings.weight_decay, 1.0)
    else:
        groups += _split(of_backbone, settings.weight_decay, settings.backbone_lr / settings.lr)
        groups += _split(of_method, settings.weight_decay, 1.0)
    groups += own
    if not any(group["params"] for group in groups):
        raise InputError("backbone and method must have a parameter to train, got none that is not frozen")
    hidden = _hidden_weights(backbone, of_backbone)
    return OPTIMIZERS[settings.optimizer].build(groups, hidden, settings)


def set_learning_rate(optimizers: Iterable[torch.optim.Optimizer], lr: float) -> None:
    """Set the learning rate of every group to its share (``factor``) of ``lr``."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = lr * group["factor"]


def _trainable(parameters: Iterable[nn.Parameter], *, without: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Those that require gradients, each once, in order; tied weights come by several names."""
    seen = {id(weight) for weight in without}
    kept = []
    for weight in parameters:
        if weight.requires_grad and id(weight) not in seen:
            seen.add(id(weight))
            kept.append(weight)
    return kept


def _split(
    weights: Sequence[nn.Parameter], weight_decay: float, factor: float, **options: Any
) -> list[Group]:
    """Two groups: weights of more than one dimension, decayed, and the others, not."""
    decayed = [weight for weight in weights if weight.ndim > 1]
    others = [weight for weight in weights if weight.ndim <= 1]
    return [
        {**options, "params": decayed, "weight_decay": weight_decay, "factor": factor},
        {**options, "params": others, "weight_decay": 0.0, "factor": factor},
    ]


def _own_groups(method: Method, weight_decay: float) -> tuple[list[Group], list[nn.Parameter]]:
    """The method's own groups, and every parameter that they name, frozen ones too."""
    groups: list[Group] = []
    named: list[nn.Parameter] = []
    known = {id(weight) for weight in method.parameters()}
    for number, given in enumerate(method.parameter_groups()):
        options = dict(given)
        params = options.pop("params")
        params = [params] if isinstance(params, Tensor) else list(params)
        factor = options.pop("lr_factor", 1.0)
        where = f"group {number} of the method's own parameters"
        if not factor > 0:
            raise ValueError(f"lr_factor of {where} must be more than 0, got {factor}")
        for weight in params:
            if id(weight) not in known:
                raise ValueError(
                    f"{where} must name parameters of the method, got another's of shape {_shape(weight)}"
                )
            if any(weight is other for other in named):
                raise ValueError(
                    f"{where} must name no parameter twice, got one of shape {_shape(weight)} again"
                )
            named.append(weight)
        trained = [weight for weight in params if weight.requires_grad]
        if not trained:
            continue
        if "weight_decay" in options:
            groups.append({**options, "params": trained, "factor": factor})
        else:
            groups += [g for g in _split(trained, weight_decay, factor, **options) if g["params"]]
    return groups, named


def _hidden_weights(backbone: nn.Module, trained: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """2-d weights of linear and attention layers; tables (embeddings, relative positions) are none."""
    known = {id(weight) for weight in trained}
    layers = [m for m in backbone.modules() if isinstance(m, (nn.Linear, nn.MultiheadAttention))]
    weights = [weight for layer in layers for weight in layer.parameters(recurse=False)]
    tables = {id(m.weight) for m in backbone.modules() if isinstance(m, (nn.Embedding, nn.EmbeddingBag))}
    unique = {id(weight): weight for weight in weights if weight.ndim == 2 and id(weight) not in tables}
    return [weight for key, weight in unique.items() if key in known]


def _shape(weight: object) -> tuple[int, ...]:
    return tuple(getattr(weight, "shape", ()))
