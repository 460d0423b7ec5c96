"""The commands that train, or say what can be trained: names, flags and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import RUN, AsJson, Threads, WriteReport, flag
from .root import app
from .settings_command import ComparisonCommand, SettingsCommand, given_settings

__all__: list[str] = []

DEMO_FOLDER = Path("runs/demo")
EXPERIMENTS_FOLDER = Path("runs/experiments")


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Run folder; an earlier demo in it is replaced.")] = DEMO_FOLDER,
    bits: Annotated[int, typer.Option(min=1, help="Code length.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    epochs: Annotated[int | None, flag("Passes over the training images.", min=1)] = None,
    threads: Threads = None,
    report: WriteReport = True,
) -> None:
    """Train on the handwritten digits of scikit-learn, encode, rank, measure and draw. Needs no download."""
    from .train import run_demo

    run_demo(out=out, bits=bits, seed=seed, epochs=epochs, threads=threads, report=report)


@app.command(
    cls=SettingsCommand,
    help="Train a hashing model, measure it on its queries and write a report.\n\n"
    "Settings that are not given are chosen for data and method and recorded in config.toml of the run folder, "
    "which is a valid --config file. Weights are selected on a validation split cut from the training items, "
    "never on the queries. Ctrl-C leaves a checkpoint; [bold]dshc train --resume --out RUN[/bold] goes on "
    "exactly from there. [bold]dshc methods[/bold] lists the methods and what each can be set to.",
)
def train(
    context: typer.Context,
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="A folder of photos, one sub-folder per class (or without classes, for --method itq); a list of "
            "images (.csv, .tsv, .txt) or a .parquet file; embeddings (.npy, .npz, .safetensors); or a named set, "
            "such as digits, cifar10 or coco.",
        ),
    ] = None,
    out: Annotated[str | None, flag("Run folder; by default runs/SOURCE.", RUN)] = None,
    config: Annotated[Path | None, flag("TOML file of settings; flags win over it.", RUN)] = None,
    assignments: Annotated[
        list[str] | None,
        flag(
            "Any setting by its table, such as optim.lr=0.05; repeatable.",
            RUN,
            "--set",
            metavar="TABLE.NAME=VALUE",
        ),
    ] = None,
    resume: Annotated[bool, flag("Continue the interrupted run in --out.", RUN, "--resume")] = False,
    overwrite: Annotated[
        bool, flag("Replace a run that is already in the folder.", RUN, "--overwrite")
    ] = False,
    report: Annotated[bool, flag("Write report.html at the end.", RUN, "--report/--no-report")] = True,
) -> None:
    from .settings_flags import as_values
    from .train import run_train

    values = {"out": out, **as_values(given_settings(context), assignments or [])}
    run_train(source, values, config_file=config, resume=resume, overwrite=overwrite, report=report)


@app.command()
def methods(
    name: Annotated[
        str | None,
        typer.Argument(metavar="METHOD", help="One of them, with its settings.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the hashing methods, or one with its settings, their defaults and its source."""
    from .methods import show_methods

    show_methods(name, as_json=as_json)


@app.command()
def experiment(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME", help="Of an experiment, or [bold]list[/bold].", show_default=False),
    ],
    data: Annotated[
        list[str] | None,
        flag("Where a set lies, such as cifar10=/data; repeatable.", metavar="SET=FOLDER"),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder of the experiments, which share what they train.")
    ] = EXPERIMENTS_FOLDER,
    threads: Threads = None,
) -> None:
    """Run an experiment of the DSHC paper: a page with its figures and ours. Stopped, the same command goes on."""
    from .experiment import list_experiments, run_experiment

    if name == "list":
        list_experiments()
        return
    run_experiment(name, out=out, places=data or (), threads=threads)


@app.command(
    cls=ComparisonCommand,
    help="Compare hashing methods: the same data, split, network, evaluation and tuning for all.\n\n"
    "Every method is tuned alike, a grid of learning rates and of its one main weight at one length, by the mAP of "
    "the validation items; then it is trained at every length with every seed and measured on the queries. The "
    "folder gets table.md, table.json and report.html. A training that fails costs its own row; the same command "
    "goes on after an interruption, and trains nothing twice.",
)
def compare(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", show_default=False, help="As of [bold]dshc train[/bold].")
    ],
    methods: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Methods, such as dshc,itq,csq, or all; with settings as in dshc:construction=cpbc.",
        ),
    ] = "all",
    bits: Annotated[str, typer.Option(metavar="LENGTHS", help="Code lengths, such as 16,32,48.")] = "32",
    seeds: Annotated[int, typer.Option(min=1, help="Trainings per length: seeds 0, 1, ...")] = 1,
    seeds_at: Annotated[
        str | None, flag("Lengths that are trained with all seeds, the others with one.", metavar="LENGTHS")
    ] = None,
    out: Annotated[Path | None, flag("Folder; by default runs/SOURCE-compared.", RUN)] = None,
    tune: Annotated[
        bool, typer.Option("--tune/--no-tune", help="Tune every method by the same grid.")
    ] = True,
    lr_factors: Annotated[
        str, typer.Option(metavar="FACTORS", help="Learning rates tried, as factors of the method's own.")
    ] = "0.3,1,3",
    weight_factors: Annotated[
        str, typer.Option(metavar="FACTORS", help="Main weights tried, as factors of the method's own.")
    ] = "0.1,1,10",
    widen: Annotated[
        int, typer.Option(min=0, help="Times that the grid goes on past an edge where its best point lies.")
    ] = 0,
    tuned: Annotated[
        Path | None,
        flag("Take rates and weights that the comparison in this folder chose.", None, metavar="FOLDER"),
    ] = None,
    nested: Annotated[
        bool,
        flag("Train methods that can once for all lengths: the first bits are codes too.", None, "--nested"),
    ] = False,
    post: Annotated[
        str | None,
        flag(
            "Codes found afterwards from the same outputs, each in rows of its own.",
            metavar="itq,map,thresholds",
        ),
    ] = None,
    k: Annotated[
        list[int] | None, flag("Further cut-off of mAP, repeatable.", None, "--k", "-k", metavar="<int>")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Trainings at a time, each with its share of the CPU threads.")
    ] = 1,
    assignments: Annotated[
        list[str] | None,
        flag("Any setting by its table, repeatable.", RUN, "--set", metavar="TABLE.NAME=VALUE"),
    ] = None,
    as_json: AsJson = False,
    run_reports: Annotated[
        bool, typer.Option("--run-reports/--no-run-reports", help="Write the page of each run of seed 0.")
    ] = True,
) -> None:
    from .compare import run_compare
    from .settings_flags import as_values

    run_compare(
        source,
        as_values(given_settings(context), assignments or []),
        methods=methods,
        bits=bits,
        seeds=seeds,
        seeds_at=seeds_at,
        out=out,
        factors=(lr_factors, weight_factors) if tune and tuned is None else None,
        widen=widen,
        tuned=tuned,
        nested=nested,
        post=post,
        ks=tuple(k or ()),
        jobs=jobs,
        as_json=as_json,
        run_reports=run_reports,
    )
