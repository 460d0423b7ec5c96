"""The command as a process of its own: signals, exit codes, a closed pipe."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_runs import write_embeddings
from training_runs import environment

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


def start(*arguments: object) -> subprocess.Popen[str]:
    """The command, its signals as in a terminal, also where the tests run in the background and ignore them."""
    fresh = "import runpy, signal, sys\n"
    fresh += "".join(f"signal.signal(signal.{name}, signal.default_int_handler)\n" for name in SIGNALS[:1])
    fresh += "".join(f"signal.signal(signal.{name}, signal.SIG_DFL)\n" for name in SIGNALS[1:])
    fresh += "runpy.run_module('dshc', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", fresh, *map(str, arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )


@pytest.mark.deep
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_leaves_a_run_that_resumes(tmp_path: Path, name: str) -> None:
    data, out = write_embeddings(tmp_path / "data.npz"), tmp_path / "run"
    process = start(
        "train", data, "--epochs", 100_000, "--width", 8, "--bits", 9, "--out", out, "--no-report"
    )
    deadline = time.monotonic() + 60
    while not (out / "metrics.jsonl").is_file() or not (out / "metrics.jsonl").read_text().count("\n"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the training did not start"
        time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.Signals[name].value, errors
    assert "--resume" in errors and "Traceback" not in errors
    assert (out / "checkpoint" / "state.safetensors").is_file()
    lines = [line for line in errors.splitlines() if line.startswith("dshc: ")]
    assert len(lines) == 1 and f"--resume --out {out}" in lines[0]


@pytest.mark.deep
def test_a_closed_pipe_is_no_traceback() -> None:
    process = start("codebook", "--classes", 400, "--bits", 1200, "--codes")
    process.stdout.close()
    errors = process.stderr.read()
    process.wait(timeout=60)
    assert "Traceback" not in errors and "Error" not in errors


def test_ascii_streams_and_names_that_are_not_utf8() -> None:
    """What the locale cannot say is escaped, whether Python's streams are ASCII by the locale or by order."""
    for changes in (
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ):
        command = [sys.executable, "-m", "dshc", b"caf\xc3\xa9 \xff \x1b[31m"]
        done = subprocess.run(command, capture_output=True, env={**environment(), **changes}, check=False)
        assert done.returncode == 2 and done.stdout == b""
        line = done.stderr.decode("ascii")
        assert line.startswith("dshc: No such command") and "Traceback" not in line
        assert line.count("\n") == 1 and r"\udcff \x1b[31m" in line
        done = subprocess.run(
            [*command[:3], "--help"], capture_output=True, env={**environment(), **changes}, check=True
        )
        assert "search" in done.stdout.decode("ascii")
