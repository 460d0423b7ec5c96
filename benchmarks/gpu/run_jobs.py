"""One step of timings in a process of its own: python -m gpu.run_jobs STEP --out FOLDER [--seconds S] [--rehearse].

Goes on where a process of the same step and folder ended. Exit status 0: every job ran to its end and every check held;
1: some did not; 3: the device stopped answering, and a new process can go on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gpu import against_peer, forms, logit_codes, loss, machine, metrics, other_searches, others, topk
from gpu.bench import Bench, Job
from gpu.limits import Limits
from gpu.records import Records

DEVICE_LOST = 3
MODULES = (topk, metrics, loss, logit_codes, others, other_searches, against_peer)


def all_jobs() -> list[Job]:
    return [job for module in MODULES for job in module.jobs()]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60.0, help="no job begins after so many (60)")
    parser.add_argument("--only", default="", help="jobs whose name contains this")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny sizes")
    options = parser.parse_args(arguments)
    records = Records(options.out)
    machine.record(records, options.rehearse)
    bench = Bench(records, options.step, Limits(records.all("limit")), options.seconds, options.rehearse)
    bench.forms = forms.FORMS if options.rehearse else forms.available(bench.device)
    jobs = [job for job in all_jobs() if job.step == options.step and options.only in job.name]
    if not jobs:
        parser.error(f"no job of step {options.step!r} has {options.only!r} in its name")
    if not bench.run(jobs):
        return DEVICE_LOST
    ended = {record["name"]: record["result"] for record in records.of_step(options.step, "job")}
    return int(bool(records.of_step(options.step, "check")) or "failed" in ended.values())


if __name__ == "__main__":
    raise SystemExit(main())
