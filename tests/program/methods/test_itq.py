"""ITQ against numpy and scipy: components, rotation, the head that holds them, codes and refusals."""

import numpy as np
import pytest
import torch
from effort import examples
from fits import a_pass, bits_of, blobs, fitted, generator
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import orthogonal_procrustes

from dshc.errors import InputError
from dshc.methods import Spec, Step, Training
from dshc.methods.itq import ITQ, next_rotation, random_rotation, signs
from dshc.methods.principal import principal_directions


def objective(projected, rotation):
    return float((signs(projected @ rotation) - projected @ rotation).square().sum())


@settings(deadline=None, max_examples=examples(30))
@given(n=st.integers(3, 40), k=st.integers(1, 8), seed=st.integers(0, 10**6))
def test_a_step_is_procrustes_optimum_and_never_makes_it_worse(n, k, seed):
    projected = torch.randn(n, k, dtype=torch.float64, generator=generator(seed))
    rotation = random_rotation(k, generator(seed + 1))
    for _ in range(4):
        codes = signs(projected @ rotation)
        before = objective(projected, rotation)
        rotation = next_rotation(projected, rotation)
        assert torch.allclose(rotation @ rotation.T, torch.eye(k, dtype=torch.float64), atol=1e-10)
        between = float((codes - projected @ rotation).square().sum())
        best, _ = orthogonal_procrustes(projected.numpy(), codes.numpy())
        assert between == pytest.approx(((codes.numpy() - projected.numpy() @ best) ** 2).sum(), abs=1e-9)
        assert objective(projected, rotation) <= between + 1e-9 and between <= before + 1e-9


def test_the_wrong_orientation_would_be_noticed():
    """R = S S'^T, which one reference takes, is no optimum: the check above can fail."""
    projected = torch.randn(60, 5, dtype=torch.float64, generator=generator())
    rotation = random_rotation(5, generator(1))
    right = next_rotation(projected, rotation)
    codes = signs(projected @ rotation)
    wrong = (codes - projected @ right.T).square().sum()
    assert wrong > (codes - projected @ right).square().sum() + 1


def test_the_objective_falls_to_the_corners_of_a_turned_square():
    """Points near the corners of a square: the right rotation leaves what is random about them."""
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64).repeat(10, 1)
    noise = 0.01 * torch.randn(40, 2, dtype=torch.float64, generator=generator())
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    projected = (corners + noise) @ turn.T
    rotation = random_rotation(2, generator(3))
    for _ in range(50):
        rotation = next_rotation(projected, rotation)
    assert objective(projected, rotation) < 40 * 2 * 0.02**2


def test_a_random_rotation_is_orthogonal_and_of_its_generator():
    rotations = torch.stack([random_rotation(3, generator(seed)) for seed in range(400)])
    assert torch.allclose(rotations @ rotations.mT, torch.eye(3, dtype=torch.float64).expand(400, 3, 3))
    assert torch.equal(rotations[7], random_rotation(3, generator(7)))
    assert rotations.mean(0).abs().max() < 0.15  # every entry has mean 0: the diagonal's sign is not fixed
    assert {round(float(det)) for det in torch.linalg.det(rotations)} == {-1, 1}


@pytest.mark.parametrize("bits", [1, 3, 6])
def test_the_head_projects_and_turns(bits):
    features = blobs(80, 6)
    method = fitted("itq", features, bits)
    mean, directions = principal_directions(features, bits)
    projected = (features.double() - mean) @ directions
    rotation = random_rotation(bits, generator())
    for _ in range(50):
        rotation = next_rotation(projected, rotation)
    outputs = method.head(features)
    assert outputs.shape == (80, bits)
    assert torch.allclose(outputs.double(), projected @ rotation, atol=1e-4)
    assert np.array_equal(bits_of(method, features), (outputs > 0).numpy())
    assert outputs.mean(0).abs().max() < 1e-4  # centered by the training mean


def test_a_tie_is_no_bit_in_training_and_encoding():
    assert signs(torch.tensor([0.0, -0.0, 1e-30, -1.0])).tolist() == [-1, -1, 1, -1]
    method = fitted("itq", blobs(20, 4), 3)
    assert method.encode(torch.tensor([[0.0, 1e-30, -1.0]])).tolist() == [[2]]


def test_it_is_fitted_again_to_the_same_numbers():
    features = blobs(60, 5)
    first, again, other = (
        fitted("itq", features, 4),
        fitted("itq", features, 4),
        fitted("itq", features, 4, seed=1),
    )
    assert torch.equal(first.head.weight, again.head.weight) and torch.equal(first.head.bias, again.head.bias)
    assert not torch.equal(first.head.weight, other.head.weight)
    first.finish(a_pass(features))  # a second time, on the same object
    assert torch.equal(first.head.weight, again.head.weight)
    one, many = fitted("itq", features, 4, iterations=1), fitted("itq", features, 4, iterations=2)
    assert not torch.equal(one.head.weight, many.head.weight)


def test_the_state_holds_it_and_no_gradient_reaches_it():
    features = blobs(60, 5)
    method = fitted("itq", features, 4)
    assert sorted(method.state_dict()) == ["head.bias", "head.weight"]
    assert not any(parameter.requires_grad for parameter in method.parameters())
    other = ITQ(ITQ.Settings(bits=4), Spec(0, "none", 5))
    assert other.head.weight.abs().sum() == 0
    other.load_state_dict(method.state_dict())
    assert torch.equal(other.head(features), method.head(features))
    assert method.training_state() == {}


def test_what_it_states():
    assert ITQ.label_kinds == ("none", "ids", "multi-hot")
    for kind in ITQ.label_kinds:
        method = ITQ(ITQ.Settings(), Spec(3, kind, 40))
        assert (method.n_bits, method.n_outputs, method.stages(9)) == (32, 32, ())
    assert ITQ.Settings().iterations == 50
    assert method.predict(torch.zeros(2, 32)) is None and ITQ.quality is None


def test_fewer_directions_than_bits_still_give_codes():
    features = blobs(30, 2) @ torch.randn(2, 6, generator=generator())
    method = fitted("itq", features, 4)
    assert torch.isfinite(method.head.weight).all()
    assert len(np.unique(method.encode(method.head(features)), axis=0)) > 1


def test_refusals():
    with pytest.raises(ValueError, match=r"bits must be at most 5 \(the number of features\), got 32"):
        ITQ(ITQ.Settings(), Spec(0, "none", 5))
    with pytest.raises(InputError, match="iterations must be at least 1"):
        ITQ.Settings(iterations=0)
    with pytest.raises(InputError, match="bits must be at least 1"):
        ITQ.Settings(bits=0)
    few = "itq must have at least 5 training items for 4 bits, got 4"
    with pytest.raises(ValueError, match=few):
        fitted("itq", blobs(4, 5), 4)
    method = fitted("itq", blobs(5, 5), 4)
    with pytest.raises(ValueError, match=few):
        method.begin(Training(4, None, generator(), torch.device("cpu")))
    for value in (np.nan, np.inf, -np.inf):
        features = blobs(20, 5)
        features[3, 2] = value
        with pytest.raises(ValueError, match="features must be finite, got NaN or infinity"):
            fitted("itq", features, 4)
    with pytest.raises(ValueError, match="method itq must be fitted by finish, it has no loss to train by"):
        method.loss(torch.zeros(2, 4), Step(labels=None, items=torch.arange(2)))
