"""A codebook as an object and as a file: parts that do not fit and damaged files are refused."""

import numpy as np
import pytest

from dshc.codebooks import Codebook, build


def test_parts_that_do_not_fit_are_refused():
    codes, offsets = np.zeros((3, 1), np.uint8), np.array([0, 1, 3])
    for change, error, message in [
        ({"n_bits": 9}, ValueError, "codes"),
        ({"codes": codes.astype(np.int32)}, TypeError, "codes must be uint8, got int32"),
        ({"codes": codes + 8}, ValueError, "codes must have padding bits of 0"),
        ({"class_offsets": np.array([0, 2, 2])}, ValueError, "class_offsets"),
        ({"class_offsets": np.array([0, 3, 3])}, ValueError, "class_offsets"),
        ({"class_offsets": np.array([0.0, 1, 3])}, TypeError, "class_offsets"),
        ({"centers": codes}, ValueError, "class_offsets"),
    ]:
        parts = {"n_bits": 3, "codes": codes, "class_offsets": offsets, "centers": codes[:2], **change}
        with pytest.raises(error, match=message):
            Codebook("cpbc", **parts)


@pytest.mark.parametrize("arguments", [("cpbc", 10, 32), ("kbc", 4, 9)])
def test_save_and_load(tmp_path, arguments):
    book = build(*arguments, seed=3)
    path = book.save(tmp_path / "folder" / "book.safetensors")
    loaded = Codebook.load(path)
    for name in ("construction", "n_bits", "seed", "threshold"):
        assert getattr(loaded, name) == getattr(book, name)
    for name in ("codes", "class_offsets", "centers"):
        assert np.array_equal(getattr(loaded, name), getattr(book, name))
        assert getattr(loaded, name).dtype == getattr(book, name).dtype
    assert book.save(tmp_path / "again").read_bytes() == path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_damaged_files_are_refused_by_name(tmp_path):
    path = build("cpbc", 4, 12).save(tmp_path / "book.safetensors")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-1] ^= 1  # a byte of the arrays: what safetensors itself does not notice
    for damaged in (whole[:-5], bytes(flipped), b"", b"not a codebook", whole.replace(b'"12"', b'"11"')):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"book\.safetensors"):
            Codebook.load(path)
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        Codebook.load(tmp_path / "missing.safetensors")


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = build("cpbc", 4, 12).save(tmp_path / "book.safetensors")
    before = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("dshc.storage.whole_files.os.replace", full)
    with pytest.raises(OSError, match="no space"):
        build("cpbc", 4, 16).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"codes": [[1]]}, "codes must be a numpy array, got list"),
        ({"class_offsets": [0, 1]}, "class_offsets must be a numpy array, got list"),
        ({"n_bits": "8"}, "n_bits must be a whole number, got '8'"),
        ({"n_bits": 8.0}, "n_bits must be a whole number, got 8.0"),
    ],
)
def test_a_field_of_another_type_is_named(change, message):
    codes = np.array([[1]], np.uint8)
    fields = {"n_bits": 8, "codes": codes, "class_offsets": np.array([0, 1]), "centers": codes}
    with pytest.raises(TypeError, match=message):
        Codebook("own", **{**fields, **change})
