"""Means and principal directions against numpy's covariance matrix."""

import numpy as np
import pytest
import torch
from fits import blobs

from dshc.methods.principal import in_chunks, mean_feature, principal_directions


def test_components_are_those_of_the_covariance_matrix():
    features = blobs(50, 6)
    mean, directions = principal_directions(features, 4)
    values = features.double().numpy()
    variances, vectors = np.linalg.eigh(np.cov(values.T, bias=True))
    assert np.allclose(mean, values.mean(0))
    for k in range(4):
        expected = vectors[:, 5 - k]
        expected = expected * np.sign(expected[np.abs(expected).argmax()])
        assert np.allclose(directions[:, k], expected, atol=1e-9)
    assert np.allclose(((values - values.mean(0)) @ directions.numpy()).var(0), variances[:1:-1])


def test_points_on_a_line_have_the_line_as_component():
    _, directions = principal_directions(torch.tensor([[3.0, 4.0], [0.0, 0.0], [-3.0, -4.0]]), 1)
    assert torch.allclose(directions[:, 0], torch.tensor([0.6, 0.8], dtype=torch.float64))


def test_components_do_not_depend_on_the_chunks(monkeypatch):
    features = blobs(40, 5)
    whole = principal_directions(features, 5)
    monkeypatch.setattr("dshc.methods.principal._CHUNK", 35)
    for one, other in zip(whole, principal_directions(features, 5), strict=True):
        assert torch.allclose(one, other, atol=1e-9)


def test_chunks_are_the_rows_in_order(monkeypatch):
    features = blobs(40, 5)
    monkeypatch.setattr("dshc.methods.principal._CHUNK", 35)
    parts = in_chunks(features)
    assert [len(rows) for rows in parts] == [7] * 5 + [5] and torch.equal(torch.cat(parts), features)
    monkeypatch.setattr("dshc.methods.principal._CHUNK", 1)  # less than a row: row by row
    assert len(in_chunks(features)) == 40


def test_the_mean_is_exact_where_items_are_equal_and_in_float64():
    assert mean_feature(torch.full((7, 2), 0.1)).tolist() == [float(np.float32(0.1))] * 2
    # In float32 the small ones would be lost beside the large one.
    features = torch.cat([torch.tensor([[1e8]]), torch.ones(1000, 1)])
    assert mean_feature(features).item() == pytest.approx((1e8 + 1000) / 1001, rel=1e-14)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value):
    features = blobs(20, 5)
    features[3, 2] = value
    for find in (mean_feature, lambda some: principal_directions(some, 2)):
        with pytest.raises(ValueError, match="features must be finite, got NaN or infinity"):
            find(features)
