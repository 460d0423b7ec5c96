"""Encoding many items: interrupted anywhere it goes on, and the file is that of one go."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_hashers import a_hasher, items_of

from dshc.data import Dataset
from dshc.errors import InputError
from dshc.index import HashIndex, encode_in_parts, sources
from dshc.runs.encoding import encode_input
from dshc.storage import CodeFile


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    for module in (sources, encode_in_parts):
        monkeypatch.setattr(module, "BLOCK", 8)
    return SimpleNamespace(hasher=a_hasher("dshc", "features"), digest="0123456789abcdef")


def a_set(n: int = 45, seed: int = 0) -> Dataset:
    ids = tuple(f"item {i}" for i in range(n))
    return Dataset(
        "items", "features", items_of("features", n, seed), np.arange(n) % 5, tuple("abcde"), ids=ids
    )


def interrupted(run: SimpleNamespace, dataset: Dataset, out: Path, at: int) -> list[int]:
    seen = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_in_parts.encode_in_parts(run, dataset, out, on_items=stop)
    return seen


def test_goes_on(run: SimpleNamespace, tmp_path: Path) -> None:
    dataset, out, seen = a_set(), tmp_path / "codes.safetensors", []
    assert interrupted(run, dataset, out, 16) == [8, 16]
    assert not out.exists() and (tmp_path / ".codes.safetensors.partial").is_dir()
    assert interrupted(run, a_set(), out, 24) == [24]  # the same items, read again
    done = encode_in_parts.encode_in_parts(
        run, dataset, out, on_items=lambda done, total: seen.append((done, total))
    )
    assert seen == [(32, 45), (40, 45), (45, 45)]
    assert [path.name for path in tmp_path.iterdir()] == ["codes.safetensors"]
    whole = encode_input(run, dataset)[0]
    for file in (done, CodeFile.load(out)):
        assert np.array_equal(file.codes, whole.codes) and np.array_equal(file.labels, whole.labels)
        assert (file.ids, file.class_names, file.model, file.score) == (
            whole.ids,
            whole.class_names,
            whole.model,
            whole.score,
        )


def test_other_items_or_damage_begin_anew(run: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "codes.safetensors"
    partial = tmp_path / ".codes.safetensors.partial"
    interrupted(run, a_set(), out, 16)
    assert interrupted(run, a_set(seed=1), out, 8) == [8]
    part = next((partial / "parts").iterdir())
    part.write_bytes(part.read_bytes()[:-1])
    assert interrupted(run, a_set(seed=1), out, 8) == [8]
    with HashIndex.open(partial), pytest.raises(InputError, match="is writing"):
        encode_in_parts.encode_in_parts(run, a_set(seed=1), out)
    for path in sorted(partial.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (partial / "mine.txt").write_text("precious")
    with pytest.raises(InputError, match="it is something else"):
        encode_in_parts.encode_in_parts(run, a_set(), out)
    assert (partial / "mine.txt").read_text() == "precious"


def test_few_items_leave_nothing_beside(run: SimpleNamespace, tmp_path: Path) -> None:
    out = tmp_path / "codes.safetensors"
    file = encode_in_parts.encode_in_parts(run, a_set(8), out)
    assert len(file) == 8 and [path.name for path in tmp_path.iterdir()] == ["codes.safetensors"]
