"""What real-valued queries are worth: the recall of the exact nearest by Hamming distance and by asymmetric_topk.

    python benchmarks/asymmetric_recall.py [digits] [fashion-mnist] [FEATURES.npz ...] [--root FOLDER] [--bits 32,64]
        [--queries 1000] [--note TEXT]

Sets: scikit-learn's digits; the pixels of a named set of images; files of features (frozen_features.py makes them).
Vectors get length 1. Codes are those of PCAH and ITQ, fitted to the database without labels. The nearest are those of
largest cosine among the database's vectors. Recall 10@k: the share of the 10 nearest that are among the first k
answers. Ties go to the lower index, as everywhere. Writes docs/results/asymmetric-recall.md.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np
import torch
from comparisons import public
from timing import made_on, write, write_page
from torch import Tensor
from torch.nn.functional import normalize

import dshc
import dshc_fast
from dshc.methods.base import Spec
from dshc.methods.itq import ITQ
from dshc.methods.pcah import PCAH

NEAREST, DEPTHS, SEED = 10, (10, 100), 0


def vectors(source: str, root: str | None, n_queries: int) -> tuple[str, Tensor, Tensor]:
    """A set's name, queries and database, each row of length 1."""
    if source == "digits":
        from sklearn.datasets import load_digits

        name, rows, last = "digits, pixels", load_digits().data, None
    elif source.endswith(".npz"):
        with np.load(source) as file:
            name, rows = f"{Path(source).stem}, features", file["features"]
            last = int(file["n_train"]) if "n_train" in file else None
    else:
        data = dshc.load_data(source, root=root)
        name, rows = f"{data.name}, pixels", np.asarray(data.inputs[:]).reshape(data.n_items, -1)
        last = None if data.test_mask is None else int((~data.test_mask).sum())
    rows = normalize(torch.from_numpy(rows.astype(np.float32)), dim=1)
    if last is not None:  # the official test part comes last
        chosen = torch.randperm(len(rows) - last, generator=torch.Generator().manual_seed(SEED))
        return name, rows[last:][chosen[:n_queries]], rows[:last]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))
    n_queries = min(n_queries, len(rows) // 5)
    return name, rows[order[:n_queries]], rows[order[n_queries:]]


def recall(found: Tensor, nearest: Tensor) -> float:
    """Mean over the queries of the share of `nearest` that is in `found`."""
    return (nearest[:, :, None] == found[:, None, :]).any(2).double().mean().item()


def measured(
    name: str, queries: Tensor, database: Tensor, method: type[PCAH], bits: int
) -> dict[str, object]:
    nearest = (queries @ database.T).topk(NEAREST).indices
    fitted = method(method.Settings(bits=bits), Spec(0, "none", database.shape[1]))
    weight, bias = fitted.fit(database, torch.Generator().manual_seed(SEED))
    outputs, of_database = ((rows.double() @ weight.T + bias).float() for rows in (queries, database))
    codes, query_codes = dshc_fast.pack_codes(of_database), dshc_fast.pack_codes(outputs)
    answers = {
        "hamming": dshc_fast.hamming_topk(query_codes, codes, max(DEPTHS)).indices,
        "asymmetric": dshc_fast.asymmetric_topk(outputs, codes, max(DEPTHS)).indices,
    }
    row: dict[str, object] = {"set": name, "queries": len(queries), "database": len(database)}
    row |= {"method": method.name, "bits": bits}
    for distance, indices in answers.items():
        row |= {f"{distance}@{k}": recall(indices[:, :k], nearest) for k in DEPTHS}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="*", default=["digits", "fashion-mnist"])
    parser.add_argument("--root", help="folder of the official files of a named set")
    parser.add_argument("--bits", default="32,64")
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--note", default="", help="what else a reader must know, for the head of the page")
    given = parser.parse_args()
    rows = []
    lines = [
        "| set | method | bits | 10@10 Hamming | asymmetric | 10@100 Hamming | asymmetric |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for source in given.sources:
        name, queries, database = vectors(source, given.root, given.queries)
        for method in (PCAH, ITQ):
            for bits in map(int, given.bits.split(",")):
                row = measured(name, queries, database, method, bits)
                rows.append(row)
                shown = [
                    f"{row[f'{distance}@{k}']:.4f}" for k in DEPTHS for distance in ("hamming", "asymmetric")
                ]
                lines.append(f"| {name} | {method.name} | {bits} | {' | '.join(shown)} |")
                print(lines[-1], flush=True)
    write("asymmetric-recall", rows)
    sets = {
        row["set"]: f"{row['set']}: {row['queries']:,} queries, {row['database']:,} items" for row in rows
    }
    note = (
        "Share of the 10 nearest by cosine (of the vectors themselves) that are among the first 10 answers, and among "
        "the first 100: of `hamming_topk` with the query's code, and of `asymmetric_topk` with its outputs. The "
        "database keeps the same codes for both, fitted to its vectors without labels. "
        f"{'; '.join(sets.values())}. {given.note}"
    ).rstrip()
    flags = [word for word in sys.argv[1:] if word not in ("--note", given.note)]
    command = shlex.join(["python", "benchmarks/asymmetric_recall.py", *public(flags)])
    write_page("asymmetric-recall", "Real-valued queries", f"`{command}`; {made_on()}", note, lines)


if __name__ == "__main__":
    main()
