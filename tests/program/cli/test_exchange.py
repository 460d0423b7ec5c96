"""``dshc export`` and ``dshc import``: what they say, and what they refuse in one line."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runs import dshc, dshc_fails, dshc_ok
from exchange_cases import exported

from dshc.cli.exchange import _cleaned_up
from dshc.exchange.target import Job
from dshc.storage import CodeFile


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    source = exported(12, 20, ids="names", labels="classes")
    file = CodeFile(
        codes=source.codes,
        n_bits=20,
        labels=source.labels,
        ids=source.ids,
        class_names=source.class_names,
        model="a model",
    )
    return file.save(tmp_path / "codes.safetensors")


def test_out_and_in_again(codes: Path, tmp_path: Path) -> None:
    out, back = tmp_path / "codes.npy", tmp_path / "back.safetensors"
    said, search = dshc_ok("export", codes, "--to", "npy", "--out", out).splitlines()
    assert said == f"{out}: 12 codes of 20 bits, an .npy file"
    assert search.startswith("search: dshc_fast.hamming_topk(queries, np.load(")
    assert (
        dshc_ok("import", out, "--from", "npy", "--out", back).strip()
        == f"{back}: 12 codes of 20 bits, labels and ids"
    )
    assert back.read_bytes() == codes.read_bytes()
    assert dshc_fails("import", out, "--from", "npy", "--out", back).endswith(
        "exists; --overwrite replaces it"
    )
    dshc_ok("import", out, "--from", "npy", "--out", back, "--overwrite")


def test_bits_of_another_program(tmp_path: Path) -> None:
    np.save(tmp_path / "big.npy", np.packbits([[1, 0, 0, 1]], axis=1))
    flags = ("--from", "npy", "--out", tmp_path / "ours.safetensors", "--bits", 4, "--bit-order", "big")
    assert "1 code of 4 bits, no labels or ids" in dshc_ok("import", tmp_path / "big.npy", *flags)
    assert CodeFile.load(tmp_path / "ours.safetensors").codes.tolist() == [[9]]


def refused(codes: Path, *arguments: object) -> str:
    """The line that refuses an export, which must leave the folder as it was."""
    before = {path: path.read_bytes() for path in codes.parent.rglob("*") if path.is_file()}
    line = dshc_fails("export", *arguments)
    assert {path: path.read_bytes() for path in codes.parent.rglob("*") if path.is_file()} == before
    return line


def test_wrong_input(codes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "did you mean 'faiss'" in refused(codes, codes, "--to", "fais", "--out", out)
    assert "no such file" in refused(codes, tmp_path / "none.safetensors", "--to", "npy", "--out", out)
    assert "must be a code file or an index, it is another folder" in refused(
        codes, tmp_path, "--to", "npy", "--out", out
    )
    (tmp_path / "text").write_text("x")
    assert "no safetensors file" in refused(codes, tmp_path / "text", "--to", "npy", "--out", out)
    line = refused(codes, codes, "--to", "npy", "--out", out, "--table", "codes")
    assert "a table must go with pgvector, postgres, milvus, lancedb, duckdb" in line
    assert "must be a file to write, it is a folder" in refused(
        codes, codes, "--to", "npy", "--out", tmp_path
    )
    assert "must be the path of a file, got the URL s3://bucket/codes" in refused(
        codes, codes, "--to", "npy", "--out", "s3://bucket/codes"
    )
    assert "URL such as postgresql://" in refused(codes, codes, "--to", "postgres", "--out", out)
    line = refused(codes, codes, "--to", "duckdb", "--out", out, "--table", "codes; DROP TABLE x")
    assert "table must be letters, digits and _" in line


def test_codes_of_a_run(codes: Path, tmp_path: Path) -> None:
    inside = tmp_path / "run" / "codes" / "database.safetensors"
    inside.parent.mkdir(parents=True)
    inside.write_bytes(codes.read_bytes())
    line = refused(codes, tmp_path / "run", "--to", "npy", "--out", tmp_path / "out")
    assert line.endswith(f"the codes of this run are {inside}")


@pytest.mark.parametrize("to", ["faiss", "usearch", "milvus", "lancedb", "pgvector"])
def test_overlap_is_refused_by_name(to: str, codes: Path, tmp_path: Path) -> None:
    file = CodeFile.load(codes)
    CodeFile(codes=file.codes, n_bits=20, score="overlap").save(codes)
    line = refused(codes, codes, "--to", to, "--out", tmp_path / "out")
    assert f"score must be hamming for {to}, got overlap, which postgres, duckdb, parquet, npy can do" in line


@pytest.mark.parametrize(
    ("to", "out", "module", "package"),
    [
        ("faiss", "x.faiss", "faiss", "faiss-cpu"),
        ("usearch", "x.usearch", "usearch.index", "usearch"),
        ("milvus", "x.db", "pymilvus", "pymilvus>=2.5,<3"),
        ("lancedb", "x", "lancedb", "lancedb"),
        ("duckdb", "x.duckdb", "duckdb", "duckdb"),
        ("parquet", "x.parquet", "pyarrow", "pyarrow"),
        ("postgres", "postgresql://me:secret@host/db", "psycopg", "psycopg[binary]"),
        ("pgvector", "postgresql://me:secret@host/db", "psycopg", "psycopg[binary]"),
    ],
)
def test_a_library_that_is_missing(
    to: str, out: str, module: str, package: str, codes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(codes.parent)
    monkeypatch.setitem(sys.modules, module, None)
    if to in ("lancedb", "duckdb"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    line = refused(codes, codes, "--to", to, "--out", out)
    assert line.startswith(f"dshc: {module} cannot be imported (") and line.endswith(
        f"): pip install '{package}'"
    )
    assert "secret" not in line


def test_importing_what_cannot_be(codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "new.safetensors"
    assert "no such file" in dshc_fails("import", tmp_path / "none", "--from", "npy", "--out", out)
    assert "did you mean 'npy'" in dshc_fails("import", codes, "--from", "npz", "--out", out)
    assert "must be an .npy file" in dshc_fails("import", codes, "--from", "npy", "--out", out)
    assert "must name a .safetensors file" in dshc_fails(
        "import", codes, "--from", "npy", "--out", tmp_path / "x"
    )
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert "pip install 'faiss-cpu'" in dshc_fails("import", codes, "--from", "faiss", "--out", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == [codes.name]


@pytest.mark.parametrize("to", ["npy", "duckdb", "lancedb"])
def test_a_folder_that_cannot_be_written(to: str, codes: Path, tmp_path: Path) -> None:
    """/proc takes no new file, not even from root."""
    if to != "npy":
        pytest.importorskip(to, reason=f"{to} is not installed")
    assert "/proc/" in refused(codes, codes, "--to", to, "--out", "/proc/codes.new")
    if os.geteuid() != 0:
        (tmp_path / "closed").mkdir(mode=0o555)
        assert "closed" in refused(codes, codes, "--to", to, "--out", tmp_path / "closed" / "codes.new")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_leaves_nothing(
    name: str, codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = signal.Signals[name]
    before = signal.signal(number, signal.SIG_DFL)  # nohup, under which the tests may run, has SIGHUP ignored
    try:
        monkeypatch.setattr(Job, "done", lambda *_: os.kill(os.getpid(), number))
        code, output = dshc("export", codes, "--to", "npy", "--out", tmp_path / "new" / "codes.npy")
        assert code == 128 + number and output == "dshc: stopped, nothing was written\n"
        assert [path.name for path in tmp_path.iterdir()] == [codes.name]
        assert signal.getsignal(number) == signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_progress_goes_to_stderr(codes: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from dshc.cli.app import app

    arguments = ["export", str(codes), "--to", "npy", "--out", str(tmp_path / "codes.npy")]
    done = CliRunner().invoke(app, arguments, env={"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"})
    assert "export to npy" in done.stderr and len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("number", "usual", "ended_by"),
    [
        (signal.SIGINT, signal.default_int_handler, KeyboardInterrupt),
        (signal.SIGTERM, signal.SIG_DFL, SystemExit),
    ],
)
def test_a_library_makes_an_error_of_a_signal(
    number: signal.Signals, usual: Any, ended_by: type[BaseException]
) -> None:
    """As usearch does: the command still ends by the signal, not as a defect."""
    before = signal.signal(number, usual)  # of a process in the background SIGINT is ignored
    try:
        with pytest.raises(ended_by), _cleaned_up():
            try:
                signal.raise_signal(number)
            except BaseException:
                raise RuntimeError("Operation has been terminated") from None
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)
    with pytest.raises(RuntimeError, match="something else"), _cleaned_up():
        raise RuntimeError("something else")
