"""pgvector: the table of :mod:`.postgres_table` in a database that has the extension ``vector``.

pgvector has no type of its own for codes: its operator ``<~>`` is the Hamming distance of PostgreSQL's ``bit(n)``.
What it adds is the index: ``CREATE INDEX ON codes USING hnsw (code bit_hamming_ops)``, whose answers are
approximate.
"""

from __future__ import annotations

from .postgres_table import write_table
from .target import Job

__all__ = ["write"]


def write(job: Job) -> str:
    """Fill the table; returns a statement that takes a query, the text of its bits, as ``%(query)s``."""
    write_table(job, extension="vector")
    query = f"%(query)s::bit({job.source.n_bits})"
    return f"SELECT id, code <~> {query} AS distance FROM {job.table} ORDER BY distance, id LIMIT 10"
