"""Rotations and thresholds against slow references: orthogonal, never worse, balanced, and set into methods."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

import dshc_fast
from dshc import methods
from dshc.methods import Spec, postprocessing
from dshc.methods.dtsh import DTSH
from dshc.methods.itq import next_rotation, random_rotation
from dshc.methods.postprocessing import calibrated_thresholds, itq_rotation, map_rotation, postprocess


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(n, n_bits, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(n, n_bits)))


def distance(values, rotation):
    """||sign(Z R) - Z R||^2."""
    turned = values.double() @ rotation
    return float((torch.where(turned > 0, 1.0, -1.0) - turned).square().sum())


def orthogonal(rotation):
    return torch.allclose(rotation @ rotation.T, torch.eye(len(rotation), dtype=torch.float64), atol=1e-10)


def clusters(n, n_bits, seed=0, n_classes=3, multihot=False):
    """Classes about random directions, and their labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (n, n_classes)) if multihot else random.integers(0, n_classes, n)
    hot = labels if multihot else np.eye(n_classes)[labels]
    values = hot @ random.normal(size=(n_classes, n_bits)) + 0.3 * random.normal(size=(n, n_bits))
    return torch.from_numpy(values).float(), torch.from_numpy(labels)


def mean_ap(outputs, labels, n_queries):
    """mAP of the first items among the others, of the signs of outputs: the mean over all orders of tied items."""
    bits = outputs.numpy() > 0
    shared = labels.numpy() if labels.ndim == 2 else np.eye(int(labels.max()) + 1)[labels.numpy()]
    found = []
    for q in range(n_queries):
        distances = (bits[q] != bits[n_queries:]).sum(1)
        relevant = shared[n_queries:] @ shared[q] > 0
        if not relevant.any():
            continue
        total, seen, seen_relevant = 0.0, 0, 0
        for d in range(bits.shape[1] + 1):
            n, r = int((distances == d).sum()), int((relevant & (distances == d)).sum())
            for t in range(1, n + 1):  # the item at place t of the tie is relevant with probability r / n
                before = (t - 1) * (r - 1) / (n - 1) if n > 1 else 0
                total += r / n * (seen_relevant + 1 + before) / (seen + t)
            seen, seen_relevant = seen + n, seen_relevant + r
        found.append(total / seen_relevant)
    return sum(found) / len(found)


# ITQ


@settings(deadline=None, max_examples=examples(20))
@given(n=st.integers(1, 40), n_bits=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_more_iterations_never_raise_the_distance_from_corners(n, n_bits, seed):
    values = normal(n, n_bits, seed)
    rotations = [itq_rotation(values, generator(seed), k) for k in (1, 2, 3, 10)]
    found = [distance(values, rotation) for rotation in rotations]
    assert all(map(orthogonal, rotations))
    for before, after in zip([distance(values, torch.eye(n_bits).double()), *found], found, strict=False):
        assert after <= before + 1e-9


def test_itq_is_the_better_of_two_starts():
    starts = set()
    for seed in range(8):
        values = normal(30, 4, seed)
        ends = []
        for rotation in (torch.eye(4, dtype=torch.float64), random_rotation(4, generator(seed))):
            for _ in range(50):
                rotation = next_rotation(values, rotation)
            ends.append(rotation)
        better = min((0, 1), key=lambda k: distance(values, ends[k]))
        starts.add(better)
        assert torch.equal(itq_rotation(values, generator(seed)), ends[better])
    assert starts == {0, 1}


def test_itq_turns_a_square_back():
    corners = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64).repeat(10, 1)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    values = corners @ turn
    assert distance(values, torch.eye(2).double()) > 5
    assert distance(values, itq_rotation(values, generator())) < 1e-20


# The search by mAP


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(15))
@given(n=st.integers(8, 40), n_bits=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_a_rotation_never_lowers_the_map_of_the_drawn_items(multihot, n, n_bits, seed):
    outputs, labels = clusters(n, n_bits, seed, multihot=multihot)
    rotation = map_rotation(outputs, labels, generator(seed), steps=15)
    drawn = torch.randperm(n, generator=generator(seed))
    outputs, labels = outputs[drawn], labels[drawn]
    before = mean_ap(outputs, labels, n // 2)
    after = mean_ap(outputs @ rotation.float(), labels, n // 2)
    assert orthogonal(rotation)
    assert after >= before - 1e-12
    assert after > before + 1e-12 or torch.equal(rotation, torch.eye(n_bits, dtype=torch.float64))


def test_a_rotation_parts_classes_within_one_quadrant():
    """Both classes have code 11: only a turn gives them different signs."""
    labels = torch.arange(40) % 2
    outputs = torch.tensor([[1.0, 0.1], [0.1, 1.0]])[labels] + 0.01 * normal(40, 2).float()
    assert (outputs > 0).all()
    rotation = map_rotation(outputs, labels, generator(), steps=100)
    codes = (outputs @ rotation.float() > 0).tolist()
    assert len({tuple(codes[i]) for i in range(0, 40, 2)} & {tuple(codes[i]) for i in range(1, 40, 2)}) == 0


def test_it_draws_from_its_generator_alone():
    outputs, labels = clusters(40, 4)
    torch.manual_seed(1)
    one = map_rotation(outputs, labels, generator(), steps=20)
    torch.manual_seed(2)
    assert torch.equal(one, map_rotation(outputs, labels, generator(), steps=20))
    assert not torch.equal(one, map_rotation(outputs, labels, generator(5), steps=20))
    identity = torch.eye(4, dtype=torch.float64)
    assert torch.equal(map_rotation(outputs, labels, generator(), steps=0), identity)


@pytest.fixture
def always_better(monkeypatch):
    """Every mAP is more than the one before; lists the shapes that were measured."""
    shapes = []

    def precision(queries, database, query_labels, database_labels):
        assert len(queries) == len(query_labels) and len(database) == len(database_labels)
        shapes.append((len(queries), len(database)))
        return torch.full((len(queries),), len(shapes) * 1e-6, dtype=torch.float64)

    monkeypatch.setattr(postprocessing.dshc_fast, "average_precision", precision)
    return shapes


def test_step_i_turns_a_random_plane_by_its_angle(always_better):
    n_bits, steps = 5, 4
    found = map_rotation(normal(8, n_bits), torch.zeros(8, dtype=torch.int64), generator(3), steps=steps)
    random, expected = generator(3), torch.eye(n_bits, dtype=torch.float64)
    torch.randperm(8, generator=random)
    for i in range(steps):
        one, two = torch.randn(n_bits, 2, dtype=torch.float64, generator=random).T
        one, two = one / one.norm(), two - two @ one / (one @ one) * one
        frame = torch.stack([one, two / two.norm()], 1)
        # The paper's Q^T G Q, with an orthogonal Q whose first rows span the plane and the others do not count.
        q = torch.linalg.qr(torch.cat([frame, normal(n_bits, 3, i)], 1))[0].T
        q[:2] = frame.T
        g, angle = torch.eye(n_bits, dtype=torch.float64), (steps - i) / steps
        g[0, 0] = g[1, 1] = math.cos(angle)
        g[0, 1], g[1, 0] = -math.sin(angle), math.sin(angle)
        turn = q.T @ g @ q
        assert turn.trace().item() == pytest.approx(n_bits - 2 + 2 * math.cos(angle))
        expected = expected @ turn
    assert torch.allclose(found, expected, atol=1e-12)


def test_planes_have_no_preferred_direction(always_better):
    """Of a turn by 1 radian in a random plane of 3: sin(1) times its axis is the skew part, and axes are isotropic."""
    items, labels = normal(2, 3), torch.zeros(2, dtype=torch.int64)
    turns = torch.stack([map_rotation(items, labels, generator(seed), steps=1) for seed in range(300)])
    skew = (turns - turns.mT) / 2 / math.sin(1)
    axes = torch.stack([skew[:, 0, 1], skew[:, 0, 2], skew[:, 1, 2]], 1)
    assert torch.allclose(axes.norm(dim=1), torch.ones(300, dtype=torch.float64))
    assert axes.mean(0).abs().max() < 0.12  # both directions of a plane alike
    assert (axes.square().mean(0) - 1 / 3).abs().max() < 0.06


@pytest.mark.parametrize(
    "n, sizes, expected",
    [
        (10, (2000, 16_000), (5, 5)),
        (7, (2000, 16_000), (3, 4)),
        (100, (10, 20), (10, 20)),
        (25, (10, 20), (10, 15)),
    ],
)
def test_queries_and_database_are_different_items(n, sizes, expected, always_better):
    outputs, labels = normal(n, 4), torch.zeros(n, dtype=torch.int64)
    map_rotation(outputs, labels, generator(), steps=1, n_queries=sizes[0], n_database=sizes[1])
    assert set(always_better) == {expected}


def test_there_is_no_search_where_nothing_can_be_better(always_better, monkeypatch):
    ids = torch.zeros(6, dtype=torch.int64)
    assert torch.equal(map_rotation(normal(1, 3), ids[:1], generator()), torch.eye(3, dtype=torch.float64))
    assert torch.equal(map_rotation(normal(6, 1), ids, generator()), torch.eye(1, dtype=torch.float64))
    assert not always_better
    for value in (1.0, math.nan):  # all is found, and nothing is there to be found
        calls = []

        def precision(queries, *_, value=value, calls=calls):
            calls.append(value)
            return torch.full((len(queries),), value, dtype=torch.float64)

        monkeypatch.setattr(postprocessing.dshc_fast, "average_precision", precision)
        assert torch.equal(map_rotation(normal(6, 3), ids, generator()), torch.eye(3, dtype=torch.float64))
        assert len(calls) == 1


def test_a_rotation_counts_as_codes_will_be_made(monkeypatch):
    """A turn of turned outputs and the product of both rotations round apart: the latter decides."""
    for values, taken in (((0.1, 0.5, 0.05), False), ((0.1, 0.05, 0.5), False), ((0.1, 0.5, 0.2), True)):
        left = list(values)
        monkeypatch.setattr(
            postprocessing.dshc_fast,
            "average_precision",
            lambda queries, *_, left=left: torch.full((len(queries),), left.pop(0), dtype=torch.float64),
        )
        found = map_rotation(normal(6, 3), torch.zeros(6, dtype=torch.int64), generator(), steps=1)
        assert torch.equal(found, torch.eye(3, dtype=torch.float64)) == (not taken)


# Thresholds


def test_thresholds_by_hand():
    columns = {
        (1.0, 2, 3, 4): 2.5,
        (1.0, 2, 4): 3.0,  # the middle one is 0
        (5.0, 1, 1, 1): 3.0,  # one 1 of four is nearer to half than none
        (0.0, 0, 0, 9, 9, 9): 4.5,
        (0.0, 0, 0, 0, 1, 2): 0.5,
        (0.0, 1, 1, 2): 1.5,  # one 1 or three: the fewer
        (3.0, 3, 3): 3.0,  # never more than that
        (7.0,): 7.0,
    }
    for values, expected in columns.items():
        assert calibrated_thresholds(torch.tensor(values)[:, None]).item() == expected, values
    both = torch.tensor([[1.0, -1], [2, -2], [3, -4], [4, -8]])
    assert calibrated_thresholds(both).tolist() == [2.5, -3]


def test_neighbouring_floats_are_parted():
    one = torch.tensor(1.0)
    values = torch.stack([one, torch.nextafter(one, one + 1)])[:, None]
    assert (values > calibrated_thresholds(values)).flatten().tolist() == [False, True]
    half = values.double()
    assert (half > calibrated_thresholds(half)).flatten().tolist() == [False, True]


@settings(deadline=None, max_examples=examples(60))
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12), st.randoms())
def test_no_threshold_balances_better(column, random):
    values = torch.tensor(column, dtype=torch.float32)[:, None]
    n_ones = int((values > calibrated_thresholds(values)).sum())
    possible = {sum(v > cut for v in column) for cut in [*column, min(column) - 1] if cut >= min(column)}
    best = min(abs(2 * k - len(column)) for k in possible)
    assert n_ones == min(k for k in possible if abs(2 * k - len(column)) == best)
    random.shuffle(column)
    again = torch.tensor(column, dtype=torch.float32)[:, None]
    assert calibrated_thresholds(again).item() == calibrated_thresholds(values).item()


@pytest.mark.parametrize("n", [50, 51])
def test_thresholds_balance_every_bit(n):
    values = normal(n, 6).float() + torch.tensor([5.0, -5, 0, 1, -1, 100])
    thresholds = calibrated_thresholds(values)
    assert thresholds.shape == (6,) and thresholds.dtype == torch.float32
    assert (values > thresholds).sum(0).tolist() == [n // 2] * 6


# Methods


def method_of(bits=4, **values):
    return DTSH(DTSH.Settings(bits=bits, **values), Spec(3, "ids", 5))


def bits_of(method, outputs):
    return dshc_fast.unpack_codes(method.encode(outputs), method.n_bits)


def test_thresholds_are_set():
    outputs, method = normal(40, 4).float() + 3, method_of()
    assert bits_of(method, outputs).float().mean() > 0.9
    postprocess(method, outputs, by="thresholds")
    assert bits_of(method, outputs).int().sum(0).tolist() == [20] * 4 and not method.rotation.numel()


def test_a_rotation_by_map_is_set():
    outputs, labels = clusters(60, 4)
    method = method_of()
    method.set_transform(thresholds=torch.ones(4))
    postprocess(method, outputs, labels, by="map", generator=generator())
    expected = map_rotation(outputs, labels, generator()).float()
    assert torch.equal(method.rotation, expected) and not method.thresholds.numel()
    assert torch.equal(bits_of(method, outputs).bool(), outputs @ expected > 0)


def test_itq_is_set_with_the_mean():
    outputs, method = normal(50, 4).float() + 2, method_of()
    postprocess(method, outputs, by="itq", generator=generator())
    assert torch.allclose(method.thresholds, outputs.mean(0))
    centered = outputs - outputs.mean(0)
    found = distance(centered, method.rotation.double())
    assert found == pytest.approx(distance(centered, itq_rotation(centered, generator())), rel=1e-4)
    assert torch.equal(bits_of(method, outputs).bool(), (outputs - method.thresholds) @ method.rotation > 0)


def test_thresholds_balance_the_bits_behind_a_rotation():
    outputs, labels = clusters(60, 4)
    method = method_of()
    postprocess(method, outputs + 1, labels, by="map", generator=generator())
    rotation = method.rotation.clone()
    for _ in range(2):  # again: from the outputs, not from what was shifted
        postprocess(method, outputs + 1, by="thresholds")
        assert torch.equal(method.rotation, rotation)
        assert bits_of(method, outputs + 1).int().sum(0).tolist() == [30] * 4


def test_what_was_found_is_in_the_state():
    outputs, labels = clusters(60, 4)
    method = method_of()
    postprocess(method, outputs, by="itq", generator=generator())
    state = method.state_dict()
    loaded = DTSH.build(method.settings, method.spec, saved=state)
    loaded.load_state_dict(state)
    assert torch.equal(loaded.encode(outputs), method.encode(outputs))


def test_nested_lengths_take_thresholds_and_no_rotation():
    outputs, labels = clusters(60, 4)
    method = method_of(lengths="2")
    postprocess(method, outputs, by="thresholds")
    short = method.shortened(2)
    assert torch.equal(bits_of(short, outputs[:, :2]), bits_of(method, outputs)[:, :2])
    with pytest.raises(ValueError, match=r"a rotation must be of codes of one length, got lengths \(2, 4\)"):
        postprocess(method, outputs, labels, by="map", generator=generator())


def test_refusals():
    outputs, labels = clusters(12, 4)
    method = method_of()
    with pytest.raises(ValueError, match="by must be one of itq, map, thresholds, got 'pca'"):
        postprocess(method, outputs, by="pca")
    with pytest.raises(ValueError, match="outputs must have 4 columns, as many as bits, got 3"):
        postprocess(method, outputs[:, :3], by="thresholds")
    with pytest.raises(ValueError, match="labels must be given for by='map', got None"):
        postprocess(method, outputs, by="map", generator=generator())
    for by in ("map", "itq"):
        with pytest.raises(ValueError, match=f"generator must be given for by='{by}', got None"):
            postprocess(method, outputs, labels, by=by)
    spec = Spec(3, "ids", 5)
    with pytest.raises(TypeError, match="method must be one whose code is the sign of its outputs, got dshc"):
        postprocess(methods.get("dshc").build(methods.get("dshc").Settings(), spec), outputs, by="thresholds")
    for find in (
        calibrated_thresholds,
        lambda o: itq_rotation(o, generator()),
        lambda o: map_rotation(o, torch.zeros(len(o), dtype=torch.int64), generator()),
        lambda o: postprocess(method, o, by="thresholds"),
    ):
        with pytest.raises(ValueError, match=r"outputs must have shape \(n, L\), .* got \(4,\)"):
            find(outputs[0])
        with pytest.raises(ValueError, match=r"at least one item and bit, got \(0, 4\)"):
            find(outputs[:0])
        for value in (math.nan, math.inf):
            spoiled = outputs.clone()
            spoiled[3, 1] = value
            with pytest.raises(ValueError, match="outputs must be finite, got NaN or infinity"):
                find(spoiled)
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        itq_rotation(outputs, generator(), 0)
    with pytest.raises(ValueError, match=r"labels must have shape \(12,\) or \(12, C\), got \(11,\)"):
        map_rotation(outputs, labels[:11], generator())
    for name, value in (("steps", -1), ("n_queries", 0), ("n_database", 0)):
        with pytest.raises(ValueError, match=f"{name} must be at least .*, got {value}"):
            map_rotation(outputs, labels, generator(), **{name: value})
