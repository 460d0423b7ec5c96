"""Code files: what is written is read back, what is damaged is refused by name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from dshc.storage import CodeFile, check_same_code, describe_label, save_arrays

MANUAL = Path(__file__).resolve().parents[3] / "docs" / "evaluation.md"
CODES = np.array([[0b00000011, 0b1], [0b00000111, 0b0], [0b11110000, 0b1], [0b00000011, 0b1]], np.uint8)


def a_file(**changes: object) -> CodeFile:
    fields = {
        "codes": CODES,
        "n_bits": 9,
        "labels": np.array([0, 1, 2, 0]),
        "ids": ("a.png", "b c.png", "", "é.png"),
        "class_names": ("cat", "dog", "sea, sky"),
        "model": "dshc 9 bits sha256:0123456789abcdef",
    }
    return CodeFile(**{**fields, **changes})


def assert_same(one: CodeFile, other: CodeFile) -> None:
    assert np.array_equal(one.codes, other.codes) and one.codes.dtype == other.codes.dtype
    for name in ("n_bits", "ids", "class_names", "model", "score"):
        assert getattr(one, name) == getattr(other, name), name
    if one.labels is None:
        assert other.labels is None
    else:
        assert np.array_equal(one.labels, other.labels) and one.labels.dtype == other.labels.dtype


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"labels": None, "ids": None, "class_names": (), "model": ""},
        {"labels": np.eye(4, 3, dtype=np.uint8), "score": "overlap"},
        {"codes": CODES[:0], "labels": np.zeros(0, np.int64), "ids": ()},
        {"codes": np.asfortranarray(CODES)},
    ],
    ids=["all", "bare", "multi-hot", "empty", "strided"],
)
def test_round_trip(tmp_path: Path, changes: dict[str, object]) -> None:
    file = a_file(**changes)
    path = file.save(tmp_path / "deep" / "codes.safetensors")
    loaded = CodeFile.load(path)
    assert_same(file, loaded)
    assert loaded.path == path
    assert [entry.name for entry in path.parent.iterdir()] == ["codes.safetensors"]


@given(st.integers(1, 200), st.integers(0, 20), st.data())
def test_round_trip_of_any_codes(tmp_path: Path, n_bits: int, n: int, data: st.DataObject) -> None:
    bits = data.draw(st.binary(min_size=n * n_bits, max_size=n * n_bits))
    bits = np.frombuffer(bits, np.uint8).reshape(n, n_bits) & 1
    ids = tuple(data.draw(st.lists(st.text(max_size=5), min_size=n, max_size=n)))
    file = CodeFile(np.packbits(bits, axis=1, bitorder="little"), n_bits, ids=ids)
    assert_same(file, CodeFile.load(file.save(tmp_path / "any.safetensors")))


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    first = a_file().save(tmp_path / "one.safetensors").read_bytes()
    assert all(a_file().save(tmp_path / "two.safetensors").read_bytes() == first for _ in range(5))


def test_the_header_is_what_the_documentation_says(tmp_path: Path) -> None:
    path = a_file().save(tmp_path / "codes.safetensors")
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        assert sorted(file.keys()) == ["codes", "ids", "ids_offsets", "labels"]
    assert metadata["kind"] == "dshc.codes" and metadata["version"] == "1"
    assert metadata["n_bits"] == "9" and metadata["bit_order"] == "little"
    assert metadata["model"] == "dshc 9 bits sha256:0123456789abcdef"
    documented = MANUAL.read_text(encoding="utf-8")
    for name in (*metadata, "codes", "labels", "ids", "ids_offsets"):
        assert f"`{name}`" in documented, f"docs/evaluation.md does not mention {name}"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"codes": CODES.astype(np.int8)}, TypeError, "codes must be a numpy array of uint8"),
        ({"codes": CODES.tolist()}, TypeError, "codes must be a numpy array of uint8, got list"),
        ({"codes": CODES[0]}, ValueError, r"must have shape \(n, 2\)"),
        ({"n_bits": 17}, ValueError, r"17 bits must have shape \(n, 3\)"),
        ({"n_bits": 0}, ValueError, r"n_bits must be between 1 and 4096, got 0"),
        ({"n_bits": 4097}, ValueError, "got 4097"),
        ({"n_bits": True}, TypeError, "n_bits must be an int, got bool"),
        ({"codes": CODES | np.uint8(0b10)}, ValueError, r"padding bits of 0 \(from bit 9 on\), got some"),
        ({"labels": np.zeros(3, np.int64)}, ValueError, r"labels must have shape \(4,\)"),
        ({"labels": np.zeros(4, np.float32)}, TypeError, "class ids must be int64, got float32"),
        ({"labels": np.full((4, 2), 2, np.uint8)}, ValueError, "must be 0 and 1, got 2"),
        ({"labels": np.zeros((4, 2), bool)}, TypeError, "multi-hot rows must be uint8, got bool"),
        ({"ids": ("a",)}, ValueError, "ids must name each of the 4 codes, got 1"),
        ({"score": "cosine"}, ValueError, "score must be"),
    ],
)
def test_wrong_fields_are_named(changes: dict[str, object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        a_file(**changes)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        CodeFile.load(tmp_path / "nowhere.safetensors")


def test_every_truncation_is_refused_by_name(tmp_path: Path) -> None:
    path = a_file().save(tmp_path / "codes.safetensors")
    whole = path.read_bytes()
    for length in (0, 4, 8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="codes.safetensors"):
            CodeFile.load(path)


def test_every_changed_byte_is_refused_by_name(tmp_path: Path) -> None:
    path = a_file().save(tmp_path / "codes.safetensors")
    whole = path.read_bytes()
    size = int.from_bytes(whole[:8], "little")
    for position in range(8 + size, len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="codes.safetensors.*damaged"):
            CodeFile.load(path)


def test_a_changed_header_never_gives_other_codes(tmp_path: Path) -> None:
    path = a_file().save(tmp_path / "codes.safetensors")
    whole = path.read_bytes()
    for position in range(8, 8 + int.from_bytes(whole[:8], "little")):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        try:
            loaded = CodeFile.load(path)
        except ValueError as error:
            assert "codes.safetensors" in str(error)
        else:
            assert_same(loaded, a_file())


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"version": "2"}, "version of the code file must be '1', got '2'"),
        ({"bit_order": "big"}, "bit_order must be 'little', got 'big'; .*reverse_bit_order"),
    ],
)
def test_other_versions_and_bit_orders_are_refused(
    tmp_path: Path, metadata: dict[str, str], words: str
) -> None:
    header = {"version": "1", "bit_order": "little", "n_bits": "9", **metadata}
    path = save_arrays(tmp_path / "codes.safetensors", "dshc.codes", {"codes": CODES}, header)
    with pytest.raises(ValueError, match=words):
        CodeFile.load(path)


def test_another_safetensors_file_is_no_code_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    safetensors.numpy.save_file({"codes": CODES}, path)
    with pytest.raises(ValueError, match="weights.safetensors"):
        CodeFile.load(path)


def test_codes_of_different_models_are_pointed_out() -> None:
    with pytest.warns(UserWarning, match="different models"):
        check_same_code(a_file(), a_file(model="another"))
    check_same_code(a_file(), a_file(model=""))


def test_names_and_labels_as_text() -> None:
    file = a_file()
    assert [file.name_of(i) for i in range(4)] == list(file.ids)
    assert [file.label_of(i) for i in range(3)] == ["cat", "dog", "sea, sky"]
    bare = dataclasses.replace(file, labels=None, ids=None)
    assert bare.name_of(2) == "2" and bare.label_of(2) == ""
    assert describe_label(np.array([1, 0, 1, 1], np.uint8), ("a", "b", "c")) == "a, c, 3"
    assert describe_label(7, ("a",)) == "7" and describe_label(-1, ("a",)) == ""  # not known
