"""LanceDB: its own search answers the same, and gives the bytes back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exchange_cases import CLASS_NAMES, check_answers, exported

from dshc.errors import InputError
from dshc.exchange import Exported, export

pytestmark = pytest.mark.services
N_ITEMS = 20_000


@pytest.mark.parametrize("ids", ["rows", "numbers", "names"])
def test_answers(ids: str, n_bits: int, tmp_path: Path) -> None:
    import lancedb

    source = exported(N_ITEMS, n_bits, ids=ids)
    written = export(source, "lancedb", tmp_path / "lance")
    table = lancedb.connect(tmp_path / "lance").open_table("codes")

    def ask(query: np.ndarray, k: int) -> list[tuple[object, float]]:
        rows = table.search(query).distance_type("hamming").limit(k).to_list()
        return [(row["id"], row["_distance"]) for row in rows]

    check_answers(source, ask)
    rows = eval(written.search, {"lancedb": lancedb, "query": source.codes[5]})
    assert len(rows) == 10 and rows[0]["_distance"] == 0


@pytest.mark.parametrize("labels", ["classes", "several"])
def test_every_byte_and_label(labels: str, n_bits: int, tmp_path: Path) -> None:
    import lancedb

    source = exported(300, n_bits, ids="numbers", labels=labels)
    export(source, "lancedb", tmp_path / "lance")
    rows = lancedb.connect(tmp_path / "lance").open_table("codes").to_arrow().to_pylist()
    assert [row["id"] for row in rows] == source.ids.tolist()
    assert [row["code"] for row in rows] == source.codes.tolist()
    if labels == "classes":
        assert [row["label"] for row in rows] == [CLASS_NAMES[label] for label in source.labels]
    else:
        assert [row["labels"] for row in rows] == [
            [CLASS_NAMES[i] for i in np.flatnonzero(label)] for label in source.labels
        ]


def test_a_table_that_exists_and_exports_that_fail(tmp_path: Path) -> None:
    import lancedb

    folder = tmp_path / "new" / "lance"
    codes = np.zeros(((1 << 16) + 1, 2), np.uint8)
    codes[-1, 1] = 255
    bad = Exported(codes=codes, n_bits=10)
    with pytest.raises(InputError, match=r"^codes must have padding bits of 0"):
        export(bad, "lancedb", folder)
    assert not list(tmp_path.iterdir())
    export(exported(20, 16), "lancedb", folder)
    with pytest.raises(InputError, match="has a table 'codes' already"):
        export(exported(30, 16), "lancedb", folder)
    for table in ("codes", "others"):
        with pytest.raises(InputError, match="padding bits"):
            export(bad, "lancedb", folder, table=table, overwrite=True)
    database = lancedb.connect(folder)
    assert [path.name for path in folder.iterdir()] == ["codes.lance"]
    assert database.open_table("codes").count_rows() == 20
    export(exported(30, 24), "lancedb", folder, overwrite=True)
    assert database.open_table("codes").count_rows() == 30


def test_more_tables_than_a_page(tmp_path: Path) -> None:
    """A table is found however many there are: LanceDB lists them ten at a time by default."""
    for i in range(12):
        export(exported(11, 16), "lancedb", tmp_path / "lance", table=f"t{i:02}")
    with pytest.raises(InputError, match="has a table 't11' already"):
        export(exported(11, 16), "lancedb", tmp_path / "lance", table="t11")


def test_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="out must be a folder or a URL for LanceDB"):
        export(exported(20, 16), "lancedb", tmp_path / "file")
    with pytest.raises(InputError, match="nowhere://codes: "):
        export(exported(20, 16), "lancedb", "nowhere://codes")
