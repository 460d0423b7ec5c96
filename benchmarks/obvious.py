"""Every op of the core against what a user would type instead, in numpy, torch or faiss; worst ratio first.

    python benchmarks/obvious.py [--level NAME] [--only OP] [--rounds N] [--dry]

One thread. Candidates take turns in one process, after their answers were compared (obvious_rows.py says with what; a
loss of sub-classes has no equal in torch, and stands against the cross entropy of one label, which does less). Writes
docs/results/obvious.json and obvious.md; another --level writes obvious-<level>.json and .md. There numpy, torch and
faiss are held to the same instruction set: what a machine that has no better one would show.
"""

from __future__ import annotations

import argparse

import instruction_sets  # before numpy, torch and faiss
import torch
from obvious_rows import Row, rows
from peers import set_threads, versions
from timing import interleave, machine, write, write_page

import dshc_fast

OURS = "ours"
# What was tried by hand beside the rows, with the best level of Zen 5.
SHORT = """
## What stays short, and why

* `hamming_distance`, 100 x 100,000 and 100 x 20,000: 40 and 8 MB into new memory. Into memory that is used again ours
  and faiss take 1.6 and 1.5 ms, and at 256 bits 0.40 and 0.49; the rest is the system's, which clears pages: it gives
  large ones where the address allows, and a result of 40 MB costs 57 or 568 page faults by that alone (faiss: 2.4 or
  3.2 ms). Tried without gain: codes in blocks of 128 KB to 4 MB, few queries at a time, pages asked for before they are
  written.
* `class_softmax_loss` of 128 rows: 31 us of a call are Python, autograd's and our own; cross entropy has 17.
  With more rows the kernels decide. float16 has its gradient after the loss, in a second pass, because a gradient
  scaler's factor comes between them.
* `class_softmax_linear_loss`: nearly all of it is matrix products, torch's on both sides.
"""
SMALL = 100e-6  # seconds of our own call, from which no op may lose


def measured(row: Row, rounds: int) -> dict[str, object]:
    ours = row.ours()
    for name, run in row.others.items():
        theirs = run()
        pairs = zip(ours, theirs, strict=True) if isinstance(ours, list) else [(ours, theirs)]
        if not all(row.same(a, b) for a, b in pairs):
            raise SystemExit(f"{row.op}, {row.size}: the answer of {name} differs; nothing was timed")
    seconds = interleave({OURS: row.ours, **row.others}, rounds=rounds, seconds=1.5, least=0.003)
    best = min(row.others, key=seconds.__getitem__)
    return {
        "op": row.op,
        "size": row.size,
        "seconds": seconds,
        "best": best,
        "ratio": seconds[best] / seconds[OURS],
    }


def time_text(seconds: float) -> str:
    if seconds < 1e-3:
        return f"{1e6 * seconds:.3g} us"
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def page_lines(results: list[dict]) -> list[str]:
    lines = ["| op | size | ours | obvious | which | ratio |", "| --- | --- | --: | --: | --- | --: |"]
    for result in sorted(results, key=lambda result: result["ratio"]):
        ours, best = result["seconds"][OURS], result["seconds"][result["best"]]
        loses = result["ratio"] < 1 and max(ours, best) >= SMALL
        ratio = f"**{result['ratio']:.2f}**" if loses else f"{result['ratio']:.2f}"
        cells = (result["op"], result["size"], time_text(ours), time_text(best), result["best"], ratio)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--level", help="an instruction set, in the place of the best")
    parser.add_argument("--only", default="", help="ops whose name contains this; writes nothing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--note", default="", help="what else the page must say of the run")
    parser.add_argument("--dry", action="store_true", help="print only")
    effort = parser.parse_args()
    set_threads(1)
    torch.manual_seed(0)
    if effort.level:
        dshc_fast.set_simd_level(effort.level)
    results = []
    for row in rows():
        if effort.only in row.op:
            results.append(measured(row, effort.rounds))
            print(page_lines(results[-1:])[2], flush=True)
    if effort.dry or effort.only:
        return
    about, name = machine(), f"obvious-{effort.level}" if effort.level else "obvious"
    lost = sum(line.endswith("** |") for line in page_lines(results))
    made = " ".join(f"{peer} {version}" for peer, version in versions().items())
    flag = f" --level {effort.level}" if effort.level else ""
    line = (f"`python benchmarks/obvious.py{flag}`; {about['processor']}, {about['simd_level']}"
            f"{', as all others here' if effort.level in instruction_sets.HELD else ''}, one thread, {made}, "
            f"{about['date']}, commit {about['commit']}")  # fmt: skip
    note = (f"The ratio is theirs over ours: above 1 ours is faster. In bold what loses with {1e6 * SMALL:.0f} us of "
            f"work or more: {lost} of {len(results)} rows. Of several alternatives the fastest counts. "
            f"{effort.note}").rstrip()  # fmt: skip
    print("wrote", write(name, results, versions=versions()))
    write_page(
        name,
        "Every op against the obvious alternative",
        line,
        note,
        [*page_lines(results), *("" if effort.level else SHORT).splitlines()],
    )


if __name__ == "__main__":
    main()
