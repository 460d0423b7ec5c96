"""docs/hasher.md: its examples run, one after another, and its rules give every method's codes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_hashers import VALUES, a_hasher, items_of

from dshc import methods

MANUAL = Path(__file__).resolve().parents[3] / "docs" / "hasher.md"


def packed(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits, axis=1, bitorder="little")


def by_the_manual(outputs: np.ndarray, folder: Path) -> np.ndarray:
    """Codes as the table of the manual says, from a saved hasher's files and numpy alone."""
    tensors = load_file(folder / "model.safetensors")
    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))["method"]
    if settings["name"] == "dshc-multilabel":
        return packed(outputs > settings["label_threshold"])
    if settings["name"] != "dshc":
        return packed(outputs > 0)
    codes, topk = tensors["method.codes"], settings["topk"]
    exponents = np.exp(outputs.astype(np.float64) - outputs.max(1, keepdims=True))
    if topk == 0:
        of_classes = np.add.reduceat(exponents, tensors["method.offsets"][:-1], axis=1)
        return tensors["method.centers"][of_classes.argmax(1)]
    likeliest = np.argsort(-outputs, axis=1, kind="stable")[:, :topk]
    signs = 2.0 * np.unpackbits(codes, axis=1, bitorder="little")[likeliest] - 1  # (b, topk, bits)
    weights = (
        np.ones_like(likeliest)
        if settings["weighting"] == "mean"
        else np.take_along_axis(exponents, likeliest, 1)
    )
    sums = (weights[..., None] * signs).sum(1)
    return packed(np.where(sums == 0, signs[:, 0] > 0, sums > 0))


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = MANUAL.read_text(encoding="utf-8").split("```python\n")[1:]
    assert len(examples) == 7
    names: dict[str, object] = {}
    for number, text in enumerate(examples):  # each goes on from those before
        exec(compile(text.split("```")[0], f"docs/hasher.md, example {number + 1}", "exec"), names)


CASES = [
    *((name, {}) for name in VALUES),
    ("dshc-multilabel", {"label_threshold": 0.25}),
    ("dshc", {"topk": 0}),
    ("dshc", {"topk": 4}),
    ("dshc", {"topk": 5, "weighting": "probability"}),
    ("dshc", {"construction": "separated"}),
]


@pytest.mark.parametrize(("name", "values"), CASES)
def test_the_rules_give_the_codes(name: str, values: dict[str, object], tmp_path: Path) -> None:
    hasher, items = a_hasher(name, **values), items_of("features", 200)
    folder = hasher.save(tmp_path / "saved")
    assert np.array_equal(by_the_manual(hasher.outputs(items).numpy(), folder), hasher.encode(items))


def test_every_method_is_in_the_table() -> None:
    table = MANUAL.read_text(encoding="utf-8").split("| method | code of an item")[1].split("\n\n")[0]
    missing = [name for name in methods.available() if f"`{name}`" not in table]
    assert not missing
