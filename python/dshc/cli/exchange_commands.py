"""The commands that bring codes to other programs and back: names, flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import flag
from .root import app

__all__: list[str] = []


@app.command(name="export")
def export(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Code file or index to export.", show_default=False)
    ],
    to: Annotated[
        str,
        typer.Option(
            metavar="faiss|pgvector|postgres|milvus|lancedb|duckdb|parquet|npy|usearch",
            help="The program that is to search the codes, or the kind of file.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="PATH|URL",
            help="File to write; for a database its file, folder or URL.",
            show_default=False,
        ),
    ],
    table: Annotated[str | None, flag("Table or collection to make; by default codes.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file of the same kind, or the table.")
    ] = False,
) -> None:
    """Write codes for a database or another library to search, and say how to search in it."""
    from .exchange import run_export

    run_export(source, to, out, table=table, overwrite=overwrite)


@app.command(name="import")
def import_(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="File to read.", show_default=False)],
    from_: Annotated[
        str, typer.Option("--from", metavar="faiss|npy|parquet", help="Its kind.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Code file to write.")] = Path("codes.safetensors"),
    bits: Annotated[
        int | None, flag("Code length; by default what the file tells, else all bits of its bytes.", min=1)
    ] = None,
    bit_order: Annotated[
        str,
        typer.Option(
            metavar="little|big",
            help="Where a byte has its first bit: little, at the lowest place; big, at the highest, as in "
            "numpy.packbits by default.",
        ),
    ] = "little",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing code file.")] = False,
) -> None:
    """Make a code file of codes from another program, to be searched and measured here."""
    from .exchange import run_import

    run_import(path, from_, out=out, n_bits=bits, bit_order=bit_order, overwrite=overwrite)
