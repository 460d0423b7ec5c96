"""Centers of classes: where they come from, targets of items, and the base of the methods that are drawn to them."""

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from threads_as_processes import in_processes
from torch import nn

from dshc.errors import InputError
from dshc.methods import Spec, centers
from dshc.methods.centers import (
    CenterMethod,
    CenterSettings,
    check_batch,
    class_centers,
    cosines,
    label_shares,
    labelled_mean,
    target_codes,
)
from dshc.methods.csq import CSQ
from dshc.methods.orthohash import OrthoHash
from dshc.settings import choices

KINDS = choices(CenterSettings.model_fields["centers"])


class Nearest(CenterMethod):
    """The least that a method needs: no loss of its own."""

    name = "nearest"
    title = source = "a test"
    Settings = CenterSettings

    def __init__(self, settings, spec, centers=None):
        super().__init__(settings, spec, centers)
        self.head = nn.Linear(spec.n_features, self.n_bits)

    def code_loss(self, outputs, step):
        targets = target_codes(step.labels, self.centers[:, : outputs.shape[1]])
        return (outputs - targets).square().mean()


def nearest(bits=16, names=("a", "b", "c"), kind="ids", seed=0, earlier=None, saved=None, **values):
    spec = Spec(len(names), kind, 5, names, seed)
    values = {"name": "nearest", "bits": bits, **values}
    return Nearest.build(CenterSettings(**values), spec, earlier=earlier, saved=saved)


def distances(words):
    words = words.long()
    apart = (words.shape[1] - words @ words.T) // 2
    return apart[~torch.eye(len(words), dtype=torch.bool)]


# Where they come from


@pytest.mark.parametrize("kind", KINDS)
def test_centers_of_every_kind_are_signs_and_differ(kind):
    words = class_centers(kind, 6, (12,), seed=4)
    assert words.dtype == torch.int8 and words.shape == (6, 12) and (words.abs() == 1).all()
    assert distances(words).min() >= 1
    assert torch.equal(words, class_centers(kind, 6, (12,), seed=4))


def test_separated_centers_are_the_furthest_at_each_length():
    least = {
        kind: int(distances(class_centers(kind, 10, (16,))).min())
        for kind in ("separated", "hadamard", "random", "rejected")
    }
    assert least["separated"] == 8 == max(least.values()) and least["random"] < 8
    words = class_centers("separated", 10, (16, 32, 64))
    assert [int(distances(words[:, :length]).min()) for length in (16, 32, 64)] == [8, 17, 35]


def test_first_bits_that_are_equal_are_refused():
    message = "centers must differ in their first 16 bits, got equal ones of classes 0 and 16 with centers = 'hadamard'"
    with pytest.raises(ValueError, match=message):
        class_centers("hadamard", 20, (16, 32))
    class_centers("hadamard", 20, (32,))
    with pytest.raises(
        ValueError, match="bits must leave a center for each of 5 classes: 2 bits have 4 codes"
    ):
        class_centers("random", 5, (2, 8))
    with pytest.raises(InputError, match="centers must be one of separated, cpbc, .*, got 'sperated'"):
        CenterSettings(name="nearest", centers="sperated")


# Targets


def test_targets_by_hand():
    words = torch.tensor([[1, 1, 1, -1], [1, -1, 1, 1], [-1, -1, 1, 1]], dtype=torch.int8)
    ties = torch.tensor([-1, -1, -1, 1], dtype=torch.int8)
    assert target_codes(torch.tensor([2, 0]), words).tolist() == [[-1, -1, 1, 1], [1, 1, 1, -1]]
    hot = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.uint8)
    assert target_codes(hot, words, ties).tolist() == [
        [1, 1, 1, -1],
        [1, -1, 1, 1],  # 2, 0, 2, 0: the second and the last are tied
        [1, -1, 1, 1],
        [-1, -1, -1, 1],
    ]
    assert (
        target_codes(hot, words)[1].tolist() == [1, 1, 1, 1] and target_codes(hot, words).dtype == torch.int8
    )


def test_the_mean_leaves_out_items_without_labels():
    losses = torch.tensor([1.0, 10.0, 4.0], requires_grad=True)
    assert labelled_mean(losses, torch.tensor([0, 1, 1])).item() == 5
    hot = torch.tensor([[0, 2], [0, 0], [1, 1]])
    mean = labelled_mean(losses, hot)
    mean.backward()
    assert mean.item() == 2.5 and losses.grad.tolist() == [0.5, 0, 0.5]
    assert labelled_mean(losses, torch.zeros(3, 2, dtype=torch.uint8)).item() == 0
    assert labelled_mean(losses[:0], hot[:0]).item() == labelled_mean(losses[:0], hot[:0, 0]).item() == 0
    # What is left out may be anything.
    assert (
        labelled_mean(
            torch.tensor([1.0, torch.nan, torch.inf]), torch.eye(3)[[0, 1, 2]] * torch.tensor([1, 0, 0])
        )
        == 1
    )


@settings(deadline=None, max_examples=examples(25))
@given(st.integers(0, 10**6))
def test_labelled_rows_count_once_however_processes_share_them(seed):
    random = np.random.default_rng(seed)
    losses = torch.from_numpy(random.normal(size=6))
    hot = torch.from_numpy(random.integers(0, 2, (6, 2)) * random.integers(0, 2, (6, 1)))
    parts = [slice(0, 2), slice(2, 4), slice(4, 6)]
    own = in_processes(3, lambda rank, gather: labelled_mean(losses[parts[rank]], hot[parts[rank]], gather))
    assert torch.stack(own).mean().item() == pytest.approx(labelled_mean(losses, hot).item(), abs=1e-12)


def test_shares_of_labels():
    assert label_shares(torch.tensor([1, 0]), 3, torch.float64).tolist() == [[0, 1, 0], [1, 0, 0]]
    hot = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.uint8)
    assert label_shares(hot, 3, torch.float32).tolist() == [[0.5, 0, 0.5], [0, 0, 0], [0, 1, 0]]


def test_cosines_and_rows_without_a_direction():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-7, 0.0], [-2e4, 0.0]], requires_grad=True)
    found = cosines(rows, torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
    root = 2**-0.5
    assert torch.allclose(found, torch.tensor([[1.4 * root, -0.2 * root], [0, 0], [0, 0], [-root, -root]]))
    found.sum().backward()
    assert rows.grad.isfinite().all() and not rows.grad[1:3].any() and rows.grad[0].any()
    away = torch.randn(
        4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True
    )
    assert torch.autograd.gradcheck(cosines, (away, torch.eye(3, dtype=torch.float64)))


def test_shapes_that_do_not_fit():
    outputs, words = torch.zeros(2, 4), torch.ones(3, 4)
    for labels in (torch.zeros(2, dtype=torch.int64), torch.zeros(2, 3)):
        check_batch(outputs, labels, words)
    with pytest.raises(
        ValueError, match=r"must have shapes \(b, L\) and \(C, L\), got \(2, 4\) and \(3, 5\)"
    ):
        check_batch(outputs, torch.zeros(2), torch.ones(3, 5))
    with pytest.raises(ValueError, match=r"labels must have shape \(2,\) or \(2, 3\), got \(2, 4\)"):
        check_batch(outputs, torch.zeros(2, 4), words)


# The method


def test_the_nearest_center_is_predicted_and_saved():
    method = nearest()
    assert torch.equal(method.predict(3.5 * method.centers), torch.arange(3))
    near = method.centers.bfloat16()
    near[:, :3] *= -1  # 8 apart: three bits of another sign leave the center the nearest
    assert torch.equal(method.predict(near), torch.arange(3))
    assert method.quality == "accuracy" and method.label_kinds == ("ids", "multi-hot")
    assert method.tally(torch.tensor([0, 1]), torch.tensor([0, 2])).tolist() == [1, 2]
    assert sorted(method.state_dict()) == ["centers", "head.bias", "head.weight"]
    several = nearest(kind="multi-hot")
    assert several.quality is None and several.predict(torch.zeros(1, 16)) is None


def test_saved_centers_are_read_and_not_made(monkeypatch):
    method = nearest(lengths="8", bits=12)
    monkeypatch.setattr(centers, "class_centers", lambda *a, **k: pytest.fail("centers were made again"))
    again = nearest(lengths="8", bits=12, saved=method.state_dict())
    again.load_state_dict(method.state_dict())
    assert torch.equal(again.centers, method.centers) and again.centers.dtype == torch.int8
    assert (
        method.centers.is_contiguous()
    )  # else products differ from those of a resumed training in the last bits
    short = method.shortened(8)
    assert short.lengths == (8,) and torch.equal(short.centers, method.centers[:, :8])
    features = torch.randn(6, 5)
    assert torch.allclose(short.head(features), method.head(features)[:, :8])
    assert torch.equal(short.ties, method.ties[:8])
    with pytest.raises(ValueError, match="weights must hold the centers of classes, 'centers' is missing"):
        nearest(saved={})
    with pytest.raises(ValueError, match=r"centers must have shape \(3, 16\), got \(2, 16\)"):
        nearest(saved={"centers": method.centers[:2].repeat(1, 2)[:, :16]})


def test_ties_are_coins_of_the_seed():
    words = [nearest(64, seed=seed).ties for seed in (0, 0, 1)]
    assert torch.equal(words[0], words[1]) and not torch.equal(words[0], words[2])
    assert (words[0].abs() == 1).all() and 16 < (words[0] > 0).sum() < 48
    # They are no center: a tie would always fall to that class.
    assert not (nearest(64, centers="random").centers == words[0]).all(1).any()


def test_a_seed_makes_other_centers():
    one, two = nearest(centers="random", seed=0), nearest(centers="random", seed=1)
    assert not torch.equal(one.centers, two.centers)


def test_known_classes_keep_their_centers():
    old = nearest(names=("b", "a"))
    new = nearest(names=("a", "b", "c"), earlier=old)
    assert torch.equal(new.centers[[1, 0]], old.centers)
    assert distances(new.centers).min() >= 4
    assert new.known_outputs(old) == (list(range(16)),) * 2
    # Nothing in common: other lengths, unknown classes, another method, centers that were made anew.
    fresh = nearest(names=("a", "b", "c"))
    for other in (nearest(names=("b", "a"), bits=20), nearest(names=("x", "a")), None):
        assert torch.equal(nearest(names=("a", "b", "c"), earlier=other).centers, fresh.centers)
    cpbc = nearest(names=("b", "a"), centers="cpbc")
    assert torch.equal(nearest(names=("a", "b", "c"), earlier=cpbc).centers, fresh.centers)
    kept = nearest(names=("a", "b", "c"), centers="cpbc", earlier=cpbc)
    assert torch.equal(kept.centers[[1, 0]], cpbc.centers)
    assert new.known_outputs(nearest(names=("b", "a"), bits=20)) == ([], [])
    assert new.known_outputs(nearest(names=("x", "a"))) == ([], [])
    assert fresh.known_outputs(nearest(names=("a", "b", "c"), seed=1, centers="random")) == ([], [])
    csq = CSQ.build(CSQ.Settings(bits=16), Spec(2, "ids", 5, ("b", "a")))
    assert torch.equal(nearest(names=("a", "b", "c"), earlier=csq).centers, fresh.centers)


def test_known_classes_keep_the_head():
    spec = Spec(2, "ids", 5, ("b", "a"))
    old = OrthoHash.build(OrthoHash.Settings(bits=8), spec)
    old.head(torch.randn(20, 5))
    more = Spec(3, "ids", 5, ("a", "b", "c"))
    new = OrthoHash.build(OrthoHash.Settings(bits=8), more, earlier=old)
    for name, tensor in old.head.state_dict().items():
        assert torch.equal(new.head.state_dict()[name], tensor), name
    assert torch.equal(new.centers[[1, 0]], old.centers)
    wider = OrthoHash.build(OrthoHash.Settings(bits=8), Spec(3, "ids", 6, ("a", "b", "c")), earlier=old)
    assert wider.head[1].num_batches_tracked == 0
    fresh = OrthoHash.build(OrthoHash.Settings(bits=12), more, earlier=old)
    assert fresh.head[1].num_batches_tracked == 0


def test_first_bits_of_an_earlier_method_stay_a_code():
    old = nearest(16, names=("b", "a"), lengths="8")
    same = nearest(16, names=("a", "b"), lengths="8", earlier=old)
    assert torch.equal(same.centers[[1, 0]], old.centers)
    more = nearest(16, names=("a", "b", "c"), lengths="8", earlier=old)
    assert torch.equal(more.centers, nearest(16, names=("a", "b", "c"), lengths="8").centers)
    assert torch.equal(
        nearest(16, names=("a", "b"), earlier=old).centers, nearest(16, names=("a", "b")).centers
    )
