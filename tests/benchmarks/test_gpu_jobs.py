"""Jobs of the GPU benchmark: what fails is skipped alone, what is wrong is not timed; counters are read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from gpu import (
    bench,
    clock,
    forms,
    limits,
    report,
    run_checks,
    run_counters,
    run_jobs,
)
from gpu.records import Records

import dshc_fast


def make_bench(folder: Path, step: str = "step") -> bench.Bench:
    return bench.Bench(Records(folder), step, limits.Limits(), seconds=60.0, rehearsal=True)


def ended(run: bench.Bench) -> dict[str, tuple[str, str]]:
    return {job["name"]: (job["result"], job["why"]) for job in run.records.of_step(run.step, "job")}


def test_jobs_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is recorded by name, the others run, and a device that is gone ends the process: the next one goes on."""
    ran = []

    def raises(error: Exception) -> clock.Run:
        def run(_: bench.Bench) -> None:
            ran.append(type(error).__name__)
            raise error

        return run

    jobs = [
        bench.Job(3, "step", "third", lambda _: ran.append("third")),
        bench.Job(1, "step", "first", raises(RuntimeError("a launch failed\nmore"))),
        bench.Job(2, "step", "second", raises(torch.OutOfMemoryError("no room"))),
        bench.Job(2, "step", "huge", lambda _: ran.append("huge"), n_bytes=10**15),
    ]
    run = make_bench(tmp_path / "a")
    monkeypatch.setattr(run, "_room", lambda: 10**14)
    assert run.run(jobs)
    assert ran == ["RuntimeError", "OutOfMemoryError", "third"]
    found = ended(run)
    assert found["first"] == ("failed", "RuntimeError: a launch failed") and found["third"] == ("done", "")
    assert (
        found["second"][0] == found["huge"][0] == "left out"
        and "must have 1000000 GB of memory, got " in found["huge"][1]
    )

    run = make_bench(tmp_path / "b")
    monkeypatch.setattr(run, "_alive", lambda: False)
    assert not run.run(jobs)
    assert ended(run) == {"first": ("failed", "the device stopped answering")}
    ran.clear()
    assert make_bench(tmp_path / "b").run([job for job in jobs if job.n_bytes == 0])
    assert ran == ["OutOfMemoryError", "third"], "a new process goes on where that one ended"


def test_a_process_that_died_in_a_job(tmp_path: Path) -> None:
    """The job is named and not begun again; a later call into the same folder begins anew."""
    run = make_bench(tmp_path)
    run.end("kills", "begun")
    ran: list[str] = []
    jobs = [bench.Job(1, "step", name, lambda _, name=name: ran.append(name)) for name in ("kills", "next")]
    assert make_bench(tmp_path).run(jobs)
    assert ended(run)["kills"] == ("failed", "the process ended in it") and ran == ["next"]
    run.records.add("begin", step="step")
    assert make_bench(tmp_path).run(jobs) and ran == ["next", "kills", "next"]


def test_a_job_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exits = []
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(bench, "STUCK_AFTER", 0.01)
    run = make_bench(tmp_path)
    run.job = bench.Job(1, "step", "a job", print)
    run._watch().join(10)
    assert exits == [bench.STUCK] and ended(run)["a job"][0] == "failed"


def test_no_time_left(tmp_path: Path) -> None:
    run = make_bench(tmp_path)
    run.seconds = -1.0
    assert run.run([bench.Job(1, "step", "late", print)])
    assert ended(run)["late"][0] == "left out" and "no time left" in ended(run)["late"][1]


def test_room_on_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large databases are given back before there is no room; a device that errs is not alive."""
    run = make_bench(tmp_path)
    small, large = run.database("random", 64, 10), torch.empty(1, dtype=torch.uint8).expand(1 << 40)
    run.rehearsal = False
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (50 << 30, 80 << 30))
    for kept, n_bytes, left in ((small, 0, small), (small, 1 << 40, None), (large, 0, None)):
        run.job, run._database = bench.Job(1, "step", "job", print, n_bytes), ("key", kept)
        assert run._room() == (50 << 30) - bench.HELD_BACK and run._database[1] is left

    def errs() -> None:
        raise RuntimeError("an illegal address")

    monkeypatch.setattr(torch.cuda, "synchronize", errs)
    assert not run._alive()


def test_the_fastest_form_is_bold(tmp_path: Path) -> None:
    """Of the forms alone; shares, ratios and targets stand beside each row; of a row that came twice the last."""
    run = make_bench(tmp_path)
    run.job = bench.Job(1, "step", "job", print)
    of = bench.setting("A batch", n_db=1000, k=5)
    for kernel, seconds in (
        (forms.CHOICE, 5e-3),
        (forms.CHOICE, 1e-3),
        ("popc", 2e-3),
        ("mma", 3e-3),
        ("torch", 8e-3),
    ):
        timing = clock.Timing(seconds, 5, "graph")
        run.measure(of, kernel, print, amount=1e9, floors={"popc": 1e-3, "read": None}, timing=timing,
                    targets={"popc": 0.5, "torch": 4.0, "ms": 2.0, "read": 0.8})  # fmt: skip
    text = report.Report(run.records).markdown()
    lines = {line.split(" | ")[0].strip("| "): line for line in text.splitlines()}
    assert "| **2 ms** | 500 | popc 0.50 | 4 |" in lines["popc"]
    assert "popc ≥ 0.5: yes; torch ≥ 4: yes; ≤ 2 ms: yes; read ≥ 0.8: not measured" in lines["popc"]
    assert (
        "popc ≥ 0.5: **no**; torch ≥ 4: **no**; ≤ 2 ms: **no**" in lines["mma"]
        and "**3 ms**" not in lines["mma"]
    )
    assert "| 1 ms |" in lines[forms.CHOICE] and "5 ms" not in text


def test_a_wrong_form_is_not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It alone is left out, the step fails, and the report says which."""
    right = dshc_fast.hamming_topk

    def wrong(queries: torch.Tensor, database: torch.Tensor, k: int) -> object:
        found = right(queries, database, k)
        return found._replace(indices=found.indices + 1) if os.environ.get(forms.VARIABLE) == "mma" else found

    monkeypatch.setattr(dshc_fast, "hamming_topk", wrong)
    arguments = ["batch", "--out", str(tmp_path), "--rehearse", "--only", "batch(10000000, 10)"]
    assert run_jobs.main(arguments) == 1
    records = Records(tmp_path)
    (check,) = records.all("check")
    assert "mma" in check["name"] and "differ, first at" in check["result"]
    assert {row["kernel"] for row in records.all("row")} == {forms.CHOICE, "popc", "rows"}
    assert f"**batch: {check['name']}" in report.Report(records).markdown()
    assert run_checks.main(["smoke", "--out", str(tmp_path), "--rehearse"]) == 1
    named = {check["name"] for check in records.all("check") if check["step"] == "smoke"}
    assert named and all(name.startswith("hamming_topk") and ", mma," in name for name in named)


def test_wrong_answers_of_other_ops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each job sees that the device's answer is not the CPU's, here that of a call on the wrong database."""

    def changed(name: str) -> None:
        right, calls = getattr(dshc_fast, name), []

        def at_times(first: torch.Tensor, second: torch.Tensor, *more: object, **options: object) -> object:
            calls.append(1)
            return (
                right(first, second, *more, **options)
                if len(calls) % 2
                else right(first, second.flip(0), *more, **options)
            )

        monkeypatch.setattr(dshc_fast, name, at_times)

    for name, step, only in (
        ("average_precision", "map", "mean_ap(10000, 50000, None, expected)"),
        ("hamming_histogram", "map", "histogram(10000"),
        ("hamming_radius", "radius", "radius(1024, 1000000, 8, clustered)"),
        ("codes_from_logits", "codes", "codes_from_logits(4096, 30100, float32, 5)"),
    ):
        with monkeypatch.context():
            changed(name)
            folder = tmp_path / name
            assert run_jobs.main([step, "--out", str(folder), "--rehearse", "--only", only]) == 1, name
            assert list(Records(folder).all("check")) and not list(Records(folder).all("row")), name
        monkeypatch.undo()


NCU = r"""==PROF== Connected to process 17
==PROF== Profiling "k<1>(int)" - 0: 0%....100% - 9 passes
"ID","Kernel Name","gpu__time_duration.sum","dram__throughput.avg.pct_of_peak_sustained_elapsed","launch__grid_size",\
"smsp__average_warps_issue_stalled_wait_per_issue_active.ratio","smsp__average_warps_issue_stalled_barrier_per_issue_active.ratio"
"","","ns","%","","inst","inst"
"0","k<1>(int)","1,500","81.5","2,112","0.5","2.25"
"1","other","700","n/a","1","",""
""".replace("\\\n", "")


def test_counters_are_read(tmp_path: Path) -> None:
    """Of what ncu prints; what it could not count is left out."""
    first, second = run_counters.parse(NCU)
    assert first == {"kernel": "k<1>(int)", "us": 1.5, "memory": 81.5, "blocks": 2112.0,
                     "stalls": {"barrier": 2.25, "wait": 0.5}}  # fmt: skip
    assert second == {"kernel": "other", "us": 0.7, "blocks": 1.0, "stalls": {}}
    assert list(run_counters.parse("==ERROR== no permission\n")) == []
    records = Records(tmp_path)
    for i, row in enumerate((first, second)):
        records.add("counters", first=i == 0, **row)
    text = report.Report(records).markdown()
    assert "| `k` | 1.5 | 81.5 |" in text and "barrier 2.2, wait 0.5" in text


def test_counters_rehearse(tmp_path: Path) -> None:
    assert run_counters.main(["--out", str(tmp_path), "--rehearse", "--only", "hamming_topk"]) == 0
