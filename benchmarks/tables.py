"""docs/results/cpu.md and cpu-pace.png from the results of the benchmarks (docs/results/*.json).

    python benchmarks/tables.py

Nothing is measured here, and a result file that is missing or of another layout ends it.
"""

from __future__ import annotations

import json

from plot_pace import plot
from timing import RESULTS

FILES = (
    "limits",
    "bench_hamming_topk",
    "bench_simd_levels",
    "bench_hamming_radius",
    "bench_asymmetric_topk",
    "bench_hamming_pairs",
    "bench_hamming_histogram",
    "bench_average_precision",
)
NOT_SETTINGS = {"section", "unit", "amount", "pace", "seconds", "measured_part", "note", "ratios", "limit", "share",
                "targets"}  # fmt: skip
TITLES = {
    "batch": "Top-k, 64 bits",
    "lengths": "Top-k, other code lengths",
    "levels": "Top-k at every instruction set, each forced in one run, against its limit and faiss at the like level",
    "learned": "Top-k, learned codes",
    "one query": "One query; at n = 1,000,000 against reading the third-level cache, from 10,000,000 on against DRAM",
    "sizes": "Top-k, smaller databases",
    "all peers": "Top-k, all peers (fewer queries and smaller databases: the slow peers run what faiss runs)",
    "allowed": "Top-k with a filter, half of the items allowed; target: 0.9 of the pace without one",
    "k = n": "k = n; target: ten times the database keeps three quarters of the pace",
    "small job": "One query against 1,000 codes; target: two threads allowed cost no more than one (0.9 of its pace)",
    "radius": "Radius search",
    "asymmetric": "Top-k of real-valued outputs (`asymmetric_topk`)",
    "pairs": "All pairs within a radius (`hamming_pairs`)",
    "histogram": "Histograms of distances; target: past the wall of one increment a pair (1/7 of the filter)",
    "mAP": "mAP of 10,000 queries",
}
ABOUT = """The limits are loops over codes in the first-level cache (benchmarks/limit_loops) and sums over memory, run
in turn with the candidates of each row. The filter is XOR, popcount, compare with a bound and branch; where two loops
do that, the faster is the limit, and the share of the plainer one stands in brackets (AVX-512: every vector compared,
instead of the smallest of eight; AVX2: popcounts, instead of tables of half bytes). Medians; a ratio to faiss is to the
better of its two modes. The thresholds are those set for the project before it was measured; where they only say how
(at the scan's pace, linear), the title of the table says what is asked."""


def number(value: float) -> str:
    if value >= 1e5 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def target_name(name: str) -> str:
    return {"share": "share", "faiss": "× faiss"}.get(name, f"× {name}")


def targets_of(row: dict) -> tuple[str, str]:
    wanted = [f"{target_name(t['what'])} ≥ {number(t['at_least'])}" for t in row["targets"]]
    reached = [f"{'yes' if t['met'] else '**no**'} ({number(t['reached'])})" for t in row["targets"]]
    return "; ".join(wanted), "; ".join(reached)


def share_of(row: dict) -> tuple[str, str]:
    if "share" not in row:
        return "", ""
    pace, loops = row["limit"]["pace"], list(row["limit"]["loops"].values())
    own = row["pace"]["ours"]
    plainer = f" ({own / loops[0]:.2f})" if loops[0] != pace else ""
    unit = " GB/s" if row["unit"] == "bytes" else ""
    return f"{row['limit']['what']} {pace / 1e9:.3g}{unit}", f"{row['share']:.2f}{plainer}"


def pace_of(row: dict, name: str) -> str:
    if name not in row["pace"]:
        return ""
    if row["unit"] == "calls":
        return f"{1e6 / row['pace'][name]:.1f}"
    pairs = row["pace"][name]
    if "n_db" in row:
        pairs *= row["n_db"] * row["n_query"] / row["amount"]
    seconds = f" ({row['seconds'][name]:.3g} s)" if row["section"] in ("mAP", "pairs") else ""
    return f"{pairs / 1e9:.3g}{seconds}"


def table(section: str, rows: list[dict]) -> list[str]:
    settings = list(dict.fromkeys(key for row in rows for key in row if key not in NOT_SETTINGS))
    varying = [key for key in settings if len({str(row.get(key)) for row in rows}) > 1]
    fixed = [f"{key} {number(value) if isinstance(value, int) else value}" for key in settings if key not in varying
             and (value := rows[0].get(key)) not in (None, "best")]  # fmt: skip
    names = list(dict.fromkeys(name for row in rows for name in row["pace"]))
    others = [name for name in names if name != "ours"]
    unit = "microseconds a call" if rows[0]["unit"] == "calls" else "G pairs/s"
    ratios = list(dict.fromkeys(
        name for row in rows for name in row["ratios"] if name == "faiss" or not name.startswith("faiss")))  # fmt: skip
    header = [*varying, *(f"{name}, {unit}" if name == "ours" else name for name in ("ours", *others)),
              *(target_name(name) for name in ratios if not name.startswith("ours")), "limit", "share", "target",
              "reached"]  # fmt: skip
    about = [f"{', '.join(fixed)}."] if fixed else []
    parts: dict[str, list[float]] = {}
    for row in rows:
        for name, part in row.get("measured_part", {}).items():
            parts.setdefault(name, []).append(part)
    for name, found in parts.items():
        share = " to ".join(f"{part:.2%}" for part in dict.fromkeys((min(found), max(found))))
        about.append(f"{name} ran on {share} of the queries; its time is scaled.")
    lines = [f"## {TITLES.get(section, section)}", "", " ".join(about), ""]
    body = []
    for row in rows:
        cells = [
            number(row[key]) if isinstance(row.get(key), int) else str(row.get(key) or "") for key in varying
        ]
        cells += [pace_of(row, name) for name in ("ours", *others)]
        cells += [number(row["ratios"][name]) if name in row["ratios"] else "" for name in ratios
                  if not name.startswith("ours")]  # fmt: skip
        body.append([*cells, *share_of(row), *targets_of(row)])
    used = [i for i in range(len(header)) if any(cells[i] for cells in body)]
    lines.append(line([header[i] for i in used]))
    lines.append(line(["---"] * len(used)))
    notes = [f"* {note}" for note in dict.fromkeys(row["note"] for row in rows if "note" in row)]
    return [*lines, *(line([cells[i] for i in used]) for cells in body), "", *notes, *([""] if notes else [])]


def limits_table(rows: list[dict]) -> list[str]:
    lines = ["## Limits of this machine", "", line(["what", "level", "bits", "loop", "one thread", "two threads"]),
             line(["---"] * 6)]  # fmt: skip
    found: dict[tuple, dict[int, float]] = {}
    for row in rows:
        key = (row["what"], row["level"] or "", row["bits"] or "", row["loop"])
        found.setdefault(key, {})[row["threads"]] = row["pace"]
    for key, paces in found.items():
        unit = " GB/s" if key[0] in ("l3", "dram") else " G pairs/s"
        lines.append(
            line([*map(str, key), *(f"{paces[t] / 1e9:.3g}{unit}" if t in paces else "" for t in (1, 2))])
        )
    return [*lines, ""]


def machine_lines(results: dict[str, dict]) -> list[str]:
    """One line if all ran on one machine, commit and day; else one for each file."""
    lines: dict[str, list[str]] = {}
    for name, result in results.items():
        about = result["machine"]
        text = (f"{about['processor']}, {about['cores']} cores, {about['simd_level']}, {about['compiler']}, "
                f"Python {about['python']}, {about['date']}, commit {about['commit']}")  # fmt: skip
        lines.setdefault(text, []).append(name)
    versions = ", ".join(f"{key} {value}" for key, value in results["bench_hamming_topk"]["versions"].items())
    if len(lines) == 1:
        return [f"{next(iter(lines))}; {versions}."]
    return [*(f"* {', '.join(names)}: {text}" for text, names in lines.items()), f"* {versions}"]


def summary(rows: list[dict]) -> list[str]:
    lines = ["## Targets", "", line(["section", "target", "rows", "met", "least reached"]), line(["---"] * 5)]
    found: dict[tuple, list[dict]] = {}
    for row in rows:
        for target in row["targets"]:
            ties = f", ties={row['ties']}" if "ties" in row else ""
            name = f"{target_name(target['what'])} ≥ {number(target['at_least'])}"
            found.setdefault((row["section"] + ties, row.get("codes", ""), name), []).append(target)
    for (section, codes, name), targets in found.items():
        least = min(target["reached"] for target in targets)
        lines.append(line([f"{section}, {codes}", name, str(len(targets)), str(sum(t["met"] for t in targets)),
                           number(least)]))  # fmt: skip
    return [*lines, ""]


def main() -> None:
    results = {}
    for name in FILES:
        try:
            results[name] = json.loads((RESULTS / f"{name}.json").read_text())
        except FileNotFoundError:
            raise SystemExit(f"{name}.json is missing: run `make bench`, or benchmarks/{name}.py") from None
    rows = [row for name, result in results.items() if name != "limits" for row in result["rows"]]
    if any("section" not in row for row in rows):
        raise SystemExit("a result file is of an older layout: run `make bench`")
    lines = ["# Ranking and mAP on the CPU", "", "`make bench`, written by benchmarks/tables.py.", "",
             *machine_lines(results), "", ABOUT, "", "![pace against the size of the database](cpu-pace.png)", "",
             *summary(rows), *limits_table(results["limits"]["rows"])]  # fmt: skip
    for section in dict.fromkeys(row["section"] for row in rows):
        lines += table(section, [row for row in rows if row["section"] == section])
    path = RESULTS / "cpu.md"
    path.write_text("\n".join(lines).rstrip() + "\n")
    print("wrote", path, plot(results["bench_hamming_topk"]["rows"], RESULTS / "cpu-pace.png"))


if __name__ == "__main__":
    main()
