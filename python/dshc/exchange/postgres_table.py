"""PostgreSQL: a table with ``id``, ``code bit(n)`` and ``label``, filled by COPY in one transaction.

Bit ``j`` is the ``j``-th character of the code from the left, ``get_bit(code, j)``; n is the code length, without
padding. Distance is ``bit_count(code # query)``, overlap ``bit_count(code & query)``: PostgreSQL 14 and later have
``bit_count``.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import InputError
from .layouts import bit_texts
from .target import Job, check_table, need, shown_url, table_exists

__all__ = ["write", "write_table"]

_SCHEMES = re.compile(r"postgres(ql)?://")


def write(job: Job) -> str:
    """Fill the table; returns a statement that takes a query, the text of its bits, as ``%(query)s``."""
    write_table(job, extension=None)
    query = f"%(query)s::bit({job.source.n_bits})"
    if job.source.score == "hamming":
        return f"SELECT id, bit_count(code # {query}) AS distance FROM {job.table} ORDER BY distance, id LIMIT 10"
    return (
        f"SELECT id, bit_count(code & {query}) AS overlap FROM {job.table} ORDER BY overlap DESC, id LIMIT 10"
    )


def write_table(job: Job, extension: str | None) -> None:
    """Fill the table; where an extension is named the database must have it, and is told to use it."""
    table = check_table(job.table)
    if not _SCHEMES.match(job.out):
        raise InputError(
            f"out must be a URL such as postgresql://user@host/database, got {shown_url(job.out)!r}"
        )
    psycopg = need("psycopg", "psycopg[binary]")
    where = shown_url(job.out)
    try:
        with psycopg.connect(
            job.out, connect_timeout=10
        ) as connection:  # commits on leaving, or takes all back
            if extension is not None:
                _use(connection, extension, where)
            if job.overwrite:
                connection.execute(f"DROP TABLE IF EXISTS {table}")
            elif connection.execute("SELECT to_regclass(%s)", [table]).fetchone()[0] is not None:
                raise table_exists(table, where)
            _fill(job, connection, table)
    except psycopg.Error as error:
        raise InputError(f"{where}: {_line(error)}") from None


def _use(connection: Any, extension: str, where: str) -> None:
    known = "SELECT count(*) FROM pg_available_extensions WHERE name = %s"
    if not connection.execute(known, [extension]).fetchone()[0]:
        raise InputError(
            f"{where}: the server must have the extension {extension!r}, it has not; --to postgres needs none"
        )
    connection.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")


def _fill(job: Job, connection: Any, table: str) -> None:
    source = job.source
    kinds = ["text" if source.has_names else "bigint", f"bit({source.n_bits})"]
    columns = [f"id {kinds[0]} PRIMARY KEY", f"code {kinds[1]} NOT NULL"]
    if source.labels is not None:
        columns.append("label text" if source.labels.ndim == 1 else "labels text[]")
    connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
        for chunk in source.chunks():
            ids = chunk.ids if isinstance(chunk.ids, list) else chunk.ids.tolist()
            rows: list[Any] = [ids, bit_texts(chunk.codes, source.n_bits)]
            if (labels := source.label_texts(chunk)) is not None:
                rows.append(labels)
            for row in zip(*rows, strict=True):
                copy.write_row(row)
            job.done(chunk.stop)


def _line(error: Exception) -> str:
    """What a server said, without the lines that point into the statement."""
    return str(error).strip().split("\n")[0] or type(error).__name__
