"""The command that answers searches over HTTP: names, flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Threads, flag
from .root import app

__all__: list[str] = []

LIMITS = "Limits"
"""The heading in the help of what keeps a service from being asked too much."""


@app.command()
def serve(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="INDEX|RUN", help="Folder of an index, or of a run: its database.", show_default=False
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at; one that others reach needs --api-key-file.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: a free one.")] = 8000,
    api_key_file: Annotated[
        Path | None,
        flag("File of keys, one per line, of which requests must show one.", metavar="FILE"),
    ] = None,
    name: Annotated[
        list[str] | None,
        flag("Host name to answer to beside localhost, where there are no keys; repeatable.", metavar="NAME"),
    ] = None,
    images: Annotated[
        Path | None,
        flag(
            "Folder of the items' images, to which their ids are paths; by default a run's own.",
            metavar="FOLDER",
        ),
    ] = None,
    max_upload_mib: Annotated[float, typer.Option(help="Largest request.", rich_help_panel=LIMITS)] = 16.0,
    max_pixels: Annotated[
        int,
        typer.Option(help="Most pixels of an image, checked before it is decoded.", rich_help_panel=LIMITS),
    ] = 40_000_000,
    max_k: Annotated[int, typer.Option(help="Most results of a query.", rich_help_panel=LIMITS)] = 1000,
    max_queries: Annotated[int, typer.Option(help="Most queries of a request.", rich_help_panel=LIMITS)] = 64,
    max_concurrency: Annotated[
        int, typer.Option(help="Most requests at a time.", rich_help_panel=LIMITS)
    ] = 64,
    max_seconds: Annotated[
        float, typer.Option(help="Most seconds that a request may take.", rich_help_panel=LIMITS)
    ] = 10.0,
    batch_ms: Annotated[
        float, typer.Option(help="Milliseconds that a search waits for others to join it.")
    ] = 0.0,
    poll_seconds: Annotated[
        float, typer.Option(help="Seconds between two looks for changes of the index.")
    ] = 1.0,
    threads: Threads = None,
) -> None:
    """Answer searches over HTTP: JSON for programs, a page for the browser. Ends on SIGTERM and Ctrl-C."""
    from .serve import run_serve

    run_serve(
        target,
        api_key_file=api_key_file,
        images=images,
        threads=threads,
        host=host,
        port=port,
        names=tuple(name or ()),
        max_upload_mib=max_upload_mib,
        max_pixels=max_pixels,
        max_k=max_k,
        max_queries=max_queries,
        max_concurrency=max_concurrency,
        max_seconds=max_seconds,
        batch_ms=batch_ms,
        poll_seconds=poll_seconds,
    )
