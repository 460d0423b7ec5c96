"""The argument `prepared` of the registered ranking ops: taken by all of them, in graphs too, and looked at before a
kernel follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from callers import to_torch
from ops_table import LABELLED, RANKING, good_calls, leaves, tensors
from strategies import make_codes
from torch._subclasses.fake_tensor import FakeTensorMode

import dshc_fast
from dshc_fast import HammingDatabase, _prepared

DYNAMIC_OUTPUTS = torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)


def prepared_call(op: str, device: str = "cpu", n_query: int = 3) -> tuple[dict[str, Any], HammingDatabase]:
    """A good call of an op on codes that repeat, and the prepared database to put in."""
    rng = np.random.default_rng(0)
    call = good_calls(n_query=n_query, n_db=60, n_bytes=5)[op]
    call["database"] = make_codes(rng, 60, 5, "ties")
    call = tensors(call, device)
    database = HammingDatabase(call["database"], call.get("database_labels"))
    assert device == "cuda" or database.n_distinct == 3
    return call, database


def registered(op: str):
    return getattr(torch.ops.dshc_fast, op).default


def direct(
    op: str, call: dict[str, Any], database: HammingDatabase, prepared: list[torch.Tensor]
) -> list[Any]:
    call = call | {"database": database._codes}
    if op in LABELLED:
        call["database_labels"] = database._labels
    return leaves(registered(op)(**call, prepared=prepared))


def kept(database: HammingDatabase) -> list[torch.Tensor]:
    return list(database._prepared)


@pytest.mark.parametrize("op", RANKING)
def test_last_in_the_schema(op: str) -> None:
    argument = registered(op)._schema.arguments[-1]
    assert (argument.name, str(argument.type), argument.default_value) == (
        "prepared",
        "Optional[List[Tensor]]",
        None,
    )


@pytest.mark.parametrize("op", RANKING)
def test_opcheck(op: str, device: str) -> None:
    call, database = prepared_call(op, device)
    call["database"] = database._codes
    call |= {"database_labels": database._labels} if op in LABELLED else {}
    for prepared in (kept(database), kept(database)[:3]):
        names = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
        torch.library.opcheck(registered(op), (), call | {"prepared": prepared}, test_utils=names)


def public(op: str, call: dict[str, Any], database: HammingDatabase) -> Callable[[dict[str, Any]], list[Any]]:
    """The public function of what is neither database nor its labels."""
    rest = {name: value for name, value in call.items() if name not in ("database", "database_labels")}
    names = [name for name, value in rest.items() if isinstance(value, torch.Tensor)]
    other = {name: value for name, value in rest.items() if name not in names}

    def function(*arguments):
        given = dict(zip(names, arguments, strict=True))
        return leaves(getattr(dshc_fast, op)(database=database, **given, **other))

    return function


def arguments_of(call: dict[str, Any]) -> list[torch.Tensor]:
    return [
        value
        for name, value in call.items()
        if isinstance(value, torch.Tensor) and name not in ("database", "database_labels")
    ]


@pytest.mark.parametrize("op", RANKING)
def test_compile(op: str, device: str) -> None:
    """One graph without breaks, right for two numbers of queries."""
    torch._dynamo.reset()
    call, database = prepared_call(op, device)
    function = public(op, call, database)
    with DYNAMIC_OUTPUTS:
        compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
        for n_query in (3, 5):
            arguments = arguments_of(prepared_call(op, device, n_query)[0])
            for a, b in zip(compiled(*arguments), function(*arguments), strict=True):
                assert torch.equal(a, b)


@pytest.mark.parametrize("op", [op for op in RANKING if op != "hamming_radius"])
def test_fake_tensors(op: str) -> None:
    call, database = prepared_call(op)
    real = direct(op, call, database, kept(database))
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        faked = {k: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v for k, v in call.items()}
        fake = leaves(registered(op)(**faked, prepared=[mode.from_tensor(t) for t in kept(database)]))
    for a, b in zip(real, fake, strict=True):
        assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


@pytest.mark.parametrize("op", RANKING)
def test_no_call_looks_again(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HammingDatabase made is known to be right; copies of it are looked at, and taken."""
    call, database = prepared_call(op)
    plain = leaves(getattr(dshc_fast, op)(**call))
    copies = [tensor.clone() for tensor in kept(database)]
    for a, b in zip(direct(op, call, database, copies), plain, strict=True):
        assert torch.equal(a, b)

    def fail(*_: object) -> None:
        raise AssertionError("looked at")

    monkeypatch.setattr(_prepared, "check_partition", fail)
    function, arguments = public(op, call, database), arguments_of(call)
    for a, b in zip(function(*arguments), plain, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(AssertionError, match="looked at"):
        direct(op, call, database, copies)


# Tensor of `prepared`, what is done to it, the error, a part of its message.
WRONG: list[tuple[int, Callable[[torch.Tensor], torch.Tensor], type[Exception], str]] = [
    (0, lambda t: t.int(), TypeError, "code rows must be uint8 .*got int32"),
    (0, lambda t: t[:-1], ValueError, "code rows must have shape"),
    (0, lambda t: t[:, :4], ValueError, "code rows must have shape"),
    (0, lambda t: t[0], ValueError, "code rows must have shape"),
    (0, lambda t: t ^ 1, ValueError, "code rows differ"),
    (0, lambda t: t | torch.tensor([0] * 7 + [1], dtype=torch.uint8), ValueError, "code rows differ"),
    (1, lambda t: t.int(), TypeError, "code members must be int64, got int32"),
    (1, lambda t: t[:-1], ValueError, "code members and code offsets must have shapes"),
    (1, lambda t: t[:0], ValueError, "code members and code offsets must have shapes"),
    (1, lambda t: t[:, None], ValueError, "code members must have shape"),
    (1, lambda t: t + 1, ValueError, "code members lie outside 0 to 59"),
    (1, lambda t: t - 1, ValueError, "code members lie outside 0 to 59"),
    (1, lambda t: t + 2**40, ValueError, "code members lie outside"),
    (1, lambda t: t // 2 * 2, ValueError, "code members do not name each item once"),
    (1, lambda t: t.flip(0), ValueError, "code members are not in order"),
    (1, lambda t: t.sort().values, ValueError, "code members part other rows"),
    (2, lambda t: t.double(), TypeError, "code offsets must be int64, got float64"),
    (2, lambda t: t[:0], ValueError, "code offsets"),
    (2, lambda t: t[:1], ValueError, "code offsets"),
    (2, lambda t: t[:-1], ValueError, "code offsets do not rise from 0 to 60"),
    (2, lambda t: t + 1, ValueError, "code offsets do not rise from 0 to 60"),
    (2, lambda t: t - 1, ValueError, "code offsets do not rise from 0 to 60"),
    (2, lambda t: t[[0, 2, 1, 3]], ValueError, "code offsets do not rise from 0 to 60"),
    (2, lambda t: t[[0, 1, 1, 2, 3]], ValueError, "code offsets do not rise from 0 to 60"),
    (2, lambda t: torch.arange(62), ValueError, "code offsets"),
    (2, lambda t: t[[0, 3]], ValueError, "code members"),
    (2, lambda t: (t * 1).put_(torch.tensor([1]), t[1:2] - 1), ValueError, "code members"),
    (3, lambda t: t.long(), TypeError, "label rows must be int32 .*got int64"),
    (3, lambda t: t[:-1], ValueError, "label rows must be those of labels of shape"),
    (3, lambda t: t + 1, ValueError, "label rows differ"),
    (3, lambda t: t[:, None], ValueError, "label rows must be those of labels of shape"),
    (4, lambda t: t + 1, ValueError, "label members lie outside 0 to 59"),
    (4, lambda t: t.roll(1), ValueError, "label members are not in order"),
    (5, lambda t: t[:-1], ValueError, "label offsets do not rise from 0 to 60"),
    (5, lambda t: t[[0, 3]], ValueError, "label members"),
]


@pytest.mark.parametrize(("which", "change", "error", "match"), WRONG)
def test_wrong_ones(which: int, change: Callable, error: type[Exception], match: str) -> None:
    """No kernel sees a member or an offset that lies outside, or parts of other rows."""
    for op in RANKING if which < 3 else LABELLED:
        call, database = prepared_call(op)
        prepared = kept(database)
        if op not in LABELLED:
            prepared = prepared[:3]
        prepared[which] = change(prepared[which])
        with pytest.raises(error, match=match):
            direct(op, call, database, prepared)


@pytest.mark.parametrize("op", RANKING)
def test_wrong_number(op: str) -> None:
    call, database = prepared_call(op)
    for count in (1, 2, 4, 7, 9):
        with pytest.raises(ValueError, match=f"prepared must hold 0, 3, 5, 6 or 8 tensors, .*got {count}"):
            direct(op, call, database, (kept(database) * 3)[:count])


@pytest.mark.parametrize("op", LABELLED)
def test_parts_of_another_database(op: str) -> None:
    """Well-formed tensors of the same sizes, made by HammingDatabase, of other codes or labels."""
    call, database = prepared_call(op)
    other = HammingDatabase(call["database"].flip(0), call["database_labels"].flip(0))
    mine, foreign = kept(database), kept(other)
    for which in range(6):
        mixed = [*mine[:which], foreign[which], *mine[which + 1 :]]
        if torch.equal(mine[which], foreign[which]):
            continue
        with pytest.raises(ValueError, match="prepared must be what HammingDatabase made .*; (code|label)"):
            direct(op, call, database, mixed)


@pytest.mark.parametrize("width", (5, 70))
def test_multi_hot_rows(width: int, device: str) -> None:
    rng = np.random.default_rng(width)
    codes, rows = make_codes(rng, 60, 3, "ties"), rng.random((60, width)) < 0.2
    codes, rows = to_torch(codes, device), to_torch(rows, device)
    database = HammingDatabase(codes, rows)
    call = {"queries": codes[:4], "query_labels": rows[:4]}
    copies = [tensor.clone() for tensor in kept(database)]
    expected = dshc_fast.hamming_histogram(codes[:4], codes, rows[:4], rows)
    for a, b in zip(direct("hamming_histogram", call, database, copies), expected, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="label rows must be those of labels of shape"):
        direct("hamming_histogram", call, database, [*copies[:3], copies[3][:, :-1], *copies[4:]])
    with pytest.raises(TypeError, match="label rows must be"):
        direct("hamming_histogram", call, database, [*copies[:3], copies[3].int(), *copies[4:]])
    if device == "cpu":
        with pytest.raises(ValueError, match="label rows differ"):
            direct("hamming_histogram", call, database, [*copies[:3], copies[3] ^ 1, *copies[4:]])
