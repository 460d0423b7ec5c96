"""The commands of a code index: names, flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .failures import OneLineErrors
from .options import AsJson, Threads, flag
from .root import app

__all__: list[str] = []

index_app = typer.Typer(
    cls=OneLineErrors,
    help="Keep codes in a folder: add, remove, search, check. Changes survive a crash.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(index_app, name="index")

Index = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.", show_default=False)]
Where = Annotated[
    str | None, flag("Condition on metadata, as in \"year >= 2020 and camera == 'A'\".", metavar="CONDITION")
]
Label = Annotated[list[str] | None, flag("Class that items must have; repeatable.", metavar="NAME")]


@index_app.command()
def create(
    index: Index,
    run: Annotated[Path | None, flag("Run whose model encodes what is added; it is copied.")] = None,
    bits: Annotated[int | None, flag("Code length; by default the run's.")] = None,
    score: Annotated[str | None, flag("Ranking; by default the run's.", metavar="hamming|overlap")] = None,
    ids: Annotated[str | None, flag("Kind of ids; by default text.", metavar="text|int64")] = None,
    labels: Annotated[
        str | None,
        flag("Labels that are kept; by default as the run has them.", metavar="none|ids|multi-hot"),
    ] = None,
    classes: Annotated[str | None, flag("Names of the classes, joined by commas.")] = None,
    vectors: Annotated[
        str | None, flag("Vectors that are kept for rescoring; by default none.", metavar="none|float16|int8")
    ] = None,
    dimensions: Annotated[int | None, flag("Of the vectors; by default the run's features.")] = None,
    metadata: Annotated[
        list[str] | None,
        flag(
            "Column of metadata and its Arrow type, repeatable: year=int32, camera=string.",
            metavar="NAME=TYPE",
        ),
    ] = None,
) -> None:
    """Make a new, empty index; of a run, or for codes of any origin."""
    from .index import create_index

    create_index(
        index,
        run,
        bits=bits,
        score=score,
        ids=ids,
        labels=labels,
        classes=classes,
        vectors=vectors,
        dimensions=dimensions,
        metadata=metadata or [],
    )


@index_app.command()
def add(
    index: Index,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A code file; a run (its database); else what the index's model encodes: an image, a folder, a "
            "list, a .parquet file, a named set, embeddings.",
            show_default=False,
        ),
    ],
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Encode items anew that are there already; else they are passed over."
        ),
    ] = False,
    metadata: Annotated[
        Path | None, flag("A .parquet or .csv file with a column id and the index's columns.")
    ] = None,
    root: Annotated[str | None, flag("Folder of the official files of a named set.")] = None,
    labels: Annotated[str | None, flag("File of labels for a .npy of embeddings.")] = None,
    threads: Threads = None,
) -> None:
    """Encode items and add them. Interrupted, the same command goes on."""
    from .index import add_to_index

    add_to_index(
        index, source, overwrite=overwrite, metadata=metadata, root=root, labels=labels, threads=threads
    )


@index_app.command()
def remove(
    index: Index,
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Items to remove.", show_default=False)],
) -> None:
    """Remove items by their ids."""
    from .index import remove_from_index

    remove_from_index(index, ids)


@index_app.command(name="search")
def search_index(
    index: Index,
    query: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="Code files, images, folders, embeddings.", show_default=False),
    ] = None,
    id: Annotated[
        list[str] | None, flag("Item of the index to search from; repeatable.", metavar="ID")
    ] = None,
    k: Annotated[int | None, flag("How many nearest items; by default 10.", None, "--k", "-k")] = None,
    radius: Annotated[int | None, flag("All items within this distance, instead of k.")] = None,
    precision: Annotated[
        float | None,
        flag("All items within the radius that has this precision, as measured.", metavar="SHARE"),
    ] = None,
    label: Label = None,
    where: Where = None,
    rescore: Annotated[
        int | None, flag("Order so many times k items by their vectors.", metavar="FACTOR")
    ] = None,
    metric: Annotated[
        str | None,
        flag("How vectors are compared; by default inner_product.", metavar="inner_product|cosine|l2"),
    ] = None,
    as_json: AsJson = False,
    threads: Threads = None,
) -> None:
    """Find the nearest items, exactly, sorted by (distance, order)."""
    from .index import search_in_index

    search_in_index(
        index,
        query or [],
        id or [],
        k=k,
        radius=radius,
        precision=precision,
        label=label,
        where=where,
        rescore=rescore,
        metric=metric,
        as_json=as_json,
        threads=threads,
    )


@index_app.command()
def info(index: Index, as_json: AsJson = False) -> None:
    """Show what an index holds."""
    from .index import show_index

    show_index(index, as_json=as_json)


@index_app.command()
def check(index: Index) -> None:
    """Read every file of an index and compare it with its checksum."""
    from .index import check_index

    check_index(index)


@index_app.command()
def compact(index: Index) -> None:
    """Write an index as one part and give back the room of removed items."""
    from .index import compact_index

    compact_index(index)


@index_app.command()
def merge(
    index: Index,
    other: Annotated[
        Path, typer.Argument(metavar="OTHER", help="Index whose items are added.", show_default=False)
    ],
) -> None:
    """Add all items of another index of the same layout."""
    from .index import merge_indexes

    merge_indexes(index, other)


@app.command()
def dedup(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="An index, a code file, or, with --run, images or embeddings.",
            show_default=False,
        ),
    ],
    radius: Annotated[
        int, typer.Option(help="Codes within so many bits count as nearly the same.", show_default=False)
    ],
    run: Annotated[Path | None, flag("Run that encodes SOURCE.")] = None,
    images: Annotated[
        Path | None, flag("Folder of the images of an index, whose ids are paths in it.", metavar="FOLDER")
    ] = None,
    gallery: Annotated[
        Path | None, flag("Write a page with pictures of the groups.", metavar="FILE.html")
    ] = None,
    show: Annotated[int, typer.Option(help="Groups to print; --json prints all.", min=1)] = 20,
    as_json: AsJson = False,
    threads: Threads = None,
) -> None:
    """List groups of near-duplicates, the largest first.

    A group is what is linked: each of its items is within the radius of another one.
    """
    from .dedup import run_dedup

    run_dedup(
        source,
        radius=radius,
        run_folder=run,
        images=images,
        gallery=gallery,
        show=show,
        as_json=as_json,
        threads=threads,
    )
