"""``dshc evaluate``: measure a run or two code files, print the table, write the JSON and the report."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..evaluation import Evaluation, check_cut, class_accuracy, evaluate
from ..gallery import Gallery, hardest_queries, make_gallery, spread_queries
from ..index import CodeFile, check_same_code
from ..report import Report, write_report
from ..run import Run
from .console import say, table, working
from .sources import encode_part, open_run

__all__ = ["Conventions", "evaluate_files", "evaluate_run", "run_evaluate"]

RELEVANT = (
    "Green with a tick: relevant; red with a cross: not. Below each: its {}; equal ones are in index order."
)


@dataclass(frozen=True)
class Conventions:
    """What an evaluation is asked for, as :func:`dshc.evaluation.evaluate` takes it.

    The headline cut-off is the first of ``ks`` (none: the whole database); ``score`` None: the codes' own.
    """

    ks: Sequence[int] = ()
    ties: str = "expected"
    denominator: str = "retrieved"
    score: str | None = None
    empty: str = "zero"

    def evaluate(
        self,
        queries: CodeFile,
        database: CodeFile,
        accuracy: Mapping[str, Mapping[str, float]] | None = None,
    ) -> Evaluation:
        """The numbers of labelled codes under these conventions."""
        return evaluate(
            queries.codes,
            database.codes,
            queries.labels,
            database.labels,
            n_bits=queries.n_bits,
            k=self.ks[0] if self.ks else None,
            ks=tuple(dict.fromkeys(self.ks[1:])),
            ties=self.ties,
            denominator=self.denominator,
            score=self.score or database.score,
            empty=self.empty,
            accuracy=accuracy,
        )


DEFAULTS = Conventions()


def run_evaluate(
    target: Path,
    database: Path | None,
    *,
    ks: Sequence[int],
    ties: str,
    denominator: str,
    score: str | None,
    empty: str,
    per_query: bool,
    as_json: bool,
    out: Path | None,
    report: bool,
) -> None:
    """Evaluate a run folder (``database`` None), or a file of query codes against one of database codes."""
    for k in ks:  # before hours of encoding
        check_cut("--k", k)
    conventions = Conventions(ks, ties, denominator, score, empty)
    output = {"out": out, "report": report, "per_query": per_query}
    if database is None and target.is_file():
        raise ValueError(f"{target}: a code file of queries needs a second one, the database")
    if database is None:
        run = open_run(target)
        evaluation = evaluate_run(run, conventions, **output)
    else:
        evaluation = evaluate_files(target, database, conventions, **output)
    if as_json:
        say(json.dumps(evaluation.to_dict(per_query=per_query), allow_nan=False))
        return
    show(evaluation)
    folder = out if database is not None else out or target
    if folder is not None:
        say(f"numbers: {folder / 'evaluation.json'}")
        if report:
            say(f"report:  {folder / 'report.html'}")


def show(evaluation: Evaluation) -> None:
    """Print the headline, the class accuracy and the table of everything else."""
    say(evaluation.line(), style="bold")
    for line in evaluation.accuracy_lines():
        say(line)
    say()
    rows = [row for row in evaluation.rows()[1:] if not row[0].startswith("class accuracy")]
    table("", ("measure", "value", "convention"), rows, numeric="lrl")


def evaluate_run(
    run: Run,
    conventions: Conventions = DEFAULTS,
    *,
    out: Path | None = None,
    report: bool = True,
    per_query: bool = False,
) -> Evaluation:
    """Encode the queries and the database of a run, evaluate, write ``evaluation.json`` and the report.

    They go into ``out`` and nothing into the run folder; without it all goes there, with the codes.
    """
    queries, query_classes = encode_part(run, "query", keep=out is None)
    database, database_classes = encode_part(run, "database", keep=out is None)
    accuracy = {
        "queries": class_accuracy(query_classes, queries.labels),
        "database": class_accuracy(database_classes, database.labels),
    }
    with working("evaluating"):
        evaluation = conventions.evaluate(queries, database, accuracy)
    folder = out or run.folder
    evaluation.save(folder / "evaluation.json", per_query=per_query)
    if report:
        with working("drawing the report"):
            write_report(folder, _run_report(run, evaluation, queries, database))
    return evaluation


def evaluate_files(
    query_path: Path,
    database_path: Path,
    conventions: Conventions = DEFAULTS,
    *,
    out: Path | None = None,
    report: bool = True,
    per_query: bool = False,
) -> Evaluation:
    """Evaluate two labelled code files; JSON and report are written only where ``out`` names a folder."""
    queries, database = CodeFile.load(query_path), CodeFile.load(database_path)
    check_same_code(queries, database)
    for file in (queries, database):
        if file.labels is None:
            raise ValueError(f"{file.path}: holds no labels; an evaluation needs them")
    if queries.class_names and database.class_names and queries.class_names != database.class_names:
        raise ValueError(f"{query_path} and {database_path}: their labels name different classes")
    with working("evaluating"):
        evaluation = conventions.evaluate(queries, database)
    if out is not None:
        evaluation.save(out / "evaluation.json", per_query=per_query)
        if report:
            facts = {
                "queries": str(query_path),
                "database": str(database_path),
                "model": database.model or "not known",
            }
            galleries = _galleries(evaluation, queries, database)
            write_report(
                out,
                Report(f"{query_path.stem} in {database_path.stem}", evaluation, facts, galleries=galleries),
            )
    return evaluation


def _galleries(
    evaluation: Evaluation,
    queries: CodeFile,
    database: CodeFile,
    *,
    images: np.ndarray | None = None,
    query_items: np.ndarray | None = None,
    database_items: np.ndarray | None = None,
) -> list[Gallery]:
    """Ten queries drawn over the classes and the five hardest; ``images`` are indexed by the item arrays."""
    labels = np.concatenate([queries.labels, database.labels])
    names = [file.name_of(i) for file in (queries, database) for i in range(len(file))]
    if images is not None:
        images = _Rows(images, np.concatenate([query_items, database_items]))
    score = "overlap" if evaluation.score == "overlap" else "Hamming distance"
    common = {
        "query_codes": queries.codes,
        "database_codes": database.codes,
        "query_items": np.arange(len(queries)),
        "database_items": np.arange(len(queries), len(queries) + len(database)),
        "labels": labels,
        "inputs": images,
        "evaluation": evaluation,
        "class_names": database.class_names or queries.class_names,
        "ids": names,
    }
    spread = spread_queries(queries.labels)
    hardest = hardest_queries(evaluation.per_query)
    count = "Ten" if len(spread) == 10 else str(len(spread))
    relevant = RELEVANT.format(score)
    return [
        make_gallery(
            "gallery",
            f"{count} queries and their nearest items",
            f"Drawn over the classes with a fixed seed, whatever their results. {relevant}",
            spread,
            **common,
        ),
        make_gallery(
            "hardest",
            "The hardest queries",
            f"Lowest average precision first. {relevant}",
            hardest,
            **common,
        ),
    ]


class _Rows:
    """Rows of an array behind another numbering, without copying the array."""

    def __init__(self, array: np.ndarray, rows: np.ndarray) -> None:
        self.array, self.rows = array, rows

    def __getitem__(self, item: int) -> np.ndarray:
        return self.array[self.rows[item]]


def _run_report(run: Run, evaluation: Evaluation, queries: CodeFile, database: CodeFile) -> Report:
    config, split, dataset = run.config, run.split, run.dataset
    images = dataset.inputs if dataset.kind == "images" else None
    shape = " x ".join(map(str, dataset.item_shape))
    facts = {
        "data set": f"{dataset.name}: {dataset.n_items} {dataset.kind}, {shape}, {dataset.n_classes} classes",
        "protocol": split.protocol,
        "split checksum": split.checksum,
        "training / validation": f"{len(split.train)} / {len(split.validation)} items",
        "method": f"{config.method}, {evaluation.n_bits} bits",
        "seed": str(config.seed),
        "model": database.model.rsplit(" ", 1)[-1],
    }
    galleries = _galleries(
        evaluation, queries, database, images=images, query_items=split.query, database_items=split.database
    )
    return Report(
        title=f"{dataset.name}, {config.method}, {evaluation.n_bits} bits",
        evaluation=evaluation,
        facts=facts,
        config={name: value for name, value in dataclasses.asdict(config).items() if value is not None},
        history=run.metrics,
        galleries=galleries,
    )
