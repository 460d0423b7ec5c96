"""Learned sub-classes: balanced, inside the own class, deterministic, and worth something on made-up data."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch.nn.functional import log_softmax

import dshc
import dshc_fast
from dshc.codebooks import build
from dshc.methods import DSHC, Pass, Spec, Step, Training
from dshc.methods.subclasses import KMeansAssigner, SinkhornAssigner, balanced_plan, kmeans

SIZES = torch.tensor([3, 5, 1, 4])
OFFSETS = torch.tensor([0, 3, 8, 9, 13])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def sinkhorn_oracle(scores, n_columns, iterations):
    """Scaling of exp(scores) by turns, the definition, for the rows of one class."""
    plan = np.exp(scores[:, :n_columns].astype(np.float64))
    for _ in range(iterations):
        plan /= plan.sum(axis=1, keepdims=True)
        plan *= len(plan) / n_columns / plan.sum(axis=0)
    return plan / plan.sum(axis=1, keepdims=True)


def test_the_plan_is_sinkhorns_in_every_class():
    scores, labels = torch.randn(60, 5, generator=generator()), torch.arange(60) % 4
    for iterations in (1, 3, 20):
        plan = balanced_plan(scores, labels, SIZES, iterations=iterations)
        assert plan.dtype == torch.float64
        for c, size in enumerate(SIZES.tolist()):
            own = plan[labels == c].numpy()
            expected = sinkhorn_oracle(scores[labels == c].numpy(), size, iterations)
            np.testing.assert_allclose(own[:, :size], expected, rtol=1e-12, atol=1e-14)
            assert (own[:, size:] == 0).all()


def test_the_plan_is_balanced_however_uneven_the_scores():
    labels = torch.randint(4, (400,), generator=generator())
    scores = 2 * torch.randn(400, 5, generator=generator(1)) + torch.tensor([9.0, 0, 0, -4, 3])
    plan = balanced_plan(scores, labels, SIZES, iterations=500)
    assert torch.allclose(plan.sum(1), torch.ones(400, dtype=torch.float64), atol=1e-12)
    for c, size in enumerate(SIZES.tolist()):
        of_class = plan[labels == c]
        share = torch.full((size,), len(of_class) / size, dtype=torch.float64)
        assert torch.allclose(of_class.sum(0)[:size], share, rtol=1e-6)


def test_the_plan_at_the_edges():
    labels = torch.tensor([1, 1, 1, 1, 1, 2])  # classes 0 and 3 have no row, class 2 one sub-class
    extreme = torch.tensor([[1e4, -1e4, 0, 0, 0]] * 5 + [[-1e4] * 5])
    extreme[0, 1:] = -torch.inf
    plan = balanced_plan(extreme, labels, SIZES)
    assert plan.isfinite().all() and torch.allclose(plan.sum(1), torch.ones(6, dtype=torch.float64))
    assert plan[5].tolist() == [1, 0, 0, 0, 0]
    assert balanced_plan(torch.zeros(0, 5), labels[:0], SIZES).shape == (0, 5)
    # What is equal stays equal, and a constant added to a row changes nothing.
    assert torch.allclose(
        balanced_plan(torch.zeros(4, 5), torch.full((4,), 3), SIZES)[:, :4] * 4, torch.ones(4, 4).double()
    )
    scores, many = torch.randn(30, 5, generator=generator()), torch.arange(30) % 4
    moved = scores.double() + 1000 * torch.arange(30)[:, None]
    assert torch.allclose(balanced_plan(moved, many, SIZES), balanced_plan(scores, many, SIZES), atol=1e-9)
    with pytest.raises(
        ValueError,
        match=r"labels and scores must have shapes \(n,\) and \(n, width\), got \(3,\) and \(2, 5\)",
    ):
        balanced_plan(torch.zeros(2, 5), torch.zeros(3, dtype=torch.int64), SIZES)
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        balanced_plan(extreme, labels, SIZES, iterations=0)


@pytest.mark.parametrize("queue", [0, 7])
def test_sinkhorn_assigns_inside_the_class_and_evenly(queue):
    outputs = torch.randn(600, 13, generator=generator())
    outputs[:, 4] += 6  # the likeliest sub-class of class 1, to all of it
    labels = torch.randint(4, (600,), generator=generator(1))
    first, again = (SinkhornAssigner(OFFSETS, queue=queue) for _ in range(2))
    assigned = first(outputs, labels, torch.arange(600))
    assert torch.equal(assigned, again(outputs, labels, torch.arange(600)))
    assert (OFFSETS[labels] <= assigned).all() and (assigned < OFFSETS[labels + 1]).all()
    assert (outputs[labels == 1, 3:8].argmax(1) == 1).double().mean() > 0.98
    for c, size in enumerate(SIZES.tolist()):
        counts = torch.bincount(assigned[labels == c] - OFFSETS[c], minlength=size)
        share = (labels == c).sum() / size
        assert counts.sum() == (labels == c).sum()
        assert (counts - share).abs().max() <= 0.35 * share, counts


def test_the_queue_holds_the_last_rows_of_every_class():
    n_slots, width = 6, 5
    assigner = SinkhornAssigner(OFFSETS, queue=n_slots)
    past = [[] for _ in SIZES]
    for step in range(8):
        n = (1, 30, 0, 4, 9, 17, 2, 5)[step]
        outputs = torch.randn(n, 13, generator=generator(step))
        labels = torch.randint(4, (n,), generator=generator(100 + step))
        columns = (OFFSETS[labels][:, None] + torch.arange(width)).clamp(max=12)
        rows = outputs.gather(1, columns)
        recent = [row for ring in past for row in ring[-n_slots:]]
        of = torch.tensor([c for c, ring in enumerate(past) for _ in ring[-n_slots:]], dtype=torch.int64)
        together = torch.cat([rows, *([torch.stack(recent)] if recent else [])])
        expected = balanced_plan(2 * together, torch.cat([labels, of]), SIZES)[:n].argmax(1) + OFFSETS[labels]
        assert torch.equal(assigner(outputs, labels, torch.arange(n)), expected)
        for row, c in zip(rows, labels.tolist(), strict=True):
            past[c].append(row)
    # A second one goes on from the state of the first.
    other = SinkhornAssigner(OFFSETS, queue=n_slots)
    other.load_state(assigner.state())
    outputs, labels = torch.randn(9, 13, generator=generator(50)), torch.arange(9) % 4
    assert torch.equal(other(outputs, labels, labels), assigner(outputs, labels, labels))


def blobs(n_blobs, n_each, seed=0):
    truth = torch.arange(n_blobs).repeat_interleave(n_each)
    return 10 * torch.eye(n_blobs, 6)[truth] + torch.randn(len(truth), 6, generator=generator(seed)), truth


@pytest.mark.parametrize("seed", range(5))
def test_kmeans_is_lloyds_algorithm(seed):
    features = torch.randn(200, 6, generator=generator(seed)).double()
    clusters = kmeans(features, 5, generator=generator(seed), steps=100)
    assert torch.equal(clusters, kmeans(features, 5, generator=generator(seed), steps=100))
    means = torch.stack([features[clusters == c].mean(0) for c in range(5)])
    assert torch.equal(torch.cdist(features, means).argmin(1), clusters)  # Lloyd's steps have ended
    start = torch.randint(5, (200,), generator=generator(10 + seed))
    means = torch.stack([features[start == c].mean(0) for c in range(5)])
    oracle = KMeans(5, init=means.numpy(), n_init=1, tol=0, algorithm="lloyd").fit(features.numpy())
    assert kmeans(features, 5, start=start, steps=100).tolist() == oracle.labels_.tolist()


def test_kmeans_keeps_the_numbers_of_its_clusters():
    (features, truth), (moved, _) = blobs(4, 25), blobs(4, 25, seed=1)
    start = truth.clone()
    start[::9] = (start[::9] + 1) % 4
    for each in (features, moved):
        assert torch.equal(kmeans(each, 4, start=start), truth)


def test_kmeans_leaves_no_cluster_empty():
    features, _ = blobs(4, 5)
    start = torch.zeros(20, dtype=torch.int64)
    clusters = kmeans(features, 4, start=start)
    assert torch.bincount(clusters, minlength=4).tolist() == [5, 5, 5, 5]
    # More clusters than different items, and as many as items.
    same = kmeans(torch.ones(5, 3), 3, generator=generator())
    assert torch.bincount(same, minlength=3).min() > 0
    assert kmeans(features, 20, generator=generator()).sort().values.tolist() == list(range(20))
    for n_clusters in (0, 21):
        with pytest.raises(ValueError, match=f"n_clusters must lie in 1..20 .the items., got {n_clusters}"):
            kmeans(features, n_clusters)


def test_the_kmeans_assigner_stays_inside_the_class():
    labels = torch.tensor([0] * 9 + [1] * 3 + [3] * 20)  # fewer items than sub-classes in 1, none in 2
    features = torch.randn(32, 6, generator=generator())
    assigner = KMeansAssigner(OFFSETS)
    with pytest.raises(ValueError, match="items have no clusters yet; call start_epoch first"):
        assigner(torch.zeros(1, 13), labels[:1], torch.tensor([0]))
    empty = KMeansAssigner(OFFSETS)
    empty.load_state(assigner.state())
    empty.start_epoch(lambda: features, labels, generator())
    assigner.start_epoch(lambda: features, labels, generator())
    items = torch.randperm(32, generator=generator(1))
    assigned = assigner(torch.zeros(32, 13), labels[items], items)
    assert torch.equal(assigned, empty(torch.zeros(32, 13), labels[items], items))
    assert (OFFSETS[labels[items]] <= assigned).all() and (assigned < OFFSETS[labels[items] + 1]).all()
    assert len(assigned[labels[items] == 1].unique()) == 3 and len(assigned[labels[items] == 3].unique()) == 4
    other = KMeansAssigner(OFFSETS)
    other.load_state(assigner.state())
    changed = features + 0.1 * torch.randn(32, 6, generator=generator(2))
    for each in (other, assigner):
        each.start_epoch(lambda: changed, labels, generator(3))
    outputs, items = torch.zeros(32, 13), torch.arange(32)
    assert torch.equal(other(outputs, labels, items), assigner(outputs, labels, items))


def a_pass(features, labels):
    return Pass(lambda: features, lambda: features, labels, generator())


def learning(book, n_items, labels, **values):
    """DSHC with learned sub-classes over a codebook, told of its training."""
    settings = DSHC.Settings(subclass="learned", **values)
    method = DSHC(settings, Spec(book.n_classes, "ids", 6), book)
    method.begin(Training(n_items, labels, generator(), torch.device("cpu")))
    return method


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_loss_moves_a_share_of_the_target(share):
    book = build("cpbc", 4, 12).thinned(3)
    labels, items = torch.tensor([0, 3, 3, 2, 1]), torch.tensor([4, 0, 2, 3, 1])
    of_items = labels[items.argsort()]
    method = learning(book, 5, of_items, assigned_share=share)
    assigner = KMeansAssigner(torch.from_numpy(book.class_offsets.copy()))
    features = torch.randn(5, 6, generator=generator())
    method.begin_epoch(a_pass(features, of_items))
    assigner.start_epoch(lambda: features, of_items, generator())
    outputs = torch.randn(5, 12, generator=generator(1), dtype=torch.float64, requires_grad=True)
    assigned = assigner(outputs, labels, items)
    target = torch.zeros(5, 12, dtype=torch.float64)
    for row, c in enumerate(labels.tolist()):
        target[row, 3 * c : 3 * c + 3] = (1 - share) / 3
        target[row, assigned[row]] += share
    expected = -(target * log_softmax(outputs, 1)).sum(1).mean()
    loss = method.loss(outputs, Step(labels=labels, items=items))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    found, wanted = (torch.autograd.grad(value, outputs)[0] for value in (loss, expected))
    assert torch.allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("values", [{"assignment": "kmeans"}, {"assignment": "sinkhorn", "queue": 5}])
def test_the_training_state_goes_on_and_is_no_part_of_the_weights(values):
    book = build("cpbc", 4, 12).thinned(3)
    labels, items = torch.arange(24) % 4, torch.arange(24)
    features = torch.randn(24, 6, generator=generator())
    outputs = torch.randn(2, 24, 12, generator=generator(1))
    first, second = (learning(book, 24, labels, **values) for _ in range(2))
    first.begin_epoch(a_pass(features, labels))
    first.loss(outputs[0], Step(labels=labels, items=items))
    state = {name: tensor.clone() for name, tensor in first.training_state().items()}
    assert state and not set(state) & set(first.state_dict())
    second.load_training_state(state)
    step = Step(labels=labels, items=items)
    assert torch.equal(second.loss(outputs[1], step), first.loss(outputs[1], step))


def test_a_thinned_codebook_keeps_codes_that_lie_far_apart():
    book = build("cpbc", 10, 30)
    thin = book.thinned(5)
    assert np.diff(thin.class_offsets).tolist() == [5] * 10 and np.array_equal(thin.centers, book.centers)
    assert (thin.min_within, thin.mean_within) == (2, 2)  # flips without the center, which is 1 from them
    for c in range(10):
        own = {row.tobytes() for row in book.codes[book.class_offsets[c] : book.class_offsets[c + 1]]}
        assert {row.tobytes() for row in thin.codes[5 * c : 5 * c + 5]} <= own
    assert np.array_equal(book.thinned(1000).codes, book.codes)
    # Of codes at several distances the far ones: 0 and 7 first, then what is far from both.
    codes = np.array([[0], [1], [3], [7], [56]], np.uint8)
    one = dataclasses.replace(book, n_bits=6, codes=codes, class_offsets=np.array([0, 5]), centers=codes[:1])
    assert one.thinned(2).codes.ravel().tolist() == [7, 56]
    assert one.thinned(3).codes.ravel().tolist() == [0, 7, 56]
    sums = dshc_fast.hamming_distance(codes, codes).sum(axis=1)
    assert one.thinned(1).codes.ravel().tolist() == [codes[sums.argmax(), 0]]
    with pytest.raises(ValueError, match="per_class must be at least 1, got 0"):
        book.thinned(0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"subclass": "random"}, "subclass must be one of uniform, learned, got 'random'"),
        ({"assignment": "nearest"}, "assignment must be one of kmeans, sinkhorn, got 'nearest'"),
        ({"assigned_share": 0.0}, "assigned_share must be more than 0 and at most 1, got 0.0"),
        ({"assigned_share": 1.5}, "assigned_share must be more than 0 and at most 1, got 1.5"),
        ({"queue": -1}, "queue must be at least 0 and at most 1000000, got -1"),
        ({"per_class": 0}, "per_class must be at least 1, got 0"),
        ({"subclass": "learned", "queue": 8}, "queue must be 0 with assignment = 'kmeans', got 8"),
        (
            {"subclass": "learned", "per_class": 1},
            "per_class must leave some class two sub-classes .*, got one for each",
        ),
        (
            {"subclass": "learned", "target": "paper"},
            "target must be 'normalized' with subclass = 'learned', got 'paper'",
        ),
        ({"per_class": 4, "target": "paper"}, "target must be 'normalized' with per_class"),
    ],
)
def test_what_does_not_fit_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        DSHC.build(DSHC.Settings(**settings), Spec(10, "ids", 6))


def test_a_queue_is_not_negative():
    with pytest.raises(ValueError, match="queue must be at least 0, got -2"):
        SinkhornAssigner(OFFSETS, queue=-2)


@pytest.fixture(scope="module")
def merged(tmp_path_factory):
    """Embeddings of three classes, each of two groups that lie apart; the group is the item's id."""
    rng = np.random.default_rng(0)
    groups = np.arange(480) % 6
    values = rng.normal(size=(480, 16)) + 5 * np.eye(6, 16)[groups]
    path = tmp_path_factory.mktemp("merged") / "merged.npz"
    np.savez(path, features=values.astype(np.float32), labels=groups // 2, ids=groups.astype(str))
    return path


@pytest.mark.deep
@pytest.mark.parametrize("assignment", ["kmeans", "sinkhorn"])
def test_learned_sub_classes_follow_the_groups_of_a_class(merged, tmp_path, assignment):
    found = {}
    for subclass in ("uniform", "learned"):
        values = {"bits": 9, "per_class": 2, "subclass": subclass, "assignment": assignment}
        values |= {"width": 64, "epochs": 20, "batch_size": 32, "out": tmp_path / subclass}
        run = dshc.train(str(merged), **values)
        assert run.hasher.method.codebook().n_subclasses == 6
        assert run.settings.method.subclass == subclass
        groups = np.array([int(name) for name in run.dataset.ids])
        (codes, predicted), (database, _) = run.encode(run.split.query), run.encode(run.split.database)
        labels = run.dataset.labels
        assert (predicted == labels[run.split.query]).mean() > 0.95
        allowed = labels[run.split.query][:, None] == labels[run.split.database]
        found[subclass] = dshc_fast.average_precision(
            codes, database, groups[run.split.query], groups[run.split.database], allowed=allowed
        ).mean()
    assert found["learned"] > found["uniform"] + 0.1, found
    assert assignment != "kmeans" or found["learned"] > 0.9, found
