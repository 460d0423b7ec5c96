"""A trained run as a folder to publish: weights, settings, split and a model card, without this machine's paths.

    python benchmarks/publish_model.py RUN models/cifar10-30 --name "CIFAR-10, 30 bits" --weights-from "..."

RUN is of a named set and has been measured (`dshc evaluate RUN`). The folder is a run like any other: `dshc evaluate
FOLDER SOURCE --root DATA` measures it again, `dshc encode` and `dshc search` use it.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from dshc.data import available
from dshc.errors import InputError
from dshc.runs import Run, load_run
from dshc.runs.run_folder import RunFolder
from dshc.storage import write_whole


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--name", required=True, help="title of the card")
    parser.add_argument(
        "--weights-from", default="", help="where the network's first weights are from, and their licence"
    )
    given = parser.parse_args()
    if given.out.exists():
        parser.error(f"OUT must be a new folder, {given.out} exists")
    publish(given.run, given.out, given.name, given.weights_from)


def publish(folder: Path, out: Path, name: str, weights_from: str = "") -> None:
    """Write the published form of the run in ``folder`` to ``out``."""
    run, found = load_run(folder), RunFolder.read(folder)
    source = found.settings.data.source
    if source not in available():
        raise InputError(f"RUN must be of a named set, which others have too, got {source}")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    head = {"run": {"format": 2, "id": found.run_id, "settings": found.fingerprint}}
    out.mkdir(parents=True)
    for file in ("split.json", "metrics.jsonl", f"{run.weights}.safetensors"):
        shutil.copy(folder / file, out / file)
    settings = found.settings.replaced(data=found.settings.data.replaced(root=None))
    write_whole(out / "config.toml", settings.to_toml(head))
    write_whole(out / "README.md", card(run, out, name, weights_from, evaluation))
    load_run(out)  # its files fit each other


def card(run: Run, out: Path, name: str, weights_from: str, evaluation: dict[str, Any]) -> str:
    """The model card, in Markdown."""
    hasher, data, counts = run.hasher, run.settings.data, evaluation["counts"]
    measured = evaluation["mean_average_precision"]
    conventions = evaluation["conventions"]
    method = hasher.method
    seconds = sum(row["seconds"] for row in run.metrics)
    facts = {
        "method": f"{method.title} (`{method.name}`), {hasher.n_bits} bits; {method.source}",
        "network": f"`{run.settings.encoder.backbone}`, images {' x '.join(map(str, hasher.item_shape))} enlarged to "
        f"{' x '.join(map(str, hasher.seen_shape[:2]))}",
        "first weights": weights_from or "random",
        "trained on": f"{len(run.split.train):,} items of {data.source}, protocol {run.split.protocol}, seed "
        f"{run.split.seed}, split {run.split.checksum}",
        "training": f"{len(run.metrics)} epochs, {seconds / 60:.0f} minutes (`metrics.jsonl`, `config.toml`)",
        "arithmetic": hasher.precision,
        "classes": ", ".join(hasher.class_names),
        "mAP": f"{measured['value']:.4f} ({', '.join(f'{key}={value}' for key, value in conventions.items())})",
        "measured on": f"{counts['n_query']:,} queries, a database of {counts['n_database']:,}",
    }
    rows = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    return f"""---
library_name: dshc
tags: [hashing, image-retrieval]
---

# {name}

| | |
| --- | --- |
{rows}

    dshc evaluate {out.as_posix()} {data.source} --root FOLDER --out runs/{out.name}

measures it again; the folder of the official files is yours. Queries and database are those of `split.json`, and other
labels than it was made of are refused.

```python
from dshc import Hasher

hasher = Hasher.load("{out.as_posix()}")
codes = hasher.encode(items)  # uint8 (n, {-(-hasher.n_bits // 8)}), bit j in byte j // 8 at position j % 8
```
"""


if __name__ == "__main__":
    main()
