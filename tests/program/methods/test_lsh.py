"""LSH against its definition: planes through the mean, distances that are angles, what is kept and refused."""

import math

import numpy as np
import pytest
import torch
from fits import bits_of, fitted, generator

from dshc.errors import InputError
from dshc.methods import Spec, Step, Training
from dshc.methods.lsh import LSH


def test_bits_are_sides_of_random_planes_through_the_mean():
    features = torch.randn(50, 6, generator=generator(1)) * torch.arange(1, 7) + 9
    method = fitted("lsh", features, 11, seed=5)
    planes = torch.randn(11, 6, dtype=torch.float64, generator=generator(5)).numpy()
    values = features.double().numpy()
    mean = [sum(column) / 50 for column in values.T]
    for item, bits in zip(values, bits_of(method, features), strict=True):
        for plane, bit in zip(planes, bits, strict=True):
            assert bit == (sum(w * (x - m) for w, x, m in zip(plane, item, mean, strict=True)) > 0)


def test_the_share_of_different_bits_is_the_angle_seen_from_the_mean():
    angles = torch.tensor([0.0, 30, 60, 90, 150, 180]) * (math.pi / 180)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    # Their opposites bring the mean to the middle, which is far from the origin.
    features = torch.cat([circle, -circle]) + torch.tensor([40.0, -7])
    bits = bits_of(fitted("lsh", features, 4096), features)
    shares = (bits[0] != bits[:6]).mean(1)
    # A share's deviation is at most 1/2 / sqrt(4096).
    assert np.allclose(shares, angles / math.pi, atol=4 * 0.5 / 64)
    assert shares[0] == 0 and shares[5] == 1


def test_without_the_mean_bits_would_hardly_differ():
    """Features of a network that ends in ReLU: all are on one side of most planes through the origin."""
    features = torch.randn(200, 64, generator=generator()).relu() + 3
    method = fitted("lsh", features, 64)
    shares = bits_of(method, features).mean(0)
    assert np.abs(shares - 0.5).max() < 0.25
    method.head.bias.zero_()
    shares = bits_of(method, features).mean(0)
    assert np.minimum(shares, 1 - shares).mean() < 0.1


def test_planes_are_of_the_generator_and_all_is_in_the_state():
    features = torch.randn(30, 5, generator=generator())
    first, again, other = (
        fitted("lsh", features, 9),
        fitted("lsh", features, 9),
        fitted("lsh", features, 9, seed=1),
    )
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    assert sorted(first.state_dict()) == ["head.bias", "head.weight"]
    loaded = LSH(LSH.Settings(bits=9), Spec(0, "none", 5))
    assert not loaded.head.weight.any() and not loaded.head.bias.any()
    loaded.load_state_dict(first.state_dict())
    assert np.array_equal(bits_of(loaded, features), bits_of(first, features))
    assert not any(parameter.requires_grad for parameter in first.parameters())
    assert first.training_state() == {}


def test_a_tie_is_no_bit():
    method = fitted("lsh", torch.zeros(3, 4), 8)  # every item is the mean, every output 0
    assert method.head(torch.zeros(1, 4)).tolist() == [[0.0] * 8]
    assert not bits_of(method, torch.zeros(1, 4)).any()
    assert method.encode(torch.tensor([[0.0, 1e-30, -1.0] + [-0.0] * 5])).tolist() == [[2]]


def test_what_it_states():
    assert LSH.label_kinds == ("none", "ids", "multi-hot")
    for kind in LSH.label_kinds:
        method = LSH(LSH.Settings(), Spec(3, kind, 5))  # more bits than features
        assert (method.n_bits, method.n_outputs, method.stages(9)) == (32, 32, ())
    assert method.predict(torch.zeros(2, 32)) is None and LSH.quality is None and LSH.main_weight is None


def test_refusals():
    with pytest.raises(InputError, match="bits must be at least 1"):
        LSH.Settings(bits=0)
    method = fitted("lsh", torch.ones(1, 5), 4)  # one item is enough
    with pytest.raises(ValueError, match="lsh must have at least 1 training items for 4 bits, got 0"):
        method.begin(Training(0, None, generator(), torch.device("cpu")))
    for value in (np.nan, np.inf):
        features = torch.ones(7, 5)
        features[3, 2] = value
        with pytest.raises(ValueError, match="features must be finite, got NaN or infinity"):
            fitted("lsh", features, 4)
    with pytest.raises(ValueError, match="method lsh must be fitted by finish, it has no loss to train by"):
        method.loss(torch.zeros(2, 4), Step(labels=None, items=torch.arange(2)))
