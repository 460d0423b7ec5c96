"""DPSH against a double loop over pairs: values, gradients, the bank, codes and refusals."""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from known_pairs import pairs_of

from dshc.errors import InputError
from dshc.methods import Spec, Step, Training
from dshc.methods.dpsh import DPSH, DPSHLoss
from dshc.methods.similarity import similar


def shares(a, b):
    """Whether two items share a class (numbers) or a label (rows of 0 and 1)."""
    return bool((a * b).any()) if np.ndim(a) else a == b


def naive(outputs, labels, bank, bank_labels, eta):
    total = 0.0
    for u, a in zip(outputs, labels, strict=True):
        for v, b in zip(bank, bank_labels, strict=True):
            theta = float(u @ v) / 2
            total += math.log1p(math.exp(-abs(theta))) + max(theta, 0) - shares(a, b) * theta
        total += eta * sum((x - (1 if x > 0 else -1)) ** 2 for x in u)
    return total / (len(outputs) * len(bank))


def pairs(b, n, n_bits, seed, multihot):
    """Outputs, labels, bank and labels of the bank, float64, outputs away from 0 where signs jump."""
    random = np.random.default_rng(seed)
    outputs, bank = random.normal(size=(b, n_bits)), random.normal(size=(n, n_bits))
    outputs += 0.1 * np.where(outputs > 0, 1, -1)
    size = (lambda n: (n, 4)) if multihot else (lambda n: n)
    high = 2 if multihot else 3
    arrays = (outputs, random.integers(0, high, size(b)), bank, random.integers(0, high, size(n)))
    return tuple(map(torch.from_numpy, arrays))


def method_of(n_items=4, bits=2, labels=None, kind="ids", **values):
    method = DPSH(DPSH.Settings(bits=bits, **values), Spec(3, kind, 5))
    if labels is not None:
        method.begin(Training(n_items, labels, torch.Generator(), torch.device("cpu")))
    return method


def test_two_pairs_by_hand():
    outputs, bank = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 1.0], [-2.0, 0.0]])
    # theta is 1/2 and -2; the first is of the class. Distance of (2, -1) from (1, -1): 1.
    expected = (math.log(1 + math.exp(0.5)) - 0.5 + math.log(1 + math.exp(-2)) + 3 * 1) / 2
    loss = DPSHLoss(3.0)(outputs, torch.tensor([1]), bank, torch.tensor([1, 0]))
    assert loss.shape == () and loss.item() == pytest.approx(expected, rel=1e-6)


def test_labels_that_are_shared():
    ids = similar(torch.tensor([0, 2]), torch.tensor([2, 0, 1]))
    assert ids.tolist() == [[False, True, False], [True, False, False]]
    rows = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0]], dtype=torch.uint8)
    assert similar(rows, rows).tolist() == [[True, False, False], [False, False, False], [False, False, True]]


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 5),
    n=st.integers(1, 9),
    n_bits=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    eta=st.sampled_from([0.0, 0.5, 10.0]),
)
def test_the_loss_is_the_double_loops(multihot, b, n, n_bits, seed, eta):
    given_ = pairs(b, n, n_bits, seed, multihot)
    expected = naive(*(t.numpy() for t in given_), eta)
    assert DPSHLoss(eta)(*given_).item() == pytest.approx(expected, rel=1e-10, abs=1e-13)
    outputs, labels, bank, bank_labels = given_
    single = DPSHLoss(eta)(outputs.float(), labels, bank.float(), bank_labels)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("multihot", [False, True])
@pytest.mark.parametrize("chunk", [1 << 21, 7])
def test_gradients(multihot, chunk, monkeypatch):
    monkeypatch.setattr("dshc.methods.dpsh._CHUNK", chunk)
    outputs, labels, bank, bank_labels = pairs(3, 8, 4, 5, multihot)
    outputs.requires_grad_()
    for loss in (DPSHLoss(0.0), DPSHLoss(10.0)):
        assert torch.autograd.gradcheck(lambda u, loss=loss: loss(u, labels, bank, bank_labels), outputs)
    # The factor that comes from above counts too.
    (3 * DPSHLoss()(outputs, labels, bank, bank_labels)).backward()
    three, outputs.grad = outputs.grad, None
    DPSHLoss()(outputs, labels, bank, bank_labels).backward()
    assert torch.allclose(three, 3 * outputs.grad)


def test_the_gradient_is_the_papers_and_stops_at_the_bank():
    outputs, labels, bank, bank_labels = pairs(2, 6, 3, 1, False)
    outputs.requires_grad_()
    bank.requires_grad_()
    DPSHLoss(10.0)(outputs, labels, bank, bank_labels).backward()
    assert bank.grad is None
    u, v = outputs.detach().numpy(), bank.detach().numpy()
    for i in range(2):
        likelihood = sum(
            0.5 * (1 / (1 + math.exp(-u[i] @ v[j] / 2)) - float(labels[i] == bank_labels[j])) * v[j]
            for j in range(6)
        )
        expected = (likelihood + 2 * 10 * (u[i] - np.sign(u[i]))) / (2 * 6)
        assert np.allclose(outputs.grad[i], expected)


def test_chunks_do_not_change_the_loss(monkeypatch):
    given_ = pairs(3, 11, 4, 2, True)
    whole = DPSHLoss()(*given_)
    for chunk in (1, 6, 10):
        monkeypatch.setattr("dshc.methods.dpsh._CHUNK", chunk)
        assert DPSHLoss()(*given_).item() == pytest.approx(whole.item(), rel=1e-12)


# Pairs instead of labels


def known_of(labels, bank_labels, share, seed=0):
    """What pairs say of these labels: int8 (b, n), some of them not known."""
    known = 2 * similar(labels, bank_labels).to(torch.int8) - 1
    return known * torch.from_numpy(np.random.default_rng(seed).random(known.shape) < share)


@pytest.mark.parametrize("chunk", [1 << 21, 7])
def test_all_pairs_are_as_good_as_labels(chunk, monkeypatch):
    monkeypatch.setattr("dshc.methods.dpsh._CHUNK", chunk)
    outputs, labels, bank, bank_labels = pairs(4, 9, 5, 3, False)
    found = []
    for loss in (lambda u: DPSHLoss()(u, labels, bank, bank_labels),
                 lambda u: DPSHLoss().of_pairs(u, known_of(labels, bank_labels, 1.0), bank)):  # fmt: skip
        leaf = outputs.clone().requires_grad_()
        value = loss(leaf)
        found.append((value.item(), torch.autograd.grad(value, leaf)[0]))
    assert found[0][0] == found[1][0] and torch.equal(found[0][1], found[1][1])


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 20))
def test_the_mean_is_over_known_pairs(seed, share, eta):
    outputs, labels, bank, bank_labels = pairs(3, 7, 4, seed, True)
    known = known_of(labels, bank_labels, share, seed)
    terms = []
    for i, j in known.nonzero().tolist():
        theta = float(outputs[i] @ bank[j]) / 2
        terms.append(math.log1p(math.exp(-abs(theta))) + max(theta, 0) - (known[i, j] > 0).item() * theta)
    distance = (torch.where(outputs > 0, 1, -1) - outputs).square().sum().item()
    expected = (sum(terms) / len(terms) if terms else 0) + eta * distance / (3 * 7)
    assert DPSHLoss(eta).of_pairs(outputs, known, bank).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_gradients_of_known_pairs():
    outputs, labels, bank, bank_labels = pairs(3, 8, 4, 5, False)
    known = known_of(labels, bank_labels, 0.5)
    outputs.requires_grad_()
    assert torch.autograd.gradcheck(lambda u: DPSHLoss(2.0).of_pairs(u, known, bank), outputs)


def test_a_training_on_pairs_parts_the_classes_it_is_not_told_of():
    torch.manual_seed(0)
    labels = np.arange(48) % 3
    method = DPSH(DPSH.Settings(bits=8), Spec(0, "pairs", 5))
    known = pairs_of(labels, known=0.5)
    method.begin(Training(48, None, torch.Generator(), torch.device("cpu"), known))
    features = torch.from_numpy(np.eye(3, 5)[labels]).float() + 0.1 * torch.randn(48, 5)
    optimizer = torch.optim.SGD(method.parameters(), lr=1.0)
    order = torch.Generator().manual_seed(0)
    for _ in range(200):
        items = torch.randperm(48, generator=order)[:16]
        loss = method.loss(method.head(features[items]), Step(labels=None, items=items))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    codes = method.encode(method.head(features).detach())
    assert all(len(codes[labels == c].unique(dim=0)) == 1 for c in range(3)) and len(codes.unique(dim=0)) == 3


def test_pairs_of_another_shape_are_refused():
    rows = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"known must have shape \(2, 5\), got \(5, 2\)"):
        DPSHLoss().of_pairs(rows, torch.zeros(5, 2, dtype=torch.int8), torch.zeros(5, 3))
    method = DPSH(DPSH.Settings(bits=8), Spec(0, "pairs", 5))
    method.begin(Training(4, None, torch.Generator(), torch.device("cpu"), pairs_of(np.arange(4) % 2)))
    with pytest.raises(ValueError, match="dpsh must have labels of its items to be asked for, got pairs"):
        _ = method._bank.labels


@pytest.mark.parametrize("same", [True, False])
def test_all_similar_all_dissimilar_and_one_pair(same):
    outputs = torch.tensor([[3.0, 3.0]], requires_grad=True)
    loss = DPSHLoss(0.0)(
        outputs, torch.tensor([0]), torch.tensor([[3.0, 3.0]]), torch.tensor([0 if same else 1])
    )
    assert loss.item() == pytest.approx(math.log1p(math.exp(-9)) + (0 if same else 9), rel=1e-5)
    loss.backward()
    assert (outputs.grad < 0).all() if same else (outputs.grad > 0).all()


def test_large_outputs_stay_finite():
    outputs = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    loss = DPSHLoss()(outputs, torch.tensor([0, 1]), outputs.detach(), torch.tensor([1, 0]))
    loss.backward()
    assert torch.isfinite(loss) and torch.isfinite(outputs.grad).all()


def test_half_precision_is_computed_in_single():
    outputs, labels, bank, bank_labels = pairs(4, 6, 8, 3, False)
    half = outputs.bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = DPSHLoss()(half, labels, bank.float(), bank_labels)
    loss.backward()
    assert loss.dtype == torch.float32 and half.grad.dtype == torch.bfloat16
    assert loss.item() == pytest.approx(
        DPSHLoss()(half.detach().float(), labels, bank.float(), bank_labels).item()
    )


def test_the_bank_is_written_before_the_loss():
    labels = torch.tensor([0, 1, 0, 2])
    method = method_of(labels=labels)
    assert torch.equal(method.training_state()["bank"], torch.zeros(4, 2))
    first = torch.tensor([[1.0, 2.0], [-1.0, 0.5]], requires_grad=True)
    items = torch.tensor([2, 0])
    loss = method.loss(first, Step(labels=labels[items], items=items))
    bank = torch.tensor([[-1.0, 0.5], [0, 0], [1, 2], [0, 0]])
    assert torch.equal(method.training_state()["bank"], bank)
    expected = naive(first.detach().numpy(), [0, 0], bank.numpy(), labels.numpy(), 10.0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    loss.backward()
    assert first.grad is not None and not method.training_state()["bank"].requires_grad
    second = torch.tensor([[3.0, -3.0]])
    method.loss(second, Step(labels=labels[3:], items=torch.tensor([3])))
    bank[3] = second
    assert torch.equal(method.training_state()["bank"], bank)


def test_of_an_item_twice_in_a_batch_the_last_row_is_kept():
    method = method_of(labels=torch.tensor([0, 1, 0, 2]))
    rows = torch.tensor([[1.0, 1], [2, 2], [3, 3], [4, 4]])
    items = torch.tensor([1, 3, 1, 1])
    method.loss(rows, Step(labels=torch.tensor([1, 2, 1, 1]), items=items))
    assert method.training_state()["bank"].tolist() == [[0, 0], [4, 4], [0, 0], [2, 2]]


def test_several_processes_share_one_bank():
    labels = torch.tensor([0, 1, 0, 2])
    rows = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    items = torch.tensor([3, 1, 0, 2])
    one = method_of(labels=labels).loss(rows, Step(labels=labels[items], items=items))
    losses = []
    for mine in (slice(0, 2), slice(2, 4)):
        everyones = {torch.float32: rows, torch.int64: items}
        step = Step(labels=labels[items[mine]], items=items[mine], gather=lambda t, e=everyones: e[t.dtype])
        method = method_of(labels=labels)
        losses.append(method.loss(rows[mine], step))
        assert torch.equal(method.training_state()["bank"][items], rows)
    assert torch.stack(losses).mean().item() == pytest.approx(one.item(), rel=1e-6)


def test_a_training_goes_on_with_the_same_losses():
    labels = torch.eye(3, dtype=torch.uint8)[torch.tensor([0, 1, 0, 2])]
    rows = torch.randn(2, 2, generator=torch.Generator().manual_seed(0))
    method = method_of(labels=labels, kind="multi-hot")
    method.loss(rows, Step(labels=labels[:2], items=torch.arange(2)))
    state = {name: value.clone() for name, value in method.training_state().items()}
    resumed = method_of(labels=labels, kind="multi-hot")
    resumed.load_training_state(state)
    step = Step(labels=labels[2:], items=torch.tensor([2, 3]))
    assert torch.equal(method.loss(-rows, step), resumed.loss(-rows, step))
    assert not torch.equal(state["bank"], resumed.training_state()["bank"])  # a copy was taken
    assert sorted(method.state_dict()) == ["head.bias", "head.weight"]


def test_several_lengths_are_a_sum_against_the_first_columns_of_the_bank():
    labels = torch.tensor([0, 1, 0, 2])
    rows = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    method = method_of(bits=8, labels=labels, lengths="2,5")
    loss = method.loss(rows, Step(labels=labels, items=torch.arange(4)))
    parts = {
        n: naive(rows[:, :n].numpy(), labels.numpy(), rows[:, :n].numpy(), labels.numpy(), 10.0)
        for n in (2, 5, 8)
    }
    assert loss.item() == pytest.approx(sum(parts.values()), rel=1e-6)
    assert list(method.training_state()) == ["bank"]
    for n, part in parts.items():
        short = method.shortened(n)
        assert torch.equal(short.head.weight, method.head.weight[:n]) and short.training_state() == {}
        short.begin(Training(4, labels, torch.Generator(), torch.device("cpu")))
        alone = short.loss(rows[:, :n], Step(labels=labels, items=torch.arange(4)))
        assert alone.item() == pytest.approx(part, rel=1e-6)


def test_some_steps_lower_the_loss_and_part_the_classes():
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(10)
    features = torch.eye(3)[labels] @ torch.randn(3, 5) + 0.1 * torch.randn(30, 5)
    method = method_of(30, 8, labels, eta=0.06)  # a share of the items as 10 is of 5,000
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(200):
        loss = method.loss(method.head(features), Step(labels=labels, items=torch.arange(30)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
    outputs = method.head(features).detach()
    bits = np.unpackbits(method.encode(outputs).numpy(), axis=1).astype(int)
    distances = torch.from_numpy((bits[:, None] != bits).sum(2))
    alike = similar(labels, labels)
    assert distances[alike].max() < distances[~alike].min()


def test_codes_and_what_it_states():
    method = method_of(bits=None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert DPSH(DPSH.Settings(bits=3), Spec(3, "multi-hot", 5)).encode(
        torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])
    ).tolist() == [[2], [5]]
    assert DPSH.label_kinds == ("ids", "multi-hot", "pairs") and DPSH.quality is None
    assert DPSH.Settings().eta == DPSHLoss().eta == 10 and DPSH.main_weight == "eta"
    assert method.predict(torch.zeros(1, 32)) is None
    for n_features, deviation in (
        (4096, 0.01),
        (1024, 0.02),
    ):  # the paper's, and its scale for fewer features
        head = DPSH(DPSH.Settings(bits=64), Spec(3, "ids", n_features)).head
        assert head.weight.std().item() == pytest.approx(deviation, rel=0.05) and not head.bias.any()


def test_refusals():
    loss, rows, ids = DPSHLoss(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"shapes \(b, L\) and \(n, L\), got \(2, 3\) and \(2, 4\)"):
        loss(rows, ids, torch.zeros(2, 4), ids)
    with pytest.raises(
        ValueError, match=r"labels .* must have shapes \(2,\) and \(2,\).*, got \(2,\) and \(2, 3\)"
    ):
        loss(rows, ids, rows, torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"got \(1,\) and \(2,\)"):
        loss(rows, ids[:1], rows, ids)
    with pytest.raises(ValueError, match="at least one pair, got 2 outputs and a bank of 0"):
        loss(rows, ids, rows[:0], ids[:0])
    for eta in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="eta must be at least 0 and finite"):
            DPSHLoss(eta)
    with pytest.raises(InputError, match="eta must be at least 0"):
        DPSH.Settings(eta=-1.0)
    method = method_of()
    step = Step(labels=ids, items=torch.arange(2))
    with pytest.raises(ValueError, match="dpsh must know its training items; call begin first"):
        method.loss(torch.zeros(2, 2), step)
    with pytest.raises(ValueError, match="call begin first"):
        method.load_training_state({})
    assert method.training_state() == {}
    with pytest.raises(ValueError, match="dpsh must be given labels of the training items, got none"):
        method.begin(Training(4, None, torch.Generator(), torch.device("cpu")))
    with pytest.raises(
        ValueError,
        match="must be given one class per item or several labels per item or pairs of similar items, got no labels",
    ):
        DPSH(DPSH.Settings(), Spec(0, "none", 5))
    method = method_of(labels=torch.tensor([0, 1, 0, 2]))
    with pytest.raises(ValueError, match="the training state of dpsh must be bank, got nothing"):
        method.load_training_state({})
    with pytest.raises(ValueError, match=r"bank must have shape \(4, 2\), got \(5, 2\)"):
        method.load_training_state({"bank": torch.zeros(5, 2)})


def test_known_pairs_are_counted_over_all_processes():
    """The mean over two processes of value and gradient is that of one, however the known pairs are spread."""
    outputs, labels, bank, bank_labels = pairs(6, 9, 4, 3, False)
    known = known_of(labels, bank_labels, 0.6, 1)
    known[:3, 1:] = 0
    counts = known.count_nonzero(1)
    whole = outputs.clone().requires_grad_()
    value = DPSHLoss().of_pairs(whole, known, bank)
    value.backward()
    parts = []
    for rows in (slice(0, 3), slice(3, 6)):
        leaf = outputs[rows].clone().requires_grad_()
        loss = DPSHLoss().of_pairs(leaf, known[rows], bank, lambda _: counts)
        loss.backward()
        parts.append((loss.item(), leaf.grad / 2))
    assert value.item() == pytest.approx(sum(loss for loss, _ in parts) / 2, rel=1e-12)
    torch.testing.assert_close(whole.grad, torch.cat([gradient for _, gradient in parts]))
