"""Files in the wrong place: a run's own as output, arguments swapped, something else than what is wanted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_runs import dshc_fails, dshc_ok, write_embeddings
from PIL import Image

from dshc.runs.encoding import is_code_file
from dshc.storage import CodeFile, save_arrays


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run, which a test may damage."""
    return shutil.copytree(run, tmp_path / "copy")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return path


# ---- encode
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
@pytest.mark.parametrize(
    "name",
    [
        "best.safetensors",
        "last.safetensors",
        "codes/query.safetensors",
        "codes/database.safetensors",
        "codes/new.safetensors",
        "checkpoint/state.safetensors",
        "config.toml",
        "split.json",
    ],
)
def test_encode_keeps_the_files_of_the_run(
    copy: Path, tmp_path: Path, name: str, flags: tuple[str, ...]
) -> None:
    data = write_embeddings(tmp_path / "data.npz")
    before = contents(copy)
    line = dshc_fails("encode", copy, data, "--out", copy / name, *flags)
    assert "--out must " in line and name in line
    assert contents(copy) == before


@pytest.mark.parametrize("name", ["best.safetensors", "codes/query.safetensors"])
def test_encode_makes_no_file_of_the_run(copy: Path, tmp_path: Path, name: str) -> None:
    """Codes of something else, taken for the queries' later, would be worse than none."""
    data = write_embeddings(tmp_path / "data.npz")
    if name.startswith("codes/"):
        (copy / name).unlink()
    else:
        shutil.rmtree(copy / "codes")
        (copy / "best.safetensors").rename(copy / "elsewhere.safetensors")
        shutil.copy(copy / "elsewhere.safetensors", copy / "last.safetensors")
    before = contents(copy)
    assert "--out must not be one of a run's own files" in dshc_fails(
        "encode", copy, data, "--out", copy / name
    )
    assert contents(copy) == before


def test_encode_knows_the_run_by_another_path(
    run: Path, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_embeddings(tmp_path / "data.npz")
    (tmp_path / "link").symlink_to(copy)
    monkeypatch.chdir(copy / "codes")
    for out in (
        tmp_path / "link" / "codes" / "query.safetensors",
        "query.safetensors",
        "../best.safetensors",
    ):
        assert "one of a run's own files" in dshc_fails("encode", copy, data, "--out", out, "--overwrite")
    # Those of another run no less.
    assert "one of a run's own files" in dshc_fails(
        "encode", run, data, "--out", copy / "codes" / "query.safetensors", "--overwrite"
    )


def test_encode_replaces_code_files_only(run: Path, tmp_path: Path) -> None:
    data, out = write_embeddings(tmp_path / "data.npz"), tmp_path / "codes.safetensors"
    dshc_ok("encode", run, data, "--out", out)
    first = out.read_bytes()
    assert "exists; --overwrite replaces it" in dshc_fails("encode", run, data, "--out", out)
    other = write_embeddings(tmp_path / "other.npz", seed=8)
    dshc_ok("encode", run, other, "--out", out, "--overwrite")
    assert out.read_bytes() != first
    out.write_bytes(b"somebody's embeddings")
    line = dshc_fails("encode", run, data, "--out", out, "--overwrite")
    assert "must name a new file or a code file" in line and out.read_bytes() == b"somebody's embeddings"


def test_codes_of_many_classes_are_known_for_codes(tmp_path: Path) -> None:
    """The header names them all before it says what it is."""
    names = tuple(f'class {i} "kind"' for i in range(20_000))
    codes = CodeFile(np.zeros((2, 1), np.uint8), 8, class_names=names).save(tmp_path / "many.safetensors")
    assert is_code_file(codes)
    codes.write_bytes(codes.read_bytes()[:-1])
    assert is_code_file(codes), "damaged, and still codes"
    other = save_arrays(
        tmp_path / "other.safetensors", "features", {"a": np.zeros(1)}, {"x": '"kind":"dshc.codes"'}
    )
    assert not is_code_file(other)
    for content in (b"", b"1234567", b"\xff" * 64):
        (tmp_path / "odd.safetensors").write_bytes(content)
        assert not is_code_file(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("place", ["file/codes.safetensors", "closed/new/codes.safetensors"])
def test_encode_looks_where_it_writes_before_it_encodes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "closed").mkdir(mode=0o555)
    if place.startswith("closed") and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    monkeypatch.setattr("dshc.cli.encode.read_input", lambda *a, **k: pytest.fail("the input was read"))
    line = dshc_fails("encode", run, write_embeddings(tmp_path / "data.npz"), "--out", tmp_path / place)
    assert f"{tmp_path / place}: " in line


def test_encode_with_its_arguments_swapped(run: Path, tmp_path: Path) -> None:
    data = write_embeddings(tmp_path / "data.npz")
    line = dshc_fails("encode", data, run, "--out", tmp_path / "codes.safetensors")
    assert "data.npz: must be a run folder, it is a file" in line
    assert not (tmp_path / "codes.safetensors").exists()


# ---- evaluate
# -------------------------------------------------------------------------------------------------


def test_evaluate_writes_into_folders_only(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text("mine")
    codes = run / "codes" / "query.safetensors"
    for target in ((run,), (codes, codes)):
        line = dshc_fails("evaluate", *target, "--out", out)
        assert "--out must name a folder" in line and "out.json is a file" in line
    assert out.read_text() == "mine"


def test_evaluate_keeps_the_files_of_another_run(run: Path, copy: Path, tmp_path: Path) -> None:
    codes, before = run / "codes" / "query.safetensors", contents(copy)
    for target in ((run,), (codes, codes)):
        assert "--out must not be the folder of another run" in dshc_fails("evaluate", *target, "--out", copy)
    assert contents(copy) == before
    assert "no such file or folder" in dshc_fails("evaluate", tmp_path / "missing", codes)


def test_a_codebook_replaces_codebooks_only(copy: Path, tmp_path: Path) -> None:
    before = contents(copy)
    small = ("codebook", "--classes", 3, "--bits", 9)
    for name in ("best.safetensors", "codes/query.safetensors"):
        for more in ((), ("--overwrite",)):
            line = dshc_fails(*small, "--out", copy / name, *more)
            assert "--out must not be one of a run's own files" in line
    assert contents(copy) == before
    out = tmp_path / "book.safetensors"
    dshc_ok(*small, "--out", out)
    whole = {path: path.read_bytes() for path in (out, out.with_suffix(".png"))}
    assert f"{out}: exists; --overwrite replaces it" in dshc_fails(*small, "--out", out)
    dshc_ok(*small, "--out", out, "--overwrite")
    assert {path: path.read_bytes() for path in whole} == whole
    codes = copy / "codes" / "query.safetensors"
    other = tmp_path / "codes.safetensors"
    other.write_bytes(codes.read_bytes())
    assert "must name a new file or a codebook" in dshc_fails(*small, "--out", other, "--overwrite")
    (tmp_path / "holiday.png").write_text("mine")
    for more in ((), ("--overwrite",)):
        assert "holiday.png" in dshc_fails(*small, "--out", tmp_path / "holiday.safetensors", *more)
    assert (tmp_path / "holiday.png").read_text() == "mine" and other.read_bytes() == codes.read_bytes()


def test_evaluate_codes_of_different_lengths(run: Path, tmp_path: Path) -> None:
    queries = run / "codes" / "query.safetensors"
    file = CodeFile.load(run / "codes" / "database.safetensors")
    wide = np.concatenate([file.codes, np.zeros_like(file.codes)], axis=1)
    other = CodeFile(wide, 32, labels=file.labels, class_names=file.class_names).save(
        tmp_path / "wide.safetensors"
    )
    line = dshc_fails("evaluate", queries, other)
    assert f"{queries} and {other} must hold codes of one length, got 9 bits and 32 bits" in line
    line = dshc_fails("evaluate", other, queries)
    assert f"{other} and {queries} must hold codes of one length, got 32 bits and 9 bits" in line


def test_evaluate_a_run_where_codes_are_wanted(run: Path) -> None:
    codes = run / "codes" / "database.safetensors"
    names = ("DATABASE", "QUERIES")
    for name, other, arguments in zip(names, names[::-1], ((codes, run), (run, codes)), strict=True):
        line = dshc_fails("evaluate", *arguments)
        assert f"{name} must be a code file where {other} is one, {run} is a folder" in line


def test_evaluate_something_else(run: Path, photo: Path, tmp_path: Path) -> None:
    codes, weights = run / "codes" / "query.safetensors", run / "best.safetensors"
    data = write_embeddings(tmp_path / "data.npz")
    for path in (photo, weights, data):
        assert f"{path}: must be a run folder or a code file, it is neither" in dshc_fails("evaluate", path)
        for arguments in ((codes, path), (path, codes)):
            assert str(path) in dshc_fails("evaluate", *arguments)
    assert f"{codes}: a code file of queries needs a second one" in dshc_fails("evaluate", codes)


def test_evaluate_and_search_what_is_not_there(run: Path, tmp_path: Path) -> None:
    codes, missing = run / "codes" / "query.safetensors", tmp_path / "missing.safetensors"
    for arguments in (
        ("evaluate", missing),
        ("evaluate", codes, missing),
        ("evaluate", missing, codes),
        ("search", missing, "--item", 0),
        ("search", codes, missing),
        ("search", codes, tmp_path / "missing.npz", "--run", run),
        ("search", codes, codes.parent.parent / "missing.npz", "--run", missing),
        ("search", run, missing),
        ("encode", run, missing, "--out", tmp_path / "out.safetensors"),
        ("encode", missing, codes, "--out", tmp_path / "out.safetensors"),
    ):
        line = dshc_fails(*arguments)
        assert "missing" in line, line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ("--ties", "expcted"),
            "ties must be one of expected, index, best, worst, got 'expcted'; did you mean 'expected'?",
        ),
        (("--ties", "random"), "ties must be one of expected, index, best, worst, got 'random'"),
        (("--denominator", "retreived"), "did you mean 'retrieved'?"),
        (("--denominator", "all"), "denominator must be one of retrieved, min, relevant, got 'all'"),
        (
            ("--score", "haming"),
            "score must be one of hamming, overlap, got 'haming'; did you mean 'hamming'?",
        ),
        (("--empty", "skp"), "empty must be one of zero, skip, error, got 'skp'; did you mean 'skip'?"),
        (("--k", "0"), "--k must be at least 1, got 0"),
        (("--k", "5", "--k", "0"), "--k must be at least 1, got 0"),
        (("--k", "-1"), "--k must be at least 1, got -1"),
        (("--k", "ten"), "--k"),
    ],
)
def test_wrong_conventions_are_named_before_anything_is_encoded(
    tmp_path: Path, flags: tuple[str, ...], words: str
) -> None:
    # The run is not there, and is not what is complained of.
    assert words in dshc_fails("evaluate", tmp_path / "run", *flags)
    assert not list(tmp_path.iterdir())


def test_search_names_a_wrong_score(run: Path) -> None:
    line = dshc_fails("search", run, "--item", 0, "--score", "overlp")
    assert "score must be one of hamming, overlap, got 'overlp'; did you mean 'overlap'?" in line


def test_a_mistyped_command_or_flag_is_told_with_the_nearest(run: Path) -> None:
    assert "Did you mean 'train'?" in dshc_fails("trian", "digits")
    line = dshc_fails("evaluate", run, "--denominater", "min")
    assert (
        "--denominater" in line
        and "--denominator" in line
        and "dshc evaluate --help" in line.replace("root", "dshc")
    )
