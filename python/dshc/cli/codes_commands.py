"""The commands that use a trained model, or codes, or tell of the machine: names, flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import AsJson, Cluster, Partial, ScoreOption, Threads, WriteReport, flag, only_with_cluster
from .root import app

__all__: list[str] = []


@app.command()
def encode(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run folder of a trained model.", show_default=False)
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            show_default=False,
            help="An image, a folder of images (class folders become labels), a list of images (.csv, .tsv, .txt), "
            "a .parquet file, a named set, or embeddings (.npy, .npz, .safetensors).",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Code file to write; with --cluster the folder of the shards.")
    ] = Path("codes.safetensors"),
    root: Annotated[str | None, flag("Folder of the official files of a named set.")] = None,
    labels: Annotated[str | None, flag("File of labels for a .npy of embeddings.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing code file.")] = False,
    cluster: Cluster = None,
    shard_items: Annotated[
        int | None, flag("Items per shard, with --cluster; by default 1048576.", min=1)
    ] = None,
    threads: Threads = None,
) -> None:
    """Turn images or embeddings into a file of packed codes, or by a cluster into a folder of shards."""
    from .encode import run_encode

    _set_threads(threads)
    if cluster is not None:
        from .cluster import run_cluster_encode

        run_cluster_encode(
            run,
            source,
            cluster,
            out=out,
            shard_items=shard_items,
            root=root,
            labels=labels,
            overwrite=overwrite,
        )
        return
    only_with_cluster(shard_items is not None, "--shard-items")
    run_encode(run, source, out=out, root=root, labels=labels, overwrite=overwrite)


@app.command()
def evaluate(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|QUERIES", help="Run folder, or code file of queries.", show_default=False
        ),
    ],
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE|DATABASE",
            help="The run's data set, if it lies elsewhere now; with QUERIES the code file of the database.",
            show_default=False,
        ),
    ] = None,
    root: Annotated[str | None, flag("Folder of the official files of the run's named set.")] = None,
    labels: Annotated[str | None, flag("File of the labels of the run's data set.")] = None,
    k: Annotated[
        list[int] | None,
        flag(
            "Cut-off of mAP, repeatable; by default the whole database.", None, "--k", "-k", metavar="<int>"
        ),
    ] = None,
    ties: Annotated[
        str, typer.Option(metavar="expected|index|best|worst", help="Order of items at equal distance.")
    ] = "expected",
    denominator: Annotated[
        str,
        typer.Option(
            metavar="retrieved|min|relevant",
            help="AP@k is divided by: relevant items among the k, min(k, relevant), relevant.",
        ),
    ] = "retrieved",
    score: ScoreOption = None,
    empty: Annotated[
        str, typer.Option(metavar="zero|skip|error", help="Queries with nothing relevant in the database.")
    ] = "zero",
    metric: Annotated[
        list[str] | None,
        flag(
            "A further metric, repeatable: ndcg, reciprocal_rank, precision, recall or hit_rate, with a cut-off if "
            "wished (ndcg@100); r_precision; average_precision_at_r.",
            None,
            "--metric",
            metavar="NAME[@K]",
        ),
    ] = None,
    gains: Annotated[
        str,
        typer.Option(
            metavar="linear|exponential", help="What s shared labels are worth to nDCG: s, or 2^s - 1."
        ),
    ] = "linear",
    out: Annotated[
        Path | None,
        flag("Folder for evaluation.json and report; by default RUN."),
    ] = None,
    per_query: Annotated[
        bool, typer.Option("--per-query", help="Put the AP of each query into the JSON.")
    ] = False,
    as_json: AsJson = False,
    report: WriteReport = True,
    cluster: Cluster = None,
    partial: Partial = False,
    threads: Threads = None,
) -> None:
    """Measure retrieval: mAP with its conventions, curves, code statistics, class accuracy.

    Give a run folder, with its data set if that lies elsewhere now, or two labelled code files (queries, database);
    with --cluster a code file of queries and the shards of the database.
    """
    from ..evaluation import Conventions, check_cut
    from .evaluate import run_evaluate

    _set_threads(threads)
    cuts = [check_cut("--k", cut) for cut in k or ()]  # before hours of encoding
    conventions = Conventions(
        k=cuts[0] if cuts else None,
        ks=tuple(cuts[1:]),
        ties=ties,
        denominator=denominator,
        score=score,
        empty=empty,
        metrics=tuple(metric or ()),
        gains=gains,
    )
    if cluster is not None:
        from .cluster import run_cluster_evaluate

        run_cluster_evaluate(
            target,
            other,
            cluster,
            conventions,
            partial=partial,
            per_query=per_query,
            as_json=as_json,
            out=out,
        )
        return
    only_with_cluster(partial, "--partial")
    run_evaluate(
        target,
        other,
        conventions,
        root=root,
        labels=labels,
        per_query=per_query,
        as_json=as_json,
        out=out,
        report=report,
    )


@app.command()
def search(
    target: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CODES",
            help="Run folder (its database) or code file; shards with --cluster.",
            show_default=False,
        ),
    ],
    query: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERY",
            help="Images, folders of images, embeddings, code files; one or several, mixed.",
            show_default=False,
        ),
    ] = None,
    k: Annotated[int | None, flag("How many nearest items; by default 10.", None, "--k", "-k")] = None,
    item: Annotated[
        list[int] | None,
        flag(
            "Number of a query of the run, or of a code of the file, from 0; instead of QUERY; repeatable.",
            metavar="<int>",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        flag("Run that encodes QUERY when searching a code file."),
    ] = None,
    score: ScoreOption = None,
    show: Annotated[
        int | None,
        flag("Queries to print; by default 5, or as many as are named one by one; --json prints all.", min=1),
    ] = None,
    gallery: Annotated[
        Path | None,
        flag("Write a page with pictures of queries and results.", metavar="FILE.html|FOLDER"),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Show that page in the browser; alone, from a temporary file.")
    ] = False,
    as_json: AsJson = False,
    cluster: Cluster = None,
    partial: Partial = False,
    threads: Threads = None,
) -> None:
    """Find the nearest items, exactly, sorted by (distance, index).

    Below the table: the class that the model predicts for each query, and how many items are tied with the last. With
    --cluster the database is a folder or a JSON list of shards.
    """
    from .search import run_search

    _set_threads(threads)
    if cluster is not None:
        from .cluster import run_cluster_search

        refused = {"--item": item, "--gallery": gallery, "--open": open_page}
        run_cluster_search(
            target,
            query or [],
            cluster,
            k=k,
            score=score,
            run_folder=run,
            as_json=as_json,
            show=show,
            partial=partial,
            refused=[name for name, value in refused.items() if value],
        )
        return
    only_with_cluster(partial, "--partial")
    run_search(
        target,
        query or [],
        items=item or [],
        k=k,
        score=score,
        run_folder=run,
        as_json=as_json,
        show=show,
        gallery=gallery,
        open_page=open_page,
    )


@app.command()
def protocols(as_json: AsJson = False) -> None:
    """List the protocols: how a set is cut into queries, database and training items."""
    from .protocols import show_protocols

    show_protocols(as_json=as_json)


@app.command()
def codebook(
    classes: Annotated[int, typer.Option(help="Number of classes.")] = 10,
    bits: Annotated[int, typer.Option(help="Code length.")] = 30,
    construction: Annotated[
        str, typer.Option(help="cpbc, kbc (2^bits points: at most 20 bits) or separated.")
    ] = "cpbc",
    seed: Annotated[int, typer.Option(help="Seed of kbc, and of the search of separated.")] = 0,
    threshold: Annotated[int, typer.Option(help="kbc: least distance to centers of other classes.")] = 3,
    radius: Annotated[int, typer.Option(help="Sub-codes lie within this distance of the center.")] = 1,
    sub_codes: Annotated[int | None, flag("Most sub-codes per class, the nearest; by default all.")] = None,
    search_steps: Annotated[int | None, flag("separated: steps of each search; by default 2000.")] = None,
    out: Annotated[
        Path | None, flag("Save it as .safetensors, its distances drawn in a .png beside.")
    ] = None,
    codes: Annotated[bool, typer.Option("--codes", help="Print the center of every class.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a codebook in --out and its picture.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Build a codebook and show how well it keeps the classes apart."""
    from .codebook import run_codebook

    settings = {"seed": seed, "threshold": threshold, "radius": radius, "sub_codes": sub_codes}
    if search_steps is not None:
        settings["search_steps"] = search_steps
    run_codebook(
        construction, classes, bits, settings, out=out, codes=codes, overwrite=overwrite, as_json=as_json
    )


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Show versions, threads and build of the core, and check its results against worked examples."""
    from .doctor import run_doctor

    if not run_doctor(as_json=as_json):
        raise typer.Exit(1)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
