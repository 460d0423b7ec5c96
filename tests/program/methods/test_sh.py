"""SH against the algorithm written out: boxes, modes in order of eigenvalues, products of sines, codes, refusals."""

import itertools
import math

import numpy as np
import pytest
import torch
from effort import examples
from fits import bits_of, blobs, fitted, generator
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc.errors import InputError
from dshc.methods import Spec, Step, Training
from dshc.methods.principal import principal_directions
from dshc.methods.sh import SH, least_frequencies


def modes_of(ranges, n_bits):
    """The authors' list: of every direction 1 .. ceil((L + 1) r / max r) - 1, the constant first, by sum of omega^2."""
    modes = [[0] * len(ranges)]
    for k, length in enumerate(ranges):
        for mode in range(1, math.ceil((n_bits + 1) * length / max(ranges))):
            modes.append([mode if k == other else 0 for other in range(len(ranges))])
    eigenvalues = [sum((mode * math.pi / r) ** 2 for mode, r in zip(m, ranges, strict=True)) for m in modes]
    order = sorted(range(len(modes)), key=lambda i: eigenvalues[i])
    return [modes[i] for i in order[1 : n_bits + 1]]


def reference(train, items, n_bits):
    """Outputs by the authors' steps, with the product of sines over all directions."""
    mean, directions = principal_directions(train, n_bits)
    z = ((train.double() - mean) @ directions).numpy()
    low, ranges = z.min(0), np.ptp(z, axis=0)
    z = ((items.double() - mean) @ directions).numpy()
    return np.array(
        [
            [
                math.prod(
                    math.sin(m * math.pi / r * (value - lowest) + math.pi / 2)
                    for m, r, value, lowest in zip(mode, ranges, row, low, strict=True)
                )
                for mode in modes_of(ranges, n_bits)
            ]
            for row in z
        ]
    )


@pytest.mark.parametrize(("d", "bits"), [(6, 1), (6, 4), (6, 6), (6, 20), (1, 5)])
def test_outputs_are_the_products_of_sines(d, bits):
    train, items = blobs(60, d), blobs(15, d) * 1.2  # some lie outside of the box
    method = fitted("sh", train, bits)
    for some in (train, items):
        expected = reference(train, some, bits)
        outputs = method.head(some)
        assert expected.shape == outputs.shape and np.allclose(outputs, expected, atol=1e-3)
        sure = np.abs(expected) > 1e-2
        assert sure.mean() > 0.9 and np.array_equal(bits_of(method, some)[sure], (expected > 0)[sure])


@settings(deadline=None, max_examples=examples(60))
@given(
    ranges=st.lists(st.floats(0.01, 100), min_size=1, max_size=6, unique=True),
    n_bits=st.integers(1, 20),
)
def test_modes_are_the_authors(ranges, n_bits):
    direction, frequency = least_frequencies(torch.tensor(ranges, dtype=torch.float64), n_bits)
    expected = sorted(
        sum(m * math.pi / r for m, r in zip(mode, ranges, strict=True)) for mode in modes_of(ranges, n_bits)
    )
    assert np.allclose(frequency, expected, rtol=1e-12)
    modes = frequency * torch.tensor(ranges, dtype=torch.float64)[direction] / math.pi
    assert np.allclose(modes, modes.round()) and modes.round().min() >= 1
    assert len(set(zip(direction.tolist(), modes.round().tolist(), strict=True))) == n_bits


def test_modes_of_a_box_by_hand():
    # Sides 4, 2, 1: in units of pi, quarters of 1, 2, 3, ...; halves of 1, 2; 1. Of equal ones the longer side's.
    direction, frequency = least_frequencies(torch.tensor([4.0, 2.0, 1.0, 0.0], dtype=torch.float64), 7)
    assert direction.tolist() == [0, 0, 1, 0, 0, 1, 2]
    assert np.allclose(frequency / math.pi, [0.25, 0.5, 0.5, 0.75, 1, 1, 1])


def test_codes_of_points_on_a_line():
    """Bit j has j stripes, of which the first and the last are half as wide: a Gray-like order of cells."""
    features = torch.linspace(0, 1, 97)[:, None] * torch.tensor([[3.0, 4.0]])
    method = fitted("sh", features, 3)
    at = (torch.arange(97) / 96).numpy()
    expected = np.stack([np.cos(math.pi * j * at) > 0 for j in (1, 2, 3)], 1)
    edges = [48, 24, 72, 16, 48, 80]  # where one of the waves is 0
    inside = [i for i in range(97) if i not in edges]
    assert np.array_equal(bits_of(method, features)[inside], expected[inside])
    cells = [tuple(bits) for bits in expected[inside]]
    neighbours = [a for a, b in itertools.pairwise(cells) if a != b]
    assert len(neighbours) == 5  # 1 + 2 + 3 zeros of the waves, of which two fall together


def test_the_wave_of_the_longest_side_halves_the_items():
    features = torch.rand(500, 4, generator=generator()) * torch.tensor([8.0, 3, 2, 1]) + 5
    bits = bits_of(fitted("sh", features, 2), features)
    assert 0.4 < bits[:, 0].mean() < 0.6
    assert ((features[:, 0] > 9).numpy() == bits[:, 0]).mean() in (
        pytest.approx(0, abs=0.05),
        pytest.approx(1, abs=0.05),
    )


def test_flat_directions_have_no_wave():
    features = blobs(40, 2) @ torch.randn(2, 6, generator=generator())
    method = fitted("sh", features, 16)
    expected = reference(features, features, 16)
    assert np.allclose(method.head(features), expected, atol=1e-3)
    assert torch.linalg.matrix_rank(method.head.weight, rtol=1e-4) == 2


def test_it_does_not_depend_on_the_chunks(monkeypatch):
    features = blobs(40, 5)
    whole = fitted("sh", features, 8)
    monkeypatch.setattr("dshc.methods.principal._CHUNK", 35)
    parts = fitted("sh", features, 8)
    assert torch.allclose(whole.head.weight, parts.head.weight, atol=1e-5)
    assert torch.allclose(whole.head.bias, parts.head.bias, atol=1e-5)


def test_nothing_is_random_and_all_is_in_the_state():
    features = blobs(30, 5)
    first, other = fitted("sh", features, 7), fitted("sh", features, 7, seed=1)
    assert torch.equal(first.head.weight, other.head.weight)
    assert sorted(first.state_dict()) == ["head.bias", "head.weight"]
    loaded = SH.build(SH.Settings(bits=7), Spec(0, "none", 5), saved=first.state_dict())
    assert not loaded.head.weight.any()
    loaded.load_state_dict(first.state_dict())
    assert np.array_equal(bits_of(loaded, features), bits_of(first, features))
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_what_it_states():
    assert SH.label_kinds == ("none", "ids", "multi-hot")
    for kind in SH.label_kinds:
        method = SH(SH.Settings(), Spec(3, kind, 5))  # more bits than features
        assert (method.n_bits, method.n_outputs, method.stages(9)) == (32, 32, ())
    assert method.encode(torch.tensor([[0.0, 1e-30, -1.0] + [-1.0] * 29])).tolist() == [[2, 0, 0, 0]]
    assert method.predict(torch.zeros(2, 32)) is None and SH.quality is None and SH.main_weight is None


def test_refusals():
    with pytest.raises(InputError, match="bits must be at least 1"):
        SH.Settings(bits=0)
    few = "sh must have at least 2 training items for 4 bits, got 1"
    with pytest.raises(ValueError, match=few):
        fitted("sh", blobs(1, 5), 4)
    method = fitted("sh", blobs(2, 5), 4)
    with pytest.raises(ValueError, match=few):
        method.begin(Training(1, None, generator(), torch.device("cpu")))
    with pytest.raises(ValueError, match="features must differ, got the same for all items"):
        fitted("sh", torch.full((7, 5), 0.1), 4)
    features = blobs(20, 5)
    features[3, 2] = np.inf
    with pytest.raises(ValueError, match="features must be finite, got NaN or infinity"):
        fitted("sh", features, 4)
    with pytest.raises(ValueError, match="method sh must be fitted by finish, it has no loss to train by"):
        method.loss(torch.zeros(2, 4), Step(labels=None, items=torch.arange(2)))
