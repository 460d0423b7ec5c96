"""Every op on the device against the CPU back end, in a process of its own: python -m gpu.run_checks smoke|all
--out FOLDER [--step NAME] [--rehearse].

smoke: each op once, at sizes that compute-sanitizer gets through. all: many sizes and kinds of codes, on a side
stream and in a CUDA graph too. Memory that torch hands out is poisoned first, so that what a kernel leaves unwritten
shows. Exit status 1 where one differs.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from gpu import checks, forms, machine
from gpu.records import Records


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Fresh memory is filled: floats with NaN, integers with their largest value."""
    algorithms = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled


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
    started, n, n_wrong, n_refused = time.monotonic(), 0, 0, 0
    with poisoned():
        made = (
            checks.smoke_checks(offered)
            if options.which == "smoke"
            else checks.all_checks(offered, options.rehearse)
        )
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
