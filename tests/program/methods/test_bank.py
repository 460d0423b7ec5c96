"""The bank of all training outputs: what is written where, what is kept in checkpoints, refusals."""

import pytest
import torch
from effort import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from dshc.methods import Step, Training
from dshc.methods.bank import OutputBank, put_back


def bank_of(n_items=5, n_outputs=2, labels=None):
    bank = OutputBank("some method", n_outputs)
    labels = torch.zeros(n_items, dtype=torch.int64) if labels is None else labels
    bank.begin(Training(n_items, labels, torch.Generator(), torch.device("cpu")))
    return bank


def step_of(*items, gather=lambda rows: rows.detach()):
    return Step(labels=None, items=torch.tensor(items), gather=gather)


def test_it_begins_as_zeros_and_knows_the_labels():
    labels = torch.tensor([3, 1, 4])
    bank = bank_of(3, 7, labels)
    assert bank.outputs.dtype == torch.float32 and bank.outputs.shape == (3, 7) and not bank.outputs.any()
    assert torch.equal(bank.labels, labels)
    bank.write(torch.ones(1, 7), step_of(2))
    bank.begin(Training(4, torch.zeros(4, dtype=torch.int64), torch.Generator(), torch.device("cpu")))
    assert bank.outputs.shape == (4, 7) and not bank.outputs.any()  # another training


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_rows_go_to_their_items_without_gradients(dtype):
    bank = bank_of()
    rows = torch.tensor([[1.0, 2], [3, 4]], dtype=dtype, requires_grad=True)
    bank.write(rows, step_of(4, 1))
    assert bank.outputs.tolist() == [[0, 0], [3, 4], [0, 0], [0, 0], [1, 2]]
    assert bank.outputs.dtype == torch.float32 and not bank.outputs.requires_grad
    bank.write(torch.tensor([[-1.0, -2]]), step_of(1))
    assert bank.outputs.tolist() == [[0, 0], [-1, -2], [0, 0], [0, 0], [1, 2]]


@settings(deadline=None, max_examples=examples(100))
@given(items=st.lists(st.integers(0, 4), max_size=12))
def test_it_holds_the_last_row_of_every_item(items):
    bank = bank_of()
    rows = torch.arange(2.0 * len(items)).reshape(-1, 2) + 1
    bank.write(rows, Step(labels=None, items=torch.tensor(items, dtype=torch.int64)))
    expected = torch.zeros(5, 2)
    for item, row in zip(items, rows, strict=True):
        expected[item] = row
    assert torch.equal(bank.outputs, expected)


def test_the_rows_of_all_processes_are_written():
    rows, items = torch.tensor([[1.0, 1], [2, 2], [3, 3], [4, 4]]), torch.tensor([0, 3, 2, 3])
    banks = []
    for mine in (slice(0, 2), slice(2, 4)):
        everyones = {torch.float32: rows, torch.int64: items}
        banks.append(bank_of())
        banks[-1].write(rows[mine], step_of(*items[mine].tolist(), gather=lambda t, e=everyones: e[t.dtype]))
    assert banks[0].outputs.tolist() == [[1, 1], [0, 0], [3, 3], [4, 4], [0, 0]]
    assert torch.equal(banks[0].outputs, banks[1].outputs)


def test_a_checkpoint_holds_it_and_gives_it_back():
    bank = bank_of()
    bank.write(torch.ones(2, 2), step_of(0, 1))
    state = {name: value.clone() for name, value in bank.training_state().items()}
    assert list(state) == ["bank"]
    resumed = bank_of()
    resumed.load_training_state(state)
    assert torch.equal(resumed.outputs, bank.outputs)
    resumed.write(5 * torch.ones(1, 2), step_of(0))
    assert state["bank"][0].tolist() == [1, 1]  # a copy was taken


def test_putting_back_changes_all_or_nothing():
    own = {"a": torch.zeros(2), "b": torch.zeros(3)}
    with pytest.raises(ValueError, match=r"b must have shape \(3,\), got \(2,\)"):
        put_back("it", own, {"a": torch.ones(2), "b": torch.ones(2)})
    for state, came in (({}, "nothing"), ({"b": torch.ones(3)}, "b"), ({**own, "c": own["a"]}, "a, b, c")):
        with pytest.raises(ValueError, match=f"the training state of it must be a, b, got {came}$"):
            put_back("it", own, state)
    assert not own["a"].any() and not own["b"].any()
    put_back("it", own, {"b": torch.ones(3), "a": torch.ones(2)})
    assert own["a"].all() and own["b"].all()


def test_refusals():
    bank = OutputBank("some method", 2)
    assert bank.training_state() == {}
    for use in (
        lambda: bank.outputs,
        lambda: bank.labels,
        lambda: bank.write(torch.zeros(1, 2), step_of(0)),
        lambda: bank.load_training_state({"bank": torch.zeros(5, 2)}),
    ):
        with pytest.raises(ValueError, match="some method must know its training items; call begin first"):
            use()
    with pytest.raises(ValueError, match="some method must be given labels of the training items, got none"):
        bank.begin(Training(5, None, torch.Generator(), torch.device("cpu")))
    bank = bank_of()
    with pytest.raises(ValueError, match="the training state of some method must be bank, got nothing"):
        bank.load_training_state({})
    with pytest.raises(ValueError, match=r"bank must have shape \(5, 2\), got \(5, 3\)"):
        bank.load_training_state({"bank": torch.zeros(5, 3)})
