"""The command that runs on a GPU, without one: its stop, its steps, and a rehearsal of all of them on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import on_gpu
import pytest
from gpu import report, run_checks, run_jobs, run_profile
from gpu.records import Records

SCRIPT = Path(on_gpu.__file__)
TIMED = ("one", "batch", "map", "loss", "codes", "radius", "others", "more")
SECTIONS = {
    "One query to a few",
    "A batch",
    "mAP",
    "Histogram",
    "Small calls, wall time",
    "Radius search (waits for the device once)",
    "Loss, forward and backward",
    "Codes from logits",
    "Linear layer of 512 features and loss",
    "Codes from 512 features",
    "Other ops",
    "Metrics beside mAP",
}


def test_stops_without_a_device(tmp_path: Path) -> None:
    """One line, nothing written, and an end that no make target takes for a failure."""
    out = tmp_path / "results"
    done = subprocess.run([sys.executable, str(SCRIPT), "--out", str(out)], capture_output=True, text=True, check=False,
                          env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 and "sees no CUDA device" in done.stdout
    assert not out.exists()


def test_unknown_steps_are_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        on_gpu.main(["--out", str(tmp_path), "--steps", "smoke,speed"])
    said = capsys.readouterr().err
    assert "steps must be among build, limits, smoke" in said and "got 'speed'" in said


# ---- the steps ----


def step(name: str, code: str, seconds: float = 30.0, **options: object) -> on_gpu.Step:
    return on_gpu.Step(name, seconds, ("{python}", "-c", code), **options)


def results(folder: Path, *steps: on_gpu.Step, minutes: float = 1.0) -> dict[str, dict]:
    run = on_gpu.Run(folder, minutes, rehearse=False)
    run.steps(list(steps))
    return {record["name"]: record for record in Records(folder).all("step")}


def test_no_step_stops_another(tmp_path: Path) -> None:
    found = results(
        tmp_path,
        step("good", "print('fine')"),
        step("bad", "raise SystemExit('a wrong answer')"),
        step("slow", "import time; print('begun', flush=True); time.sleep(60)", seconds=0.7),
        step("after", "print('still here')", needs=("good",)),
        step("without", "print('never')", needs=("bad", "other")),
        on_gpu.Step("missing", 5.0, ("/no/such/program",)),
    )
    assert {name: record["result"] for name, record in found.items()} == {
        "good": "passed",
        "bad": "failed",
        "slow": "timed out",
        "after": "passed",
        "without": "left out",
        "missing": "failed",
    }
    assert found["bad"]["last"] == ["a wrong answer"] and found["slow"]["last"] == ["begun"]
    assert found["without"]["last"] == ["bad did not pass"] and "No such file" in found["missing"]["last"][0]
    log = (tmp_path / "log.txt").read_text()
    assert "==== slow: timed out" in log and "still here" in log
    assert "| bad | **failed** |" in (tmp_path / "report.md").read_text()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_steps_of_a_group_run_together(tmp_path: Path) -> None:
    """Each waits for the other's file."""
    wait = """import pathlib, time
pathlib.Path('{mine}').touch()
while not pathlib.Path('{other}').exists(): time.sleep(0.02)"""
    a, b = tmp_path / "a", tmp_path / "b"
    first = step("first", wait.format(mine=a, other=b), group="together")
    second = step("second", wait.format(mine=b, other=a), group="together")
    found = results(tmp_path, first, step("alone", "print(1)"), second)
    assert [record["result"] for record in found.values()] == ["passed"] * 3
    assert list(found)[-1] == "alone"


def test_a_step_goes_on_where_the_device_was_lost(tmp_path: Path) -> None:
    """Twice: by its status, and by a signal."""
    code = f"""
import os, pathlib
tries = pathlib.Path({str(tmp_path / "tries")!r})
n = len(tries.read_text()) if tries.exists() else 0
tries.write_text("x" * (n + 1))
if n == 0: raise SystemExit({on_gpu.DEVICE_LOST})
if n == 1: os.kill(os.getpid(), 11)
"""
    assert results(tmp_path, step("lost", code, goes_on=True))["lost"]["result"] == "passed"
    assert (tmp_path / "tries").read_text() == "xxx"
    (tmp_path / "tries").unlink()
    assert results(tmp_path, step("once", code))["once"]["result"] == "failed"


def test_out_of_time(tmp_path: Path) -> None:
    found = results(tmp_path, step("late", "print(1)"), minutes=0.0)
    assert found["late"]["result"] == "left out" and found["late"]["last"] == ["no time left"]


def test_an_environment_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is put beside the results, where later steps find it."""
    site = tmp_path / "site"
    code = f"import pathlib; pathlib.Path({str(site)!r}).mkdir(); print('installed')"
    monkeypatch.setattr(on_gpu, "PIP", ("{python}", "-c", code))
    build = step("build", "raise SystemExit('error: externally-managed-environment')")
    look = step("look", f"import os; assert os.environ['PYTHONPATH'].startswith({str(site)!r})")
    assert [record["result"] for record in results(tmp_path, build, look).values()] == ["passed", "passed"]


def test_paths_stay_out_of_the_records(tmp_path: Path) -> None:
    found = results(tmp_path, step("says", f"print({str(on_gpu.ROOT / 'build')!r}, {sys.prefix!r})"))
    assert found["says"]["last"] == [".../build ..."]


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        # A job in the background may inherit that the signal is ignored.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import on_gpu, sys, pathlib; run = on_gpu.Run(pathlib.Path(sys.argv[1]), 1, rehearse=False);"
        "wait = 'import os, time; print(os.getpid(), flush=True); time.sleep(60)';"
        "run.steps([on_gpu.Step('waits', 50.0, ('{python}', '-c', wait))])"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=SCRIPT.parent, stderr=subprocess.DEVNULL
    )
    log = tmp_path / ".waits.log"
    until = time.monotonic() + 20
    while not (log.exists() and log.read_text().strip()) and time.monotonic() < until:
        time.sleep(0.05)
    child = int(log.read_text())
    run.send_signal(signal.SIGINT)
    run.wait(20)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    (record,) = Records(tmp_path).all("step")
    assert record["result"] == "interrupted"


# ---- the rehearsal ----


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the steps do, in this process; the checks of all sizes have a test of their own."""
    folder = tmp_path_factory.mktemp("rehearsal")
    records = Records(folder)
    records.add("run", device="none", minutes=1, steps=list(TIMED), commit="abc")
    for limit in on_gpu.REHEARSED_LIMITS:
        records.add("limit", **limit)
    assert run_checks.main(["smoke", "--out", str(folder), "--rehearse"]) == 0
    for name in TIMED:
        assert run_jobs.main([name, "--out", str(folder), "--rehearse"]) == 0, name
    assert run_profile.main(["--out", str(folder), "--rehearse"]) == 0
    report.write(folder)
    return folder


def test_rehearsal(rehearsed: Path) -> None:
    records = Records(rehearsed)
    rows = list(records.all("row"))
    assert {row["section"] for row in rows} >= SECTIONS
    assert all(row["seconds"] > 0 and row["samples"] > 0 for row in rows)
    names = [(row["name"], row["kernel"]) for row in rows]
    assert len(set(names)) == len(names)
    assert not list(records.all("check"))
    ended = {job["name"]: job["result"] for job in records.all("job")}
    assert set(ended.values()) == {"done"}
    kernels = {row["kernel"] for row in rows if row["section"] == "A batch"}
    assert kernels >= {"library's choice", "popc", "mma", "rows", "torch ±1 fp16"}
    text = (rehearsed / "report.md").read_text()
    assert "a rehearsal on the CPU" in text and "commit abc" in text and "Answers that were wrong: 0." in text
    assert all(f"\n## {section}\n" in text for section in SECTIONS) and "## Kernel by kernel" in text


@pytest.mark.deep
def test_the_driver_rehearses(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert on_gpu.main(["--out", str(tmp_path), "--rehearse", "--steps", "build,smoke,codes"]) == 0
    assert "2 steps, not passed: none" in capsys.readouterr().out  # nothing is installed in a rehearsal
    assert {record["step"] for record in Records(tmp_path).all("row")} == {"codes"}


def test_the_peer_is_left_out_without_a_gpu(tmp_path: Path) -> None:
    assert run_jobs.main(["peer", "--out", str(tmp_path), "--rehearse"]) == 0
    left = [job for job in Records(tmp_path).all("job") if job["result"] == "left out"]
    assert left and all(job["why"] == "it needs a GPU" for job in left)
    assert not list(Records(tmp_path).all("row"))


def test_every_op_at_many_sizes(tmp_path: Path) -> None:
    assert run_checks.main(["all", "--out", str(tmp_path), "--rehearse"]) == 0


def test_predictions_name_rows(rehearsed: Path) -> None:
    """A prediction whose row was renamed would silently vanish from the table."""
    known = {f"{row['name']}: {row['kernel']}" for row in Records(rehearsed).all("row")}
    predictions = json.loads(report.PREDICTIONS.read_text())
    assert set(predictions) <= known, sorted(set(predictions) - known)
    assert all(set(entry) <= {"prediction", "kept"} for entry in predictions.values())


def test_committed_results_can_be_read() -> None:
    """The report beside them is what their records say."""
    results_folder = SCRIPT.parents[1] / "docs" / "results"
    for path in results_folder.glob("gpu-*.jsonl"):
        records = Records(path.parent)
        records.path = path
        assert report.Report(records).markdown() == path.with_suffix(".md").read_text(encoding="utf-8"), (
            path.name
        )
