"""`dshc serve` under an hour of requests that wish it ill: what it answers, and whether its memory grows.

    python benchmarks/hostile_requests.py [--minutes 60] [--clients 2] [--seed 0]

An index with a hasher of images is served by a process of its own, and asked without a pause: images that are cut off,
have flipped bytes, or say that they have billions of pixels; bodies that are no form, are too large, or end when half
of them was sent; numbers, conditions and codes that mean nothing. Once a minute a whole image must be answered. After
every request the kernel is asked how much memory the service has. A time in which client and service stood still
(SIGSTOP) does not count. Writes docs/results/hostile-requests.json and .md every minute.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from hostile_kinds import KINDS, SHARES, index_with_a_hasher, whole_image
from timing import made_on, write, write_page

NAME = "hostile-requests"
ALLOWED = {0, 200, 400, 404, 413, 422}
"""0: the client left before there was an answer."""
STOPPED = 3.0
"""Seconds without a tick of the clock's thread, after which client and service must have stood still."""
LIMIT = 60.0  # seconds of a request: the machine may do other work
WARM = 5  # minutes in which libraries are loaded and pools filled


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    line = f"`python benchmarks/{Path(__file__).name} --minutes {given.minutes:g}`; {made_on()}"
    with (
        tempfile.TemporaryDirectory() as folder,
        served(index_with_a_hasher(Path(folder) / "index")) as service,
    ):
        run = Run(service, given.clients, given.seed)
        threads = [
            threading.Thread(target=run.ask_on, args=(number,), daemon=True)
            for number in range(given.clients)
        ]
        for thread in threads:
            thread.start()
        while len(run.minutes) < given.minutes and not run.failures and any(t.is_alive() for t in threads):
            run.one_minute(min(60.0, 60 * given.minutes))
            write(NAME, run.minutes, totals=run.totals())
            write_page(NAME, "Hostile requests", line, "", page(run.minutes, run.totals()))
            print(run.minutes[-1], flush=True)
        run.is_over.set()
        for thread in threads:
            thread.join(2 * LIMIT)
    assert not run.failures, run.failures
    assert service.returned == 0 and not service.n_defects, (service.returned, service.n_defects)


class Service:
    """A process of ``dshc serve``; ``n_defects`` of its log, ``returned`` once it has ended."""

    def __init__(self, path: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dshc", "serve", str(path), "--port", "0", "--threads", "1", "--max-seconds",
             f"{LIMIT:g}", "--poll-seconds", "5"],
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.n_defects, self.returned, self.address = 0, -1, ""
        ready = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(ready,), daemon=True)
        self._reader.start()
        assert ready.wait(120) and self.address, "the service did not start"

    def _read(self, ready: threading.Event) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            event = json.loads(line) if line.startswith("{") else {"event": "defect"}
            self.address = event.get("address", self.address)
            self.n_defects += event["event"] == "defect"
            if event["event"] == "ready":
                ready.set()
        ready.set()

    def status(self) -> dict[str, int]:
        """What the kernel says: resident and peak bytes, threads, open files."""
        folder = Path(f"/proc/{self._process.pid}")
        text = folder.joinpath("status").read_text()
        found = {
            name: int(re.search(rf"^{name}:\s+(\d+)", text, re.M)[1])
            for name in ("VmRSS", "VmHWM", "Threads")
        }  # type: ignore[index]
        return {
            "resident": found["VmRSS"] << 10,
            "peak": found["VmHWM"] << 10,
            "threads": found["Threads"],
            "files": len(os.listdir(folder / "fd")),
        }

    def end(self) -> None:
        self._process.terminate()
        self.returned = self._process.wait(2 * LIMIT)
        self._reader.join(10)


@contextlib.contextmanager
def served(path: Path) -> Iterator[Service]:
    service = Service(path)
    try:
        yield service
    finally:
        service.end()


class Run:
    """Requests of ``n_clients`` threads; ``minutes`` has a row for each that passed, ``failures`` what may not be."""

    def __init__(self, service: Service, n_clients: int, seed: int) -> None:
        self.service, self.n_clients, self._seed = service, n_clients, seed
        self.minutes: list[dict[str, Any]] = []
        self.failures: list[str] = []
        self.is_over = threading.Event()
        self.seen: collections.Counter[tuple[str, int]] = collections.Counter()
        self.interrupted: collections.Counter[int] = collections.Counter()
        self.seconds = self._stops = 0.0
        self._lock, self._sizes = threading.Lock(), []  # type: ignore[var-annotated]

    def one_minute(self, length: float) -> None:
        """Let a minute pass in which the clients are not stopped, and keep what was seen in it."""
        passed, last = 0.0, time.monotonic()
        while passed < length and not self.failures:
            time.sleep(0.2)
            now = time.monotonic()
            if now - last < STOPPED:
                passed += now - last
            else:
                self._stops += 1
            last = now
        self.seconds += passed
        with self._lock:
            sizes, self._sizes = self._sizes, []
        if not sizes:
            self.failures.append("a minute without an answer")
            return
        now_ = self.service.status()
        self.minutes.append(
            {
                "minute": len(self.minutes) + 1,
                "requests": len(sizes),
                "resident_median": int(statistics.median(sizes)),
                "resident_most": max(sizes),
                **{name: now_[name] for name in ("peak", "threads", "files")},
            }
        )

    def ask_on(self, number: int) -> None:
        """Send one request after the other until all is over."""
        rng = np.random.default_rng([self._seed, number])
        checked = time.monotonic()
        try:
            with httpx2.Client(base_url=self.service.address, timeout=None) as client:
                while not self.is_over.is_set():
                    stops = self._stops
                    if time.monotonic() - checked > 60:
                        kind, ask = "a whole image", whole_image
                        checked = time.monotonic()
                    else:
                        kind, ask = KINDS[int(rng.choice(len(KINDS), p=SHARES))]
                    status = ask(client, rng)
                    time.sleep(0.3 if status not in ALLOWED else 0)  # so that a stop is known of
                    with self._lock:
                        if self._stops != stops:
                            self.interrupted[status] += 1
                            continue
                        self.seen[kind, status] += 1
                        self._sizes.append(self.service.status()["resident"])
                    if status not in ALLOWED or (kind == "a whole image" and status != 200):
                        self.failures.append(f"{kind}: {status}")
        except Exception as error:
            if not self.is_over.is_set():
                self.failures.append(repr(error))

    def totals(self) -> dict[str, Any]:
        kinds: dict[str, dict[str, int]] = {}
        for (kind, status), n in sorted(self.seen.items()):
            kinds.setdefault(kind, {})[str(status)] = n
        return {
            "requests": sum(self.seen.values()),
            "clients": self.n_clients,
            "cores": len(os.sched_getaffinity(0)),
            "niceness": os.nice(0),
            "server_errors": sum(n for (_, status), n in self.seen.items() if status >= 500),
            "defects": self.service.n_defects,
            "seconds": round(self.seconds, 1),
            "stops": int(self._stops),
            "interrupted": {str(status): n for status, n in sorted(self.interrupted.items())},
            "statuses": kinds,
            "growth": growth(self.minutes),
        }


def growth(minutes: list[dict[str, Any]]) -> int | None:
    """Bytes: the median of the last third of the minutes over that of the first, those of the warm-up left out."""
    sizes = [row["resident_median"] for row in minutes[WARM:]]
    third = len(sizes) // 3
    return int(statistics.median(sizes[-third:]) - statistics.median(sizes[:third])) if third else None


def _counts(statuses: dict[str, int]) -> str:
    return ", ".join(f"{n} answered {status}" for status, n in statuses.items()) or "none"


def page(minutes: list[dict[str, Any]], totals: dict[str, Any]) -> list[str]:
    grown = "not known yet" if totals["growth"] is None else f"{totals['growth'] / 2**20:+.1f} MiB"
    cores = "one core" if totals["cores"] == 1 else f"{totals['cores']} cores"
    lines = [
        f"{totals['requests']:,} requests in {totals['seconds'] / 60:.0f} minutes, by {totals['clients']} clients at"
        f" once: {totals['server_errors']} answers of 5xx, {totals['defects']} defects in the log.",
        "Resident memory of the service, the median of the last third of the minutes over that of the first, without"
        f" the first {WARM} minutes: {grown}.",
        "",
        f"Client and service shared {cores} at niceness {totals['niceness']}, beside other work, so that nothing here"
        f" is a pace. Both were stopped {totals['stops']} times (SIGSTOP); these times do not count, nor do"
        f" the {sum(totals['interrupted'].values())} requests during which it happened"
        f" ({_counts(totals['interrupted'])}; a request may take {LIMIT:g} s, and the clock goes on).",
        "",
        "## Answers",
        "",
        "A status of 0: the client left before it was answered. A whole image must be answered once a minute.",
        "",
    ]
    known = sorted({int(status) for counts in totals["statuses"].values() for status in counts})
    lines += ["| requests | " + " | ".join(map(str, known)) + " |", "| --- " * (len(known) + 1) + "|"]
    for kind, counts in totals["statuses"].items():
        lines.append(
            f"| {kind} | " + " | ".join(f"{counts.get(str(status), 0):,}" for status in known) + " |"
        )
    lines += [
        "",
        "## Memory",
        "",
        "MiB in memory after each request: the median and the most of the minute; the peak until then; threads and",
        "open files at its end. Every fifth minute; all are in hostile-requests.json.",
        "",
        "| minute | requests | median | most | peak | threads | files |",
        "| --- " * 7 + "|",
    ]
    for row in minutes:
        if row["minute"] % 5 == 0 or row["minute"] in (1, len(minutes)):
            sizes = " | ".join(f"{row[n] / 2**20:,.0f}" for n in ("resident_median", "resident_most", "peak"))
            lines.append(
                f"| {row['minute']} | {row['requests']:,} | {sizes} | {row['threads']} | {row['files']} |"
            )
    return lines


if __name__ == "__main__":
    main()
