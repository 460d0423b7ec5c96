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
from collections.abc import Iterable
from pathlib import Path

import comparisons
from timing import RESULTS, made_on, write_page

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
    trained = sum(json.loads(path.read_text())["seconds"] for path in trainings(given.work, table))
    shown = comparisons.shown(given.source, flags)
    took = f"this call {hours:.2f} hours, all its trainings {trained / 3600:.2f} hours"
    name = f"methods-{given.name}"
    lines = [f"![mAP against bits]({name}.png)", "", *table.to_markdown().splitlines(), *cited(given.name)]
    shutil.copy(given.work / "table.json", RESULTS / f"{name}.json")
    shutil.copy(given.work / "report" / "map_by_bits.png", RESULTS / f"{name}.png")
    write_page(name, f"Methods: {given.name}", f"`{shown}`; {made_on()}; {took}", given.note, lines)


def trainings(folder: Path, table: ComparisonTable) -> Iterable[Path]:
    """What the trainings of a table left: those of its rows, and of its tuning where there was one.

    A folder may hold more: trainings of other lengths, that an earlier call asked for.
    """
    if any(tuning.tried for tuning in table.tunings):
        return folder.glob("runs/*/trained.json")
    return {(folder / result.run).parent / "trained.json" for result in table.results}


def cited(name: str) -> list[str]:
    """What others published of methods that are not here, in a table of its own; empty where nothing is."""
    if name not in CITED:
        return []
    rows = [f"| {method} | {bits} | {value:.3f} |" for method, (bits, value) in CITED[name].items()]
    about = (
        "Cited, not implemented: no public definition was found. As the paper of DSHC quotes them, by other networks "
        "and another split:"
    )
    return ["", about, "", "| method | bits | mAP |", "| --- | --- | --- |", *rows]


if __name__ == "__main__":
    main()
