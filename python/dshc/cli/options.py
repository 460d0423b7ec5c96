"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, Any

import typer

__all__ = [
    "MAX_THREADS",
    "PANELS",
    "RUN",
    "AsJson",
    "Cluster",
    "Partial",
    "ScoreOption",
    "Threads",
    "WriteReport",
    "flag",
    "only_with_cluster",
]

MAX_THREADS = 1024
"""As in :mod:`dshc.training.settings`, which would bring torch along."""
RUN = "Run"
"""The heading in the help of what concerns the run as a whole."""
PANELS = {"data": "Data", "encoder": "Network", "method": "Method", "optim": "Optimisation", "runtime": RUN}
"""The heading of each table of settings, in the order of the help."""


def flag(help: str, panel: str | None = None, *names: str, **options: Any) -> Any:
    """An option that is not given by default, or a switch; ``panel`` is its heading in the help."""
    return typer.Option(*names, help=help, rich_help_panel=panel, show_default=False, **options)


Threads = Annotated[int | None, flag("CPU threads; by default as torch has it.", min=1, max=MAX_THREADS)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
WriteReport = Annotated[
    bool, typer.Option("--report/--no-report", help="Write report.html and its pictures.")
]
ScoreOption = Annotated[
    str | None,
    flag("Ranking: XOR count or AND count; by default the method's own.", metavar="hamming|overlap"),
]
Cluster = Annotated[
    str | None,
    flag("Ray cluster that does the work: auto, local, HOST:PORT or ray://HOST:PORT.", metavar="ADDRESS"),
]
Partial = Annotated[
    bool,
    typer.Option("--partial", help="With --cluster: answer without shards that cannot be had, and say so."),
]


def only_with_cluster(given: bool, name: str) -> None:
    """Refuse an option that says nothing without ``--cluster``."""
    if given:
        from ..errors import InputError

        raise InputError(f"{name} must go with --cluster")
