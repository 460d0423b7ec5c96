"""Every op on the device against the CPU back end, in a process of its own: python -m gpu.run_checks smoke|all
--out FOLDER [--step NAME] [--rehearse].

smoke: each op once, at sizes that compute-sanitizer gets through. all: many sizes and kinds of codes, on a side
stream and in a CUDA graph too. Memory that torch hands out is poisoned first, so that what a kernel leaves unwritten
shows. Exit status 1 where one differs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from gpu import checks, forms, machine
from gpu.records import Records


def poison() -> None:
    """Fresh memory is filled: floats with NaN, integers with their largest value."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("which", choices=("smoke", "all"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--step", help="the step that records name (what is checked)")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, tiny sizes")
    options = parser.parse_args(arguments)
    records, device = Records(options.out), "cpu" if options.rehearse else "cuda"
    machine.record(records, options.rehearse)
    offered = forms.FORMS if options.rehearse else forms.available(device)
    ways = checks.REHEARSED if options.rehearse else checks.WAYS
    poison()
    made = (
        checks.smoke_checks(offered)
        if options.which == "smoke"
        else checks.all_checks(offered, options.rehearse)
    )
    started, n, n_wrong, n_refused = time.monotonic(), 0, 0, 0
    for check in made:
        for record in checks.run(check, device, ways):
            n += 1
            n_wrong += record["result"] not in ("equal", "refused")
            n_refused += record["result"] == "refused"
            if record["result"] != "equal":
                records.add("check", step=options.step or options.which, **record)
                print(f"  {record['name']}: {record['result']} {record.get('note', '')}", flush=True)
    print(
        f"{n} checks in {time.monotonic() - started:.1f} s, {n_wrong} wrong, {n_refused} refused", flush=True
    )
    return int(n_wrong > 0 or n == 0)


if __name__ == "__main__":
    raise SystemExit(main())
