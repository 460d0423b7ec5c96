"""``--cluster``: encode, search and evaluate by the nodes of a Ray cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cluster import ShardedIndex, encode_shards
from ..cluster.encoding import SHARD_ITEMS
from ..errors import InputError
from ..evaluation import Conventions
from ..index.queries import names_of, read_queries
from ..progress import progress
from ..runs.encoding import is_code_file
from ..runs.run_folder import is_run_file
from ..storage import CodeFile
from .console import remark, say, table, working
from .open_run import open_run

__all__ = ["run_cluster_encode", "run_cluster_evaluate", "run_cluster_search"]

DEFAULT_K = 10
DEFAULT_SHOWN = 5


def run_cluster_encode(
    run_folder: Path,
    source: str,
    address: str,
    *,
    out: Path,
    shard_items: int | None,
    root: str | None,
    labels: str | None,
    overwrite: bool,
) -> None:
    """Encode every item of ``source`` by a cluster into shards in the folder ``out``; again, it goes on."""
    if out.suffix == ".safetensors":
        raise InputError(f"--out must name a folder with --cluster, got {out}")
    open_run(run_folder)
    with progress(f"encoding {source}") as update:
        done = encode_shards(
            run_folder,
            source,
            address,
            out,
            shard_items=shard_items or SHARD_ITEMS,
            root=root,
            labels=labels,
            overwrite=overwrite,
            on_items=update,
        )
    kept = f", {done.n_kept} of them were there" if done.n_kept else ""
    shards = "1 shard" if done.n_shards == 1 else f"{done.n_shards} shards"
    say(f"{out}: {done.n_items} codes in {shards}{kept}")


def run_cluster_search(
    shards: Path,
    sources: Sequence[str],
    address: str,
    *,
    k: int | None,
    score: str | None,
    run_folder: Path | None,
    as_json: bool,
    show: int | None,
    partial: bool,
    refused: Sequence[str],
) -> None:
    """Print the items of all shards nearest to what ``sources`` name."""
    if refused:
        raise InputError(f"{refused[0]} must go without --cluster")
    if not sources:
        raise InputError("give a QUERY (image, folder, array or code file), got none")
    run = None if run_folder is None else open_run(run_folder)
    with working("searching"), ShardedIndex(address, shards, partial=partial) as index:
        if k is None:
            k = min(DEFAULT_K, len(index))
        if not 1 <= k <= len(index):
            raise InputError(f"--k must lie in 1..{len(index)} (the items of all shards), got {k}")
        parts = read_queries(sources, run)
        score = score or index.score  # which names the distances in JSON, as without a cluster
        answers: list[dict[str, Any]] = []
        for part, names in zip(parts, names_of(parts), strict=True):
            found = index.search(part.codes, k, score=score)
            ids = index.ids(found.indices)
            for row, name in enumerate(names):
                results = [
                    {"rank": rank, score: distance, "index": place, "id": str(id)}
                    for rank, (distance, place, id) in enumerate(
                        zip(
                            found.distances[row].tolist(),
                            found.indices[row].tolist(),
                            ids[row].tolist(),
                            strict=True,
                        ),
                        1,
                    )
                    if place >= 0
                ]
                answers.append(
                    {
                        "query": name,
                        "n_bits": index.n_bits,
                        "results": results,
                        "missing_shards": list(found.missing),
                    }
                )
    for part in parts:
        for text in part.remarks:
            remark(f"dshc: {text}")
    if as_json:
        for answer in answers:
            say(json.dumps(answer))
        return
    shown = answers[: show or max(DEFAULT_SHOWN, len(sources))]
    rows = [
        (answer["query"], one["rank"], one[score], one["index"], one["id"])
        for answer in shown
        for one in answer["results"]
    ]
    table("", ("query", "rank", score, "index", "id"), rows, numeric="lrrr")
    _tell_missing({path for answer in answers for path in answer["missing_shards"]})
    if len(answers) > len(shown):
        remark(f"{len(answers) - len(shown)} more queries not shown; --show N shows more, --json gives all")


def run_cluster_evaluate(
    queries: Path,
    shards: str | None,
    address: str,
    conventions: Conventions,
    *,
    partial: bool,
    per_query: bool,
    as_json: bool,
    out: Path | None,
) -> None:
    """Measure a code file of queries against the shards of a database; numbers only, no report."""
    if shards is None:
        raise InputError("DATABASE must be given with --cluster: a folder or a JSON list of shards")
    if not queries.exists():
        raise FileNotFoundError(f"{queries}: no such file or folder")
    if not is_code_file(queries):
        raise InputError(f"{queries}: must be a code file of queries with --cluster")
    if out is not None and (is_run_file(out / "evaluation.json") or (out.exists() and not out.is_dir())):
        raise InputError(f"--out must name a folder that is no run, got {out}")
    file = CodeFile.load(queries)
    with working("evaluating"), ShardedIndex(address, shards, partial=partial) as index:
        evaluation = index.evaluate(file, conventions=conventions)
    if out is not None:
        evaluation.save(out / "evaluation.json", per_query=per_query)
    if as_json:
        say(json.dumps(evaluation.to_dict(per_query=per_query), allow_nan=False))
        return
    say(evaluation.line(), style="bold")
    say()
    table("", ("measure", "value", "convention"), evaluation.rows(), numeric="lrl")
    _tell_missing(set(evaluation.missing))
    if out is not None:
        say(f"numbers: {out / 'evaluation.json'}")


def _tell_missing(missing: set[str]) -> None:
    for path in sorted(missing):
        remark(f"dshc: PARTIAL, without the shard {path}")
