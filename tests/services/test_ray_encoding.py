"""Codes made on nodes of Ray: those of one process, also while workers are lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray_nodes import workers_of
from training_runs import train

import dshc_fast
from dshc.cluster import ShardedIndex, encode_shards
from dshc.errors import InputError
from dshc.runs.encoding import encode_input, read_input
from dshc.storage import CodeFile

pytestmark = pytest.mark.services


def test_encode(nodes: Any, features: Path, tmp_path: Path) -> None:
    """The codes of one process; shards that are there and sound are left, damaged and missing ones made again."""
    nodes.add(2)
    big = tmp_path / "big.npz"
    with np.load(features) as content:
        np.savez(big, features=np.tile(content["features"], (20, 1)), labels=np.tile(content["labels"], 20))
    run = train(tmp_path / "run", {"source": str(features), "epochs": 1, "threads": 1})
    want = encode_input(run, read_input(str(big), run))[0]
    out = tmp_path / "shards"
    done = encode_shards(run.folder, str(big), nodes.address, out, shard_items=1000)  # a batch has 1024
    assert (done.n_items, done.n_shards, done.n_kept) == (4800, 5, 0)
    files = sorted(out.glob("*.safetensors"))
    np.testing.assert_array_equal(np.concatenate([CodeFile.load(path).codes for path in files]), want.codes)
    np.testing.assert_array_equal(np.concatenate([CodeFile.load(path).labels for path in files]), want.labels)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    files[1].unlink()
    files[3].write_bytes(before[files[3]][0][:-5] + b"\0\0\0\0\0")
    done = encode_shards(run.folder, str(big), nodes.address, out, shard_items=1000)
    assert (done.n_shards, done.n_kept) == (5, 3)
    for path in files:
        assert path.read_bytes() == before[path][0]
        assert (path.stat().st_mtime_ns == before[path][1]) == (path not in (files[1], files[3]))
    with ShardedIndex(nodes.address, out) as index:
        found = index.search(want.codes[:5], 30)
        np.testing.assert_array_equal(
            found.indices, dshc_fast.hamming_topk(want.codes[:5], want.codes, 30).indices
        )
    with pytest.raises(InputError, match="holds shards of another model, other items or sizes; --overwrite"):
        encode_shards(run.folder, str(features), nodes.address, out)
    assert encode_shards(run.folder, str(features), nodes.address, out, overwrite=True).n_shards == 1
    assert len(list(out.glob("*.safetensors"))) == 1


def test_encode_parquet(nodes: Any, features: Path, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    nodes.add(1)
    run = train(tmp_path / "run", {"source": str(features), "epochs": 1, "threads": 1})
    with np.load(features) as content:
        values = np.tile(content["features"], (10, 1))
    names = [f"item {i}" for i in range(len(values))]
    path = tmp_path / "vectors.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"features": values.tolist(), "id": names}), path)
    out = tmp_path / "shards"
    done = encode_shards(run.folder, str(path), nodes.address, out, shard_items=1024)
    assert (done.n_items, done.n_shards) == (2400, 3)
    want = encode_input(run, read_input(str(path), run))[0]
    with ShardedIndex(None, out) as index:
        np.testing.assert_array_equal(index.search(want, 40).indices, one_process(want, 40))
        assert index.ids(np.array([0, 2399])).tolist() == ["item 0", "item 2399"]


def one_process(file: CodeFile, k: int) -> np.ndarray:
    return dshc_fast.hamming_topk(file.codes, file.codes, k).indices


def test_encode_while_workers_are_killed(nodes: Any, features: Path, tmp_path: Path) -> None:
    """A killed worker costs what it was doing, and the call ends as if nothing had been."""
    nodes.add(2)
    big = tmp_path / "big.npz"
    with np.load(features) as content:
        np.savez(big, features=np.tile(content["features"], (100, 1)), labels=np.tile(content["labels"], 100))
    run = train(tmp_path / "run", {"source": str(features), "epochs": 1, "threads": 1})
    want = encode_input(run, read_input(str(big), run))[0]
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if len(killed) < 2 and done < total // 2:
            workers = workers_of("_Encoder")
            if workers:
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])

    out = tmp_path / "shards"
    done = encode_shards(run.folder, str(big), nodes.address, out, shard_items=1024, on_items=kill)
    assert killed and done.n_items == 24_000
    files = sorted(out.glob("*.safetensors"))
    np.testing.assert_array_equal(np.concatenate([CodeFile.load(path).codes for path in files]), want.codes)
    assert not list(out.glob(".*"))


def test_an_image_that_cannot_be_read(nodes: Any, tmp_path: Path) -> None:
    from PIL import Image

    nodes.add(1)
    rng = np.random.default_rng(0)
    for label in ("ant", "bee"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(12):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    photos = tmp_path / "photos"
    run = train(tmp_path / "run", {"source": str(photos), "epochs": 1, "threads": 1, "backbone": "small_net"})
    want = encode_input(run, read_input(str(photos), run))[0]
    out = tmp_path / "shards"
    assert encode_shards(run.folder, str(photos), nodes.address, out).n_items == 24
    (path,) = out.glob("*.safetensors")
    found = CodeFile.load(path)
    np.testing.assert_array_equal(found.codes, want.codes)
    assert (found.ids, found.class_names) == (want.ids, want.class_names)
    bad = photos / "bee" / "3.png"
    content = bad.read_bytes()
    bad.write_bytes(content[: len(content) - 60])  # its header is whole: a worker is the first to decode it
    with pytest.raises(InputError, match="bee/3.png"):
        encode_shards(run.folder, str(photos), nodes.address, tmp_path / "more")
    bad.write_bytes(b"no picture")
    with pytest.raises(ValueError, match="bee/3.png"):
        encode_shards(run.folder, str(photos), nodes.address, tmp_path / "more")
