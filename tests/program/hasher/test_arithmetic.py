"""The arithmetic of a network: what is computed in bfloat16, and what stays in float32."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from dshc.hasher import arithmetic
from dshc.hasher.arithmetic import computed_in, in_precision


def _network(kernel, stride, groups):
    return nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=groups), nn.Conv2d(8, 4, 1)
    )


@pytest.mark.parametrize(
    ("kernel", "stride", "groups", "is_float"),
    [(5, 1, 8, True), (3, 2, 8, True), (3, 1, 8, False), (5, 1, 1, False), (3, 2, 2, False)],
)
def test_slow_depthwise_convolutions_are_computed_in_float32(kernel, stride, groups, is_float):
    network = _network(kernel, stride, groups)
    taken = []
    conv2d = torch.conv2d

    class Watch(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is conv2d:
                given = args[0] if args else kwargs["input"]
                taken.append((torch.is_autocast_enabled("cpu"), given.dtype))
            return func(*args, **(kwargs or {}))

    with Watch():
        outputs = in_precision("bf16", network, torch.randn(2, 3, 9, 9))
    assert outputs.dtype == torch.float32
    assert [on for on, _ in taken] == [True, not is_float, True]
    assert taken[1][1] == (torch.float32 if is_float else torch.bfloat16)


def test_gradients_reach_every_weight_and_are_those_of_float32_nearly():
    network, inputs = _network(5, 2, 8), torch.randn(4, 3, 16, 16)
    found = {}
    for precision in ("fp32", "bf16"):
        network.zero_grad()
        in_precision(precision, network, inputs).square().sum().backward()
        found[precision] = [weight.grad.clone() for weight in network.parameters()]
    for exact, rounded in zip(*found.values(), strict=True):
        assert rounded.dtype == torch.float32
        assert (rounded - exact).norm() < 0.02 * exact.norm()


def test_float32_is_what_the_network_gives():
    network, inputs = _network(5, 1, 8), torch.randn(2, 3, 8, 8)
    assert torch.equal(in_precision("fp32", network, inputs), network(inputs))


def test_a_cpu_without_bfloat16_computes_in_float32(monkeypatch):
    network, inputs = _network(3, 1, 8), torch.randn(2, 3, 8, 8)
    exact = network(inputs)
    assert not torch.equal(in_precision("bf16", network, inputs), exact)
    monkeypatch.setattr(arithmetic, "_cpu_has_bfloat16", lambda: False)
    assert torch.equal(in_precision("bf16", network, inputs), exact)
    assert [computed_in(precision, torch.device("cpu")) for precision in ("bf16", "fp32")] == ["fp32", "fp32"]
    assert computed_in("bf16", torch.device("cuda")) == "bf16"


@pytest.mark.deep
def test_it_is_known_whether_the_cpu_has_bfloat16():
    code = "from dshc.hasher.arithmetic import _cpu_has_bfloat16; print(_cpu_has_bfloat16())"
    found = {}
    for isa in ("AVX2", "DEFAULT"):
        environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": isa}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        found[isa] = done.stdout.strip()
    assert found["AVX2"] == "False"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    if "avx512_bf16" in flags:
        assert found["DEFAULT"] == "True"


def test_every_form_of_a_call_is_understood():
    weight, bias, one = torch.randn(8, 1, 5, 5), torch.randn(8), torch.randn(8, 12, 12)
    forms = {
        "positions": lambda x: torch.conv2d(x, weight, bias, (2, 2), 0, 1, 8),
        "names": lambda x: torch.conv2d(input=x, weight=weight, bias=bias, stride=2, groups=8),
        "both": lambda x: torch.conv2d(x, weight, bias, groups=8, stride=(2, 1))[..., ::2],
        "bfloat16 weights": lambda x: torch.conv2d(x, weight.bfloat16().float(), bias, 2, groups=8),
    }
    exact = torch.conv2d(one, weight, bias, 2, groups=8)
    for name, form in forms.items():
        found = in_precision("bf16", form, one)
        if name != "bfloat16 weights":  # computed in float32, and rounded once
            assert torch.equal(found, exact.bfloat16().float()), name
        assert found.shape == exact.shape
        assert torch.equal(in_precision("bf16", form, one[None])[0], found), name
    assert (
        in_precision("bf16", lambda x: torch.conv2d(x, weight.bfloat16(), None, 2, groups=8), one).shape
        == exact.shape
    )


def test_a_network_that_wants_float32_gets_it():
    weight = torch.randn(8, 1, 5, 5)

    def network(x):
        with torch.autocast("cpu", enabled=False):
            return torch.conv2d(x, weight, groups=8)

    one = torch.randn(1, 8, 12, 12)
    assert torch.equal(in_precision("bf16", network, one), network(one))
