"""DSDH against a double loop over pairs: values, gradients, bank and codes, lengths, refusals; its discrete step is in
test_dsdh_codes.py.
"""

import math

import numpy as np
import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc.errors import InputError
from dshc.methods import Pass, Spec, Step, Training
from dshc.methods.dsdh import DSDH, DSDHLoss, discrete_codes, ridge_weights


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def shares(a, b):
    """Whether two items share a class (numbers) or a label (rows of 0 and 1)."""
    return bool((a * b).any()) if np.ndim(a) else a == b


def problem(n, n_bits, seed, multihot):
    """Codes int8, outputs float64 and labels of four classes."""
    random = np.random.default_rng(seed)
    codes = torch.from_numpy(random.choice([-1, 1], (n, n_bits)).astype(np.int8))
    labels = random.integers(0, 2, (n, 4)).astype(np.uint8) if multihot else random.integers(0, 4, n)
    return codes, torch.from_numpy(random.normal(size=(n, n_bits))), torch.from_numpy(labels)


def method_of(n_items=4, bits=2, labels=None, kind="ids", seed=0, **values):
    method = DSDH(DSDH.Settings(bits=bits, **values), Spec(4, kind, 5))
    if labels is not None:
        method.begin(Training(n_items, labels, generator(seed), torch.device("cpu")))
    return method


def a_pass(labels):
    """What a discrete step is given; it asks for no pass over the items."""
    return Pass(lambda: pytest.fail("features"), lambda: pytest.fail("outputs"), labels, generator())


# The loss


def naive(outputs, labels, codes, bank, bank_labels, eta):
    total = 0.0
    for u, a, code in zip(outputs, labels, codes, strict=True):
        for v, b in zip(bank, bank_labels, strict=True):
            theta = float(u @ v) / 2
            total += 2 * (math.log1p(math.exp(-abs(theta))) + max(theta, 0) - shares(a, b) * theta)
        total += eta * float(((u - code) ** 2).sum())
    return total / (len(outputs) * len(bank))


@pytest.mark.parametrize("multihot", [False, True])
@settings(deadline=None, max_examples=examples(40))
@given(
    b=st.integers(1, 5),
    n=st.integers(1, 9),
    n_bits=st.integers(1, 9),
    seed=st.integers(0, 10**6),
    eta=st.sampled_from([0.0, 0.5, 55.0]),
)
def test_the_loss_is_the_double_loops(multihot, b, n, n_bits, seed, eta):
    codes, outputs, labels = problem(b, n_bits, seed, multihot)
    _, bank, bank_labels = problem(n, n_bits, seed + 1, multihot)
    expected = naive(*(t.numpy() for t in (outputs, labels, codes, bank, bank_labels)), eta)
    found = DSDHLoss(eta)(outputs, labels, codes, bank, bank_labels)
    assert found.item() == pytest.approx(expected, rel=1e-10, abs=1e-13)
    single = DSDHLoss(eta)(outputs.float(), labels, codes, bank.float(), bank_labels)
    assert single.dtype == torch.float32 and single.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("multihot", [False, True])
def test_gradients(multihot):
    codes, outputs, labels = problem(3, 4, 5, multihot)
    _, bank, bank_labels = problem(8, 4, 6, multihot)
    outputs.requires_grad_()
    for loss in (DSDHLoss(0.0), DSDHLoss(55.0)):
        assert torch.autograd.gradcheck(
            lambda u, loss=loss: loss(u, labels, codes, bank, bank_labels), outputs
        )


def test_the_gradient_is_that_of_the_papers_sum_over_all_pairs():
    """With every item in the batch: both orders of a pair count, though the bank is constant."""
    codes, outputs, labels = problem(7, 4, 5, False)
    outputs.requires_grad_()
    theta = outputs @ outputs.T / 2
    alike = (labels[:, None] == labels).double()
    everything = (torch.nn.functional.softplus(theta) - alike * theta).sum()
    everything = everything + 55 * (codes - outputs).square().sum()
    (expected,) = torch.autograd.grad(everything, outputs)
    loss = DSDHLoss(55.0)(outputs, labels, codes, outputs, labels)
    (found,) = torch.autograd.grad(loss, outputs)
    assert torch.allclose(found * 7 * 7, expected)


def test_large_outputs_and_half_precision():
    codes = torch.tensor([[1, -1], [1, 1]], dtype=torch.int8)
    labels = torch.tensor([0, 1])
    for value in (0.0, 1e4):
        outputs = (value * torch.tensor([[1.0, -1], [-1, 1]])).requires_grad_()
        loss = DSDHLoss()(outputs, labels, codes, outputs.detach(), labels.flip(0))
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(outputs.grad).all()
    half = torch.randn(2, 2, generator=generator()).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = DSDHLoss()(half, labels, codes, torch.ones(3, 2), torch.tensor([0, 1, 1]))
    loss.backward()
    again = DSDHLoss()(half.detach().float(), labels, codes, torch.ones(3, 2), torch.tensor([0, 1, 1]))
    assert loss.dtype == torch.float32 and half.grad.dtype == torch.bfloat16 and loss.item() == again.item()


# The method


def test_a_discrete_step_before_every_epoch():
    labels = torch.tensor([0, 1, 0, 3, 2, 2])
    of = {"mu": 0.2, "nu": 3.0, "eta": 0.03}
    method = method_of(6, 5, labels, **of)
    start = method.training_state()["codes_5"].clone()
    assert start.dtype == torch.int8 and start.shape == (6, 5)
    rows = torch.randn(6, 5, generator=generator(1))
    for items in (torch.tensor([3, 1, 4]), torch.tensor([0, 5, 2])):
        method.loss(rows[items], Step(labels=labels[items], items=items))
    assert torch.equal(method.training_state()["codes_5"], start)
    method.begin_epoch(a_pass(labels))

    def step(ratio, mu, eta):
        weights = ridge_weights(start, labels, 4, ratio=ratio)
        return discrete_codes(start, rows, labels, weights, mu=mu, eta=eta)

    expected = step(3.0 / 0.2, 0.2, 0.03)
    assert torch.equal(method.training_state()["codes_5"], expected)
    # Each of them counts here.
    for other in (start, step(3.0 * 0.2, 0.2, 0.03), step(15.0, 1.0, 0.03), step(15.0, 0.2, 0.3)):
        assert not torch.equal(other, expected)


def test_the_loss_takes_the_codes_and_the_bank_of_the_items():
    labels = torch.tensor([0, 1, 0, 2])
    method = method_of(4, 3, labels)
    method.loss(torch.ones(1, 3), Step(labels=labels[1:2], items=torch.tensor([1])))
    items = torch.tensor([2, 0])
    rows = torch.randn(2, 3, generator=generator())
    loss = method.loss(rows, Step(labels=labels[items], items=items))
    bank = torch.zeros(4, 3)
    bank[1], bank[items] = 1, rows
    assert torch.equal(method.training_state()["bank"], bank)
    codes = method.training_state()["codes_3"][items]
    expected = naive(rows.numpy(), labels[items].numpy(), codes.numpy(), bank.numpy(), labels.numpy(), 55.0)
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_codes_begin_at_random_by_the_trainings_generator():
    labels = torch.zeros(400, dtype=torch.int64)
    first, again = (method_of(400, 16, labels).training_state()["codes_16"] for _ in range(2))
    assert torch.equal(first, again) and set(first.unique().tolist()) == {-1, 1}
    assert not torch.equal(first, method_of(400, 16, labels, seed=1).training_state()["codes_16"])
    assert first.double().mean().abs() < 4 / 80


def test_several_processes_share_bank_and_codes():
    labels = torch.tensor([0, 1, 0, 2])
    rows, items = torch.randn(4, 3, generator=generator()), torch.tensor([3, 1, 0, 2])
    whole = rows.clone().requires_grad_()
    one = method_of(4, 3, labels)
    loss = one.loss(whole, Step(labels=labels[items], items=items))
    loss.backward()
    one.begin_epoch(a_pass(labels))
    parts, losses = rows.clone().requires_grad_(), []
    for mine in (slice(0, 2), slice(2, 4)):
        everyones = {torch.float32: rows, torch.int64: items}
        step = Step(labels=labels[items[mine]], items=items[mine], gather=lambda t, e=everyones: e[t.dtype])
        method = method_of(4, 3, labels)
        losses.append(method.loss(parts[mine], step))
        method.begin_epoch(a_pass(labels))
        for name, value in one.training_state().items():
            assert torch.equal(method.training_state()[name], value)
    torch.stack(losses).mean().backward()
    assert torch.stack(losses).mean().item() == pytest.approx(loss.item(), rel=1e-6)
    assert torch.allclose(parts.grad, whole.grad)


def test_a_training_goes_on_with_the_same_losses_and_codes():
    labels = torch.eye(4, dtype=torch.uint8)
    labels[1, 2] = 1
    rows = torch.randn(4, 6, generator=generator())
    method = method_of(4, 6, labels, kind="multi-hot", lengths="3", eta=0.5)
    method.begin_epoch(a_pass(labels))
    method.loss(rows[:2], Step(labels=labels[:2], items=torch.arange(2)))
    state = {name: value.clone() for name, value in method.training_state().items()}
    assert sorted(state) == ["bank", "codes_3", "codes_6"]
    resumed = method_of(4, 6, labels, kind="multi-hot", lengths="3", eta=0.5, seed=9)
    resumed.load_training_state(state)
    step = Step(labels=labels[2:], items=torch.tensor([2, 3]))
    assert torch.equal(method.loss(rows[2:], step), resumed.loss(rows[2:], step))
    for of in (method, resumed):
        of.begin_epoch(a_pass(labels))
    for name, value in method.training_state().items():
        assert torch.equal(resumed.training_state()[name], value)
    assert sorted(method.state_dict()) == ["head.bias", "head.weight"]


def test_several_lengths_are_a_sum_with_codes_of_their_own():
    labels = torch.tensor([0, 1, 0, 3, 2, 2])
    method = method_of(6, 8, labels, lengths="2,5", eta=0.5)
    starts = {name: value.clone() for name, value in method.training_state().items() if name != "bank"}
    assert torch.equal(starts["codes_2"], starts["codes_8"][:, :2])  # lengths share outputs, and begin alike
    rows = torch.randn(6, 8, generator=generator())
    step = Step(labels=labels, items=torch.arange(6))
    expected = 0.0
    for n in (2, 5, 8):
        part = rows[:, :n].numpy()
        codes = starts[f"codes_{n}"].numpy()
        expected += naive(part, labels.numpy(), codes, part, labels.numpy(), 0.5)
    assert method.loss(rows, step).item() == pytest.approx(expected, rel=1e-6)
    method.begin_epoch(a_pass(labels))
    for n in (2, 5, 8):
        start = starts[f"codes_{n}"]
        weights = ridge_weights(start, labels, 4, ratio=0.1)
        found = discrete_codes(start, rows[:, :n], labels, weights, mu=1.0, eta=0.5)
        assert torch.equal(method.training_state()[f"codes_{n}"], found)
        short = method.shortened(n)
        assert torch.equal(short.head.weight, method.head.weight[:n]) and short.training_state() == {}


def test_some_epochs_lower_the_loss_and_part_the_classes():
    torch.manual_seed(0)
    labels = torch.arange(3).repeat(10)
    features = torch.eye(3)[labels] @ torch.randn(3, 5) + 0.1 * torch.randn(30, 5)
    method = method_of(30, 8, labels, eta=0.3)  # a share of the items as 55 is of 5,000
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(20):
        method.begin_epoch(a_pass(labels))
        for items in torch.randperm(30).split(10):
            loss = method.loss(method.head(features[items]), Step(labels=labels[items], items=items))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3
    bits = np.unpackbits(method.encode(method.head(features)).numpy(), axis=1).astype(int)
    distances = torch.from_numpy((bits[:, None] != bits).sum(2))
    alike = labels[:, None] == labels
    assert distances[alike].max() < distances[~alike].min()


def test_codes_and_what_it_states():
    method = method_of(bits=None)
    assert (method.n_bits, method.n_outputs, method.score) == (32, 32, "hamming")
    assert method_of(bits=3).encode(torch.tensor([[0.0, 1e-30, -1.0], [2, -2, 2]])).tolist() == [[2], [5]]
    assert DSDH.label_kinds == ("ids", "multi-hot") and DSDH.quality is None and DSDH.main_weight == "eta"
    chosen = DSDH.Settings()
    assert (chosen.eta, chosen.mu, chosen.nu) == (55, 1, 0.1) and DSDHLoss().eta == 55
    assert method.predict(torch.zeros(1, 32)) is None


def test_refusals():
    loss, rows, ids = DSDHLoss(), torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"codes must have the shape of outputs, \(2, 3\), got \(2, 2\)"):
        loss(rows, ids, rows[:, :2], rows, ids)
    with pytest.raises(ValueError, match=r"shapes \(b, L\) and \(n, L\), got \(2, 3\) and \(2, 4\)"):
        loss(rows, ids, rows, torch.zeros(2, 4), ids)
    for eta in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="eta must be at least 0 and finite"):
            DSDHLoss(eta)
    with pytest.raises(ValueError, match="ratio must be more than 0, got 0"):
        ridge_weights(rows, ids, 4, ratio=0)
    with pytest.raises(ValueError, match=r"codes, outputs, weights and labels must have shapes .* \(2, 4\)"):
        discrete_codes(rows, torch.zeros(2, 4), ids, torch.zeros(3, 4), mu=1.0, eta=1.0)
    for name, rule in (("eta", "at least 0"), ("mu", "more than 0"), ("nu", "more than 0")):
        with pytest.raises(InputError, match=f"{name} must be {rule}"):
            DSDH.Settings(**{name: -1.0})
    method, step = method_of(), Step(labels=ids, items=torch.arange(2))
    for use in (
        lambda: method.loss(torch.zeros(2, 2), step),
        lambda: method.begin_epoch(a_pass(ids)),
        lambda: method.load_training_state({}),
    ):
        with pytest.raises(ValueError, match="dsdh must know its training items; call begin first"):
            use()
    assert method.training_state() == {}
    with pytest.raises(ValueError, match="dsdh must be given labels of the training items, got none"):
        method.begin(Training(4, None, generator(), torch.device("cpu")))
    with pytest.raises(
        ValueError, match="must be given one class per item or several labels per item, got no"
    ):
        DSDH(DSDH.Settings(), Spec(0, "none", 5))
    method = method_of(labels=torch.tensor([0, 1, 0, 2]))
    with pytest.raises(ValueError, match="the training state of dsdh must be bank, codes_2, got bank"):
        method.load_training_state({"bank": torch.zeros(4, 2)})
