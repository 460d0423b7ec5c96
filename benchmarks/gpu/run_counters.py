"""What the hardware counted in each kernel: python -m gpu.run_counters --out FOLDER [--seconds S] [--only NAME]
[--rehearse].

Runs itself under Nsight Compute (ncu), one call of each op of run_profile between the profiler's marks; records of kind
"counters". Times there are not to be compared: the profiler runs each kernel several times, with the cache cleared.
"""

from __future__ import annotations

import argparse
import csv
import io
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from gpu import machine
from gpu.forms import form
from gpu.records import Records
from gpu.run_profile import Sizes, calls

SECTIONS = ("SpeedOfLight", "Occupancy", "LaunchStats", "WarpStateStats")
TOO_LARGE = "1,000,000,000"  # in a call's name: ncu saves and restores what a kernel may write
METRICS = {
    "gpu__time_duration.sum": "us",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed": "memory",
    "sm__throughput.avg.pct_of_peak_sustained_elapsed": "processor",
    "lts__throughput.avg.pct_of_peak_sustained_elapsed": "second-level cache",
    "l1tex__throughput.avg.pct_of_peak_sustained_active": "first-level cache",
    "sm__inst_issued.avg.pct_of_peak_sustained_active": "issue",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "warps",
    "launch__registers_per_thread": "registers",
    "launch__grid_size": "blocks",
    "launch__block_size": "threads",
    "launch__shared_mem_per_block": "shared",
}
STALL = "smsp__average_warps_issue_stalled_"  # ..._per_issue_active.ratio


def stalls(values: dict[str, float]) -> dict[str, float]:
    """The three reasons that kept warps longest, in warps an issue."""
    found = {
        name.removeprefix(STALL).removesuffix("_per_issue_active.ratio"): value
        for name, value in values.items()
        if name.startswith(STALL) and name.endswith("_per_issue_active.ratio")
    }
    return dict(sorted(found.items(), key=lambda item: -item[1])[:3])


def parse(text: str) -> Iterator[dict[str, object]]:
    """Kernels of ncu's `--csv --page raw`: names and units, then a line each; what ncu says before is skipped."""
    lines = text.splitlines()
    begins = next((i for i, line in enumerate(lines) if line.startswith('"ID"')), None)
    if begins is None:
        return
    rows = csv.DictReader(io.StringIO("\n".join(lines[begins:])))
    units = next(rows)
    for row in rows:
        values = {}
        for name, value in row.items():
            try:
                values[name] = float((value or "").replace(",", ""))
            except (ValueError, AttributeError):
                continue
        counted = {short: values[name] for name, short in METRICS.items() if name in values}
        if units.get("gpu__time_duration.sum") in ("ns", "nsecond"):
            counted["us"] = counted.get("us", 0.0) / 1e3
        yield {"kernel": row.get("Kernel Name", ""), **counted, "stalls": stalls(values)}


def one_each(rehearsal: bool, only: str) -> None:
    """Inside ncu: a warm call, then one between the marks, its name printed first."""
    for name, of_form, call in calls(Sizes(rehearsal)):
        if only not in name or (not rehearsal and TOO_LARGE in name):
            continue
        with form(of_form):
            call()
            if not rehearsal:
                torch.cuda.synchronize()
                torch.cuda.profiler.start()
            call()
            if not rehearsal:
                torch.cuda.synchronize()
                torch.cuda.profiler.stop()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=120.0, help="ncu is stopped after so many (120)")
    parser.add_argument("--only", default="", help="calls whose name contains this")
    parser.add_argument("--inside", action="store_true", help="what ncu runs")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny sizes, without ncu")
    options = parser.parse_args(arguments)
    if options.inside or options.rehearse:
        one_each(options.rehearse, options.only)
        return 0
    records = Records(options.out)
    machine.record(records, rehearsal=False)
    ncu = shutil.which("ncu") or shutil.which("/usr/local/cuda/bin/ncu")
    if ncu is None:
        print("ncu was not found")
        return 1
    command = [ncu, "--profile-from-start", "off", "--clock-control", "none", "--csv", "--page", "raw"]
    for section in SECTIONS:
        command += ["--section", section]
    inside = [
        sys.executable,
        "-m",
        "gpu.run_counters",
        "--out",
        str(options.out),
        "--inside",
        "--only",
        options.only,
    ]
    try:
        done = subprocess.run(
            [*command, *inside], capture_output=True, text=True, check=False, timeout=options.seconds
        )
        text, error, status = done.stdout, done.stderr, done.returncode
    except subprocess.TimeoutExpired as expired:
        text, error, status = (expired.stdout or b"").decode(), f"stopped after {options.seconds:.0f} s", 1
    n = 0
    for counted in parse(text):
        n += 1
        records.add("counters", first=n == 1, **counted)
        told = ", ".join(f"{key} {value:.4g}" for key, value in counted.items() if isinstance(value, float))
        waits = ", ".join(f"{key} {value:.2f}" for key, value in counted["stalls"].items())
        print(f"  {str(counted['kernel'])[:70]}: {told}; {waits}", flush=True)
    if not n:
        print((text + error)[-1500:])
    return int(status != 0 or n == 0)


if __name__ == "__main__":
    raise SystemExit(main())
