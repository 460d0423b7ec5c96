"""The application: what `dshc` itself says and takes; its commands are in the modules beside this one."""

from __future__ import annotations

from typing import Annotated

import typer

from .failures import Debug, OneLineErrors

__all__ = ["app"]


app = typer.Typer(
    cls=OneLineErrors,
    help="Turn images and embeddings into short binary codes, search them exactly, measure retrieval.",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="First steps: [bold]dshc demo[/bold], then [bold]dshc train photos/[/bold], a folder with one "
    "sub-folder of images per class.",
)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and exit.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")] = False,
) -> None:
    Debug.on = debug
    if version:
        typer.echo(f"dshc {_version()}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def _version() -> str:
    """The installed version; that of the checkout where nothing is installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("dshc-fast")
    except PackageNotFoundError:
        import dshc_fast

        return dshc_fast.__version__
