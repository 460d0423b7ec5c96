"""Batches: standardised features, and which kind of batches the inputs ask for."""

import numpy as np
import pytest
import torch

from dshc.data.batches import TensorFeatures, make_batches
from dshc.data.image_batches import TensorImages


def test_features_are_standardised_by_the_training_items():
    rng = np.random.default_rng(0)
    features = rng.normal(3, 2, (50, 4)).astype(np.float32)
    features[:, 2] = 7  # constant
    batches = TensorFeatures(features, train_indices=np.arange(40))
    train = batches.batch(torch.arange(40))
    assert (
        train.mean(0).abs().max() < 1e-5 and (train.std(0, unbiased=False)[[0, 1, 3]] - 1).abs().max() < 1e-5
    )
    assert not batches.batch(np.array([45]))[0, 2]
    again = TensorFeatures(features, mean=batches.mean, std=batches.std)
    assert torch.equal(again.batch([3, 1]), batches.batch([3, 1])) and len(again) == 50


def test_features_refused():
    features = np.zeros((5, 3), np.float32)
    with pytest.raises(TypeError, match="float64"):
        TensorFeatures(features.astype(float), train_indices=np.arange(2))
    with pytest.raises(ValueError, match="either train_indices or both"):
        TensorFeatures(features)
    with pytest.raises(ValueError, match="must have 2 dimensions, got 3"):
        TensorFeatures(features, mean=torch.zeros(2), std=torch.ones(2))


def test_the_shape_of_the_inputs_says_which_batches():
    images = np.zeros((4, 8, 8, 1), np.uint8)
    assert isinstance(make_batches(images, train_indices=np.arange(4)), TensorImages)
    assert make_batches(images, train_indices=np.arange(4)).padding == 0
    assert make_batches(images, train_indices=np.arange(4), crop=True).padding > 0
    assert isinstance(make_batches(np.zeros((4, 8), np.float32), train_indices=np.arange(4)), TensorFeatures)


def test_features_left_as_they_are():
    features = np.random.default_rng(0).normal(3, 2, (6, 4)).astype(np.float32)
    batches = make_batches(features, train_indices=np.arange(6), standardize=False)
    assert torch.equal(batches.batch([2, 0]), torch.from_numpy(features[[2, 0]]))
    assert batches.mean.tolist() == [0] * 4 and batches.std.tolist() == [1] * 4
