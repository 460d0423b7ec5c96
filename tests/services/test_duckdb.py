"""DuckDB: the printed statement answers the same, and every bit is where its words have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exchange_cases import CLASS_NAMES, check_answers, exported

import dshc_fast
from dshc.errors import InputError
from dshc.exchange import Exported, export, words

pytestmark = pytest.mark.services
N_ITEMS = 20_000


def ask_by(database, statement: str):
    def ask(query: np.ndarray, k: int) -> list[tuple[object, float]]:
        (numbers,) = words(query[None]).tolist()
        rows = database.execute(
            statement, {f"query{i}": number for i, number in enumerate(numbers)}
        ).fetchall()
        assert len(rows) == k
        return rows

    return ask


@pytest.mark.parametrize("score", ["hamming", "overlap"])
@pytest.mark.parametrize("ids", ["rows", "numbers", "names"])
def test_answers(score: str, ids: str, n_bits: int, tmp_path: Path) -> None:
    import duckdb

    source = exported(N_ITEMS, n_bits, ids=ids, score=score)
    written = export(source, "duckdb", tmp_path / "codes.duckdb")
    assert [path.name for path in tmp_path.iterdir()] == ["codes.duckdb"]
    with duckdb.connect(str(tmp_path / "codes.duckdb"), read_only=True) as database:
        check_answers(source, ask_by(database, written.search))


def test_every_bit_and_label(n_bits: int, tmp_path: Path) -> None:
    import duckdb

    source = exported(300, n_bits, ids="numbers", labels="several")
    export(source, "duckdb", tmp_path / "codes.duckdb")
    bits = dshc_fast.unpack_codes(source.codes, n_bits)
    columns = ", ".join(f"(code{j // 64} >> {j % 64}) & 1" for j in range(n_bits))
    with duckdb.connect(str(tmp_path / "codes.duckdb")) as database:
        rows = database.execute(f"SELECT id, labels, {columns} FROM codes").fetchall()
    assert {name: (labels, code) for name, labels, *code in rows} == {
        name: ([CLASS_NAMES[i] for i in np.flatnonzero(label)], code.tolist())
        for name, label, code in zip(source.ids.tolist(), source.labels, bits, strict=True)
    }


def test_all_ones_of_4096_bits(tmp_path: Path) -> None:
    """The most that a count can be, in the longest code."""
    import duckdb

    source = Exported(codes=np.full((10, 512), 255, np.uint8), n_bits=4096)
    written = export(source, "duckdb", tmp_path / "codes.duckdb")
    with duckdb.connect(str(tmp_path / "codes.duckdb")) as database:
        rows = database.execute(written.search, {f"query{i}": 0 for i in range(64)}).fetchall()
    assert rows == [(row, 4096) for row in range(10)]


def test_a_database_that_exists(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "mine.db"
    with duckdb.connect(str(path)) as database:
        database.execute("CREATE TABLE mine AS SELECT 7 AS seven")
    export(exported(20, 16), "duckdb", path)
    with pytest.raises(InputError, match="has a table 'codes' already"):
        export(exported(30, 16), "duckdb", path)
    codes = np.zeros(((1 << 16) + 1, 2), np.uint8)
    codes[-1, 1] = 255
    for table in ("codes", "others"):
        with pytest.raises(InputError, match="padding bits"):
            export(Exported(codes=codes, n_bits=10), "duckdb", path, table=table, overwrite=True)
    with duckdb.connect(str(path)) as database:
        assert sorted(database.execute("SELECT table_name FROM duckdb_tables()").fetchall()) == [
            ("codes",),
            ("mine",),
        ]
        assert database.execute("SELECT count(*) FROM codes").fetchone() == (20,)
    export(exported(30, 16), "duckdb", path, overwrite=True)
    with duckdb.connect(str(path)) as database:
        assert database.execute("SELECT count(*), (SELECT seven FROM mine) FROM codes").fetchone() == (30, 7)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.db"]


def test_what_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="thesis.txt is neither, and is left as it is"):
        export(exported(20, 16), "duckdb", tmp_path / "thesis.txt", overwrite=True)
    with pytest.raises(InputError, match="must be a database file, it is a folder"):
        export(exported(20, 16), "duckdb", tmp_path)
    bad = Exported(codes=np.full((3, 2), 255, np.uint8), n_bits=10)
    with pytest.raises(InputError, match="padding bits"):
        export(bad, "duckdb", tmp_path / "new" / "codes.duckdb")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_parquet_is_read_by_another_engine(n_bits: int, tmp_path: Path) -> None:
    """DuckDB's own reader of Parquet finds the same ids and bytes."""
    import duckdb

    source = exported(300, n_bits, ids="names", labels="classes")
    export(source, "parquet", tmp_path / "codes.parquet")
    rows = duckdb.execute(f"SELECT id, code, label FROM '{tmp_path}/codes.parquet'").fetchall()
    assert rows == [
        (name, code.tobytes(), label)
        for name, code, label in zip(source.ids, source.codes, source.labels.tolist(), strict=True)
    ]
