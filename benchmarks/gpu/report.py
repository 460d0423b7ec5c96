"""The report of a run, FOLDER/report.md, from its records; nothing else is read, so that it can be written after every
step and once more at any time: python -m gpu.report FOLDER."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from gpu.forms import FORMS
from gpu.limits import pairs_a_second
from gpu.records import Records

FILE = "report.md"
PREDICTIONS = Path(__file__).with_name("predictions.json")
PAIR_BITS = (64, 256)  # of the limits, as pairs of codes
ALWAYS = ("prediction", "kept")  # columns that stand there empty too
UNITS = {"pairs": "G pairs/s", "bytes": "GB/s", "operations": "G operations/s"}


def line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def number(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def duration(seconds: float) -> str:
    return f"{1e6 * seconds:.3g} µs" if seconds < 1e-3 else f"{1e3 * seconds:.4g} ms"


def short(kernel: str) -> str:
    """A kernel's name without its namespaces, template arguments and parameters; of torch's the name alone."""
    name = re.sub(r"\(anonymous namespace\)::|<unnamed>::|dshc::cuda::", "", kernel).removeprefix("void ")
    return re.split(r"[<(]", name.replace("|", "/"))[0][:60]


def write(folder: Path) -> Path:
    """Whole or not at all."""
    temporary = folder / f".{FILE}.part"
    temporary.write_text(Report(Records(folder)).markdown(), encoding="utf-8")
    os.replace(temporary, folder / FILE)
    return folder / FILE


class Report:
    """Of a step that was run again, in a later call into the same folder, the last result and the last rows count."""

    def __init__(self, records: Records) -> None:
        kinds: dict[str, list[dict]] = {}
        for record in records.all():
            kinds.setdefault(record["kind"], []).append(record)
        self.about = {
            key: value for record in kinds.get("about", []) for key, value in record.items() if key != "kind"
        }
        self.runs = kinds.get("run", [])
        self.steps = {record["name"]: record for record in kinds.get("step", [])}
        self.limits = list({(row["what"], row["loop"]): row for row in kinds.get("limit", [])}.values())
        self.rows = list({(row["name"], row["kernel"]): row for row in kinds.get("row", [])}.values())
        self.checks = kinds.get("check", [])
        self.jobs = list({(job["step"], job["name"]): job for job in kinds.get("job", [])}.values())
        self.kernels = list(
            {(row["call"], row["form"], row["kernel"]): row for row in kinds.get("kernel", [])}.values()
        )
        counters = kinds.get("counters", [])
        last_run = max((i for i, row in enumerate(counters) if row.get("first")), default=0)
        self.counters = counters[last_run:]
        self.predictions: dict[str, dict[str, str]] = json.loads(PREDICTIONS.read_text())

    def markdown(self) -> str:
        about = ", ".join(
            f"{key} {number(value)}" for key, value in self.about.items() if value not in (None, "")
        )
        lines = ["# On a GPU", "", "Written by `python benchmarks/on_gpu.py`.", ""]
        lines += [f"{about}.", ""] if about else []
        lines += [*self._steps(), *ABOUT.splitlines(), "", *self._limits()]
        for section in dict.fromkeys(row["section"] for row in self.rows):
            lines += self._section(section, [row for row in self.rows if row["section"] == section])
        lines += self._profile() + self._counters()
        for title, result in (("Failed", "failed"), ("Left out", "left out"), ("Not ended", "begun")):
            entries = [job for job in self.jobs if job["result"] == result]
            if entries:
                lines += [
                    f"## {title}",
                    "",
                    *(f"* {job['step']}: {job['name']}: {job['why']}" for job in entries),
                    "",
                ]
        return "\n".join(lines).rstrip() + "\n"

    def _profile(self) -> list[str]:
        if not self.kernels:
            return []
        about = "Microseconds a call, by torch's profiler; the cache as the call before left it."
        lines = ["## Kernel by kernel", "", about, ""]
        lines += [line(["call", "form of top-k", "kernel", "µs", "launches"]), line(["---"] * 5)]
        for row in self.kernels:
            kernel = f"`{short(row['kernel'])}`"
            lines.append(line([row["call"], row["form"], kernel, f"{row['us']:.1f}", f"{row['launches']:g}"]))
        return [*lines, ""]

    def _counters(self) -> list[str]:
        if not self.counters:
            return []
        about = (
            "By Nsight Compute, a call each; %: of what the device can do. `stalls`: what held warps up longest, in "
            "warps that waited at each issue. Times are not those of the tables: the cache is cleared, and a kernel "
            "runs several times."
        )
        names = ("us", "memory", "processor", "issue", "warps", "registers", "shared", "blocks", "threads")
        lines = ["## What the hardware counted", "", about, ""]
        lines += [line(["kernel", *names, "stalls"]), line(["---"] * (len(names) + 2))]
        for row in self.counters:
            stalls = ", ".join(f"{name} {value:.1f}" for name, value in row["stalls"].items())
            cells = (f"{row[name]:,.4g}" if name in row else "" for name in names)
            lines.append(line([f"`{short(row['kernel'])}`", *cells, stalls]))
        return [*lines, ""]

    def _steps(self) -> list[str]:
        lines = [line(["step", "result", "seconds", "last line"]), line(["---"] * 4)]
        for name, step in self.steps.items():
            last = step["last"][-1].replace("|", "\\|")[:160] if step["last"] else ""
            result = step["result"] if step["result"] == "passed" else f"**{step['result']}**"
            lines.append(line([name, result, f"{step['seconds']:g}", last]))
        wrong = [check for check in self.checks if check["result"] not in ("equal", "refused")]
        refused = [check for check in self.checks if check["result"] == "refused"]
        return [*lines, "", f"Answers that were wrong: {len(wrong)}.", "",
                *(f"* **{check['step']}: {check['name']}: {check['result']}**" for check in wrong),
                *(f"* {check['step']}: {check['name']}: refused: {check['note']}" for check in refused),
                *([""] if wrong or refused else [])]  # fmt: skip

    def _limits(self) -> list[str]:
        lines = ["## Limits of this device", ""]
        if not self.limits:
            return lines
        header = [
            "what",
            "loop",
            "pace",
            "a clock and multiprocessor",
            *(f"G pairs/s, {b} bits" for b in PAIR_BITS),
        ]
        lines += [line(header), line(["---"] * len(header))]
        for row in self.limits:
            pace = (
                f"{row['pace'] / 1e9:,.1f} G {row['unit']}/s"
                if row["checked"]
                else "not counted: a wrong result"
            )
            pairs = [pairs_a_second(row, n_bits) for n_bits in PAIR_BITS]
            lines.append(line([row["what"], row["loop"], pace, f"{row['per_clock']:.1f}" if row["per_clock"] else "",
                               *(f"{each / 1e9:,.0f}" if each else "" for each in pairs)]))  # fmt: skip
        return [*lines, ""]

    def _section(self, section: str, rows: list[dict]) -> list[str]:
        names = list(dict.fromkeys(row["name"] for row in rows))
        rows = sorted(rows, key=lambda row: names.index(row["name"]))
        keys = list(dict.fromkeys(key for row in rows for key in row["sizes"]))
        varying = [key for key in keys if len({str(row["sizes"].get(key)) for row in rows}) > 1]
        fixed = [f"{key} {number(rows[0]['sizes'][key])}" for key in keys if key not in varying]
        peers = list(
            dict.fromkeys(
                row["kernel"] for row in rows if is_peer(row) and not row["kernel"].startswith("copy")
            )
        )
        header = [*varying, "kernel", "prediction", "measured", UNITS[rows[0]["unit"]], "share of limit",
                  *(f"× {peer}" for peer in peers), "target", "peak memory", "samples", "kept"]  # fmt: skip
        body = [self._cells(row, [other for other in rows if other["name"] == row["name"]], varying, peers)
                for row in rows]  # fmt: skip
        used = [i for i, name in enumerate(header) if any(cells[i] for cells in body) or name in ALWAYS]
        lines = [f"## {section}", "", *([", ".join(fixed) + ".", ""] if fixed else [])]
        lines += [line([cells[i] for i in used]) for cells in (header, ["---"] * len(header), *body)]
        notes = dict.fromkeys(f"* {row['kernel']}: {row['note']}" for row in rows if "note" in row)
        return [*lines, "", *notes, *([""] if notes else [])]

    def _cells(self, row: dict, same: list[dict], varying: list[str], peers: list[str]) -> list[str]:
        """One row of a table; `same`: the rows of the same sizes."""
        forms = [other["seconds"] for other in same if other["kernel"] in FORMS]
        time = duration(row["seconds"])
        if row["kernel"] in FORMS and len(forms) > 1 and row["seconds"] == min(forms):
            time = f"**{time}**"
        times = {} if is_peer(row) else {other["kernel"]: other["seconds"] / row["seconds"] for other in same}
        known = self.predictions.get(f"{row['name']}: {row['kernel']}", {})
        shares = "; ".join(f"{name} {share:.2f}" for name, share in row["shares"].items())
        memory = f"{row['peak_bytes'] / 1e6:,.0f} MB" if "peak_bytes" in row else ""
        sizes = [number(row["sizes"].get(key, "")) for key in varying]
        part = f", on {row['measured_part']:.1%} of the queries, scaled" if "measured_part" in row else ""
        return [*sizes, row["kernel"], known.get("prediction", ""), time, f"{row['pace'] / 1e9:.4g}", shares,
                *(f"{times[peer]:.3g}" if peer in times else "" for peer in peers), targets(row, times), memory,
                f"{row['samples']}, {row['how']}{part}", known.get("kept", "")]  # fmt: skip


def targets(row: dict, times: dict[str, float]) -> str:
    """Each target and whether it was reached; one whose limit or peer was not measured says so."""
    said = []
    for name, wanted in row.get("targets", {}).items():
        if name == "ms":
            said.append(f"≤ {wanted:g} ms: {'yes' if 1e3 * row['seconds'] <= wanted else '**no**'}")
            continue
        reached = row["shares"].get(name, times.get(name))
        verdict = "not measured" if reached is None else "yes" if reached >= wanted else "**no**"
        said.append(f"{name} ≥ {wanted:.3g}: {verdict}")
    return "; ".join(said)


def is_peer(row: dict) -> bool:
    """A row of something else than this library, to compare with."""
    return row["kernel"].startswith(("torch", "copy", "WarpSelect"))


ABOUT = """Device time of one call: the median of the samples, each after the cache was overwritten; short calls are
replayed from a CUDA graph. A share is the least time that the limit allows, divided by the time measured: `read`, the
bytes that must be read; `popc`, a population count for every 32 bits of a pair; `b1` and `int8`, the matrix instruction
that suits the length best; `operation`, one plain integer operation a pair; `copy`, a copy that moves the same bytes,
measured beside the row. `× X`: so many times as fast as X. Where a kernel has several forms, the fastest is bold.
Predictions and what was kept: benchmarks/gpu/predictions.json; the targets were set before anything was measured."""


if __name__ == "__main__":
    print(write(Path(sys.argv[1])))
