"""Everything that only a GPU can show, by one command that needs no network.

    python benchmarks/on_gpu.py --out FOLDER [--minutes M] [--steps NAME,...] [--rehearse]

Installs into the environment that is there (`pip install . --no-build-isolation --no-deps`), then runs the steps
below, each in a process of its own with a time limit, each appending what it finds to FOLDER/results.jsonl as soon as
it is known. A step that fails or runs out of time stops none of the others. FOLDER/report.md is written anew after
every step, FOLDER/log.txt holds what they printed.

    build                         the native module for this GPU; at the same time
    limits                        what the device can do at most: reading, copying, population counts, products
    smoke                         each op once, against the CPU
    one, batch, map, loss, codes  timings, by importance; each row is checked first, and left out alone if it is wrong
    checks                        every op at many sizes, on a side stream and in a CUDA graph, memory poisoned;
                                  at the same time
    tests                         the tests that run on a GPU (pytest -m gpu)
    memcheck, racecheck           compute-sanitizer over the smoke script
    profile                       where the time of a call goes, kernel by kernel
    peer                          top-k by faiss's GPU method, rebuilt (gpu/warp_select.cu)
    more                          the timings that are left

Without a device it says so, writes nothing and ends with status 0. Else the status is 1 where a step failed.
--rehearse runs the steps on the CPU at tiny sizes: no figure of it means anything.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from gpu import report
from gpu.records import Records

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent
LAST_LINES = 3  # of a step's output, in its record
LEAST = 8.0  # seconds that a step needs to show anything
DEVICE_LOST, STUCK = 3, 124  # exit statuses of gpu.run_jobs after which a new process goes on
DEVICE = "import torch; print(torch.cuda.get_device_name() if torch.cuda.is_available() else '')"


@dataclass(frozen=True)
class Step:
    """In `command` "{python}", "{out}" and "{seconds}" are filled in. Steps of one `group` run at the same time."""

    name: str
    seconds: float
    command: tuple[str, ...]
    group: str = ""
    needs: tuple[str, ...] = ()  # steps that must not have failed, where they were run
    goes_on: bool = False  # a process that lost the device is followed by another
    variables: tuple[tuple[str, str], ...] = ()
    folder: Path = BENCHMARKS


PIP = ("{python}", "-m", "pip", "install", ".", "--no-build-isolation", "--no-deps", "--no-index",
       "--disable-pip-version-check", "-C", "cmake.define.DSHC_CUDA=ON")  # fmt: skip
SANITIZER = ("compute-sanitizer", "--error-exitcode", "9", "--print-limit", "20", "--tool")
SMOKE = ("{python}", "-m", "gpu.run_checks", "smoke", "--out", "{out}", "--step")
# Every tensor has memory of its own, so that the sanitizer sees where it ends.
NO_CACHE = (("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),)
TESTS = ("{python}", "-m", "pytest", "-q", "-m", "gpu", "-n", "8", "-p", "no:cacheprovider", "--no-header", "-rfE",
         "--tb=short", "tests/core", "tests/cuda/test_device.py", "tests/cuda/test_device_losses.py")  # fmt: skip


def timings(name: str, seconds: float) -> Step:
    command = ("{python}", "-m", "gpu.run_jobs", name, "--out", "{out}", "--seconds", "{seconds}")
    return Step(name, seconds, command, needs=("build",), goes_on=True)


STEPS = (
    Step("build", 150, PIP, group="begin", folder=ROOT),
    Step("limits", 150, ("{python}", "-m", "gpu.limits", "--out", "{out}"), group="begin"),
    Step("smoke", 60, (*SMOKE, "smoke"), needs=("build",)),
    timings("one", 50),
    timings("batch", 60),
    timings("map", 40),
    timings("loss", 50),
    timings("codes", 40),
    timings("radius", 40),
    timings("others", 60),
    Step("checks", 200, ("{python}", "-m", "gpu.run_checks", "all", "--out", "{out}", "--step", "checks"),
         group="depth",
         needs=("build",)),
    Step("tests", 240, TESTS, group="depth", needs=("build",), folder=ROOT, variables=(("OMP_NUM_THREADS", "1"),)),
    Step("memcheck", 200, (*SANITIZER, "memcheck", *SMOKE, "memcheck"), group="depth", needs=("build",),
         variables=NO_CACHE),
    Step("racecheck", 200, (*SANITIZER, "racecheck", *SMOKE, "racecheck"), group="depth", needs=("build",),
         variables=NO_CACHE),
    Step("profile", 60, ("{python}", "-m", "gpu.run_profile", "--out", "{out}"), needs=("build",)),
    Step("counters", 120, ("{python}", "-m", "gpu.run_counters", "--out", "{out}", "--seconds", "{seconds}"),
         needs=("build",)),
    timings("peer", 150),
    timings("more", 300),
)  # fmt: skip
REHEARSED_LIMITS = tuple(
    {"what": what, "unit": unit, "pace": 1e9, "loop": "made up, m16n8k128", "per_clock": 1, "checked": True}
    for what, unit in (
        ("read", "bytes"),
        ("copy", "bytes"),
        ("popc", "operations"),
        ("logic", "operations"),
        ("b1", "outputs"),
    )
)
NAMES = tuple(step.name for step in STEPS)


class Process:
    """A step under way: its output goes to a file, and whatever it started ends with it."""

    def __init__(self, step: Step, run: Run, seconds: float) -> None:
        self.step, self.run, self.seconds, self.begun = step, run, seconds, time.monotonic()
        self.log = run.folder / f".{step.name}.log"
        self._file = self.log.open("ab")
        self._start()

    def _start(self) -> None:
        filled = {
            "python": sys.executable,
            "out": str(self.run.folder),
            "seconds": f"{self.left() - LEAST / 2:.0f}",
        }
        command = [word.format(**filled) for word in self.step.command]
        if self.run.rehearse and self.step.command[1:2] == ("-m",) and command[2].startswith("gpu.run_"):
            command.append("--rehearse")
        variables = {**os.environ, **dict(self.step.variables), "PYTHONPATH": self.run.python_path()}
        try:
            self.process = subprocess.Popen(
                command,
                cwd=self.step.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=self._file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            self._file.write(f"{error}\n".encode())
            self.process = None

    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.begun)

    def poll(self) -> str | None:
        """What became of it: passed, failed, timed out; None while it runs."""
        if self.process is None:
            return "failed"
        status = self.process.poll()
        if status is None:
            if self.left() > 0:
                return None
            self.kill()
            return "timed out"
        lost = status in (DEVICE_LOST, STUCK) or status < 0
        if lost and self.step.goes_on and self.left() > LEAST:
            self._start()  # the jobs that are left
            return None
        return "passed" if status == 0 else "failed"

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def end(self) -> str:
        """Its whole output, which moves into the log of the run."""
        self._file.close()
        text = self.log.read_text(encoding="utf-8", errors="replace")
        self.log.unlink()
        return text


class Run:
    """The steps of one call, within its minutes."""

    def __init__(self, folder: Path, minutes: float, rehearse: bool) -> None:
        self.folder, self.rehearse = folder, rehearse
        self.ends = time.monotonic() + 60 * minutes
        self.records = Records(folder)
        self.results: dict[str, str] = {}
        self.site = folder / "site"  # where the package goes if the environment cannot be written to

    def python_path(self) -> str:
        own = [str(self.site)] if self.site.exists() else []
        return os.pathsep.join([*own, str(BENCHMARKS), *filter(None, [os.environ.get("PYTHONPATH")])])

    def left(self) -> float:
        return self.ends - time.monotonic()

    def steps(self, steps: list[Step]) -> None:
        """One after the other, those of a group at the same time."""
        while steps:
            group = [
                step for step in steps if step is steps[0] or step.group and step.group == steps[0].group
            ]
            steps = [step for step in steps if step not in group]
            self._together(group)

    def _together(self, group: list[Step]) -> None:
        running = []
        for step in group:
            failed = [name for name in step.needs if self.results.get(name, "passed") != "passed"]
            if failed:
                self._record(step, "left out", 0.0, f"{', '.join(failed)} did not pass")
            elif self.left() < LEAST:
                self._record(step, "left out", 0.0, "no time left")
            else:
                self.records.add("begin", step=step.name)
                running.append(Process(step, self, min(step.seconds, self.left())))
        try:
            while running:
                for process in list(running):
                    if (result := process.poll()) is not None:
                        running.remove(process)
                        self._ended(process, result)
                time.sleep(0.05)
        finally:  # interrupted: nothing is left behind
            for process in running:
                process.kill()
                self._record(process.step, "interrupted", time.monotonic() - process.begun, "")

    def _ended(self, process: Process, result: str) -> None:
        step, seconds, text = process.step, time.monotonic() - process.begun, process.end()
        if step.name == "build" and result == "failed" and "externally-managed-environment" in text:
            process = Process(
                Step(**{**vars(step), "command": (*PIP, "--target", str(self.site))}), self, self.left()
            )
            while (result := process.poll()) is None:
                time.sleep(0.1)
            text += process.end()
        self._record(step, result, seconds, text)

    def _record(self, step: Step, result: str, seconds: float, text: str) -> None:
        self.results[step.name] = result
        lines = [line for line in text.splitlines() if line.strip()]
        last = [without_paths(line)[:200] for line in lines[-LAST_LINES:]]
        self.records.add("step", name=step.name, result=result, seconds=round(seconds, 1), last=last)
        with (self.folder / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"\n==== {step.name}: {result} after {seconds:.1f} s ====\n{text}")
        shown = (
            lines if result not in ("passed",) else [line for line in lines if line.startswith(("  ", "["))]
        )
        print(f"\n== {step.name}: {result} after {seconds:.1f} s", *shown[-40:], sep="\n", flush=True)
        self._report()

    def _report(self) -> None:
        report.write(self.folder)


def without_paths(line: str) -> str:
    """Results are committed; where somebody's folders lie is nobody's business."""
    folders = [str(folder) for folder in (ROOT, Path(sys.prefix), Path.home())]
    for folder in sorted(folders, key=len, reverse=True):  # one may lie in another
        line = line.replace(folder, "...")
    return line


def device() -> str:
    """The GPU's name; empty where torch sees none, or there is no torch."""
    done = subprocess.run([sys.executable, "-c", DEVICE], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the results; made if it is not there"
    )
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="after so many no step begins or goes on (10)"
    )
    parser.add_argument(
        "--steps", default=",".join(NAMES), help="which, by name; they run in the order above"
    )
    parser.add_argument(
        "--commit", help="what the results name where the sources lie outside their repository"
    )
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny sizes, nothing installed")
    options = parser.parse_args(arguments)
    options.steps = [name.strip() for name in options.steps.split(",") if name.strip()]
    if unknown := [name for name in options.steps if name not in NAMES]:
        parser.error(f"steps must be among {', '.join(NAMES)}, got {unknown[0]!r}")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    name = "none: a rehearsal" if options.rehearse else device()
    if not name:
        print(f"on_gpu: torch of {sys.executable} sees no CUDA device here; nothing was run")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options.out.resolve(), options.minutes, options.rehearse)
    print(f"on_gpu: {name}, {options.minutes:g} minutes, results in {run.folder}", flush=True)
    run.records.add("run", device=name, minutes=options.minutes, steps=options.steps, commit=options.commit)
    steps = [step for step in STEPS if step.name in options.steps]
    if options.rehearse:
        for limit in REHEARSED_LIMITS:
            run.records.add("limit", **limit)
        steps = [step for step in steps if "gpu.run_" in " ".join(step.command[:3])]
    run.steps(steps)
    shutil.rmtree(run.site, ignore_errors=True)
    failed = [name for name, result in run.results.items() if result not in ("passed", "left out")]
    print(
        f"\non_gpu: {len(run.results)} steps, not passed: {', '.join(failed) or 'none'}; see {run.folder}/report.md"
    )
    return int(bool(failed))


if __name__ == "__main__":
    raise SystemExit(main())
