"""A trained run as a folder to publish: weights, settings, split and a model card, without this machine's paths.

    python benchmarks/publish_model.py RUN models/cifar10-30 --name "CIFAR-10, 30 bits" --weights-from "..."

RUN is of a named set and has been measured (`dshc evaluate RUN`). The folder is a run like any other: `dshc evaluate
FOLDER SOURCE --root DATA` measures it again, `dshc encode` and `dshc search` use it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from dshc.data import available
from dshc.errors import InputError
from dshc.hasher.card import card_page, input_shape
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
    try:
        publish(given.run, given.out, given.name, given.weights_from)
    except InputError as error:
        parser.error(str(error))


def publish(folder: Path, out: Path, name: str, weights_from: str = "") -> None:
    """Write the published form of the run in ``folder`` to ``out``; raises :class:`dshc.errors.InputError`."""
    run, found = load_run(folder), RunFolder.read(folder)
    data, encoder = found.settings.data, found.settings.encoder
    measured = folder / "evaluation.json"
    if out.exists():
        raise InputError(f"OUT must be a new folder, {out} exists")
    if data.source not in available():
        raise InputError(f"RUN must be of a named set, which others have too, got {data.source}")
    for setting, path in (("labels", data.labels), ("pairs", data.pairs), ("weights", encoder.weights),
                          ("start_from", encoder.start_from)):  # fmt: skip
        if path is not None:
            raise InputError(f"RUN must depend on no file of this machine, got {setting} {path}")
    if encoder.pretrained and not weights_from:
        raise InputError("--weights-from must say where the first weights are from, got none")
    if not measured.is_file():
        raise InputError(f"RUN must have been measured (dshc evaluate {folder}), got no {measured.name}")
    head = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))["run"]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as whole:  # all of it or nothing
        new = Path(whole) / out.name
        new.mkdir()
        for file in ("split.json", "metrics.jsonl", f"{run.weights}.safetensors"):
            shutil.copy(folder / file, new / file)
        settings = found.settings.replaced(data=data.replaced(root=None))
        write_whole(new / "config.toml", settings.to_toml({"run": head}))
        write_whole(
            new / "README.md", card(run, out.name, name, weights_from, json.loads(measured.read_text()))
        )
        load_run(new)  # its files fit each other
        new.rename(out)


def card(run: Run, folder: str, name: str, weights_from: str, evaluation: dict[str, Any]) -> str:
    """The model card, in Markdown."""
    hasher, data, counts = run.hasher, run.settings.data, evaluation["counts"]
    measured = evaluation["mean_average_precision"]
    conventions = {**evaluation["conventions"], "k": evaluation["conventions"]["k"] or "all"}
    method = hasher.method
    seconds = sum(row["seconds"] for row in run.metrics)
    facts = {
        "method": f"{method.title} (`{method.name}`), {hasher.n_bits} bits; {method.source}",
        "network": f"`{run.settings.encoder.backbone}`, {input_shape(hasher)}",
        "first weights": weights_from or "random",
        "trained on": f"{len(run.split.train):,} items of {data.source}, protocol {run.split.protocol}, seed "
        f"{run.split.seed}, split {run.split.checksum}",
        "training": f"{len(run.metrics)} epochs, {seconds / 60:.0f} minutes (`metrics.jsonl`, `config.toml`)",
        "arithmetic": hasher.precision,
        "classes": ", ".join(hasher.class_names),
        "mAP": f"{measured['value']:.4f} ({', '.join(f'{key}={value}' for key, value in conventions.items())})",
        "measured on": f"{counts['n_query']:,} queries, a database of {counts['n_database']:,}",
    }
    more = f"""    dshc evaluate models/{folder} {data.source} --root FOLDER --out runs/{folder}

measures it again; the folder of the official files is yours. Queries and database are those of `split.json`, and other
labels than it was made of are refused.

"""
    return card_page(hasher, name, facts, folder=f"models/{folder}", more=more)


if __name__ == "__main__":
    main()
