"""Optimizers: which parameter is in which group, the groups of the former program, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dshc.errors import InputError
from dshc.training.optimizers import OPTIMIZERS, build_optimizers, set_learning_rate
from dshc.training.settings import OptimSettings


class SmallMethod(nn.Module):
    """A head, a parameter beside it, and groups of its own."""

    def __init__(self, n_features: int, groups: Any = lambda method: []) -> None:
        super().__init__()
        self.centers = nn.Parameter(torch.randn(3, 4))
        self.head = nn.Linear(n_features, 4)
        self.scale = nn.Parameter(torch.ones(4))
        self._groups = groups

    def parameter_groups(self) -> list[dict[str, Any]]:
        return self._groups(self)


def a_hasher(groups: Any = lambda method: []) -> Any:
    torch.manual_seed(0)
    backbone = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 5)
    )
    return SimpleNamespace(backbone=backbone, method=SmallMethod(5, groups))


def settings(**values: Any) -> OptimSettings:
    return OptimSettings(**{"optimizer": "sgd", "lr": 0.1, **values})


def everything(hasher: Any) -> list[nn.Parameter]:
    return [*hasher.backbone.parameters(), *hasher.method.parameters()]


def grouped(optimizers: list[torch.optim.Optimizer]) -> list[nn.Parameter]:
    return [w for optimizer in optimizers for group in optimizer.param_groups for w in group["params"]]


def ids(weights: Any) -> list[int]:
    return [id(weight) for weight in weights]


def the_former(network: nn.Module, config: OptimSettings) -> torch.optim.Optimizer:
    """As the program before this one built them."""
    decayed = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_the_former_two_groups_and_the_former_bytes(optimizer: str) -> None:
    def trained(former: bool) -> tuple[list[list[tuple[int, ...]]], list[torch.Tensor]]:
        hasher = a_hasher()
        hasher.method = SimpleNamespace(
            head=hasher.method.head, parameters=hasher.method.head.parameters, parameter_groups=lambda: []
        )
        network = nn.Sequential(hasher.backbone, hasher.method.head)
        config = settings(optimizer=optimizer)
        optimizers = [the_former(network, config)] if former else build_optimizers(hasher, config)
        for step in range(4):
            if former:
                for group in optimizers[0].param_groups:
                    group["lr"] = 0.05 / (step + 1)
            else:
                set_learning_rate(optimizers, 0.05 / (step + 1))
            drawn = torch.Generator().manual_seed(step)
            for weight in network.parameters():  # given, for Adam makes a step of what is noise around 0, too
                weight.grad = torch.randn(weight.shape, generator=drawn)
            for o in optimizers:
                o.step()
                o.zero_grad()
        shapes = [[tuple(w.shape) for w in group["params"]] for group in optimizers[0].param_groups]
        assert len(optimizers) == 1
        return shapes, [weight.detach() for weight in network.parameters()]

    (shapes, weights), (former_shapes, former_weights) = trained(False), trained(True)
    assert shapes == former_shapes and len(shapes) == 2
    for weight, former_weight in zip(weights, former_weights, strict=True):
        if optimizer == "sgd":
            assert torch.equal(weight, former_weight)
        else:  # one kernel for what was a chain of operations: the last bits
            torch.testing.assert_close(weight, former_weight, rtol=1e-5, atol=1e-6)


def test_order_is_backbone_then_head_then_the_methods_others() -> None:
    hasher = a_hasher()
    decayed, others = build_optimizers(hasher, settings())[0].param_groups
    conv, norm, _, first, _, second = hasher.backbone
    method = hasher.method
    assert ids(decayed["params"]) == ids(
        [conv.weight, first.weight, second.weight, method.head.weight, method.centers]
    )
    assert ids(others["params"]) == ids(
        [conv.bias, norm.weight, norm.bias, first.bias, second.bias, method.head.bias, method.scale]
    )
    assert decayed["weight_decay"] == 5e-4 and others["weight_decay"] == 0
    assert decayed["factor"] == others["factor"] == 1


def test_shares_of_the_learning_rate() -> None:
    hasher = a_hasher(
        lambda method: [{"params": method.centers, "lr_factor": 10, "weight_decay": 0.25, "momentum": 0.5}]
    )
    optimizers = build_optimizers(hasher, settings(backbone_lr=0.01))
    set_learning_rate(optimizers, 0.5)
    rates = {id(w): group["lr"] for o in optimizers for group in o.param_groups for w in group["params"]}
    assert {rates[id(w)] for w in hasher.backbone.parameters()} == {0.5 * (0.01 / 0.1)}
    assert (
        {rates[id(w)] for w in hasher.method.head.parameters()} == {rates[id(hasher.method.scale)]} == {0.5}
    )
    assert rates[id(hasher.method.centers)] == 5
    own = optimizers[0].param_groups[-1]
    assert own["weight_decay"] == 0.25 and own["momentum"] == 0.5


def test_an_own_group_without_weight_decay_is_decayed_as_usual() -> None:
    hasher = a_hasher(lambda method: [{"params": iter([method.centers, method.scale]), "lr_factor": 2}])
    *_, weights, scale = build_optimizers(hasher, settings())[0].param_groups
    assert ids(weights["params"]) == ids([hasher.method.centers]) and weights["weight_decay"] == 5e-4
    assert ids(scale["params"]) == ids([hasher.method.scale]) and scale["weight_decay"] == 0
    assert weights["factor"] == scale["factor"] == 2


@given(
    frozen=st.sets(st.integers(0, 12)),
    own=st.lists(st.sampled_from(["centers", "scale"]), unique=True),
    apart=st.booleans(),
    backbone_lr=st.sampled_from([None, 0.01]),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    tied=st.booleans(),
)
def test_every_parameter_once(
    frozen: set[int], own: list[str], apart: bool, backbone_lr: float | None, optimizer: str, tied: bool
) -> None:
    def groups(method: SmallMethod) -> list[dict[str, Any]]:
        named = [getattr(method, name) for name in own]
        return [{"params": [w]} for w in named] if apart else [{"params": named}]

    hasher = a_hasher(groups)
    if tied:
        hasher.method.other = hasher.method.head
        hasher.backbone.append(nn.Linear(5, 6))
        hasher.backbone.append(nn.Linear(6, 5))
        hasher.backbone[-1].weight = hasher.backbone[5].weight
    for number, weight in enumerate(everything(hasher)):
        weight.requires_grad_(number not in frozen or number == 4)  # a 2-d weight stays, for muon
    found = grouped(build_optimizers(hasher, settings(optimizer=optimizer, backbone_lr=backbone_lr)))
    expected = {id(weight): weight for weight in everything(hasher) if weight.requires_grad}
    assert len(found) == len(expected) and set(ids(found)) == set(expected)


@pytest.mark.parametrize("optimizer", sorted(OPTIMIZERS))
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_each_of_the_table_learns_and_describes_itself(optimizer: str, momentum: float) -> None:
    row = OPTIMIZERS[optimizer]
    assert row.name == optimizer and len(row.description) > 10
    hasher = a_hasher()
    optimizers = build_optimizers(hasher, settings(optimizer=optimizer, lr=0.01, momentum=momentum))
    inputs, wanted = torch.randn(16, 1, 4, 4), torch.randn(16, 4)
    losses = []
    for _ in range(15):
        loss = (hasher.method.head(hasher.backbone(inputs)) - wanted).square().mean()
        losses.append(loss.item())
        loss.backward()
        set_learning_rate(optimizers, 0.01)
        for o in optimizers:
            o.step()
            o.zero_grad()
    assert losses[-1] < 0.99 * losses[0]


def test_muon_takes_the_hidden_weights_alone() -> None:
    hasher = a_hasher(lambda method: [{"params": [method.centers], "lr_factor": 3}])
    hasher.backbone.append(nn.Embedding(7, 5))
    hasher.backbone.append(nn.MultiheadAttention(5, 1))
    muon, adamw = build_optimizers(hasher, settings(optimizer="muon"))
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    backbone = hasher.backbone
    attention = backbone[-1]
    expected = [backbone[3].weight, backbone[5].weight, attention.in_proj_weight, attention.out_proj.weight]
    assert ids(grouped([muon])) == ids(expected)
    assert id(hasher.method.head.weight) in ids(grouped([adamw]))
    assert {group["factor"] for group in adamw.param_groups} == {1, 3}


def test_muon_without_a_weight_for_it() -> None:
    hasher = a_hasher()
    hasher.backbone = nn.Sequential(nn.Conv2d(1, 5, 4), nn.Flatten(), nn.Embedding(3, 2))
    with pytest.raises(
        InputError, match="'muon' must have a 2-d weight of a linear layer in the backbone.*adamw"
    ):
        build_optimizers(hasher, settings(optimizer="muon"))


def test_muon_without_a_torch_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(InputError, match=r"'muon' must have torch 2\.9 or newer, got"):
        build_optimizers(a_hasher(), settings(optimizer="muon"))


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(InputError, match="optimizer must be one of sgd, .*got None"):
        build_optimizers(a_hasher(), OptimSettings(lr=0.1))
    with pytest.raises(InputError, match="lr must be set"):
        build_optimizers(a_hasher(), OptimSettings(optimizer="sgd"))
    hasher = a_hasher()
    for weight in everything(hasher):
        weight.requires_grad_(False)
    with pytest.raises(InputError, match="must have a parameter to train"):
        build_optimizers(hasher, settings())


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        (
            lambda m: [{"params": [m.centers]}, {"params": [m.centers]}],
            "group 1 .* twice, got one of shape .3, 4",
        ),
        (lambda m: [{"params": [m.centers, m.centers]}], "group 0 .* twice"),
        (
            lambda m: [{"params": [nn.Parameter(torch.ones(2))]}],
            r"group 0 .* parameters of the method, got .*\(2,\)",
        ),
        (lambda m: [{"params": [m.centers], "lr_factor": 0}], "lr_factor of group 0 .* more than 0, got 0"),
    ],
)
def test_faulty_groups_of_a_method_are_refused(groups: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build_optimizers(a_hasher(groups), settings())
