"""MDSH against loops over classes and pairs: values, gradients, the bank, several labels, lengths, processes."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from method_cases import assert_half_is_computed_in_single, near_axes, step_of, train
from threads_as_processes import in_processes

from dshc import methods
from dshc.errors import InputError
from dshc.methods import Spec, Training
from dshc.methods.mdsh import MDSH, MDSHLoss, class_likelihood, pair_mean

CPU = torch.device("cpu")


def cosine(a, b):
    return a @ b / math.sqrt((a @ a) * (b @ b))


def naive(outputs, labels, words, bank, bank_labels, pair_weight=1.0, eta=1e-4):
    """The three terms of the paper, for labels as rows of 0 and 1."""
    h = np.tanh(outputs)
    n_bits, n_classes = words.shape[1], len(words)
    centers, distances = [], []
    for row, hot in zip(h, labels, strict=True):
        if not hot.any():
            continue
        logits = [math.sqrt(n_bits) * cosine(row, c) for c in words]
        p = np.exp(logits) / np.exp(logits).sum()
        centers.append(sum(s * math.log(q) + (1 - s) * math.log(1 - q) for s, q in zip(hot, p, strict=True)))
        distances.append(((abs(row) - 1) ** 2).mean())
    loss = (-sum(centers) / n_classes + eta * sum(distances)) / max(len(centers), 1)
    if bank is None:
        return loss
    pairs = [
        math.log1p(math.exp((1 - cosine(row, other)) / 2))
        for row, hot in zip(h, labels, strict=True)
        for other, also in zip(bank, bank_labels, strict=True)
        if other.any() and (hot & also).any()
    ]
    return loss + pair_weight * sum(pairs) / max(len(pairs), 1)


def batch(b, n_bits, seed, multihot, n_classes=4, n=7):
    """Outputs, labels, centers, a bank with a row that was not seen, and its labels."""
    random = np.random.default_rng(seed)

    def some(n):
        return random.integers(0, 2, (n, n_classes)) if multihot else random.integers(0, n_classes, n)

    words = random.choice((-1, 1), (n_classes, n_bits)).astype(np.int8)
    bank = np.tanh(random.normal(size=(n, n_bits)))
    bank[1] = 0
    arrays = random.normal(size=(b, n_bits)), some(b), words, bank, some(n)
    return tuple(map(torch.from_numpy, arrays))


def as_rows(labels, n_classes=4):
    return labels.numpy() if labels.ndim == 2 else np.eye(n_classes, dtype=np.int64)[labels.numpy()]


def method_of(bits=8, kind="ids", labels=None, **values):
    torch.manual_seed(0)
    method = MDSH(MDSH.Settings(bits=bits, **values), Spec(4, kind, 5))
    if labels is not None:
        method.begin(Training(len(labels), labels, torch.Generator(), CPU))
    return method


def test_one_item_by_hand():
    outputs = torch.tensor([[math.atanh(0.6), math.atanh(0.8)]], dtype=torch.float64)
    words, bank = torch.tensor([[1, 1], [1, -1]]), torch.tensor([[0.8, 0.6], [-0.6, 0.8], [0, 0]])
    # sqrt(2) times the cosines 1.4 / sqrt(2) and -0.2 / sqrt(2).
    p = 1 / (1 + math.exp(-1.6))
    centers = -(math.log(p) + math.log(1 - (1 - p))) / 2
    distance = (0.4**2 + 0.2**2) / 2
    # The cosines of (.6, .8) with (.8, .6) and (-.6, .8) are .96 and .28; only the first is of the class.
    pair = math.log(1 + math.exp(0.02))
    labels = torch.tensor([0])
    alone = MDSHLoss(3.0, 0.1)(outputs, labels, words)
    assert alone.shape == () and alone.item() == pytest.approx(centers + 0.1 * distance, rel=1e-10)
    loss = MDSHLoss(3.0, 0.1)(outputs, labels, words, bank=bank, bank_labels=torch.tensor([0, 1, 0]))
    assert loss.item() == pytest.approx(centers + 0.1 * distance + 3 * pair, rel=1e-6)


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(30))
@given(
    b=st.integers(1, 5),
    n_bits=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    weights=st.sampled_from([(1.0, 1e-4), (0.0, 2.0), (5.0, 0.0)]),
)
def test_the_loss_is_the_loops(multihot, b, n_bits, seed, weights):
    outputs, labels, words, bank, bank_labels = batch(b, n_bits, seed, multihot)
    loss = MDSHLoss(*weights)
    for rows in (bank, None):
        of_rows = None if rows is None else bank_labels
        expected = naive(
            outputs.numpy(),
            as_rows(labels),
            words.numpy().astype(float),
            None if rows is None else rows.numpy(),
            as_rows(bank_labels),
            *weights,
        )
        found = loss(outputs, labels, words, bank=rows, bank_labels=of_rows)
        assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        single = loss(outputs.float(), labels, words, bank=rows, bank_labels=of_rows)
        assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("chunk", [1 << 21, 6])
@pytest.mark.parametrize("multihot", [False, True])
def test_gradients(multihot, chunk, monkeypatch):
    monkeypatch.setattr("dshc.methods.mdsh._CHUNK", chunk)
    outputs, labels, words, bank, bank_labels = batch(3, 5, 3, multihot)
    outputs.requires_grad_()
    for rows in (bank, None):
        of_rows = None if rows is None else bank_labels

        def loss(u, rows=rows, of_rows=of_rows):
            return MDSHLoss(2.0, 0.3)(u, labels, words, bank=rows, bank_labels=of_rows)

        assert torch.autograd.gradcheck(loss, outputs)
    # The factor that comes from above counts too, and the bank has none.
    bank.requires_grad_()
    h = torch.tanh(outputs)
    (3 * pair_mean(h, labels, bank, bank_labels)).backward(retain_graph=True)
    three, outputs.grad = outputs.grad, None
    pair_mean(h, labels, bank, bank_labels).backward()
    assert torch.allclose(three, 3 * outputs.grad) and bank.grad is None and three.any()


def test_chunks_do_not_change_the_mean(monkeypatch):
    outputs, labels, _, bank, bank_labels = batch(3, 5, 3, True, n=11)
    whole = pair_mean(outputs, labels, bank, bank_labels).item()
    for chunk in (1, 6, 10):
        monkeypatch.setattr("dshc.methods.mdsh._CHUNK", chunk)
        assert pair_mean(outputs, labels, bank, bank_labels).item() == pytest.approx(whole, rel=1e-12)


@settings(deadline=None, max_examples=examples(20))
@given(st.integers(0, 10**6))
def test_order_of_items_bits_and_classes_does_not_count(seed):
    outputs, labels, words, bank, bank_labels = batch(5, 7, seed, True)
    loss = MDSHLoss()(outputs, labels, words, bank=bank, bank_labels=bank_labels).item()
    random = torch.Generator().manual_seed(seed)
    items, bits = torch.randperm(5, generator=random), torch.randperm(7, generator=random)
    rows, classes = torch.randperm(7, generator=random), torch.randperm(4, generator=random)
    moved = MDSHLoss()(
        outputs[items][:, bits],
        labels[items][:, classes],
        words[classes][:, bits],
        bank=bank[rows][:, bits],
        bank_labels=bank_labels[rows][:, classes],
    )
    assert moved.item() == pytest.approx(loss, rel=1e-10)


def test_one_label_of_several_is_one_class():
    outputs, labels, words, bank, bank_labels = batch(6, 8, 1, False)
    eye = torch.eye(4, dtype=torch.uint8)
    ids = MDSHLoss()(outputs, labels, words, bank=bank, bank_labels=bank_labels)
    assert ids == MDSHLoss()(outputs, eye[labels], words, bank=bank, bank_labels=eye[bank_labels])


def test_items_without_labels_are_left_out():
    outputs, labels, words, bank, bank_labels = batch(5, 6, 2, True)
    labels[:, 0], bank_labels[:, 0] = 1, 1
    labels[3] = 0
    kept = [0, 1, 2, 4]
    outputs.requires_grad_()
    loss = MDSHLoss()(outputs, labels, words, bank=bank, bank_labels=bank_labels)
    loss.backward()
    expected = MDSHLoss()(outputs[kept], labels[kept], words, bank=bank, bank_labels=bank_labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    assert not outputs.grad[3].any() and outputs.grad[kept].any(1).all()
    none = torch.zeros_like(labels)
    assert MDSHLoss()(outputs, none, words, bank=bank, bank_labels=bank_labels).item() == 0


def test_the_likelihood_of_classes_is_exact_at_certainty():
    logits = torch.tensor([[40.0, 0.0, -3.0], [0.0, 0.0, 0.0]], requires_grad=True)
    wrong = class_likelihood(logits, torch.tensor([[False, True, False], [True, False, False]]))
    # log(1 - p) of the first class is -40 and a little: the naive form has log 0 there.
    first = (math.log(1 + math.exp(-3)) - 40 - 40 + math.log1p(-math.exp(-43))) / 3
    second = (math.log(1 / 3) + 2 * math.log(2 / 3)) / 3
    assert torch.allclose(wrong, torch.tensor([first, second]), rtol=1e-5)
    wrong.sum().backward()
    assert logits.grad.isfinite().all() and logits.grad[0, 0] < -0.6
    right = class_likelihood(logits, torch.tensor([[True, False, False]] * 2))
    assert right[0].item() == pytest.approx(0, abs=1e-12)
    single = torch.zeros(1, 1, requires_grad=True)
    class_likelihood(single, torch.tensor([[True]])).sum().backward()
    assert class_likelihood(single, torch.tensor([[True]])).item() == 0 and single.grad.item() == 0


def test_extreme_outputs_stay_finite():
    outputs = torch.tensor([[1e4, -1e4], [0.0, 0.0], [1e4, 1e4]], requires_grad=True)
    bank = torch.tensor([[1.0, 1], [-1, 1], [0, 0]])
    loss = MDSHLoss()(
        outputs,
        torch.tensor([0, 1, 1]),
        torch.tensor([[1, 1], [1, -1]]),
        bank=bank,
        bank_labels=torch.tensor([0, 1, 1]),
    )
    loss.backward()
    assert loss.isfinite() and outputs.grad.isfinite().all()
    nothing = MDSHLoss()(
        outputs,
        torch.tensor([0, 0, 0]),
        torch.tensor([[1, 1], [1, -1]]),
        bank=torch.zeros(2, 2),
        bank_labels=torch.tensor([0, 0]),
    )
    assert nothing.isfinite()


def test_half_precision_is_computed_in_single():
    outputs, labels, words, bank, bank_labels = batch(4, 8, 3, True)
    known = {"bank": bank.float(), "bank_labels": bank_labels}
    assert_half_is_computed_in_single(lambda rows: MDSHLoss()(rows, labels, words, **known), outputs)


# The bank


def test_the_bank_is_written_first_and_counts_later():
    labels = torch.tensor([0, 1, 0, 2])
    method = method_of(4, labels=labels, pairs_after=1)
    first = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    items = torch.tensor([2, 0])
    loss = method.loss(first, step_of(labels[items], items, epoch=0))
    words = method.centers
    assert loss.item() == pytest.approx(MDSHLoss()(first, labels[items], words).item(), rel=1e-6)
    bank = torch.zeros(4, 4)
    bank[items] = torch.tanh(first)
    assert torch.equal(method.training_state()["bank"], bank)
    loss = method.loss(-first, step_of(labels[items], items, epoch=1))
    bank[items] = torch.tanh(-first)
    expected = MDSHLoss()(-first, labels[items], words, bank=bank, bank_labels=labels)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert expected.item() > MDSHLoss()(-first, labels[items], words).item() + 0.6  # log 2 at least


def test_averaged_outputs_are_kept_where_there_are_some():
    labels = torch.tensor([0, 1])
    method = method_of(4, labels=labels)
    outputs, averaged = torch.full((2, 4), 0.3), torch.full((2, 4), -0.5)
    method.loss(outputs, step_of(labels, averaged_outputs=lambda: averaged))
    assert torch.equal(method.training_state()["bank"], torch.tanh(averaged))


def test_a_training_goes_on_with_the_same_losses():
    labels = torch.eye(4, dtype=torch.uint8)
    rows = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    method = method_of(kind="multi-hot", labels=labels)
    method.loss(rows, step_of(labels[:2]))
    state = {name: value.clone() for name, value in method.training_state().items()}
    resumed = method_of(kind="multi-hot", labels=labels)
    resumed.load_training_state(state)
    step = step_of(labels[1:3], torch.tensor([1, 2]), epoch=3)
    assert torch.equal(method.loss(-rows, step), resumed.loss(-rows, step))
    assert "bank" not in method.state_dict() and "centers" in method.state_dict()


@pytest.mark.parametrize("kind", ["ids", "multi-hot"])
def test_several_lengths_are_added_up(kind):
    outputs, labels, _, _, _ = batch(5, 12, 0, kind == "multi-hot")
    method = method_of(12, kind, labels, lengths="4,8")
    total = method.loss(outputs, step_of(labels, epoch=1)).item()
    bank = method.training_state()["bank"]
    parts = [
        MDSHLoss()(outputs[:, :n], labels, method.centers[:, :n], bank=bank[:, :n], bank_labels=labels).item()
        for n in (4, 8, 12)
    ]
    assert total == pytest.approx(sum(parts), rel=1e-6)
    features = torch.randn(9, 5)
    method.eval()
    short = method.shortened(8)
    assert torch.allclose(short.head(features), method.head(features)[:, :8]) and short.lengths == (8,)


@pytest.mark.parametrize("multihot", [False, True])
def test_processes_have_the_loss_and_gradient_of_one(multihot):
    outputs, labels, _, _, _ = batch(8, 8, 1, multihot)
    if multihot:
        labels[5:7] = 0
    kind = "multi-hot" if multihot else "ids"
    items = torch.tensor([3, 0, 7, 1, 2, 5, 4, 6])
    by_item = labels[items.argsort()]
    whole = outputs.clone().requires_grad_()
    one = method_of(kind=kind, labels=by_item).loss(whole, step_of(labels, items, epoch=1))
    one.backward()
    parts = outputs.clone().requires_grad_()
    copies = [method_of(kind=kind, labels=by_item) for _ in range(2)]

    def work(rank, gather):
        mine = slice(4 * rank, 4 * rank + 4)
        step = step_of(labels[mine], items[mine], epoch=1, gather=gather, own=mine)
        return copies[rank].loss(parts[mine], step)

    mean = torch.stack(in_processes(2, work)).mean()
    mean.backward()
    assert mean.item() == pytest.approx(one.item(), rel=1e-6)
    assert torch.allclose(parts.grad, whole.grad, atol=1e-7)
    assert torch.equal(copies[0].training_state()["bank"], copies[1].training_state()["bank"])


def test_some_steps_end_near_the_centers():
    torch.manual_seed(0)
    features, labels = near_axes()
    method = method_of(8, labels=labels)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.05)
    train(method, features, labels, optimizer, 60, lambda epoch: {"epoch": epoch})
    outputs = method.head(features).detach()
    assert torch.equal(method.predict(outputs), labels)
    assert torch.equal(method.relaxed(outputs), torch.tanh(outputs))


def test_what_it_states():
    values, loss = MDSH.Settings(), MDSHLoss()
    assert (values.pair_weight, values.eta, values.pairs_after) == (1, 1e-4, 1)
    assert (loss.pair_weight, loss.eta) == (1, 1e-4)
    assert MDSH.main_weight == "pair_weight" and methods.get("mdsh") is MDSH
    method = method_of(pair_weight=0.5, eta=0.1)
    assert (method.center_loss.pair_weight, method.center_loss.eta) == (0.5, 0.1)


def test_refusals():
    outputs, labels, words, bank, bank_labels = batch(2, 3, 0, False)
    for values in ((-1.0, 0.0), (0.0, math.inf), (math.nan, 0.0)):
        with pytest.raises(ValueError, match="(pair_weight|eta) must be at least 0 and finite, got"):
            MDSHLoss(*values)
    with pytest.raises(InputError, match="pair_weight must be at least 0, got -1.0"):
        MDSH.Settings(pair_weight=-1.0)
    with pytest.raises(ValueError, match=r"bank must have shape \(n, 3\), got \(7, 2\)"):
        MDSHLoss()(outputs, labels, words, bank=bank[:, :2], bank_labels=bank_labels)
    with pytest.raises(ValueError, match=r"bank_labels must have shape \(7,\), got none"):
        MDSHLoss()(outputs, labels, words, bank=bank)
    with pytest.raises(ValueError, match=r"bank_labels must have shape \(7,\), got \(6,\)"):
        MDSHLoss()(outputs, labels, words, bank=bank, bank_labels=bank_labels[1:])
    with pytest.raises(ValueError, match="mdsh must know its training items; call begin first"):
        method_of().loss(torch.zeros(2, 8), step_of(labels))
    with pytest.raises(ValueError, match="mdsh must be given labels of the training items, got none"):
        method_of().begin(Training(2, None, torch.Generator(), CPU))
    assert method_of().training_state() == {}
