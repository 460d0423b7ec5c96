"""SDSH against a triple loop on the sphere: its three losses, gradients, ends, the rotation, lengths, processes."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from threads_as_processes import in_processes

import dshc
import dshc_fast
from dshc.errors import InputError
from dshc.methods import Pass, Spec, Step
from dshc.methods.dtsh import DTSHLoss
from dshc.methods.postprocessing import map_rotation
from dshc.methods.sdsh import SDSH, SDSHLoss

LOSSES = ("spring", "likelihood", "margin")


def share(a, b):
    return bool((a * b).any()) if np.ndim(a) else bool(a == b)


def naive(outputs, labels, loss, margin=None):
    """By squared distances on the sphere, as the paper has it."""
    h = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    b, n_bits = h.shape
    costs = []
    for q in range(b):
        for p in range(b):
            for n in range(b):
                if p == q or not share(labels[q], labels[p]) or share(labels[q], labels[n]):
                    continue
                delta = ((h[q] - h[p]) ** 2).sum() - ((h[q] - h[n]) ** 2).sum()
                if loss == "spring":
                    costs.append((2 * math.sqrt(2) - math.sqrt(max(4 - delta, 0))) ** 2)
                elif loss == "likelihood":
                    ahead = (h[q] @ h[p] - h[q] @ h[n]) / 2 - (0.5 if margin is None else margin)
                    costs.append(math.log1p(math.exp(-n_bits * ahead)) / n_bits)
                else:
                    costs.append(max(delta + (2 if margin is None else margin), 0))
    return sum(costs) / max(len(costs), 1)


def batch(b, n_bits, seed, multihot):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, (b, 4)) if multihot else random.integers(0, 3, b)
    return torch.from_numpy(random.normal(size=(b, n_bits)) * 3), torch.from_numpy(labels)


def method_of(bits=4, kind="ids", **values):
    return SDSH(SDSH.Settings(bits=bits, **values), Spec(3, kind, 5))


def step_of(labels, **values):
    return Step(labels=labels, items=torch.arange(len(labels)), **values)


def of_gap(loss, cosine_positive, cosine_negative):
    """The loss of query 0 alone: three items in a plane, of which item 0 shares a label with item 1.

    Item 1 shares one with item 2 as well, and so is a query without negatives; item 2 is one with item 0 as negative.
    """
    angles = torch.tensor([0.0, math.acos(cosine_positive), -math.acos(cosine_negative)], dtype=torch.float64)
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    labels = torch.tensor([[1, 0], [1, 1], [0, 1]])
    both = loss(rows, labels).item()
    gap_of_2 = float(rows[2] @ rows[1] - rows[2] @ rows[0])
    return 2 * both - float(loss._of_gaps(2)(torch.tensor(gap_of_2, dtype=torch.float64))[0])


def test_the_spring_is_loose_at_one_end_and_tight_at_the_other():
    """A positive at the query and a negative at its antipode cost 0; the other way round they cost 8."""
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [-0.5, 0.0]])
    good = SDSHLoss()(rows, torch.tensor([0, 0, 1]))
    assert good.item() == pytest.approx(0, abs=1e-12)
    bad = SDSHLoss()(
        torch.tensor([[1.0, 0], [-2.0, 0.0], [0.5, 0.0]]), torch.tensor([[1, 0], [1, 1], [0, 1]])
    )
    # Query 0 is at the tight end; query 2 has item 1 as positive at its antipode and item 0 where it is: tight too.
    assert bad.item() == pytest.approx(8, abs=1e-6)
    # Both at a right angle, or at the same place: delta is 0.
    assert of_gap(SDSHLoss(), 0.0, 0.0) == pytest.approx((2 * math.sqrt(2) - 2) ** 2)


@pytest.mark.parametrize("cosines", [(1.0, -1.0), (0.9, 0.2), (0.0, 0.0), (-0.5, 0.7), (-1.0, 1.0)])
def test_the_spring_is_twice_that_of_the_poster(cosines):
    d = cosines[1] - cosines[0]  # delta / 2
    poster = (2 - math.sqrt(2 - d)) ** 2
    assert of_gap(SDSHLoss(), *cosines) == pytest.approx(2 * poster, abs=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(30))
@given(
    b=st.integers(1, 8),
    n_bits=st.integers(2, 9),
    seed=st.integers(0, 10**6),
    margin=st.sampled_from([None, 0.0, 1.0]),
)
def test_the_loss_is_the_triple_loops(loss, multihot, b, n_bits, seed, margin):
    outputs, labels = batch(b, n_bits, seed, multihot)
    margin = None if loss == "spring" else margin
    expected = naive(outputs.numpy(), labels.numpy(), loss, margin)
    value = SDSHLoss(loss, margin)(outputs, labels)
    assert value.shape == () and value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert SDSHLoss(loss, margin)(7 * outputs, labels).item() == pytest.approx(
        value.item(), rel=1e-9, abs=1e-12
    )


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("multihot", [False, True])
def test_gradients(loss, multihot):
    outputs, labels = batch(7, 4, 5, multihot)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda u: SDSHLoss(loss)(u, labels), outputs)


def test_the_likelihood_is_that_of_dtsh_on_a_sphere():
    outputs, labels = batch(8, 6, 1, False)
    on_sphere = math.sqrt(6) * torch.nn.functional.normalize(outputs)
    dtsh = DTSHLoss(eta=0.0)(on_sphere, labels).item()  # its margin of L / 2 is 0.5 here
    assert SDSHLoss("likelihood")(outputs, labels).item() == pytest.approx(dtsh / 6, rel=1e-10)


@pytest.mark.parametrize("loss", ["spring", "margin"])
def test_two_antipodal_classes_are_a_minimum(loss):
    outputs = torch.tensor([[3.0, 4.0], [0.6, 0.8], [-6.0, -8.0], [-3.0, -4.0]], requires_grad=True)
    value = SDSHLoss(loss)(outputs, torch.tensor([0, 0, 1, 1]))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-10) and outputs.grad.abs().max() < 1e-6


def test_the_margin_ends_where_the_spring_goes_on():
    """Positives at the query, negatives at a right angle: delta is -2."""
    labels = torch.tensor([0, 0, 1])
    for loss, pulls in (("margin", False), ("spring", True)):
        rows = torch.tensor([[1.0, 0], [1.0, 0], [-0.01, 1.0]], requires_grad=True)
        SDSHLoss(loss)(rows, labels).backward()
        assert bool(rows.grad.abs().max() > 1e-2) == pulls


def test_one_hot_labels_are_class_ids():
    outputs, labels = batch(9, 4, 3, False)
    hot = torch.nn.functional.one_hot(labels, 3)
    for loss in LOSSES:
        assert SDSHLoss(loss)(outputs, labels).item() == SDSHLoss(loss)(outputs, hot).item()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("size", [1e4, 1e-4, 0.0])
def test_extreme_outputs_stay_finite(loss, size):
    """Positives at antipodes and negatives at the query too, where the spring's slope has no bound."""
    rows = size * torch.tensor([[1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [0.0, 0.0]])
    rows.requires_grad_()
    value = SDSHLoss(loss)(rows, torch.tensor([0, 0, 1, 1]))
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(rows.grad).all()


def test_a_tight_spring_pulls_no_harder_than_others():
    """Close to the antipode the slope grows as fast as what it multiplies falls."""
    labels = torch.tensor([[1, 0], [1, 1], [0, 1]])
    sizes = []
    for angle in (0.5, 0.05, 0.005):
        rows = torch.tensor([[1.0, 0], [-math.cos(angle), math.sin(angle)], [1.0, 0]], dtype=torch.float64)
        rows.requires_grad_()
        SDSHLoss()(rows, labels).backward()
        sizes.append(rows.grad[1].norm().item())
    assert max(sizes) < 2 * min(sizes) and min(sizes) > 0.1


@pytest.mark.parametrize("loss", LOSSES)
def test_half_precision_is_computed_in_single(loss):
    outputs, labels = batch(8, 16, 3, True)
    half = outputs.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = SDSHLoss(loss)(half, labels)
    value.backward()
    assert value.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    assert value.item() == SDSHLoss(loss)(half.detach().float(), labels).item()


@pytest.mark.parametrize("loss", LOSSES)
def test_several_processes_have_the_loss_and_gradient_of_one(loss):
    outputs, labels = batch(8, 4, 1, True)
    items = torch.tensor([3, 0, 1, 7, 5, 3, 6, 2])
    method = method_of(kind="multi-hot", loss=loss)
    whole = outputs.clone().requires_grad_()
    one = method.loss(whole, Step(labels=labels, items=items))
    one.backward()

    def work(rank, gather):
        own = slice(4 * rank, 4 * rank + 4)
        part = outputs[own].clone().requires_grad_()
        value = method.loss(part, Step(labels=labels[own], items=items[own], gather=gather, own=own))
        value.backward()
        return value.item(), part.grad

    values, gradients = zip(*in_processes(2, work), strict=True)
    assert sum(values) / 2 == pytest.approx(one.item(), rel=1e-12)
    assert torch.allclose(torch.cat(gradients) / 2, whole.grad, rtol=1e-10)


def test_lengths_are_added_up_each_on_its_own_sphere():
    outputs, labels = batch(8, 6, 4, False)
    method = method_of(6, lengths="3")
    each = [SDSHLoss()(outputs[:, :bits], labels).item() for bits in (3, 6)]
    assert method.loss(outputs, step_of(labels)).item() == pytest.approx(sum(each), rel=1e-10)
    method.finish(a_pass(outputs.float(), labels))
    assert not method.rotation.numel()  # a rotation would mix the bits of both
    short, features = method.shortened(3), torch.randn(4, 5)
    assert torch.allclose(short.head(features), method.head(features)[:, :3], atol=1e-6)
    assert short.loss(outputs[:, :3], step_of(labels)).item() == each[0]


# The rotation


def a_pass(outputs, labels, seed=0, stage="train"):
    return Pass(lambda: outputs, lambda: outputs, labels, torch.Generator().manual_seed(seed), stage=stage)


def clusters(n=60, n_bits=4, seed=0):
    """Classes about random directions: signs of the outputs part them badly."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    values = random.normal(size=(3, n_bits))[labels] + 0.3 * random.normal(size=(n, n_bits))
    return torch.from_numpy(values).float(), torch.from_numpy(labels)


def test_finish_finds_a_rotation_and_leaves_the_rest():
    outputs, labels = clusters()
    method = method_of(rotation_steps=40)
    weights = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    before = method.loss(outputs, step_of(labels)).item()
    method.finish(a_pass(outputs, labels))
    expected = map_rotation(outputs, labels, torch.Generator().manual_seed(0), steps=40)
    assert torch.equal(method.rotation, expected.float()) and not torch.equal(expected, torch.eye(4).double())
    assert torch.equal(method.encode(outputs), dshc_fast.pack_codes(outputs @ method.rotation))
    assert all(torch.equal(tensor, method.state_dict()[name]) for name, tensor in weights.items())
    assert method.loss(outputs, step_of(labels)).item() == before
    # Anew from the weights as they are, not from what was there.
    again = method.rotation.clone()
    method.finish(a_pass(outputs, labels))
    assert torch.equal(method.rotation, again)
    loaded = method_of(rotation_steps=40)
    loaded.load_state_dict(method.state_dict())
    assert torch.equal(loaded.encode(outputs), method.encode(outputs))
    whole = method.shortened(4)
    assert torch.equal(whole.encode(outputs), method.encode(outputs))


def test_without_steps_nothing_is_looked_at():
    def never():
        raise AssertionError

    method = method_of(rotation_steps=0)
    method.finish(Pass(never, never, torch.zeros(3), torch.Generator()))
    assert not method.rotation.numel()


def test_only_the_last_epochs_are_rotated():
    outputs, labels = clusters()
    method = method_of(rotation_steps=20, rotation_epochs=2)
    assert [(s.name, s.epochs) for s in method.stages(7)] == [("train", 5), ("rotate", 2)]
    assert [(s.name, s.epochs) for s in method.stages(2)] == [("rotate", 2)]
    assert [(s.name, s.epochs) for s in method_of().stages(7)] == [("train", 7)]
    assert len(method_of(rotation_steps=0, rotation_epochs=2).stages(7)) == 1
    method.finish(a_pass(outputs, labels, stage="rotate"))
    assert method.rotation.shape == (4, 4)
    method.finish(a_pass(outputs, labels, stage="train"))
    assert not method.rotation.numel()


def test_a_training_saves_the_rotation_of_its_last_weights(tmp_path):
    features, labels = clusters(90, 6)
    np.savez(tmp_path / "items.npz", features=features.numpy(), labels=labels.numpy())
    values = {
        "backbone": "identity",
        "width": None,
        "epochs": 3,
        "batch_size": 30,
        "device": "cpu",
        "threads": 1,
    }
    values |= {"method.rotation_steps": 30, "method.rotation_epochs": 1, "validation": 0.2, "bits": 4}
    told = []
    run = dshc.train(
        str(tmp_path / "items.npz"),
        method="sdsh",
        out=str(tmp_path / "run"),
        on_event=lambda event, row: told.append(row) if event == "epoch" else None,
        **values,
    )
    last = dshc.Hasher.load(run.folder / "last.safetensors", device="cpu")
    rotation = last.method.rotation
    assert torch.allclose(rotation @ rotation.T, torch.eye(4), atol=1e-5)
    assert len(told) == 3 and all(row["validation_map"] is not None for row in told)


def test_codes_and_what_it_states():
    method = method_of(None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert method_of(3).encode(torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])).tolist() == [[2], [5]]
    assert SDSH.label_kinds == ("ids", "multi-hot") and SDSH.quality is None and SDSH.main_weight is None
    chosen = SDSH.Settings()
    assert (chosen.loss, chosen.margin, chosen.rotation_steps, chosen.rotation_epochs) == (
        "spring",
        None,
        800,
        None,
    )
    assert [SDSHLoss(loss).margin for loss in LOSSES] == [None, 0.5, 2.0]
    assert method_of(loss="margin", margin=1.0).triplet_loss.margin == 1


def test_refusals():
    with pytest.raises(ValueError, match="loss must be one of spring, likelihood, margin, got 'hinge'"):
        SDSHLoss("hinge")
    with pytest.raises(
        ValueError, match="margin must be left out with loss 'spring', which has none, got 0.5"
    ):
        SDSHLoss(margin=0.5)
    with pytest.raises(ValueError, match="margin must be left out with loss 'spring'"):
        method_of(margin=0.5)
    for margin in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="margin must be at least 0 and finite"):
            SDSHLoss("margin", margin)
    for name, value, rule in (
        ("loss", "hinge", "one of spring, likelihood, margin"),
        ("margin", -1.0, "at least 0"),
        ("rotation_steps", -1, "at least 0"),
        ("rotation_epochs", 0, "at least 1"),
    ):
        with pytest.raises(InputError, match=f"{name} must be {rule}"):
            SDSH.Settings(**{name: value})
    with pytest.raises(ValueError, match=r"outputs must have shape \(b, L\), got \(3,\)"):
        SDSHLoss()(torch.zeros(3), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no labels"
    ):
        SDSH(SDSH.Settings(), Spec(0, "none", 5))
