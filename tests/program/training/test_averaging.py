"""The average of weights: its arithmetic, its state, and weights swapped in and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from dshc.training.averaging import WeightAverage, swapped_in


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
        self.register_buffer("codes", torch.arange(6, dtype=torch.uint8))
        self.register_buffer("hidden", torch.ones(2), persistent=False)
        self.register_buffer("nothing", None)
        self.to(memory_format=torch.channels_last)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.backbone(inputs)


def a_module() -> Module:
    torch.manual_seed(0)
    return Module()


def train(module: nn.Module, average: WeightAverage | None, steps: int, first: int = 0) -> None:
    for step in range(first, first + steps):
        inputs = torch.randn(5, 1, 4, 4, generator=torch.Generator().manual_seed(step))
        module(inputs).square().sum().backward()
        with torch.no_grad():
            for weight in module.parameters():
                weight -= 0.01 * weight.grad
                weight.grad = None
        if average is not None:
            average.update(module)


def content(module: nn.Module) -> dict[str, torch.Tensor]:
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {name: tensor.detach().clone() for name, tensor in named.items()}


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(expected)
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]) and tensor.stride() == expected[name].stride(), name


def test_as_torch_averages() -> None:
    module = a_module()
    theirs = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    ours = WeightAverage(module, 0.9)
    for step in range(5):
        train(module, ours, 1, step)
        theirs.update_parameters(module)
    assert ours.n_averaged == 5 == theirs.n_averaged
    for name, weight in theirs.module.named_parameters():
        assert torch.equal(ours.weights[name], weight), name
    before = content(module)
    with swapped_in(module, ours):
        assert_equal(content(module), content(theirs.module))
    assert_equal(content(module), before)


def test_by_hand() -> None:
    module = nn.Linear(1, 1, bias=False)
    average = WeightAverage(module, 0.75)
    for value, expected in ((8.0, 8.0), (0.0, 6.0), (2.0, 5.0)):
        module.weight.data.fill_(value)
        average.update(module)
        assert average.weights["weight"].item() == expected


def test_swapped_back_bit_for_bit_whatever_happens_inside() -> None:
    module = a_module()
    average = WeightAverage(module, 0.5)
    train(module, average, 3)
    module.backbone[3].weight.data[0, 0] = float("nan")  # bits, and not values, come back
    before, objects = content(module), ids(module)
    with pytest.raises(KeyError), swapped_in(module, average):
        assert not torch.equal(module.backbone[0].weight, before["backbone.0.weight"])
        assert torch.equal(module.backbone[0].weight, average.weights["backbone.0.weight"])
        module.codes = torch.zeros(9)  # another object of another shape
        module.hidden.add_(1)
        module.nothing = torch.ones(1)
        module.register_buffer("new", torch.ones(1))
        module.train()(torch.randn(4, 1, 4, 4))  # moves the running statistics
        raise KeyError
    after = content(module)
    assert ids(module) == objects and module.nothing is None and not hasattr(module, "new")
    assert all(after[name].numpy().tobytes() == value.numpy().tobytes() for name, value in before.items())
    assert set(after) == set(before)


def ids(module: nn.Module) -> dict[str, int]:
    return {name: id(t) for name, t in (*module.named_parameters(), *module.named_buffers())}


def test_gradients_are_recorded_inside_as_outside() -> None:
    module = a_module()
    with swapped_in(module, WeightAverage(module, 0.5)):
        assert module(torch.randn(2, 1, 4, 4)).requires_grad


def test_no_average_changes_nothing() -> None:
    module = a_module()
    before = content(module)
    with swapped_in(module, None):
        assert_equal(content(module), before)


def test_swapping_does_not_change_a_training() -> None:
    def trained(swap: bool) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        module = a_module()
        average = WeightAverage(module, 0.8)
        for step in range(4):
            train(module, average, 1, step)
            if swap:
                with swapped_in(module, average), torch.inference_mode():
                    module(torch.randn(4, 1, 4, 4))
        return content(module), average.state()

    (plain, plain_state), (swapped, swapped_state) = trained(False), trained(True)
    assert_equal(swapped, plain)
    assert_equal(swapped_state, plain_state)


def test_state_goes_through_a_file_and_training_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = a_module()
    whole_average = WeightAverage(whole, 0.9)
    train(whole, whole_average, 3)
    safetensors.torch.save_file(whole_average.state(), tmp_path / "average.safetensors")
    resumed = a_module()
    average = WeightAverage(resumed, 0.9)
    resumed.load_state_dict(whole.state_dict())
    average.load_state(safetensors.torch.load_file(tmp_path / "average.safetensors"))
    assert average.n_averaged == 3
    for module, a in ((whole, whole_average), (resumed, average)):
        train(module, a, 3, first=3)
    assert_equal(average.weights, whole_average.weights)
    assert_equal(average.state(), whole_average.state())
    assert average.state()["n_averaged"].dtype == torch.int64


def test_a_state_of_another_module_is_refused_whole() -> None:
    average = WeightAverage(a_module(), 0.9)
    state, before = average.state(), {name: weight.clone() for name, weight in average.weights.items()}
    missing = {name: tensor for name, tensor in state.items() if name != "backbone.0.bias"}
    other_shape = {**{name: t + 1 for name, t in state.items()}, "backbone.3.bias": torch.ones(4)}
    for wrong, words in (
        (missing, "lack backbone.0.bias"),
        ({**state, "extra": torch.ones(1)}, "got extra that it does not have"),
        (other_shape, r"backbone.3.bias must be torch.float32 \(3,\), got torch.float32 \(4,\)"),
        ({**state, "backbone.3.bias": torch.ones(3, dtype=torch.float64)}, "got torch.float64"),
    ):
        with pytest.raises(ValueError, match=words):
            average.load_state(wrong)
        assert_equal(average.weights, before)


def test_another_module_is_refused() -> None:
    average = WeightAverage(a_module(), 0.9)
    with pytest.raises(ValueError, match="and no others, got .*weight"):
        average.update(nn.Linear(2, 2))


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5])
def test_decay_out_of_range(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must be more than 0 and less than 1, got"):
        WeightAverage(nn.Linear(1, 1), decay)


def test_outputs_of_the_averaged_weights_in_the_midst_of_a_step() -> None:
    module = a_module()
    average = WeightAverage(module, 0.9)
    train(module, average, 3)
    inputs = torch.randn(5, 1, 4, 4)
    with swapped_in(module, average), torch.no_grad():
        expected = module.train()(inputs)
    module.train()
    live = module(inputs)
    before = content(module)
    found = average.outputs(module, inputs)
    assert torch.equal(found, expected) and not found.requires_grad and not torch.equal(found, live)
    assert_equal(content(module), before)
    live.sum().backward()  # the graph was not disturbed
