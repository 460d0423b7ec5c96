"""The discrete step of DSDH: its objective, all codes, a step by hand, chunks, classes and label sets."""

import itertools

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc.methods.dsdh import discrete_codes, ridge_weights


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def hot(labels, n_classes=4):
    """Rows of 0 and 1, float64 ``(n, C)``."""
    return torch.nn.functional.one_hot(labels, n_classes).double() if labels.ndim == 1 else labels.double()


def objective(codes, outputs, labels, weights, mu=1.0, nu=0.1, eta=55.0):
    """The terms of the paper that have codes or W."""
    error = (hot(labels) - codes.double() @ weights).square().sum()
    return float(mu * error + nu * weights.square().sum() + eta * (codes - outputs).square().sum())


def problem(n, n_bits, seed, multihot):
    """Codes int8, outputs float64 and labels of four classes."""
    random = np.random.default_rng(seed)
    codes = torch.from_numpy(random.choice([-1, 1], (n, n_bits)).astype(np.int8))
    labels = random.integers(0, 2, (n, 4)).astype(np.uint8) if multihot else random.integers(0, 4, n)
    return codes, torch.from_numpy(random.normal(size=(n, n_bits))), torch.from_numpy(labels)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(60))
@given(
    n=st.integers(1, 12),
    n_bits=st.integers(1, 7),
    seed=st.integers(0, 10**6),
    mu=st.sampled_from([0.01, 1.0, 30.0]),
    nu=st.sampled_from([1e-3, 0.1, 10.0]),
    eta=st.sampled_from([0.0, 0.01, 1.0, 55.0]),
)
def test_the_objective_never_rises(multihot, n, n_bits, seed, mu, nu, eta):
    codes, outputs, labels = problem(n, n_bits, seed, multihot)
    weights = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(n_bits, 4)))
    of = {"mu": mu, "nu": nu, "eta": eta}
    value = objective(codes, outputs, labels, weights, **of)
    slack = 1e-9 * (1 + abs(value))
    for _ in range(3):
        weights = ridge_weights(codes, labels, 4, ratio=nu / mu)
        fitted = objective(codes, outputs, labels, weights, **of)
        assert fitted <= value + slack
        for _ in range(3):
            codes = discrete_codes(codes, outputs, labels, weights, mu=mu, eta=eta, sweeps=1)
            value = objective(codes, outputs, labels, weights, **of)
            assert value <= fitted + slack
            fitted = value


@pytest.mark.parametrize("multihot", [False, True])
def test_no_other_w_is_better(multihot):
    codes, outputs, labels = problem(9, 5, 3, multihot)
    weights = ridge_weights(codes, labels, 4, ratio=0.3)
    leaf = weights.clone().requires_grad_()
    error = (hot(labels) - codes.double() @ leaf).square().sum() + 0.3 * leaf.square().sum()
    (gradient,) = torch.autograd.grad(error, leaf)  # it is convex
    assert gradient.abs().max() < 1e-10
    bits = codes.double().numpy()
    expected = np.linalg.inv(bits.T @ bits + 0.3 * np.eye(5)) @ bits.T @ hot(labels).numpy()
    assert weights.shape == (5, 4) and np.allclose(weights, expected)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(seed=st.integers(0, 10**6), n_bits=st.integers(1, 6), eta=st.sampled_from([0.0, 1.0]))
def test_when_it_ends_no_single_bit_is_better_and_all_codes_are_tried(multihot, seed, n_bits, eta):
    codes, outputs, labels = problem(6, n_bits, seed, multihot)
    weights = torch.from_numpy(np.random.default_rng(seed + 1).normal(size=(n_bits, 4)))
    found = discrete_codes(codes, outputs, labels, weights, mu=1.0, eta=eta, sweeps=100)
    assert found.dtype == torch.int8 and set(found.unique().tolist()) <= {-1, 1}
    every = torch.tensor(list(itertools.product([-1, 1], repeat=n_bits)), dtype=torch.int8)
    for i in range(6):

        def cost(code, i=i):
            item = slice(i, i + 1)
            return objective(code[None], outputs[item], labels[item], weights, eta=eta)

        costs = torch.tensor([cost(code) for code in every])
        mine = cost(found[i])
        one_bit_away = costs[(every != found[i]).sum(1) == 1]
        assert (mine <= one_bit_away + 1e-9).all() and mine >= costs.min() - 1e-9
        if n_bits == 1:
            assert mine == pytest.approx(costs.min().item())


def test_a_step_by_hand():
    """Two bits, two classes, W = ((1, 0), (1/2, 1)), mu = 2 and eta = 1."""
    weights = torch.tensor([[1.0, 0.0], [0.5, 1.0]], dtype=torch.float64)
    outputs = torch.tensor([[0.1, -3.0], [-1.9, 0.0], [0.0, 0.0], [-0.5, -0.2]])
    labels = torch.tensor([0, 0, 0, 1])
    codes = torch.tensor([[-1, 1], [1, -1], [1, 1], [1, 1]], dtype=torch.int8)
    # <w_0, w_1> = 1/2: bit 0 is the sign of 2 y_0 + u_0 - b_1: 1.1, 1.1, 1 and -1.5. Bit 1 that of
    # y_0 + 2 y_1 + u_1 - b_0: -3, 0 twice (they stay) and 2.8.
    found = discrete_codes(codes, outputs, labels, weights, mu=2.0, eta=1.0, sweeps=1)
    assert found.tolist() == [[1, -1], [1, -1], [1, 1], [-1, 1]]
    assert codes.tolist() == [[-1, 1], [1, -1], [1, 1], [1, 1]]  # not written over


def test_large_eta_gives_signs_and_none_gives_codes_of_labels():
    codes, outputs, labels = problem(200, 6, 0, False)
    weights = ridge_weights(codes, labels, 4, ratio=0.1)
    close = discrete_codes(codes, outputs, labels, weights, mu=1.0, eta=1e9)
    assert torch.equal(close, torch.where(outputs > 0, 1, -1).to(torch.int8))
    free = discrete_codes(codes, 0 * outputs, labels, weights, mu=1.0, eta=55.0)
    assert len(torch.unique(torch.cat([free, labels[:, None].to(torch.int8)], 1), dim=0)) == 4


@pytest.mark.parametrize("multihot", [False, True])
def test_chunks_do_not_change_codes_or_w(multihot, monkeypatch):
    codes, outputs, labels = problem(31, 5, 2, multihot)
    weights = ridge_weights(codes, labels, 4, ratio=0.1)
    whole = discrete_codes(codes, outputs, labels, weights, mu=1.0, eta=0.05)
    assert not torch.equal(whole, codes)
    for chunk in (1, 5, 40):
        monkeypatch.setattr("dshc.methods.dsdh._CHUNK", chunk)
        assert torch.equal(ridge_weights(codes, labels, 4, ratio=0.1), weights)
        assert torch.equal(discrete_codes(codes, outputs, labels, weights, mu=1.0, eta=0.05), whole)


def test_one_hot_labels_are_classes_and_items_have_no_order():
    codes, outputs, labels = problem(40, 5, 1, False)
    rows = hot(labels).to(torch.uint8)
    weights = ridge_weights(codes, labels, 4, ratio=0.1)
    assert torch.equal(ridge_weights(codes, rows, 4, ratio=0.1), weights)
    found = discrete_codes(codes, outputs, labels, weights, mu=1.0, eta=0.1)
    assert torch.equal(discrete_codes(codes, outputs, rows, weights, mu=1.0, eta=0.1), found)
    order = torch.randperm(40, generator=generator())
    assert torch.equal(ridge_weights(codes[order], labels[order], 4, ratio=0.1), weights)
    moved = discrete_codes(codes[order], outputs[order], labels[order], weights, mu=1.0, eta=0.1)
    assert torch.equal(moved, found[order])


def test_fewer_items_than_bits_and_missing_classes_have_a_w():
    codes = torch.ones(2, 8, dtype=torch.int8)
    weights = ridge_weights(codes, torch.tensor([0, 0]), 4, ratio=0.1)
    assert torch.isfinite(weights).all() and not weights[:, 1:].any()
    nothing = ridge_weights(codes, torch.zeros(2, 4, dtype=torch.uint8), 4, ratio=0.1)
    assert not nothing.any()
