"""The GPU benchmark without a GPU: its stop, and a rehearsal of all of it on the CPU at tiny sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import dshc_fast

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import bench_gpu  # noqa: E402
from gpu import bench, checks, clock, forms, limits, report  # noqa: E402

RESULTS = BENCHMARKS.parent / "docs" / "results"
SECTIONS = {
    "gpu-ranking": {"One query to a few", "A batch", "mAP", "Histogram", "Small calls, wall time",
                    "Radius search (waits for the device once)"},
    "gpu-loss": {"Loss, forward and backward", "Codes from logits", "Linear layer of 512 features and loss"},
}  # fmt: skip


def rehearse(folder: Path, *arguments: str) -> int:
    return bench_gpu.main(["--rehearse", "--out", str(folder), *arguments])


def written(folder: Path) -> dict[str, dict]:
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in SECTIONS}


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rehearsal")
    assert rehearse(folder) == 0
    return folder


def test_stops_without_a_device() -> None:
    before = {path: path.stat().st_mtime_ns for path in RESULTS.iterdir()}
    done = subprocess.run([sys.executable, str(BENCHMARKS / "bench_gpu.py")], capture_output=True, text=True,
                          check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": "",
                                            "PYTHONPATH": os.pathsep.join(filter(None, sys.path))})  # fmt: skip
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and "no CUDA device" in done.stderr and done.stdout == ""
    assert before == {path: path.stat().st_mtime_ns for path in RESULTS.iterdir()}


def test_stops_without_kernels(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(dshc_fast, "build_info", lambda: {"cuda": False})
    assert bench_gpu.main(["--out", str(tmp_path / "results")]) == 2
    assert "no CUDA kernels" in capsys.readouterr().err and not (tmp_path / "results").exists()


def test_rehearsal(rehearsed: Path) -> None:
    assert sorted(path.name for path in rehearsed.iterdir()) == [
        "gpu-loss.json", "gpu-loss.md", "gpu-ranking.json", "gpu-ranking.md"]  # fmt: skip
    for name, result in written(rehearsed).items():
        assert result["complete"] and not result["failed"] and not result["running"]
        assert result["checks"] and {check["result"] for check in result["checks"]} == {"equal"}
        assert SECTIONS[name] <= {row["section"] for row in result["rows"]}
        assert all("this version" in entry["why"] for entry in result["left_out"])
        assert all(row["seconds"] > 0 and row["samples"] > 0 for row in result["rows"])
        names = [(row["name"], row["kernel"]) for row in result["rows"]]
        assert len(set(names)) == len(names)
        text = (rehearsed / f"{name}.md").read_text()
        assert "a rehearsal on the CPU" in text and "Incomplete" not in text
        assert all(f"\n## {section}\n" in text for section in SECTIONS[name])
    kernels = {
        row["kernel"] for row in written(rehearsed)["gpu-ranking"]["rows"] if row["section"] == "A batch"
    }
    assert kernels == {forms.CHOICE, *forms.FORMS, "torch ±1 fp16"}


def test_predictions_name_rows(rehearsed: Path) -> None:
    """A prediction whose row was renamed would silently vanish from the table."""
    known = {
        f"{row['name']}: {row['kernel']}" for result in written(rehearsed).values() for row in result["rows"]
    }
    predictions = json.loads(report.PREDICTIONS.read_text())
    assert set(predictions) <= known
    assert all(set(entry) <= {"prediction", "kept"} for entry in predictions.values())


def test_a_rehearsal_leaves_results_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path))
    for arguments in (["--rehearse"], ["--only", "few"]):
        assert bench_gpu.folder_of(bench_gpu.parse(arguments)) == tmp_path
    assert bench_gpu.folder_of(bench_gpu.parse([])) == RESULTS


def test_the_fastest_form_is_bold(tmp_path: Path) -> None:
    """Of the forms alone; shares, ratios and targets stand beside each row."""
    run = make_bench(tmp_path)
    run.job = bench.Job(1, "gpu-ranking", "job", print)
    of = bench.setting("A batch", n_db=1000, k=5)
    for kernel, seconds in ((forms.CHOICE, 1e-3), ("popc", 2e-3), ("mma", 3e-3), ("torch", 8e-3)):
        timing = clock.Timing(seconds, 5, "graph")
        run.measure(of, kernel, print, amount=1e9, floors={"popc": 1e-3, "read": None}, timing=timing,
                    targets={"popc": 0.5, "torch": 4.0, "ms": 2.0, "read": 0.8})  # fmt: skip
    lines = {
        line.split(" | ")[0].strip("| "): line for line in run.results["gpu-ranking"].markdown().splitlines()
    }
    assert "| **2 ms** | 500 | popc 0.50 | 4 |" in lines["popc"]
    assert "popc ≥ 0.5: yes; torch ≥ 4: yes; ≤ 2 ms: yes; read ≥ 0.8: not measured" in lines["popc"]
    assert (
        "popc ≥ 0.5: **no**; torch ≥ 4: **no**; ≤ 2 ms: **no**" in lines["mma"]
        and "**3 ms**" not in lines["mma"]
    )
    assert "| 1 ms |" in lines[forms.CHOICE]


def test_a_wrong_answer_stops_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls, right = [], dshc_fast.hamming_topk

    def wrong_at_times(*arguments: object, **options: object) -> object:
        found = right(*arguments, **options)
        calls.append(1)
        return found if len(calls) % 2 else found._replace(indices=found.indices.flip(-1))

    monkeypatch.setattr(dshc_fast, "hamming_topk", wrong_at_times)
    assert rehearse(tmp_path) == 1
    for result in written(tmp_path).values():
        assert not result["rows"] and not result["complete"]
    failed = [check for check in written(tmp_path)["gpu-ranking"]["checks"] if check["result"] != "equal"]
    assert failed and all(check["name"].startswith("hamming_topk") for check in failed)
    assert "differ, first at" in failed[0]["result"]
    assert "**hamming_topk" in (tmp_path / "gpu-ranking.md").read_text()


def test_wrong_answers_at_the_size_that_is_timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A form that differs, a search that misses an item: the job fails by name, nothing of it is timed."""
    right = dshc_fast.hamming_topk

    def wrong(queries: torch.Tensor, database: torch.Tensor, k: int) -> object:
        found = right(queries, database, k)
        return found._replace(indices=found.indices + 1) if os.environ.get(forms.VARIABLE) == "mma" else found

    monkeypatch.setattr(checks, "run_all", lambda *_, **options: {})
    monkeypatch.setattr(dshc_fast, "hamming_topk", wrong)
    assert rehearse(tmp_path, "--only", "batch(10000000, 10)") == 1
    (failed,) = written(tmp_path)["gpu-ranking"]["failed"]
    assert failed["what"] == "batch(10000000, 10)" and "mma and the library's choice differ" in failed["why"]
    assert {row["kernel"] for row in written(tmp_path)["gpu-ranking"]["rows"]} == {forms.CHOICE, "popc"}
    monkeypatch.setattr(dshc_fast, "hamming_radius", lambda *_: wrong_radius)
    wrong_radius = dshc_fast.HammingRadius(torch.tensor([0, 1]), torch.tensor([5]), torch.tensor([0]))
    assert rehearse(tmp_path, "--only", "few(10000000, 1)") == 1
    assert "radius search differ" in written(tmp_path)["gpu-ranking"]["failed"][0]["why"]


def test_out_of_time(tmp_path: Path) -> None:
    assert rehearse(tmp_path, "--minutes", "0") == 0
    for result in written(tmp_path).values():
        assert not result["rows"] and len(result["left_out"]) > 10
        assert any("no time left" in entry["why"] for entry in result["left_out"])


def make_bench(folder: Path) -> bench.Bench:
    results = {"gpu-ranking": report.Results(folder, "gpu-ranking", "Title", {"device": "none"})}
    return bench.Bench(results, limits.Limits(), minutes=1.0, rehearsal=True)


def test_jobs_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is recorded by name, the others run, and a device that is gone ends the run."""
    ran = []

    def raises(error: Exception) -> bench.Run:
        def run(_: bench.Bench) -> None:
            ran.append(type(error).__name__)
            raise error

        return run

    jobs = [bench.Job(3, "gpu-ranking", "third", lambda _: ran.append("third")),
            bench.Job(1, "gpu-ranking", "first", raises(RuntimeError("a launch failed\nmore"))),
            bench.Job(2, "gpu-ranking", "second", raises(torch.OutOfMemoryError("no room"))),
            bench.Job(2, "gpu-ranking", "huge", lambda _: ran.append("huge"), n_bytes=10**15)]  # fmt: skip
    run = make_bench(tmp_path)
    monkeypatch.setattr(run, "_room", lambda: 10**14)
    assert run.run(jobs)
    assert ran == ["RuntimeError", "OutOfMemoryError", "third"]
    found = run.results["gpu-ranking"]
    assert found.failed == [{"what": "first", "why": "RuntimeError: a launch failed"}]
    assert [entry["what"] for entry in found.left_out] == ["second", "huge"]
    assert "needs 1000000 GB" in found.left_out[1]["why"] and "first: RuntimeError" in found.markdown()

    run = make_bench(tmp_path)
    monkeypatch.setattr(run, "_alive", lambda: False)
    assert not run.run(jobs)
    saved = json.loads((tmp_path / "gpu-ranking.json").read_text())
    assert saved["running"] == "first; the device stopped answering" and not saved["complete"]


def test_room_on_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large databases are given back before the room is taken; a device that errs is not alive."""
    run = make_bench(tmp_path)
    small, large = run.database("random", 64, 10), torch.empty(1, dtype=torch.uint8).expand(1 << 40)
    run.rehearsal = False
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (50 << 30, 80 << 30))
    for kept, n_bytes, left in ((small, 0, small), (small, 1 << 40, None), (large, 0, None)):
        run.job, run._database = bench.Job(1, "gpu-ranking", "job", print, n_bytes), ("key", kept)
        assert run._room() == (50 << 30) - bench.HELD_BACK and run._database[1] is left

    def errs() -> None:
        raise RuntimeError("an illegal address")

    monkeypatch.setattr(torch.cuda, "synchronize", errs)
    assert not run._alive()


def test_a_job_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(bench, "STUCK_AFTER", 0.01)
    run = make_bench(tmp_path)
    run.minutes, run.doing = 0.0, "a job"
    run.watch().join(10)
    assert ended == [124]
    assert json.loads((tmp_path / "gpu-ranking.json").read_text())["running"] == "a job; it did not come back"
