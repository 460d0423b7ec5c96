"""The arrays of substring tables: what they hold, saved and adopted, refused where wrong, as `prepared` of the ops."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ops_table import same_answer
from strategies import make_codes
from table_cases import clustered

import dshc_fast
from dshc_fast import HammingDatabase


def arrays_of(tables: Any) -> dict[str, np.ndarray]:
    return {name: np.array(array) for name, array in tables.items()}


def obvious_tables(codes: np.ndarray, n_tables: int, listed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """By a stable sort of each substring."""
    bits = np.unpackbits(codes, axis=1, bitorder="little")[listed]
    n_bits, offsets, items = bits.shape[1], [], []
    for t in range(n_tables):
        part = bits[:, n_bits * t // n_tables : n_bits * (t + 1) // n_tables].astype(np.int64)
        values = part @ (1 << np.arange(part.shape[1]))
        offsets.append(np.concatenate([[0], np.cumsum(np.bincount(values, minlength=1 << part.shape[1]))]))
        items.append(listed[np.argsort(values, kind="stable")])
    return np.concatenate(offsets).astype(np.uint32), np.stack(items).astype(np.uint32)


@pytest.mark.parametrize("count", (1, 3))
@pytest.mark.parametrize("repeated", (False, True))
@pytest.mark.parametrize("n_bytes", (1, 3, 4, 5, 8, 12, 33))
def test_what_they_hold(n_bytes: int, repeated: bool, count: int, threads) -> None:
    rng = np.random.default_rng(n_bytes)
    codes = make_codes(rng, 20_000, n_bytes)
    if repeated:
        codes = codes[rng.integers(0, 2500, 20_000)]
    torch.set_num_threads(count)
    database = HammingDatabase(codes, tables=True)
    _, first = np.unique(codes, axis=0, return_index=True)
    listed = np.arange(20_000) if database.n_distinct is None else np.sort(first)
    tables = database.tables
    assert tables is not None and set(tables) == {"offsets", "items"}
    offsets, items = obvious_tables(codes, len(tables["items"]), listed)
    for array, expected in ((tables["offsets"], offsets), (tables["items"], items)):
        assert isinstance(array, np.ndarray) and array.dtype == np.uint32 and not array.flags.writeable
        assert np.array_equal(array, expected)
    widths = np.diff(8 * n_bytes * np.arange(len(items) + 1) // len(items))
    assert widths.max() <= max(8, np.log2(len(listed))) and widths.max() - widths.min() <= 1


def test_saved_and_adopted(use: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    for codes in (make_codes(rng, 3000, 8), make_codes(rng, 300, 8)[rng.integers(0, 300, 3000)]):
        made = HammingDatabase(codes, tables=True)
        for name, array in arrays_of(made.tables).items():
            np.save(tmp_path / f"{name}.npy", array)
        mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("offsets", "items")}
        adopted = HammingDatabase(codes, tables=mapped)
        assert adopted.tables["items"].ctypes.data == mapped["items"].ctypes.data, "copied"
        assert repr(adopted) == repr(made) and "substring table" in repr(made)
        assert adopted.nbytes == made.nbytes > HammingDatabase(codes).nbytes
        for radius in (0, 3):
            assert same_answer(
                dshc_fast.hamming_radius(codes[:9], adopted, radius),
                dshc_fast.hamming_radius(codes[:9], codes, radius),
            )
    as_tensors = HammingDatabase(torch.from_numpy(codes), tables=True).tables
    assert all(
        isinstance(tensor, torch.Tensor) and tensor.dtype == torch.uint32 for tensor in as_tensors.values()
    )
    HammingDatabase(codes, tables=as_tensors)


def test_bytes_that_are_kept() -> None:
    """Codes of 5 bytes are padded to 8; int32 ids are kept once, others twice."""
    codes, ids = make_codes(np.random.default_rng(8), 1000, 5), np.arange(1000)
    assert HammingDatabase(codes).nbytes == 8 * 1000
    assert HammingDatabase(codes, ids.astype(np.int32)).nbytes == (8 + 4) * 1000
    assert HammingDatabase(codes, ids).nbytes == (8 + 8 + 4) * 1000
    tables = HammingDatabase(codes, tables=True).tables
    assert HammingDatabase(codes, tables=True).nbytes == 8 * 1000 + sum(
        array.nbytes for array in tables.values()
    )


def damages(
    tables: dict[str, np.ndarray], rng: np.random.Generator
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    for name, array in tables.items():
        for bit in (0, 1, 7, 20, 31):
            damaged = array.copy()
            damaged.flat[rng.integers(damaged.size)] ^= np.uint32(1 << bit)
            yield name, {**tables, name: damaged}
    items = tables["items"]
    swapped = items.copy()
    swapped[0, [0, -1]] = swapped[0, [-1, 0]]
    yield "items", {**tables, "items": swapped}
    doubled = items.copy()
    doubled[0, 1] = doubled[0, 0]
    yield "items", {**tables, "items": doubled}
    yield "items", {**tables, "items": items[::-1].copy()}
    shifted = tables["offsets"].copy()
    shifted[1:-1] += 1
    yield "offsets", {**tables, "offsets": shifted}
    yield "offsets", {**tables, "offsets": np.zeros_like(tables["offsets"])}
    yield "offsets", {**tables, "offsets": np.full_like(tables["offsets"], 2**32 - 1)}


@pytest.mark.parametrize("repeated", (False, True))
@pytest.mark.parametrize("n_bytes", (2, 8, 12))
def test_damaged_ones_are_refused(n_bytes: int, repeated: bool) -> None:
    """One flipped bit anywhere, and tables of other codes."""
    rng = np.random.default_rng(n_bytes)
    codes = make_codes(rng, 600, n_bytes)
    if repeated:
        codes = codes[rng.integers(0, 80, 600)]
    tables = arrays_of(HammingDatabase(codes, tables=True).tables)
    HammingDatabase(codes, tables=tables)
    for _, damaged in damages(tables, rng):
        with pytest.raises(
            ValueError, match="tables: (offsets|items) must be those of tables of these codes"
        ):
            HammingDatabase(codes, tables=damaged)
    other = codes.copy()
    other[123, 0] ^= 1
    with pytest.raises(ValueError, match="tables: "):
        HammingDatabase(other, tables=tables)


CODES = make_codes(np.random.default_rng(4), 100, 8)
GOOD = arrays_of(HammingDatabase(CODES, tables=True).tables)


@pytest.mark.parametrize(
    ("tables", "error", "match"),
    [
        (1, TypeError, "tables must be True, False or a mapping of arrays, got int"),
        (None, TypeError, "tables must be True, False or a mapping of arrays, got NoneType"),
        ({}, ValueError, "tables must have 'offsets' and 'items', .*got nothing"),
        ({"items": GOOD["items"]}, ValueError, "tables must have .*got 'items'"),
        (GOOD | {"more": CODES}, ValueError, "tables must have .*got 'items', 'more', 'offsets'"),
        (
            GOOD | {"items": [1]},
            TypeError,
            r"tables\['items'\] must be a numpy array or a torch tensor, got list",
        ),
        (
            GOOD | {"items": GOOD["items"].astype(np.int64)},
            TypeError,
            "tables: items must be uint32, got int64",
        ),
        (
            GOOD | {"offsets": GOOD["offsets"].astype(np.int32)},
            TypeError,
            "offsets must be uint32, got int32",
        ),
        (
            GOOD | {"items": GOOD["items"][:, 1:]},
            ValueError,
            r"items must have shape \(n_tables, 100\), .*got \(8, 99\)",
        ),
        (GOOD | {"items": GOOD["items"][:2]}, ValueError, "with 3 to 64 tables of these codes, got"),
        (GOOD | {"items": GOOD["items"][:7]}, ValueError, r"offsets must have shape \(\d+,\), got \(2056,\)"),
        (
            GOOD | {"offsets": GOOD["offsets"][:-1]},
            ValueError,
            r"offsets must have shape \(2056,\), got \(2055,\)",
        ),
    ],
)
def test_wrong_ones(tables: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        HammingDatabase(CODES, tables=tables)


def test_not_on_cuda(device: str) -> None:
    if device != "cuda":
        pytest.skip("of a CUDA device")
    with pytest.raises(ValueError, match="tables must be False for codes on cuda"):
        HammingDatabase(torch.from_numpy(CODES).cuda(), tables=True)


# ---- as `prepared` of the registered ops ----


def test_registered_ops(always: None) -> None:
    """Tensors that HammingDatabase made are known; copies are looked at, and refused where they are wrong."""
    codes = torch.from_numpy(make_codes(np.random.default_rng(5), 300, 6, "near"))
    ids = torch.arange(300) % 7
    op = torch.ops.dshc_fast.hamming_radius.default
    expected = op(codes[:5], codes, 4)
    for labels in (None, ids):
        database = HammingDatabase(codes, labels, tables=True)
        kept = list(database._prepared)
        assert len(kept) == (5 if labels is None else 8)
        for prepared in (kept, [tensor.clone() for tensor in kept]):
            for a, b in zip(op(codes[:5], database._codes, 4, prepared=prepared), expected, strict=True):
                assert torch.equal(a, b)
        wrong = [*kept[:-1], kept[-1].clone()]
        wrong[-1].view(torch.int32)[0, 0] ^= 1
        with pytest.raises(ValueError, match="prepared: table items must be those of tables of these codes"):
            op(codes[:5], database._codes, 4, prepared=wrong)
        with pytest.raises(ValueError, match="prepared: table offsets must have shape"):
            op(codes[:5], database._codes, 4, prepared=[*kept[:-2], kept[-2][1:], kept[-1]])
        with pytest.raises(ValueError, match="code rows must have 8 bytes beside tables, got 6"):
            op(codes[:5], database._codes, 4, prepared=[codes, *kept[1:3], *kept[-2:]])


def test_written_to(always: None) -> None:
    """Who writes to a tensor of the tables is found out at the next call."""
    database = HammingDatabase(torch.from_numpy(CODES), tables=True)
    query = torch.from_numpy(CODES[:2])
    dshc_fast.hamming_topk(query, database, 1)
    database.tables["items"].zero_()
    with pytest.raises(ValueError, match="prepared: table items must be those"):
        dshc_fast.hamming_topk(query, database, 1)


@pytest.mark.parametrize("name", ("hamming_topk", "hamming_radius"))
def test_opcheck_and_compile(name: str, always: None) -> None:
    codes = torch.from_numpy(make_codes(np.random.default_rng(6), 200, 8, "near"))
    database = HammingDatabase(codes, tables=True)
    op = getattr(torch.ops.dshc_fast, name).default
    call = (codes[:3], database._codes, 3)
    names = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")
    torch.library.opcheck(op, call, {"prepared": list(database._prepared)}, test_utils=names)
    torch._dynamo.reset()
    function = getattr(dshc_fast, name)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(
            lambda queries: tuple(function(queries, database, 3)),
            fullgraph=True,
            dynamic=True,
            backend="aot_eager",
        )
        for n_query in (3, 5):
            for a, b in zip(compiled(codes[:n_query]), function(codes[:n_query], codes, 3), strict=True):
                assert torch.equal(a, b)


# ---- copies, processes ----


def test_copies_have_tables_too() -> None:
    database = HammingDatabase(CODES, tables=True)
    for other in (copy.deepcopy(database), pickle.loads(pickle.dumps(database))):
        assert repr(other) == repr(database)
        assert np.array_equal(other.tables["items"], database.tables["items"])
    assert HammingDatabase(CODES).tables is None
    assert pickle.loads(pickle.dumps(HammingDatabase(CODES))).tables is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_after_fork(always: None, threads) -> None:
    """Built, checked and searched in a child, by threads of its own."""
    torch.set_num_threads(2)
    rng = np.random.default_rng(7)
    codes, _ = clustered(rng, 60_000, 8, 2000)
    database = HammingDatabase(codes, tables=True)
    expected = dshc_fast.hamming_radius(codes[:200], database, 3)
    with tempfile.TemporaryFile() as report:
        child = os.fork()
        if child == 0:
            signal.alarm(120)  # a child that hangs must not hang the tests
            good = same_answer(dshc_fast.hamming_radius(codes[:200], database, 3), expected)
            again = HammingDatabase(codes, tables=HammingDatabase(codes, tables=True).tables)
            good &= same_answer(dshc_fast.hamming_radius(codes[:200], again, 3), expected)
            os.write(report.fileno(), b"good" if good else b"bad")
            os._exit(0)
        os.waitpid(child, 0)
        report.seek(0)
        assert report.read() == b"good"
