"""PostgreSQL, with pgvector and without: the printed statement answers the same, and SQL counts bits as we do."""

from __future__ import annotations

import numpy as np
import pytest
from exchange_cases import CLASS_NAMES, check_answers, exported

import dshc_fast
from dshc.errors import InputError
from dshc.exchange import Exported, bit_texts, export

pytestmark = pytest.mark.services
N_ITEMS = 20_000
TARGETS = ("postgres", "pgvector")


@pytest.fixture
def connection(postgres: str):
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection
        for (table,) in connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall():
            connection.execute(f"DROP TABLE {table}")


def ask_by(connection, source: Exported, statement: str):
    def ask(query: np.ndarray, k: int) -> list[tuple[object, float]]:
        (text,) = bit_texts(query[None], source.n_bits)
        rows = connection.execute(statement, {"query": text}).fetchall()
        assert len(rows) == k
        return rows

    return ask


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("ids", ["rows", "numbers", "names"])
def test_answers(to: str, ids: str, n_bits: int, postgres: str, connection) -> None:
    source = exported(N_ITEMS, n_bits, ids=ids)
    written = export(source, to, postgres)
    assert ("<~>" in written.search) == (to == "pgvector")
    check_answers(source, ask_by(connection, source, written.search))


def test_overlap(n_bits: int, postgres: str, connection) -> None:
    source = exported(N_ITEMS, n_bits, ids="numbers", score="overlap")
    written = export(source, "postgres", postgres, table="tags")
    check_answers(source, ask_by(connection, source, written.search))
    with pytest.raises(
        InputError, match="score must be hamming for pgvector, got overlap, which postgres, duckdb"
    ):
        export(source, "pgvector", postgres, table="others")


@pytest.mark.parametrize("to", TARGETS)
def test_every_bit_and_label(to: str, n_bits: int, postgres: str, connection) -> None:
    source = exported(300, n_bits, ids="names", labels="classes")
    export(source, to, postgres)
    bits = dshc_fast.unpack_codes(source.codes, n_bits)
    columns = ", ".join(f"get_bit(code, {j})" for j in range(n_bits))
    rows = connection.execute(f"SELECT id, length(code), label, {columns} FROM codes").fetchall()
    found = {name: (length, label, code) for name, length, label, *code in rows}
    assert found == {
        name: (n_bits, CLASS_NAMES[label], code.tolist())
        for name, label, code in zip(source.ids, source.labels, bits, strict=True)
    }


def test_several_labels(postgres: str, connection) -> None:
    source = exported(300, 16, labels="several")
    export(source, "postgres", postgres)
    for j, name in enumerate(CLASS_NAMES):
        rows = connection.execute(
            "SELECT id FROM codes WHERE %s = ANY(labels) ORDER BY id", [name]
        ).fetchall()
        assert [row for (row,) in rows] == np.flatnonzero(source.labels[:, j]).tolist()


def test_the_index_of_pgvector_is_used(postgres: str, connection) -> None:
    """The statement of the documentation: ordered by the operator alone."""
    source = exported(N_ITEMS, 64)
    export(source, "pgvector", postgres)
    connection.execute("CREATE INDEX ON codes USING hnsw (code bit_hamming_ops)")
    (text,) = bit_texts(source.codes[7:8], 64)
    statement = "SELECT id FROM codes ORDER BY code <~> %s::bit(64) LIMIT 10"
    plan = "\n".join(line for (line,) in connection.execute(f"EXPLAIN {statement}", [text]).fetchall())
    assert "Index Scan using codes_code_idx" in plan
    assert connection.execute(statement, [text]).fetchone() == (7,)


def tables(connection) -> list[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return sorted(name for (name,) in rows)


@pytest.mark.parametrize("to", TARGETS)
def test_a_table_that_exists(to: str, postgres: str, connection) -> None:
    export(exported(20, 16), to, postgres)
    with pytest.raises(InputError, match="has a table 'codes' already; --overwrite"):
        export(exported(30, 16), to, postgres)
    assert connection.execute("SELECT count(*) FROM codes").fetchone() == (20,)
    export(exported(30, 24), to, postgres, overwrite=True)
    assert connection.execute("SELECT count(*), max(length(code)) FROM codes").fetchone() == (30, 24)


@pytest.mark.parametrize("to", TARGETS)
def test_a_failed_export_leaves_what_was_there(to: str, postgres: str, connection) -> None:
    codes = np.zeros(((1 << 16) + 1, 2), np.uint8)
    codes[-1, 1] = 255
    bad = Exported(codes=codes, n_bits=10)
    with pytest.raises(InputError, match="padding bits"):
        export(bad, to, postgres)
    assert tables(connection) == []
    export(exported(20, 16), to, postgres)
    with pytest.raises(InputError, match="padding bits"):
        export(bad, to, postgres, overwrite=True)
    assert connection.execute("SELECT count(*), max(length(code)) FROM codes").fetchone() == (20, 16)


def test_ids_that_postgres_cannot_hold(postgres: str, connection) -> None:
    source = Exported(codes=np.zeros((2, 1), np.uint8), n_bits=8, ids=("a", "b\0c"))
    with pytest.raises(InputError, match="NUL"):
        export(source, "postgres", postgres)
    assert tables(connection) == []


@pytest.mark.parametrize("to", TARGETS)
def test_no_server(to: str) -> None:
    with pytest.raises(InputError, match=r"postgresql://me@127\.0\.0\.1:9/db: connection") as error:
        export(exported(20, 16), to, "postgresql://me:secret@127.0.0.1:9/db")
    assert "secret" not in str(error.value) and "\n" not in str(error.value)


def test_a_server_without_pgvector(postgres: str, connection, monkeypatch: pytest.MonkeyPatch) -> None:
    import dshc.exchange.pgvector_table as module

    whole = module.write_table
    monkeypatch.setattr(module, "write_table", lambda job, extension: whole(job, "vektor"))
    with pytest.raises(
        InputError, match="must have the extension 'vektor', it has not; --to postgres needs none"
    ):
        export(exported(20, 16), "pgvector", postgres)
    assert tables(connection) == []
