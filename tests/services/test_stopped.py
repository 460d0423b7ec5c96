"""Ctrl-C in the middle of an export: nothing is left of it, and what it was to replace is there."""

from __future__ import annotations

from pathlib import Path

import pytest
from exchange_cases import exported

from dshc.errors import InputError
from dshc.exchange import export
from dshc.exchange.target import Job

pytestmark = pytest.mark.services


@pytest.mark.parametrize("to", ["postgres", "pgvector", "duckdb", "lancedb", "milvus"])
def test_stopped(to: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    table = f"stopped_{to}"  # the two of PostgreSQL may share a server
    if to in ("postgres", "pgvector"):
        out = request.getfixturevalue("postgres")
    else:
        out = str(tmp_path / "codes.db")

    def stopped_export(**options: object) -> None:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Job, "done", stop)
            with pytest.raises(KeyboardInterrupt):
                export(exported(50, 20), to, out, table=table, **options)

    stopped_export()
    assert not list(tmp_path.iterdir())
    export(exported(20, 20), to, out, table=table)  # were it there, this would be refused
    stopped_export(overwrite=True)
    with pytest.raises(InputError, match="has a table .* already"):
        export(exported(20, 20), to, out, table=table)
    export(exported(20, 20), to, out, table=table, overwrite=True)
