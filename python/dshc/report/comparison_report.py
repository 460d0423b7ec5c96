"""The page of a comparison: the table, the plot, the tuning, and links to the pages of its runs."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from ..experiment import ComparisonTable
from ..experiment.comparison_table import Group
from ..storage import write_whole
from .comparison_plot import comparison_plot
from .figures import drawn
from .pages import render
from .report import versions

__all__ = ["write_comparison"]

PAGE = "report.html"


def write_comparison(folder: Path, table: ComparisonTable) -> Path:
    """Write ``report.html`` and ``report/map_by_bits.png`` of a comparison into its folder; returns the page's path.

    A run is linked where its own page is there.
    """
    plot = comparison_plot(table)
    facts = table.facts
    page = render(
        "comparison.html",
        title=f"{facts['data']}: {len({r.label for r in table.results})} methods compared",
        facts={
            "data set": f"{facts['data']}: {facts['n_items']} items, {facts['n_classes']} classes",
            "bits": ", ".join(map(str, facts["bits"])),
            "seeds": str(facts["seeds"]),
        },
        figure=None if plot is None else drawn(folder, plot),
        notes=table.notes(),
        columns=table.columns(),
        rows=[(row, _links(folder, group)) for row, group in zip(table.rows(), table.groups, strict=True)],
        failures=[
            (f"{r.label}, {r.bits} bits, seed {r.seed}", r.failure) for r in table.results if r.failure
        ],
        tuning=table.tuning_rows() if any(t.tried or t.chosen for t in table.tunings) else [],
        versions=versions(),
    )
    return write_whole(folder / PAGE, page)


def _links(folder: Path, group: Group) -> list[tuple[str, str]]:
    """Name and address of the page of each run that has one."""
    found = []
    for result in group.results:
        if (folder / result.run / PAGE).is_file():
            found.append((str(result.seed), quote(f"{result.run}/{PAGE}")))
    return found
