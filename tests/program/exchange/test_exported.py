"""What may be exported, and how it is cut into chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from exchange_cases import CLASS_NAMES, exported

from dshc import HashIndex
from dshc.errors import InputError
from dshc.exchange import Exported
from dshc.exchange.exporting import as_exported
from dshc.storage import CodeFile

CODES = np.array([[1, 0], [2, 1], [3, 3]], np.uint8)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        (
            {"codes": CODES.astype(np.int32)},
            TypeError,
            "codes must be a numpy array of uint8, got ndarray of int32",
        ),
        ({"n_bits": 0}, InputError, "n_bits must be between 1 and 4096, got 0"),
        ({"n_bits": 8}, InputError, r"must have shape \(n, 1\), got \(3, 2\)"),
        ({"codes": CODES[:0]}, InputError, "at least one code, got none"),
        ({"score": "cosine"}, InputError, "score must be"),
        ({"ids": ("a", "b")}, InputError, "ids must name each of the 3 codes, got 2"),
        ({"ids": ("a", "b", "a")}, InputError, "ids must differ from each other, got 'a' twice"),
        ({"ids": np.array([7, 5, 7])}, InputError, "ids must differ from each other, got 7 twice"),
        ({"ids": ("a", "b", 3)}, TypeError, "ids must be text or an int64 array, got 3"),
        ({"ids": np.array([7.0, 5, 6])}, TypeError, "int64 array of shape"),
        ({"labels": np.zeros(2, np.int64)}, InputError, r"labels must have shape \(3,\)"),
    ],
)
def test_refused(changes: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Exported(**{"codes": CODES, "n_bits": 10, **changes})


def test_padding_bits_are_found_as_chunks_are_read() -> None:
    codes = CODES.copy()
    codes[2, 1] = 0b100
    chunks = Exported(codes=codes, n_bits=10).chunks(rows=2)
    next(chunks)
    with pytest.raises(InputError, match="padding bits of 0"):
        next(chunks)


@pytest.mark.parametrize("ids", ["rows", "numbers", "names"])
def test_chunks_are_the_source(ids: str) -> None:
    source = exported(10, 12, ids=ids, labels="classes")
    chunks = list(source.chunks(rows=4))
    assert [chunk.stop for chunk in chunks] == [4, 8, 10]
    assert np.array_equal(np.concatenate([chunk.codes for chunk in chunks]), source.codes)
    found = [
        name
        for chunk in chunks
        for name in (chunk.ids if isinstance(chunk.ids, list) else chunk.ids.tolist())
    ]
    assert found == (list(range(10)) if source.ids is None else list(source.ids))
    texts = [text for chunk in chunks for text in source.label_texts(chunk)]
    assert texts == [CLASS_NAMES[label] for label in source.labels]


def test_several_labels_are_lists() -> None:
    source = exported(5, 8, labels="several")
    (chunk,) = source.chunks()
    assert source.label_texts(chunk) == [
        [CLASS_NAMES[i] for i in np.flatnonzero(row)] for row in source.labels
    ]


def test_a_memory_map_comes_in_by_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.lib.format.open_memmap(tmp_path / "codes.npy", mode="w+", dtype=np.uint8, shape=(9, 2))
    codes[:] = np.arange(18).reshape(9, 2) % 4
    read = []
    whole = np.ascontiguousarray
    monkeypatch.setattr(np, "ascontiguousarray", lambda part: read.append(len(part)) or whole(part))
    chunks = list(Exported(codes=codes, n_bits=10).chunks(rows=4))
    assert read == [4, 4, 1] and np.array_equal(np.concatenate([chunk.codes for chunk in chunks]), codes)


def test_of_a_code_file() -> None:
    source = exported(6, 20, ids="names", labels="several", score="overlap")
    file = CodeFile(
        codes=source.codes,
        n_bits=20,
        labels=source.labels,
        ids=source.ids,
        class_names=source.class_names,
        model="a model",
        score="overlap",
    )
    for name, value in vars(Exported.of_file(file)).items():
        assert value is getattr(source, name) or value == getattr(source, name), name


@pytest.mark.parametrize("kind", ["text", "int64"])
def test_of_an_index(tmp_path: Path, kind: str) -> None:
    """Its items in their order, without those that were removed; where a label is not known, the name is empty."""
    codes = np.random.default_rng(0).integers(0, 256, (50, 2), dtype=np.uint8)
    ids = [f"n{i}" for i in range(50)] if kind == "text" else list(range(100, 150))
    path = tmp_path / "index"
    with HashIndex.create(path, bits=16, ids=kind, labels="ids", class_names=["a", "b"]) as index:
        index.add(codes[:30], ids[:30], labels=np.arange(30) % 2)
        index.add(codes[30:], ids[30:])
        index.remove(ids[5:7])
        kept = [*range(5), *range(7, 50)]
        for source in (index, path):
            found = as_exported(source)
            assert np.array_equal(found.codes, codes[kept]) and list(found.ids) == [ids[i] for i in kept]
            (chunk,) = found.chunks()
            assert found.label_texts(chunk) == [("a", "b")[i % 2] if i < 30 else "" for i in kept]
        index.compact()
        assert np.array_equal(as_exported(index).codes, codes[kept])
