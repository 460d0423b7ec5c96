"""Exports to files and back: every bit, id and label; and what is refused or fails leaves nothing."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from exchange_cases import CLASS_NAMES, exported

import dshc_fast
from dshc.errors import InputError
from dshc.exchange import SOURCES, Exported, export, load
from dshc.exchange.target import Job

MODULES = {"faiss": "faiss", "npy": "numpy", "parquet": "pyarrow", "usearch": "usearch"}


@pytest.fixture(params=sorted(SOURCES))
def kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(MODULES[request.param], reason=f"{MODULES[request.param]} is not installed")
    return request.param


def bits_of(codes: np.ndarray, n_bits: int) -> np.ndarray:
    """Bit by bit, as the definition says."""
    return np.array([[int(row[j // 8]) >> (j % 8) & 1 for j in range(n_bits)] for row in codes])


@pytest.mark.parametrize("n_bits", [1, 30, 48, 64, 130])
@pytest.mark.parametrize(
    ("ids", "labels"), [("rows", ""), ("numbers", "classes"), ("names", "several"), ("names", "classes")]
)
def test_round_trip(kind: str, n_bits: int, ids: str, labels: str, tmp_path: Path) -> None:
    source = exported(50, n_bits, ids=ids, labels=labels, score="hamming" if kind == "faiss" else "overlap")
    export(source, kind, tmp_path / "out")
    file = load(tmp_path / "out", kind)
    assert np.array_equal(bits_of(file.codes, n_bits), dshc_fast.unpack_codes(source.codes, n_bits))
    assert file.n_bits == n_bits and file.score == source.score and file.model == "a model"
    assert file.ids == (None if source.ids is None else tuple(map(str, source.ids)))
    assert file.class_names == source.class_names
    assert (file.labels is None) == (source.labels is None)
    assert source.labels is None or np.array_equal(file.labels, source.labels)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "out") == (
        [] if kind == "parquet" else ["out.json"]
    )


def test_more_rows_than_a_chunk(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Exported.chunks, "__defaults__", (16,))
    source = exported(50, 20, ids="numbers", labels="classes")
    export(source, kind, tmp_path / "out")
    file = load(tmp_path / "out", kind)
    assert np.array_equal(file.codes, source.codes) and np.array_equal(file.labels, source.labels)


def test_npy_is_what_numpy_loads(tmp_path: Path) -> None:
    source = exported(12, 12, ids="names", labels="classes")
    written = export(source, "npy", tmp_path / "codes.npy")
    assert np.array_equal(np.load(tmp_path / "codes.npy"), source.codes)
    told = json.loads((tmp_path / "codes.npy.json").read_text())
    assert (told["n_bits"], told["bit_order"], told["ids"]) == (12, "little", list(source.ids))
    assert told["labels"] == source.labels.tolist() and told["class_names"] == list(CLASS_NAMES)
    top = eval(written.search, {"np": np, "dshc_fast": dshc_fast, "queries": source.codes[:2]})
    assert top.indices[:, 0].tolist() == [0, 1]


def test_parquet_is_what_pyarrow_reads(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet

    source = exported(9, 12, ids="numbers", labels="several")
    written = export(source, "parquet", tmp_path / "codes.parquet")
    table = pyarrow.parquet.read_table(tmp_path / "codes.parquet")
    assert table.schema.field("code").type == pa.binary(2) and table.schema.field("id").type == pa.int64()
    assert table["code"].to_pylist() == [code.tobytes() for code in source.codes]
    assert table["labels"].to_pylist() == [np.flatnonzero(row).tolist() for row in source.labels]
    assert np.array_equal(eval(written.search, {"np": np, "pyarrow": pyarrow}), source.codes)


@pytest.mark.parametrize("binary", [True, False])
def test_parquet_of_another_program(binary: bool, tmp_path: Path) -> None:
    """Without our metadata: binary of one length or lists of uint8, all bits of the bytes unless told otherwise."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet

    codes = [b"\x01\x02", b"\x03\x04"]
    column = (
        pa.array(codes, pa.binary()) if binary else pa.array(list(map(list, codes)), pa.list_(pa.uint8()))
    )
    pyarrow.parquet.write_table(pa.table({"code": column, "id": pa.array(["x", "y"])}), tmp_path / "other")
    file = load(tmp_path / "other", "parquet")
    assert file.n_bits == 16 and file.ids == ("x", "y") and file.codes.tolist() == [[1, 2], [3, 4]]
    assert load(tmp_path / "other", "parquet", n_bits=11).n_bits == 11


def test_bytes_filled_from_the_top(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (6, 13), dtype=np.uint8)
    np.save(tmp_path / "codes.npy", np.packbits(bits, axis=1))
    file = load(tmp_path / "codes.npy", "npy", n_bits=13, bit_order="big")
    assert np.array_equal(bits_of(file.codes, 13), bits)


def write_wrong(path: Path, what: str) -> None:
    np.savez(path, a=np.zeros(3)) if what == "npz" else np.save(path, np.zeros((3, 2), np.float32))


@pytest.mark.parametrize(
    ("from_", "content", "words"),
    [
        ("npy", b"", "must be an .npy file"),
        ("npy", b"hello, this is no array", "must be an .npy file"),
        ("npy", "npz", "archive of several arrays"),
        ("npy", "float32", "must hold packed codes, uint8"),
        ("parquet", b"hello, this is no table", "must be a Parquet file"),
        ("faiss", b"hello, this is no index", "must be a binary index of faiss"),
    ],
)
def test_files_of_another_kind(from_: str, content: bytes | str, words: str, tmp_path: Path) -> None:
    pytest.importorskip(MODULES[from_], reason=f"{MODULES[from_]} is not installed")
    path = tmp_path / "file"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        with open(path, "wb") as file:
            write_wrong(file, content)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=words):
        load(path, from_)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_bits": 9}, "must have shape"),
        ({"n_bits": 13}, "padding bits of 0"),
        ({"bit_order": "middle"}, "bit order must be one of little, big"),
        ({"from_": "npz"}, "did you mean 'npy'"),
        ({"from_": "fais"}, "did you mean 'faiss'"),
    ],
)
def test_wrong_arguments_of_load(arguments: dict, words: str, tmp_path: Path) -> None:
    codes = np.full((2, 2), 255, np.uint8) if arguments.get("n_bits") == 13 else np.zeros((2, 3), np.uint8)
    np.save(tmp_path / "codes.npy", codes)
    with pytest.raises(InputError, match=words):
        load(tmp_path / "codes.npy", **{"from_": "npy", **arguments})


def test_what_lies_beside_must_agree(tmp_path: Path) -> None:
    out = tmp_path / "codes.npy"
    export(exported(9, 12), "npy", out)
    for arguments, words in (({"n_bits": 11}, "n_bits must be 12"), ({"bit_order": "big"}, "must be little")):
        with pytest.raises(InputError, match=words):
            load(out, "npy", **arguments)
    np.save(out, np.zeros((3, 2), np.uint8))
    with pytest.raises(InputError, match="must tell of the 3 codes of codes.npy, got 9"):
        load(out, "npy")
    for text, words in (
        ("{", "must be a JSON object"),
        ('{"kind": "x"}', "must be of kind"),
        ("[]", "JSON object"),
    ):
        (tmp_path / "codes.npy.json").write_text(text)
        with pytest.raises(InputError, match=words):
            load(out, "npy")


def test_ids_given_twice_in_a_file(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet

    table = pa.table({"code": pa.array([b"a", b"b"], pa.binary()), "id": ["x", "x"]})
    pyarrow.parquet.write_table(table, tmp_path / "twice.parquet")
    with pytest.raises(InputError, match="twice.parquet: ids must differ from each other, got 'x' twice"):
        load(tmp_path / "twice.parquet", "parquet")


@pytest.fixture(params=["npy", "parquet", "faiss", "usearch"])
def file_kind(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(MODULES[request.param], reason=f"{MODULES[request.param]} is not installed")
    return request.param


def test_a_failed_export_leaves_nothing(file_kind: str, tmp_path: Path) -> None:
    """The last of two chunks is wrong; folders that were made for the file go too."""
    codes = np.zeros(((1 << 16) + 1, 2), np.uint8)
    codes[-1, 1] = 255
    if file_kind == "usearch":  # which takes a while to add many codes
        codes = codes[-5000:]
    source = Exported(codes=codes, n_bits=10)
    with pytest.raises(InputError, match="padding bits"):
        export(source, file_kind, tmp_path / "new" / "folder" / "out")
    assert not list(tmp_path.iterdir())
    (tmp_path / "new").mkdir()
    with pytest.raises(InputError, match="padding bits"):
        export(source, file_kind, tmp_path / "new" / "out")
    assert not list((tmp_path / "new").iterdir())


def test_npy_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that names the file. A memory map would end the process with SIGBUS there."""

    def full(*_: object, **__: object) -> None:
        raise AssertionError("not through a memory map")

    class Full(io.FileIO):
        def write(self, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np.lib.format, "open_memmap", full)
    monkeypatch.setattr(Path, "open", lambda path, mode: Full(path, mode))
    with pytest.raises(OSError, match="No space left on device") as error:
        export(exported(50, 20), "npy", tmp_path / "out.npy")
    assert error.value.filename == str(tmp_path / "out.npy") and not list(tmp_path.iterdir())


def test_an_export_that_is_stopped_leaves_nothing(
    file_kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "done", stop)
    with pytest.raises(KeyboardInterrupt):
        export(exported(50, 20), file_kind, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_kept(file_kind: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(exported(9, 12), file_kind, out)
    before = out.read_bytes()
    with pytest.raises(
        InputError, match=r"out: exists; --overwrite \(in Python overwrite=True\) replaces it"
    ):
        export(exported(9, 20), file_kind, out)
    bad = Exported(codes=np.full((3, 2), 255, np.uint8), n_bits=10)
    with pytest.raises(InputError, match="padding bits"):
        export(bad, file_kind, out, overwrite=True)
    assert out.read_bytes() == before
    export(exported(9, 20), file_kind, out, overwrite=True)
    assert out.read_bytes() != before


def test_a_file_of_another_kind_is_kept(file_kind: str, tmp_path: Path) -> None:
    out = tmp_path / "thesis.txt"
    out.write_text("years of work, far more of them than the 64 bytes that a header takes, in one file")
    before = out.read_bytes()
    with pytest.raises(InputError, match="is neither, and is left as it is"):
        export(exported(9, 12), file_kind, out, overwrite=True)
    assert out.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_json_of_others_beside_is_kept(tmp_path: Path) -> None:
    (tmp_path / "codes.npy.json").write_text('{"mine": 1}')
    for overwrite, words in (
        (False, "exists, and would tell of codes.npy"),
        (True, "must be a JSON object of kind"),
    ):
        with pytest.raises(InputError, match=words):
            export(exported(9, 12), "npy", tmp_path / "codes.npy", overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["codes.npy.json"]


@pytest.mark.parametrize("to", ["faiss", "usearch"])
def test_negative_ids(to: str, tmp_path: Path) -> None:
    pytest.importorskip(MODULES[to], reason=f"{MODULES[to]} is not installed")
    source = Exported(codes=np.zeros((2, 1), np.uint8), n_bits=8, ids=np.array([3, -1]))
    with pytest.raises(InputError, match=f"ids must be at least 0 for {to}"):
        export(source, to, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_other_indexes_of_faiss(tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    source = exported(300, 32)
    graph = faiss.IndexBinaryHNSW(32, 8)
    graph.add(source.codes)
    faiss.write_index_binary(graph, str(tmp_path / "graph"))
    assert np.array_equal(load(tmp_path / "graph", "faiss").codes, source.codes)
    table = faiss.IndexBinaryHash(32, 8)
    table.add(source.codes)
    faiss.write_index_binary(table, str(tmp_path / "table"))
    with pytest.raises(InputError, match="must be an index that keeps its codes.*got IndexBinaryHash"):
        load(tmp_path / "table", "faiss")


@pytest.mark.parametrize("how", ["add", "own ids", "removed", "below an id map"])
def test_ivf_of_faiss_gives_its_codes_back(how: str, tmp_path: Path) -> None:
    """It keeps ids of its own, and gives back by them what is not there, too."""
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    codes = np.random.default_rng(0).integers(0, 256, (40, 4), dtype=np.uint8)
    quantizer = faiss.IndexBinaryFlat(32)
    ivf = faiss.IndexBinaryIVF(quantizer, 32, 4)
    ivf.train(codes)
    index, ids = ivf, None
    if how == "own ids":
        ids = np.random.default_rng(1).permutation(40) * 10 + 500
        ivf.add_with_ids(codes, ids)
    elif how == "below an id map":
        index, ids = faiss.IndexBinaryIDMap(ivf), np.arange(40) * 3
        index.add_with_ids(codes, ids)
    else:
        ivf.add(codes)
    if how == "removed":
        ivf.remove_ids(np.array([0, 1, 2, 20]))
        ids = np.array([row for row in range(40) if row not in (0, 1, 2, 20)])
        codes = codes[ids]
    faiss.write_index_binary(index, str(tmp_path / "ivf.faiss"))
    file = load(tmp_path / "ivf.faiss", "faiss")
    order = np.arange(40) if ids is None else np.argsort(ids)
    assert np.array_equal(file.codes, codes[order])
    assert file.ids == (None if ids is None else tuple(map(str, ids[order].tolist())))


def test_ids_and_codes_of_parquet_that_are_neither_texts_nor_numbers(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    import pyarrow.parquet

    codes = pa.array([b"ab", b"cd"])
    for ids in (pa.array([b"a", b"b"]), pa.array([[1], [2]]), pa.array([0.5, 1.5]), pa.array([True, False])):
        pyarrow.parquet.write_table(pa.table({"id": ids, "code": codes}), tmp_path / "a.parquet")
        with pytest.raises(InputError, match="column 'id' must be integers or strings, got"):
            load(tmp_path / "a.parquet", "parquet")
    categories = pa.array(["a", "b"]).dictionary_encode()
    pyarrow.parquet.write_table(pa.table({"id": categories, "code": codes}), tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet", "parquet").ids == ("a", "b")
    lists = pa.array([[1, 2], [3, None]], pa.list_(pa.uint8()))
    pyarrow.parquet.write_table(pa.table({"code": lists}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="column 'code' must have a value in each byte, got null"):
        load(tmp_path / "a.parquet", "parquet")


def test_a_path_that_is_no_utf_8(kind: str, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff"))
    folder.mkdir()
    source = exported(9, 16)
    if kind == "npy":
        export(source, kind, folder / "out")
        assert np.array_equal(load(folder / "out", kind).codes, source.codes)
    else:
        with pytest.raises(InputError, match="out must be a path in UTF-8 for an? .*, got '.*bad.udcff/out'"):
            export(source, kind, folder / "out")


def test_a_text_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_text("hello\n")
    with pytest.raises(
        InputError, match=r"must be an .npy file, got another or a damaged one \(it is no array\)"
    ):
        load(tmp_path / "a.npy", "npy", n_bits=8)
