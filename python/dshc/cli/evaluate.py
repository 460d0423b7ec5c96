"""``dshc evaluate``: measure a run or two code files, print the table, write the JSON and the report."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import InputError
from ..evaluation import Conventions, Evaluation
from ..report import report_files, report_run
from ..runs import Run, evaluate_files, evaluate_run
from ..runs.encoding import is_code_file
from ..runs.evaluate import Measured
from ..runs.run_folder import is_run_file
from .console import say, table, working
from .open_run import open_run

__all__ = ["measure_run", "run_evaluate", "show"]


def run_evaluate(
    target: Path,
    other: str | None,
    conventions: Conventions,
    *,
    root: str | None,
    labels: str | None,
    per_query: bool,
    as_json: bool,
    out: Path | None,
    report: bool,
) -> None:
    """Evaluate a run folder, or a file of query codes against one of database codes.

    ``other``: the data set of the run, where it lies now, or the file of database codes; ``root``: the folder of its
    official files; ``labels``: the file of its labels.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"--out must name a folder, {out} is a file")
    if out is not None and is_run_file(out / "evaluation.json") and out.resolve() != target.resolve():
        raise InputError(f"--out must not be the folder of another run, got {out}")
    folder = out
    moved = root is not None or labels is not None
    is_run = target.is_dir() or (
        not target.exists() and (other is None or moved or target.suffix != ".safetensors")
    )
    if is_run:
        if other is not None and Path(other).is_file() and is_code_file(Path(other)):
            if not target.exists():
                raise FileNotFoundError(f"{target}: no such file or folder")
            raise InputError(f"QUERIES must be a code file where DATABASE is one, {target} is a folder")
        run = open_run(target, source=other, root=root, labels=labels)
        measured = measure_run(run, conventions, out=out, report=report, per_query=per_query)
        folder = out or target
    elif other is None:
        what = "a code file of queries needs a second one, the database"
        if not is_code_file(target):
            what = "must be a run folder or a code file, it is neither"
        raise InputError(f"{target}: {what}")
    else:
        database = Path(other)
        if moved:
            name = "--labels" if root is None else "--root"
            raise InputError(f"{name} must go with a run, not with code files")
        if database.is_dir():
            raise InputError(f"DATABASE must be a code file where QUERIES is one, {database} is a folder")
        with working("evaluating"):
            measured = evaluate_files(target, database, conventions, out=out, per_query=per_query)
        if out is not None and report:
            with working("drawing the report"):
                report_files(measured, out)
    if as_json:
        say(json.dumps(measured.evaluation.to_dict(per_query=per_query), allow_nan=False))
        return
    show(measured.evaluation)
    if folder is not None:
        say(f"numbers: {folder / 'evaluation.json'}")
        if report:
            say(f"report:  {folder / 'report.html'}")


def measure_run(
    run: Run,
    conventions: Conventions = Conventions(),  # noqa: B008 - frozen
    *,
    out: Path | None = None,
    report: bool = True,
    per_query: bool = False,
) -> Measured:
    """Evaluate a run and, where asked, draw its report, under a spinner."""
    with working("evaluating"):
        measured = evaluate_run(run, conventions, out=out, per_query=per_query)
    if report:
        with working("drawing the report"):
            report_run(run, measured, out)
    return measured


def show(evaluation: Evaluation) -> None:
    """Print the headline, the class accuracy and the table of everything else."""
    say(evaluation.line(), style="bold")
    for line in evaluation.accuracy_lines():
        say(line)
    say()
    rows = [row for row in evaluation.rows()[1:] if not row[0].startswith("class accuracy")]
    table("", ("measure", "value", "convention"), rows, numeric="lrl")
