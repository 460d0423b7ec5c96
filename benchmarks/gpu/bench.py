"""The jobs of one step, in order of importance, within its time; their rows, and what became of each."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpu import codes
from gpu.clock import CpuClock, CudaClock, Run, Timing
from gpu.limits import Limits
from gpu.records import Records

HELD_BACK = 3 << 30  # bytes for workspaces, the cache's flush and the context
LARGE = 16 << 30  # bytes of a database that is not kept from one job to the next
STUCK_AFTER = 40.0  # seconds of one job; what takes longer hangs
STUCK = 124  # exit status, as timeout(1) has it


@dataclass(frozen=True)
class Setting:
    """One table row's left side. `sizes` are the sizes asked for, also in a rehearsal, which runs smaller ones."""

    section: str
    sizes: tuple[tuple[str, object], ...]

    @property
    def name(self) -> str:
        sizes = (
            f"{key} {value:,}" if isinstance(value, int) else f"{key} {value}" for key, value in self.sizes
        )
        return ", ".join([self.section, *sizes])


def setting(section: str, **sizes: object) -> Setting:
    return Setting(section, tuple(sizes.items()))


@dataclass(frozen=True)
class Job:
    """`run` measures and adds rows. Lower `importance` runs first; `n_bytes`: device memory it needs at the least."""

    importance: int
    step: str
    name: str
    run: Callable[[Bench], None]
    n_bytes: int = 0


def job(importance: int, step: str, run: Callable[..., None], *sizes: object, n_bytes: int = 0) -> Job:
    """`run(bench, *sizes)` as a job of a step."""
    name = f"{run.__name__}({', '.join(map(str, sizes))})"
    return Job(importance, step, name, lambda bench: run(bench, *sizes), n_bytes)


@dataclass
class Bench:
    """What a job needs: the clock, the limits, data, and where rows go."""

    records: Records
    step: str
    limits: Limits
    seconds: float  # no job begins after so many
    rehearsal: bool
    started: float = field(default_factory=time.monotonic)
    forms: tuple[str, ...] = ()
    device: str = "cuda"
    job: Job | None = None
    _database: tuple[object, Tensor | None] = (None, None)

    def __post_init__(self) -> None:
        self.device = "cpu" if self.rehearsal else "cuda"
        self.clock = CpuClock() if self.rehearsal else CudaClock()

    # ---- sizes and data ----

    def small(self, size: int, at_most: int) -> int:
        """The size itself; in a rehearsal no more than `at_most`."""
        return min(size, at_most) if self.rehearsal else size

    def queries(self, kind: str, n_bits: int, n: int) -> Tensor:
        return codes.make(kind, n_bits, n, self.device, 1)

    def database(self, kind: str, n_bits: int, n: int) -> Tensor:
        """The last one made is kept, as jobs in a row ask for the same."""
        key = (kind, n_bits, n)
        if self._database[0] != key:
            self._database = (None, None)
            self._database = (key, codes.make(kind, n_bits, n, self.device, 0))
        return self._database[1]

    # ---- rows ----

    def measure(
        self,
        of: Setting,
        kernel: str,
        run: Run,
        *,
        amount: float,
        unit: str = "pairs",
        floors: dict[str, float | None] | None = None,
        part: float = 1.0,
        note: str = "",
        timing: Timing | None = None,
        peak: bool = False,
        targets: dict[str, float] | None = None,
        **how: object,
    ) -> Timing:
        """One row. `amount`: pairs or bytes of a call; `floors`: the least seconds by each limit (None: not measured);
        `part`: the share of the queries it ran on, its time is scaled; `timing`: where it was already taken; `peak`:
        with the memory it takes; `targets`: the share of a floor, or the ratio to a peer, to reach; "ms": at most."""
        timing = timing or self.clock.time(run, **how)
        timing = timing._replace(seconds=timing.seconds / part)
        row = {
            "section": of.section,
            "sizes": dict(of.sizes),
            "name": of.name,
            "kernel": kernel,
            "seconds": timing.seconds,
            "samples": timing.samples,
            "how": timing.how,
            "unit": unit,
            "amount": amount,
            "pace": amount / timing.seconds,
            "shares": {name: floor / timing.seconds for name, floor in (floors or {}).items() if floor},
        }
        if targets:
            row["targets"] = targets
        if part != 1.0:
            row["measured_part"] = part
        if note:
            row["note"] = note
        if peak:
            row["peak_bytes"] = self.clock.peak(run)
        self.records.add("row", step=self.step, job=self.job.name, **row)
        shares = ", ".join(f"{share:.2f} of {name}" for name, share in row["shares"].items())
        pace = f"{1e3 * timing.seconds:.4g} ms, {row['pace'] / 1e9:.4g} G {unit}/s"
        print(f"  {of.name}: {kernel}: {pace}{'; ' if shares else ''}{shares}", flush=True)
        return timing

    def wrong(self, what: str, why: str) -> None:
        """A check that failed: what it was of is not timed, and the step fails in the end."""
        self.records.add("check", step=self.step, name=what, result=why)
        print(f"  WRONG: {what}: {why}", flush=True)

    def refuse(self, what: str, why: str) -> None:
        """A row that is left out."""
        self.records.add("job", step=self.step, name=what, result="left out", why=why)
        print(f"  left out: {what}: {why}", flush=True)

    def pair_floors(
        self, n_query: int, n_db: int, n_bits: int, *, read: bool = True
    ) -> dict[str, float | None]:
        """The least seconds for all pairs by population counts, matrix instructions, and one plain operation a pair;
        and, where the database is read but once, by memory."""
        n_pairs = float(n_query) * n_db
        floors = {what: self.limits.pairs(what, n_pairs, n_bits) for what in ("popc", "b1", "int8")}
        floors["operation"] = self.limits.pairs("logic", n_pairs, n_bits)
        return {"read": self.limits.seconds("read", n_db * n_bits / 8), **floors} if read else floors

    # ---- the run ----

    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def run(self, jobs: Sequence[Job]) -> bool:
        """Runs what has not begun yet: in a process that goes on after one that died, the job that killed it is named
        and not begun again. False where the device stopped answering; a new process goes on from there."""
        said = {record["name"]: record for record in self.records.of_step(self.step, "job")}
        for name, record in said.items():
            if record["result"] == "begun":
                self.end(name, "failed", "the process ended in it")
        for job in sorted((job for job in jobs if job.name not in said), key=lambda job: job.importance):
            self.job = job
            if self.elapsed() > self.seconds:
                self.refuse(job.name, f"no time left of {self.seconds:.0f} s")
            elif (room := self._room()) < job.n_bytes:
                self.refuse(job.name, f"must have {job.n_bytes / 1e9:.0f} GB of memory, got {room / 1e9:.0f}")
            else:
                self.end(job.name, "begun")
                stuck = self._watch()
                self._run_one(job)
                stuck.cancel()
                if not self._alive():
                    self.end(job.name, "failed", "the device stopped answering")
                    return False
        return True

    def end(self, name: str, result: str, why: str = "") -> None:
        self.records.add("job", step=self.step, name=name, result=result, why=why)

    def _run_one(self, job: Job) -> None:
        print(f"[{self.elapsed():5.1f} s] {job.name}", flush=True)
        try:
            job.run(self)
            self.end(job.name, "done")
        except torch.OutOfMemoryError as error:
            self.refuse(job.name, f"out of memory: {str(error).splitlines()[0][:120]}")
        except Exception as error:  # recorded, and the other jobs still run
            text = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            self.end(job.name, "failed", text)
            print(f"  FAILED: {text}", flush=True)

    def _room(self) -> float:
        """Bytes that a job may fill; a database that was large, or would be in the way, is given back first."""
        if self.rehearsal:
            return float("inf")
        kept = self._database[1]
        if self.job.n_bytes > LARGE or kept is not None and kept.numel() > LARGE:
            self._database, kept = (None, None), None
        torch.cuda.empty_cache()
        return torch.cuda.mem_get_info()[0] - HELD_BACK

    def _alive(self) -> bool:
        try:
            if not self.rehearsal:
                torch.cuda.synchronize()
        except RuntimeError as error:
            print(f"the device stopped answering: {error}", flush=True)
            return False
        return True

    def _watch(self) -> threading.Timer:
        """Ends the process where a kernel never ends: what it measured is on disk, and a new process goes on."""
        timer = threading.Timer(STUCK_AFTER, self._stuck)
        timer.daemon = True
        timer.start()
        return timer

    def _stuck(self) -> None:
        print(f"stuck in: {self.job.name}; what was measured is on disk", flush=True)
        self.end(self.job.name, "failed", f"it did not come back in {STUCK_AFTER:.0f} s")
        os._exit(STUCK)
