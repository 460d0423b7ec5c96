"""HammingMAP (a torchmetrics Metric) and ClassSoftmaxLoss (an nn.Module)."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from strategies import make_codes

import dshc_fast

torchmetrics = pytest.importorskip("torchmetrics", reason="torchmetrics is not installed")
OFFSETS = [0, 3, 4, 9]


def items(seed: int, n: int = 60, n_bytes: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    codes = torch.from_numpy(make_codes(rng, n, n_bytes, "near"))
    return codes, torch.from_numpy(rng.integers(0, 4, n)), torch.from_numpy(rng.random(n) < 0.3)


def direct(codes, labels, is_query, **options) -> torch.Tensor:
    return dshc_fast.mean_average_precision(
        codes[is_query], codes[~is_query], labels[is_query], labels[~is_query], **options
    )


def same(a: torch.Tensor, b: torch.Tensor) -> None:
    assert a.dtype == torch.float64 and a.shape == ()
    torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"k": 7},
        {"ties": "index"},
        {"ties": "worst", "k": 5},
        {"denominator": "min", "k": 9},
        {"denominator": "relevant", "k": 3},
        {"score": "overlap"},
        {"n_bits": 16},
        {"empty": "skip"},
    ],
    ids=str,
)
def test_batches_are_the_whole(options: dict, device: str) -> None:
    """Batches of queries and items mixed, in any cut, give the answer of one call."""
    parts = [part.to(device) for part in items(1)]
    metric = dshc_fast.HammingMAP(**options).to(device)
    for start in range(0, 60, 13):
        metric.update(*[part[start : start + 13] for part in parts])
    same(metric.compute(), direct(*parts, **options))


FAMILY = {
    "HammingNDCG": ("ndcg", {"k": 7, "gains": "exponential", "ties": "index"}),
    "HammingMRR": ("reciprocal_rank", {"k": 3, "score": "overlap"}),
    "HammingPrecision": ("precision", {"k": 5, "ties": "worst"}),
    "HammingRecall": ("recall", {"k": 9, "n_bits": 16}),
    "HammingHitRate": ("hit_rate", {"k": 1}),
    "HammingRPrecision": ("r_precision", {"ties": "best"}),
    "HammingMAPAtR": ("average_precision_at_r", {}),
}


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("empty", ["zero", "skip"])
def test_family_of_metrics(name: str, empty: str, device: str) -> None:
    """Each class is the mean of its metric over the queries; one query has nothing relevant."""
    function, options = FAMILY[name]
    codes, labels, is_query = (part.to(device) for part in items(3))
    labels[int(is_query.nonzero()[0])] = 99
    metric = getattr(dshc_fast, name)(empty=empty, **options).to(device)
    for start in range(0, 60, 13):
        metric.update(*[part[start : start + 13] for part in (codes, labels, is_query)])
    values = getattr(dshc_fast, function)(
        codes[is_query], codes[~is_query], labels[is_query], labels[~is_query], **options
    )
    assert values.isnan().sum() == 1
    same(metric.compute(), values.nanmean() if empty == "skip" else values.nan_to_num(0.0).mean())
    metric.reset()
    metric.update(codes, labels, is_query=True)
    with pytest.raises(ValueError, match=f"{name} must have at least one database item"):
        metric.compute()


@pytest.mark.parametrize("name", FAMILY)
def test_family_refuses_what_its_functions_refuse(name: str) -> None:
    family = getattr(dshc_fast, name)
    for wrong, error in (({"ties": "x"}, ValueError), ({"empty": "x"}, ValueError), ({"n_bits": 0}, ValueError),
                         ({"score": "x"}, ValueError), ({"gain": "linear"}, (TypeError, ValueError))):  # fmt: skip
        with pytest.raises(error):
            family(**wrong)
    with pytest.raises((ValueError, TypeError)):  # those at R have no cut
        family(k=0)


def test_is_a_metric() -> None:
    metric = dshc_fast.HammingMAP()
    assert isinstance(metric, torchmetrics.Metric)
    assert metric.higher_is_better is True


def test_reset_and_reuse() -> None:
    metric = dshc_fast.HammingMAP()
    metric.update(*items(1))
    metric.compute()
    metric.reset()
    metric.update(*items(2))
    same(metric.compute(), direct(*items(2)))


def test_more_after_compute() -> None:
    """compute() is cached by torchmetrics; an update must not be lost behind it, nor change kept inputs."""
    metric = dshc_fast.HammingMAP()
    a, b = items(1), items(2)
    metric.update(*a)
    metric.compute()
    metric.update(*b)
    same(metric.compute(), direct(*[torch.cat(pair) for pair in zip(a, b, strict=True)]))


def test_forward_answers_for_the_batch() -> None:
    metric = dshc_fast.HammingMAP()
    a, b = items(1), items(2)
    same(metric(*a), direct(*a))
    same(metric(*b), direct(*b))
    same(metric.compute(), direct(*[torch.cat(pair) for pair in zip(a, b, strict=True)]))


def test_forward_of_a_batch_that_has_none_of_either_keeps_what_came_before() -> None:
    metric = dshc_fast.HammingMAP()
    codes, labels, is_query = items(1)
    metric.update(codes, labels, is_query)
    assert metric(codes[:3], labels[:3], True).isnan()
    metric(codes[:3], labels[:3], False)
    with pytest.raises(ValueError, match="codes must"):
        metric(torch.zeros(len(codes), 9, dtype=torch.uint8), labels, is_query)
    with pytest.raises(TypeError, match="is_query"):
        metric(codes, labels, labels)
    same(
        metric.compute(),
        direct(
            torch.cat([codes, codes[:3], codes[:3]]),
            torch.cat([labels, labels[:3], labels[:3]]),
            torch.cat([is_query, torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)]),
        ),
    )
    with pytest.raises(ValueError, match="at least one database item"):
        dshc_fast.HammingMAP().compute()


def test_merge_states() -> None:
    """Two metrics over shards, merged: the metric over all (what a distributed run does)."""
    first, second, whole = dshc_fast.HammingMAP(), dshc_fast.HammingMAP(), dshc_fast.HammingMAP()
    first.update(*items(1))
    second.update(*items(2))
    whole.update(*items(1))
    whole.update(*items(2))
    first.merge_state(second)
    same(first.compute(), whole.compute())


def test_multi_hot_and_batches_without_queries() -> None:
    rng = np.random.default_rng(3)
    codes, hot = torch.from_numpy(make_codes(rng, 40, 3)), torch.from_numpy(rng.random((40, 70)) < 0.05)
    is_query = torch.arange(40) < 11
    metric = dshc_fast.HammingMAP(score="overlap")
    for rows in (slice(0, 11), slice(11, 40), slice(40, 40)):  # only queries, only items, nothing
        metric.update(codes[rows], hot[rows], is_query[rows])
    same(metric.compute(), direct(codes, hot, is_query, score="overlap"))


def test_copies_and_pickles() -> None:
    """clone() and a round trip through torchmetrics' own pickling keep the state."""
    metric = dshc_fast.HammingMAP(k=5)
    metric.update(*items(1))
    same(metric.clone().compute(), metric.compute())
    same(copy.deepcopy(metric).compute(), direct(*items(1), k=5))


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"ties": "random"}, "ties"),
        ({"denominator": "all"}, "denominator"),
        ({"score": "cosine"}, "score"),
        ({"empty": "drop"}, "empty"),
        ({"k": 0}, "k"),
    ],
)
def test_wrong_options(wrong: dict, name: str) -> None:
    """Refused where they are given, or at the latest at compute()."""
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        metric = dshc_fast.HammingMAP(**wrong)
        metric.update(*items(1))
        metric.compute()


def test_wrong_is_query() -> None:
    codes, labels, is_query = items(1)
    with pytest.raises(TypeError, match="is_query"):
        dshc_fast.HammingMAP().update(codes, labels, is_query.to(torch.int64))
    with pytest.raises(ValueError, match="is_query"):
        dshc_fast.HammingMAP().update(codes, labels, is_query[:-1])


def test_loss_module_is_the_function(device: str) -> None:
    logits, labels = torch.randn(5, 9, device=device), torch.arange(5, device=device) % 3
    for options in ({}, {"target": 0.5}, {"reduction": "sum"}, {"reduction": "none"}, {"ignore_index": 1}):
        module = dshc_fast.ClassSoftmaxLoss(OFFSETS, **options).to(device)
        assert isinstance(module, torch.nn.Module)
        assert torch.equal(
            module(logits, labels), dshc_fast.class_softmax_loss(logits, labels, OFFSETS, **options)
        )


def test_loss_module_state() -> None:
    """No parameters; its state loads into a like module, through torch.save with weights_only too."""
    module = dshc_fast.ClassSoftmaxLoss(np.array(OFFSETS))
    assert not list(module.parameters())
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    other = dshc_fast.ClassSoftmaxLoss(torch.tensor(OFFSETS))
    other.load_state_dict(torch.load(buffer, weights_only=True))
    logits, labels = torch.randn(5, 9), torch.arange(5) % 3
    assert torch.equal(module(logits, labels), other(logits, labels))
    assert torch.equal(copy.deepcopy(module)(logits, labels), module(logits, labels))


def test_loss_module_survives_casts() -> None:
    """model.half() and .double() cast floating buffers; the offsets are whole numbers and stay."""
    logits, labels = torch.randn(5, 9), torch.arange(5) % 3
    for cast in ("half", "double", "bfloat16"):
        module = getattr(dshc_fast.ClassSoftmaxLoss(OFFSETS), cast)()
        assert torch.equal(module(logits, labels), dshc_fast.class_softmax_loss(logits, labels, OFFSETS))


def test_train_step_learns(device: str) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(90, 5, generator=generator).to(device)
    labels = inputs[:, :3].argmax(1)
    network, loss = torch.nn.Linear(5, 9).to(device), dshc_fast.ClassSoftmaxLoss(OFFSETS).to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        value = loss(network(inputs), labels)
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < 0.75 * losses[0]
    with torch.no_grad():
        centers = torch.arange(3, dtype=torch.uint8, device=device)[:, None]
        found = dshc_fast.center_codes_from_logits(network(inputs), OFFSETS, centers)
        assert (found[:, 0] == labels).float().mean() > 0.9


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"class_offsets": [0, 0, 3]}, "class_offsets"),
        ({"class_offsets": [1, 3]}, "class_offsets"),
        ({"target": "soft"}, "target"),
        ({"target": -1.0}, "target"),
        ({"reduction": "median"}, "reduction"),
    ],
)
def test_loss_module_wrong_options(wrong: dict, name: str) -> None:
    """Refused at once or at the first call."""
    with pytest.raises(ValueError, match=name):
        module = dshc_fast.ClassSoftmaxLoss(**{"class_offsets": OFFSETS} | wrong)
        module(torch.zeros(1, 9), torch.zeros(1, dtype=torch.int64))
