"""All methods on one set, by `dshc compare`; its table, plot and numbers go into docs/results.

    python benchmarks/methods.py NAME SOURCE --work FOLDER [--note TEXT] [any flags of dshc compare]

NAME: of the files, docs/results/methods-NAME.{md,json,png}. The comparison in FOLDER goes on where it was stopped, so
that an afternoon's work may be done in parts; seconds and memory in the table are those of each training. Run it with
nothing beside it.
"""

from __future__ import annotations

import json
import shutil
import time

import comparisons
from timing import RESULTS

from dshc.experiment import ComparisonTable

# Methods of which no public definition was found, as the paper of DSHC quotes them (Luo et al., table 1): other
# networks and another split.
CITED = {"cifar10": {"VDSH": (32, 0.844), "DSLH": (32, 0.802), "RMLH": (32, 0.816)}}


def main() -> None:
    given, flags = comparisons.parser(__doc__).parse_known_args()
    started = time.perf_counter()
    comparisons.compare(given.source, given.work, flags)
    hours = (time.perf_counter() - started) / 3600
    table = ComparisonTable.load(given.work)
    trained = sum(json.loads(p.read_text())["seconds"] for p in given.work.glob("runs/*/trained.json"))
    shown = comparisons.shown(given.source, flags)
    about = (
        f"{comparisons.made_on()}; this call {hours:.2f} hours, all its trainings {trained / 3600:.2f} hours"
    )
    name = f"methods-{given.name}"
    head = f"# Methods: {given.name}\n\n`{shown}`; {about}.\n\n" + (f"{given.note}\n\n" if given.note else "")
    text = f"{head}![mAP against bits]({name}.png)\n\n{table.to_markdown()}{cited(given.name)}"
    (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
    shutil.copy(given.work / "table.json", RESULTS / f"{name}.json")
    shutil.copy(given.work / "report" / "map_by_bits.png", RESULTS / f"{name}.png")
    print(f"docs/results/{name}.md")


def cited(name: str) -> str:
    """What others published of methods that are not here, in a table of its own; empty where nothing is."""
    if name not in CITED:
        return ""
    rows = [f"| {method} | {bits} | {value:.3f} |" for method, (bits, value) in CITED[name].items()]
    about = (
        "Cited, not implemented: no public definition was found. As the paper of DSHC quotes them, by other networks "
        "and another split:"
    )
    return "\n".join(["", about, "", "| method | bits | mAP |", "| --- | --- | --- |", *rows, ""])


if __name__ == "__main__":
    main()
