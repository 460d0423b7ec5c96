"""Ranking, mAP, loss and codes on a GPU: checks, limits, then times, against torch.

    python benchmarks/bench_gpu.py [--minutes 7] [--only TEXT] [--rehearse] [--out FOLDER]

Stops with one line and exit status 2 where there is no CUDA device or no CUDA build. First every op is compared with
the CPU back end (status 1 if one differs, and nothing is timed), then the device's limits are measured, then the jobs
run in the order of their importance until the minutes are over. Writes docs/results/gpu-ranking and gpu-loss, .json and
.md, after every job: what an interrupted run measured is there, marked incomplete.

--rehearse runs all of it on the CPU at tiny sizes, into a temporary folder or the one given: no figure of it means
anything.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from gpu import checks, forms, logit_codes, loss, machine, metrics, topk
from gpu.bench import Bench
from gpu.limits import Limits
from gpu.report import Results
from timing import RESULTS

TITLES = {"gpu-ranking": "Ranking and mAP on a GPU", "gpu-loss": "Loss and codes from logits on a GPU"}
# What gpu_limits.cu prints, with paces made up, for the rehearsal.
REHEARSED_LIMITS = """{"what": "read", "loop": "made up", "unit": "bytes", "pace": 1e9, "per_clock": 0, "checked": true}
{"what": "copy", "loop": "made up", "unit": "bytes", "pace": 1e9, "per_clock": 0, "checked": true}
{"what": "popc", "loop": "made up", "unit": "operations", "pace": 1e9, "per_clock": 1, "checked": true}
{"what": "logic", "loop": "made up", "unit": "operations", "pace": 1e9, "per_clock": 1, "checked": true}
{"what": "b1", "loop": "mma m16n8k128, made up", "unit": "outputs", "pace": 1e9, "per_clock": 1, "checked": true}
{"what": "b1", "loop": "mma m16n8k256, made up", "unit": "outputs", "pace": 1e9, "per_clock": 1, "checked": false}
{"what": "int8", "loop": "mma m16n8k32, made up", "unit": "outputs", "pace": 1e9, "per_clock": 1, "checked": true}
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=7.0, help="no job begins after so many minutes (7)")
    parser.add_argument(
        "--only", default="", help="jobs whose name contains this; written into a temporary folder"
    )
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny sizes")
    parser.add_argument(
        "--commit", help="what the results name where the sources lie outside their repository"
    )
    parser.add_argument("--out", type=Path, help="folder of the result files (docs/results)")
    return parser.parse_args(arguments)


def folder_of(options: argparse.Namespace) -> Path:
    """A part of the jobs, or a rehearsal, never overwrites the results of a run."""
    if options.out is None and (options.rehearse or options.only):
        return Path(tempfile.mkdtemp(prefix="bench-gpu-"))
    return options.out or RESULTS


def measure_limits(rehearsal: bool) -> Limits:
    return Limits(REHEARSED_LIMITS) if rehearsal else Limits.measure(torch.cuda.get_device_capability())


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if not options.rehearse and (why := machine.why_not()):
        print(f"bench-gpu: {why}; nothing was measured", file=sys.stderr)
        return 2
    about, folder = machine.describe(options.rehearse, options.commit), folder_of(options)
    results = {name: Results(folder, name, title, about) for name, title in TITLES.items()}
    bench = Bench(results, Limits(), options.minutes, options.rehearse)
    print(f"{about['device']}, torch {about['torch']}, commit {about['commit']}, {about['date']}", flush=True)

    stuck = bench.watch()
    try:
        return measure(bench, options, folder)
    finally:
        stuck.cancel()


def measure(bench: Bench, options: argparse.Namespace, folder: Path) -> int:
    bench.forms = forms.FORMS if options.rehearse else forms.available(bench.device)
    if not bench.forms:
        why = f"this version does not read {forms.VARIABLE}"
        bench.results["gpu-ranking"].leave_out("forms of the top-k kernel", why)
    bench.save("the checks")
    if not check(bench):
        print(f"see {folder}", flush=True)
        return 1
    bench.limits = measure_limits(options.rehearse)
    for result in bench.results.values():
        result.limits, result.limits_missing = bench.limits.rows, bench.limits.why
    for row in bench.limits.rows:
        print(f"  {row['what']}: {row['pace'] / 1e9:,.1f} G {row['unit']}/s ({row['loop']})", flush=True)
    if bench.limits.why:
        print(f"  limits: {bench.limits.why}", flush=True)

    jobs = [
        job
        for module in (topk, metrics, loss, logit_codes)
        for job in module.jobs()
        if options.only in job.name
    ]
    ended = bench.run(jobs)
    for result in bench.results.values():
        result.complete = ended
    bench.save("" if ended else bench.doing)
    print(f"[{bench.elapsed():5.0f} s] wrote {folder}/{{{','.join(bench.results)}}}.{{json,md}}", flush=True)
    return 0 if ended and not any(result.failed for result in bench.results.values()) else 1


def check(bench: Bench) -> bool:
    """Whether every op gives what the CPU gives; what differs is printed and recorded."""

    def begin(name: str) -> None:
        bench.doing = f"the check {name}"

    for name, records in checks.run_all(bench.device, bench.forms, begin, rehearsal=bench.rehearsal).items():
        bench.results[name].checks = records
    bench.save("the checks")
    records = [record for result in bench.results.values() for record in result.checks]
    bad = [record for record in records if record["result"] not in ("equal", "refused")]
    print(f"[{bench.elapsed():5.0f} s] {len(records)} checks, {len(bad)} failed", flush=True)
    for record in bad:
        print(f"  FAILED: {record['name']}: {record['result']}", flush=True)
    return not bad


if __name__ == "__main__":
    raise SystemExit(main())
