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


def read(path: Path, columns: dict[str, str], ids: str = "text") -> Any:
    folder = path.parent / f"index-{len(list(path.parent.iterdir()))}"
    with HashIndex.create(folder, bits=8, ids=ids, metadata=columns) as index:
        return read_metadata(path, index.layout)


def test_what_arrow_and_pandas_write(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(
        b"\xef\xbb\xbfid,at,span,year,big,camera,other\n"
        b"1,10:30:00,90,7,9007199254740993,NA,\xff\n"
        b" 2 ,,,8.0,2.0,,x\n"
        b'3,00:00:01,1,NA, 3,"",y\n'
    )
    columns = {
        "at": "time32[s]",
        "span": "duration[s]",
        "year": "int16",
        "big": "int64",
        "camera": "string",
    }
    kept = read(path, columns, "int64").of([1, 2, 3])
    assert [None if t is None else t.isoformat() for t in kept["at"].to_pylist()] == [
        "10:30:00",
        None,
        "00:00:01",
    ]
    assert [None if t is None else t.total_seconds() for t in kept["span"].to_pylist()] == [90, None, 1]
    assert kept["year"].to_pylist() == [7, 8, None]
    assert kept["big"].to_pylist() == [2**53 + 1, 2, 3], "not by way of floats"
    assert kept["camera"].to_pylist() == ["NA", None, ""], "an empty cell is null, an empty text is none"


def test_ids_of_the_kind_of_the_index(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id,year\n007,1\n 8,2\n")
    assert read(path, {"year": "int8"}, "int64").of([7, 8])["year"].to_pylist() == [1, 2]
    assert read(path, {"year": "int8"}, "text").of(["007", " 8", "7"])["year"].to_pylist() == [1, 2, None]


def test_a_column_twice(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("id,year,year\n7,1,2\n")
    with pytest.raises(InputError, match="must name each column once, got 'year' twice"):
        read(path, {"year": "int8"})
    path.write_text("id,year,,\n7,1,,\n")
    assert read(path, {"year": "int16"}).of(["7"])["year"].to_pylist() == [1], (
        "of what nobody reads nothing is asked"
    )
    path.write_text("")
    with pytest.raises(InputError, match="m.csv: damaged, or no .csv file .Empty CSV file"):
        read(path, {"month": "int8"})


def test_what_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("\nid,year,big\n7,1,1e+16\ntotal,8,+5\n,9,1e3\nNone,10,2.00\n")
    numbers = read(path, {"year": "int8", "big": "int64"}, "int64")
    assert numbers.of([7, 8])["year"].to_pylist() == [1, None]
    assert numbers.of([7])["big"].to_pylist() == [10**16]
    texts = read(path, {"year": "int8", "big": "int64"}, "text").of(["", "None", "total"])
    assert texts["year"].to_pylist() == [9, 10, 8] and texts["big"].to_pylist() == [1000, 2, 5]


def test_a_long_cell(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('id,year,text\n7,1,"' + "x" * 200_000 + '"\n')
    assert read(path, {"year": "int8"}).of(["7"])["year"].to_pylist() == [1]
    path.write_text('id,year,"' + "x" * 200_000)
    with pytest.raises(InputError, match="m.csv: "):
        read(path, {"year": "int16"})
