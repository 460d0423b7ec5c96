"""Metadata from CSV files: read as the index has its columns and ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow")

from dshc import HashIndex  # noqa: E402
from dshc.errors import InputError  # noqa: E402
from dshc.index.metadata_files import read_metadata  # noqa: E402

COLUMNS = {
    "camera": "string",
    "year": "int32",
    "big": "uint64",
    "price": "float32",
    "half": "halffloat",
    "when": "timestamp[s]",
    "night": "bool",
}


def test_cells_are_of_the_columns_of_the_index(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(
        "id,camera,year,big,price,half,when,night\n"
        "01,007,2001,18446744073709551615,0.5,0.5,2020-01-02 03:04:05,true\n"
        "1,010,,1,,,,\n"
        "True,1e3,2003.0,2,1,1,2020-01-02,false\n"
    )
    with HashIndex.create(tmp_path / "index", bits=8, ids="text", metadata=COLUMNS) as index:
        ids = ["1", "01", "True"]
        index.add(np.zeros((3, 1), np.uint8), ids, metadata=read_metadata(path, index.layout).of(ids))
        kept: Any = index.get(ids).metadata
    assert kept["camera"].to_pylist() == ["010", "007", "1e3"]
    assert kept["year"].to_pylist() == [None, 2001, 2003]
    assert kept["big"].to_pylist() == [1, 2**64 - 1, 2]
    assert kept["half"].to_pylist() == [None, 0.5, 1.0]
    assert [None if t is None else t.isoformat() for t in kept["when"].to_pylist()] == [
        None,
        "2020-01-02T03:04:05",
        "2020-01-02T00:00:00",
    ]
    assert kept["price"].to_pylist() == [None, 0.5, 1.0]
    assert kept["night"].to_pylist() == [None, True, False]


def test_large_integers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id,big,year\n7,18446744073709551615,3\n")
    with HashIndex.create(tmp_path / "index", bits=8, metadata={"big": "uint64", "year": "int8"}) as index:
        kept = read_metadata(path, index.layout).of([7])
        assert kept["big"].to_pylist() == [2**64 - 1]
        path.write_text("id,big,year\n7,1,300\n")
        with pytest.raises(
            InputError, match="column 'year' must be int8, as in the index, got another value"
        ):
            read_metadata(path, index.layout)


def test_an_id_twice(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id,year\n7,1\n7,2\n")
    with HashIndex.create(tmp_path / "index", bits=8, metadata={"year": "int8"}) as index:
        with pytest.raises(InputError, match="must name each id once"):
            read_metadata(path, index.layout)
