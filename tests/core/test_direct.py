"""Calls past torch's dispatcher (_direct.py): the same answers, and never where something would have seen the op."""

from __future__ import annotations

import pytest
import torch
from ops_table import LABELLED, RANKING, good_calls, leaves, tensors
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import dshc_fast
from dshc_fast import _direct

# Composites are made of these.
NAMES = [name for name in RANKING if name in _direct._NAMES]


class Seen(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.ops: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.ops.append(str(func))
        return func(*args, **(kwargs or {}))


class Functions(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the ops that were called directly."""
    called: list[str] = []

    def noting(name: str, implementation):
        return lambda *args: called.append(name) or implementation(*args)

    direct = {name: noting(name, run) for name, run in _direct._CPU.items()}
    monkeypatch.setattr(_direct, "_CPU", direct)
    return called


def call(name: str, **changes):
    return getattr(dshc_fast, name)(**{**tensors(good_calls()[name]), **changes})


@pytest.mark.parametrize("name", NAMES)
def test_nothing_watches(name: str, calls: list[str]) -> None:
    answer = call(name)
    assert calls == [name]
    with Seen() as seen:
        through = call(name)
    assert calls == [name] and f"dshc_fast.{name}.default" in seen.ops
    for ours, theirs in zip(leaves(answer), leaves(through), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
def test_numpy_goes_directly_too(name: str, calls: list[str]) -> None:
    getattr(dshc_fast, name)(**good_calls()[name])
    assert calls == [name]


def test_what_watches_sees_the_op(calls: list[str]) -> None:
    with Functions() as functions:
        call("hamming_topk")
    assert any("hamming_topk" in name for name in functions.names)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call("hamming_topk")
    assert any("hamming_topk" in event.name for event in profile.events())
    with torch.device("cpu"):  # a function mode of torch's own
        call("hamming_topk")
    assert not calls
    call("hamming_topk")
    assert calls == ["hamming_topk"]


def test_tracers_and_compilers_see_the_op(calls: list[str]) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    given = tensors(good_calls()["hamming_topk"])
    graph = make_fx(lambda q, d: dshc_fast.hamming_topk(q, d, 5)[0])(given["queries"], given["database"])
    assert "hamming_topk" in graph.code
    inputs = given["queries"], given["database"]
    # Its check of the trace would call the function once more, when nothing traces.
    traced = torch.jit.trace(lambda q, d: dshc_fast.hamming_topk(q, d, 5)[0], inputs, check_trace=False)
    assert "hamming_topk" in str(traced.graph)
    assert not calls


class OwnTensor(torch.Tensor):
    pass


@pytest.mark.parametrize("argument", ["queries", "database", "query_labels", "database_labels", "allowed"])
def test_tensors_of_other_classes_take_the_usual_way(argument: str, calls: list[str]) -> None:
    given = tensors(good_calls()["average_precision"])
    given["allowed"] = torch.ones(len(given["database"]), dtype=torch.bool)
    expected = dshc_fast.average_precision(**given)
    assert calls == ["average_precision"]
    given[argument] = given[argument].as_subclass(OwnTensor)
    found = dshc_fast.average_precision(**given)
    assert calls == ["average_precision"]
    torch.testing.assert_close(torch.as_tensor(found).as_subclass(torch.Tensor), expected)


def test_a_torch_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    """A question that another torch does not answer counts as something that watches."""
    assert _direct._question(torch._C, "no", "such", "function") is _direct._unknown
    monkeypatch.setattr(_direct, "_is_profiling", _direct._unknown)
    call("hamming_topk")
    assert not calls


@pytest.mark.parametrize("name", LABELLED)
def test_a_prepared_database_that_was_written_to(name: str) -> None:
    """It is known by itself, and no longer when its codes or labels change behind its back."""
    given = tensors(good_calls(n_db=64)[name])
    codes, labels = given.pop("database"), given.pop("database_labels")
    codes[:] = codes[:4].repeat(16, 1)  # equal codes are kept in parts
    database = dshc_fast.HammingDatabase(codes, labels)
    expected = leaves(getattr(dshc_fast, name)(database=codes, database_labels=labels, **given))
    for ours, theirs in zip(
        leaves(getattr(dshc_fast, name)(database=database, **given)), expected, strict=True
    ):
        torch.testing.assert_close(ours, theirs, equal_nan=True)
    database._codes[0] += 1
    with pytest.raises(
        ValueError, match="prepared must be what HammingDatabase made of these codes, unchanged"
    ):
        getattr(dshc_fast, name)(database=database, **given)


def test_prepared_tensors_cannot_be_exchanged() -> None:
    database = dshc_fast.HammingDatabase(torch.zeros((8, 1), dtype=torch.uint8))
    with pytest.raises(TypeError):
        database._prepared[0] = torch.zeros((8, 4), dtype=torch.uint8)
