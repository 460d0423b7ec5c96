"""PCAH against numpy's singular value decomposition: components, codes, what is kept and refused."""

import numpy as np
import pytest
import torch
from fits import bits_of, blobs, fitted, generator

from dshc.errors import InputError
from dshc.methods import Spec, Step, Training
from dshc.methods.pcah import PCAH
from dshc.methods.postprocessing import postprocess


@pytest.mark.parametrize("bits", [1, 4, 9])
def test_outputs_are_the_principal_components(bits):
    features = blobs(80, 9)
    method = fitted("pcah", features, bits)
    centered = features.double().numpy() - features.double().numpy().mean(0)
    directions = np.linalg.svd(centered, full_matrices=False)[2][:bits]
    directions *= np.sign(directions[np.arange(bits), np.abs(directions).argmax(1)])[:, None]
    expected = centered @ directions.T
    outputs = method.head(features)
    assert np.allclose(outputs, expected, atol=1e-4)
    sure = np.abs(expected) > 1e-3
    assert sure.mean() > 0.9 and np.array_equal(bits_of(method, features)[sure], (expected > 0)[sure])


def test_four_points_by_hand():
    """A rectangle turned by a right angle and a half: the long side is the first bit, the short one the second."""
    long, short = torch.tensor([3.0, 4.0]), torch.tensor([-0.8, 0.6])
    features = torch.stack([long + short, long - short, -long + short, -long - short]) + torch.tensor(
        [10.0, 20]
    )
    # The largest entry of a direction is positive: (.6, .8) and (.8, -.6).
    assert bits_of(fitted("pcah", features, 2), features).tolist() == [[1, 0], [1, 1], [0, 0], [0, 1]]


def test_turned_afterwards_it_is_as_near_to_a_cube_as_itq():
    """The rotation found afterwards is ITQ's from the same random start, or a better one."""

    def distance(outputs):
        return (outputs.sign() - outputs).square().sum().item()

    features = blobs(80, 9)
    method, itq = fitted("pcah", features, 5), fitted("itq", features, 5, seed=3)
    outputs = method.head(features)
    postprocess(method, outputs, by="itq", generator=generator(3))
    turned = method.transformed(outputs)
    assert distance(turned) <= distance(itq.head(features)) + 1e-2 < distance(outputs)
    assert torch.allclose(turned.norm(dim=1), outputs.norm(dim=1), rtol=1e-4)


def test_shorter_codes_are_the_first_bits_of_longer_ones():
    features = blobs(60, 8)
    whole = bits_of(fitted("pcah", features, 8), features)
    for bits in (1, 3, 5):
        assert np.array_equal(bits_of(fitted("pcah", features, bits), features), whole[:, :bits])


def test_nothing_is_random_and_all_is_in_the_state():
    features = blobs(30, 5)
    first, other = fitted("pcah", features, 4), fitted("pcah", features, 4, seed=1)
    assert torch.equal(first.head.weight, other.head.weight)
    assert sorted(first.state_dict()) == ["head.bias", "head.weight"]
    loaded = PCAH(PCAH.Settings(bits=4), Spec(0, "none", 5))
    loaded.load_state_dict(first.state_dict())
    assert np.array_equal(bits_of(loaded, features), bits_of(first, features))
    assert not any(parameter.requires_grad for parameter in first.parameters())


def test_fewer_directions_than_bits_still_give_codes():
    features = blobs(30, 2) @ torch.randn(2, 6, generator=generator())
    method = fitted("pcah", features, 4)
    assert torch.isfinite(method.head.weight).all() and len(np.unique(bits_of(method, features), axis=0)) > 1


def test_what_it_states():
    assert PCAH.label_kinds == ("none", "ids", "multi-hot")
    for kind in PCAH.label_kinds:
        method = PCAH(PCAH.Settings(), Spec(3, kind, 40))
        assert (method.n_bits, method.n_outputs, method.stages(9)) == (32, 32, ())
    assert method.predict(torch.zeros(2, 32)) is None and PCAH.quality is None and PCAH.main_weight is None


def test_refusals():
    with pytest.raises(ValueError, match=r"bits must be at most 5 \(the number of features\), got 32"):
        PCAH(PCAH.Settings(), Spec(0, "none", 5))
    with pytest.raises(InputError, match="bits must be at least 1"):
        PCAH.Settings(bits=0)
    few = "pcah must have at least 5 training items for 4 bits, got 4"
    with pytest.raises(ValueError, match=few):
        fitted("pcah", blobs(4, 5), 4)
    method = fitted("pcah", blobs(5, 5), 4)
    with pytest.raises(ValueError, match=few):
        method.begin(Training(4, None, generator(), torch.device("cpu")))
    features = blobs(20, 5)
    features[3, 2] = np.nan
    with pytest.raises(ValueError, match="features must be finite, got NaN or infinity"):
        fitted("pcah", features, 4)
    with pytest.raises(ValueError, match="method pcah must be fitted by finish, it has no loss to train by"):
        method.loss(torch.zeros(2, 4), Step(labels=None, items=torch.arange(2)))
