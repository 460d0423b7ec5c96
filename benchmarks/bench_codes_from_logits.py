"""Codes from logits on the CPU: ours against the torch chain topk, gather, mean, sign, pack; and from features.

    python benchmarks/bench_codes_from_logits.py [--quick] [--dry] [--threads N]

All candidates of a row take turns in one process, after their codes were compared. "read" adds up the same
logits once: the pace of memory and cache. From features: the whole logits and ours of them, against
`codes_from_features`, which makes a chunk of them at a time. Results: docs/results/codes_from_logits.json and
codes_from_logits.md.
"""

from __future__ import annotations

import argparse
import json

import torch
from timing import RESULTS, interleave, machine, write

import dshc_fast

BITS, FEATURES = 64, 256
SIZES = ((1024, 310), (512, 30_100))
TOPS = (1, 5, 8)
OURS, CHAIN, READ = "ours", "torch chain", "read"
WHOLE, FUSED = "linear, then ours", "codes_from_features"


def chain(logits: torch.Tensor, signs: torch.Tensor, places: torch.Tensor, k: int) -> torch.Tensor:
    """signs: the codebook as float32 +-1, made beforehand."""
    mean = signs[logits.topk(k, dim=1).indices].mean(dim=1)
    return ((mean > 0).view(len(mean), -1, 8) * places).sum(dim=2, dtype=torch.uint8)


def same(runs: dict, names: tuple[str, ...]) -> None:
    first = runs[names[0]]()
    for name in names[1:]:
        if not torch.equal(first, runs[name]()):
            raise SystemExit(f"{name}: the codes differ from those of {names[0]}; nothing was timed")


def row_of(n: int, m: int, k: int, effort: argparse.Namespace) -> dict:
    torch.manual_seed(0)
    features, weight, bias = torch.randn(n, FEATURES), torch.randn(m, FEATURES), torch.randn(m)
    logits = torch.nn.functional.linear(features, weight, bias)
    codebook = torch.randint(0, 256, (m, BITS // 8), dtype=torch.uint8)
    signs = dshc_fast.unpack_codes(codebook, BITS, signed=True).float()
    places = (1 << torch.arange(8)).to(torch.uint8)

    def whole() -> torch.Tensor:
        return dshc_fast.codes_from_logits(torch.nn.functional.linear(features, weight, bias), codebook, k)

    runs = {
        OURS: lambda: dshc_fast.codes_from_logits(logits, codebook, k),
        CHAIN: lambda: chain(logits, signs, places, k),
        READ: lambda: logits.sum(dim=1),
    }
    layer = {WHOLE: whole, FUSED: lambda: dshc_fast.codes_from_features(features, weight, bias, codebook, k)}
    # With an even k the chain has no rule for tied bits; ours takes the best sub-class's.
    if k % 2:
        same(runs, (OURS, CHAIN))
    limits = {"rounds": 3, "seconds": 1.0} if effort.quick else {"rounds": 7, "seconds": 4.0}
    seconds = interleave(runs, **limits, least=0.02) | interleave(layer, **limits, least=0.02)
    return {"n": n, "m": m, "k": k, "bits": BITS, "threads": effort.threads, "seconds": seconds}


def table(rows: list[dict], note: str | None) -> str:
    about = machine()
    lines = [
        "# Codes from logits on the CPU",
        "",
        f"`python benchmarks/bench_codes_from_logits.py`, {about['processor']}, {about['simd_level']}, "
        f"{rows[0]['threads']} thread, torch {about['torch']}, {about['date']}, commit {about['commit']}. float32 "
        f"logits, codes of {BITS} bits, {FEATURES} features; microseconds a row (median, candidates in turn). The "
        "chain is topk, gather, mean, sign, pack, its codebook float32 ±1 beforehand; `read` adds up the logits.",
        "",
    ]
    lines += [note, ""] if note else []
    names = list(rows[0]["seconds"])
    lines.append("| rows × sub-classes | K | " + " | ".join(names) + " | × chain |")
    lines.append("| --- |" + " --: |" * (len(names) + 2))
    for row in rows:
        cells = [f"{row['n']} × {row['m']}", str(row["k"])]
        cells += [f"{1e6 * row['seconds'][name] / row['n']:.3g}" for name in names]
        lines.append(
            "| " + " | ".join([*cells, f"{row['seconds'][CHAIN] / row['seconds'][OURS]:.1f}"]) + " |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three rounds of each")
    parser.add_argument("--dry", action="store_true", help="print only; write no result file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--note", help="a sentence for the result, such as what else ran on the machine")
    effort = parser.parse_args()
    torch.set_num_threads(effort.threads)
    rows = []
    for n, m in SIZES:
        for k in TOPS:
            rows.append(row_of(n, m, k, effort))
            print(json.dumps(rows[-1]), flush=True)
    text = table(rows, effort.note)
    print(text)
    if not effort.dry:
        print("wrote", write("codes_from_logits", rows, note=effort.note))
        (RESULTS / "codes_from_logits.md").write_text(text)


if __name__ == "__main__":
    main()
