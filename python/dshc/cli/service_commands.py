"""The command that answers searches over HTTP: names, flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Cluster, Partial, Threads, flag, only_with_cluster
from .root import app

__all__: list[str] = []

CLUSTER_BATCH_MS = 5.0
"""Ray Serve puts together what arrives within a time, and nothing without one."""
LIMITS = "Limits"
"""The heading in the help of what keeps a service from being asked too much."""


@app.command()
def serve(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="INDEX|RUN|SHARDS",
            help="Folder of an index, or of a run: its database; with --cluster a folder or a JSON list of shards.",
            show_default=False,
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
        float | None,
        flag("Milliseconds that a search waits for others to join it; by default 0, with --cluster 5."),
    ] = None,
    poll_seconds: Annotated[
        float, typer.Option(help="Seconds between two looks for changes of the index.")
    ] = 1.0,
    cluster: Cluster = None,
    run: Annotated[
        Path | None, flag("With --cluster: run whose hasher makes codes of queries.", metavar="RUN")
    ] = None,
    partial: Partial = False,
    copies: Annotated[int, typer.Option(min=1, help="With --cluster: nodes that hold each shard.")] = 1,
    hedge: Annotated[
        float | None,
        flag(
            "With --cluster and --copies: ask a second holder after this quantile of the last answers' times, such as "
            "0.95.",
            metavar="QUANTILE",
        ),
    ] = None,
    threads: Threads = None,
) -> None:
    """Answer searches over HTTP: JSON for programs, a page for the browser. Ends on SIGTERM and Ctrl-C.

    With --cluster it is a deployment of Ray Serve, over shards that the nodes hold.
    """
    from .serve import run_cluster_serve, run_serve

    settings: dict[str, Any] = {
        "api_key_file": api_key_file,
        "images": images,
        "threads": threads,
        "host": host,
        "port": port,
        "names": tuple(name or ()),
        "max_upload_mib": max_upload_mib,
        "max_pixels": max_pixels,
        "max_k": max_k,
        "max_queries": max_queries,
        "max_concurrency": max_concurrency,
        "max_seconds": max_seconds,
        "poll_seconds": poll_seconds,
    }
    if cluster is not None:
        wait = CLUSTER_BATCH_MS if batch_ms is None else batch_ms
        run_cluster_serve(
            target,
            cluster,
            run_folder=run,
            partial=partial,
            copies=copies,
            hedge=hedge,
            batch_ms=wait,
            **settings,
        )
        return
    only_with_cluster(run is not None, "--run")
    only_with_cluster(partial, "--partial")
    only_with_cluster(copies != 1, "--copies")
    only_with_cluster(hedge is not None, "--hedge")
    run_serve(target, batch_ms=batch_ms or 0.0, **settings)
