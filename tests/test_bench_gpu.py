"""The GPU benchmark without a GPU: its stop, and a rehearsal of all of it on the CPU at tiny sizes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import dshc_fast

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import bench_gpu  # noqa: E402
from gpu import bench, checks, clock, codes, forms, limits, report  # noqa: E402

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


def test_stops_without_kernels(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
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
    kernels = {row["kernel"] for row in written(rehearsed)["gpu-ranking"]["rows"] if row["section"] == "A batch"}
    assert kernels == {forms.CHOICE, *forms.FORMS, "torch ±1 fp16"}


def test_predictions_name_rows(rehearsed: Path) -> None:
    """A prediction whose row was renamed would silently vanish from the table."""
    known = {f"{row['name']}: {row['kernel']}" for result in written(rehearsed).values() for row in result["rows"]}
    predictions = json.loads(report.PREDICTIONS.read_text())
    assert set(predictions) <= known
    assert all(set(entry) <= {"prediction", "kept"} for entry in predictions.values())


def test_a_rehearsal_leaves_results_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path))
    for arguments in (["--rehearse"], ["--only", "few"]):
        assert bench_gpu.folder_of(bench_gpu.parse(arguments)) == tmp_path
    assert bench_gpu.folder_of(bench_gpu.parse([])) == RESULTS


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


def test_a_job_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(bench, "STUCK_AFTER", 0.01)
    run = make_bench(tmp_path)
    run.minutes, run.doing = 0.0, "a job"
    run.watch().join(10)
    assert ended == [124]
    assert json.loads((tmp_path / "gpu-ranking.json").read_text())["running"] == "a job; it did not come back"


class FakeCuda:
    """What the clock and the checks ask of torch.cuda; a capture runs its call, as a real one does not."""

    def __init__(self) -> None:
        self.replays = 0
        fake = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self) -> None:
                self.at = time.perf_counter()

            def synchronize(self) -> None:
                pass

            def elapsed_time(self, end: Event) -> float:
                return 1e3 * (end.at - self.at)

        class Graph:
            def replay(self) -> None:
                fake.replays += 1

        self.Event, self.CUDAGraph = Event, Graph
        self.Stream = lambda: SimpleNamespace(wait_stream=lambda other: None, synchronize=lambda: None)
        self.current_stream = self.Stream
        self.stream = self.graph = lambda _: contextlib.nullcontext()
        self.synchronize = self.reset_peak_memory_stats = lambda: None
        self.memory_allocated, self.max_memory_allocated = (lambda: 10), (lambda: 17)


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    for name, value in vars(fake).items():
        if name != "replays":
            monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(clock, "FLUSH_BYTES", 1024)
    return fake


def test_clock(fake_cuda: FakeCuda) -> None:
    calls, device_clock = [], clock.CudaClock("cpu")
    timing = device_clock.time(lambda: calls.append(1))
    assert timing.how == "graph" and timing.samples == fake_cuda.replays == 7
    assert len(calls) == 4  # to warm up, to learn how long it takes, before the capture, captured
    assert device_clock.time(lambda: calls.append(1), in_a_row=20).how == "graph of 20"
    assert device_clock.time(lambda: calls.append(1), graph=False).how == "eager"
    slow = device_clock.time(lambda: time.sleep(0.03), at_most=0.1)
    assert slow.how == "eager" and 1 <= slow.samples <= 3 and slow.seconds >= 0.03
    assert device_clock.latency(lambda: None, graph=True).how == "wall, graph"
    assert device_clock.latency(lambda: None, graph=False).how == "wall"
    assert device_clock.peak(lambda: None) == 7


def test_clock_where_no_graph_can_be_had(fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    assert clock.CudaClock("cpu").time(lambda: None).how.startswith("eager (no graph: operation not permitted")


@pytest.mark.usefixtures("fake_cuda")
def test_checks_on_a_stream_and_in_a_graph() -> None:
    """The stream's answer is a plain one. The fake graph computed its answer on the inputs of the capture, which differ
    from those of the replay: the check must see that."""
    check = checks.Check("topk", checks.topk(3), checks.data("random", 64, 2, 50), ways=("stream", "graph"))
    stream, graph = checks.run(check, "cpu", checks.WAYS)
    assert stream["result"] == "equal" and "differ" in graph["result"]


def test_what_checks_compare() -> None:
    one = torch.ones(3, dtype=torch.float64)
    near, far = one + 1e-13, one + 1e-9
    assert checks.differs(near, one, 0) == "" and "3 of 3" in checks.differs(far, one, 0)
    assert checks.differs(far, one, 1e-5) == "" and "differ" in checks.differs(one * torch.nan, one, 1e-5)
    assert "shape" not in checks.differs((one.int(), one.int()), (one.int(), one.int()), 0)
    assert "part 1" in checks.differs((one, one), (one, one.float()), 0)
    assert "(1,)" in checks.differs(torch.tensor([1, 2]), torch.tensor([1, 3]), 0)


def test_forms_are_offered_where_they_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(forms.VARIABLE, "mma")
    assert forms.available("cpu") == ()  # the CPU back end has no such forms
    assert os.environ[forms.VARIABLE] == "mma"

    def reads(*_: object) -> None:
        if os.environ.get(forms.VARIABLE, "mma") not in forms.FORMS:
            raise ValueError("DSHC_CUDA_TOPK")

    monkeypatch.setattr(dshc_fast, "hamming_topk", reads)
    assert forms.available("cpu") == forms.FORMS
    with forms.form(forms.CHOICE):
        assert forms.VARIABLE not in os.environ
    assert forms.for_k(forms.FORMS, 2048) == forms.FORMS and forms.for_k(forms.FORMS, 2049) == ("rows",)


def test_code_sets() -> None:
    for kind in codes.KINDS:
        made = codes.make(kind, 64, 3000, "cpu", 0)
        assert made.shape == (3000, 8) and made.dtype == torch.uint8
        assert torch.equal(made, codes.make(kind, 64, 3000, "cpu", 0))
    assert len(codes.make("repeated", 64, 9000, "cpu", 0).unique(dim=0)) == codes.N_DISTINCT
    first, second = (codes.make("clustered", 64, 2000, "cpu", seed) for seed in (0, 1))
    nearest = dshc_fast.hamming_topk(first, second, 1).distances.float().mean()
    assert 2 < nearest < 6.5  # two codes of one center differ in 6.1 bits, two random ones in 32


# ---- limits ----

LINES = """{"what": "popc", "loop": "a", "unit": "operations", "pace": 100.0, "per_clock": 1, "checked": true}
{"what": "b1", "loop": "mma m16n8k128 x", "unit": "outputs", "pace": 50.0, "per_clock": 1, "checked": true}
{"what": "b1", "loop": "mma m16n8k256 x", "unit": "outputs", "pace": 40.0, "per_clock": 1, "checked": true}
{"what": "b1", "loop": "wgmma m64n128k256 x", "unit": "outputs", "pace": 900.0, "per_clock": 1, "checked": false}
"""


def test_limits_of_pairs() -> None:
    found = limits.Limits(LINES)
    assert found.pairs("popc", 1000.0, 64) == 20.0 and found.pairs("popc", 1000.0, 32) == 10.0
    assert found.pairs("b1", 1000.0, 64) == 20.0  # the smaller instruction
    assert found.pairs("b1", 1000.0, 256) == 25.0  # the larger; the wrong one counts nowhere
    assert found.pairs("int8", 1000.0, 64) is None and found.seconds("read", 1.0) is None


@pytest.mark.parametrize(
    ("compiler", "rows", "why"),
    [("echo broken >&2; exit 1", 0, "nvcc failed: broken"),
     ("cat > $6 <<'END'\n#!/bin/sh\necho '" + LINES.splitlines()[0] + "'; echo died >&2; exit 1\nEND\nchmod +x $6", 1,
      "died"),
     ("cat > $6 <<'END'\n#!/bin/sh\ncat <<'THERE'\n" + LINES + "THERE\nEND\nchmod +x $6", 4, "")],
)  # fmt: skip
def test_limits_program(compiler: str, rows: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(f"#!/bin/sh\n{compiler}\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDACXX", str(nvcc))
    found = limits.Limits.measure((9, 0))
    assert len(found.rows) == rows and found.why == why


def test_limits_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "find_nvcc", lambda: None)
    assert limits.Limits.measure((9, 0)).why == "nvcc was not found"


def test_limits_compile(tmp_path: Path) -> None:
    if (nvcc := limits.find_nvcc()) is None:
        pytest.skip("nvcc is not here")
    command = limits.compile_command(nvcc, (9, 0), str(tmp_path / "limits"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
