"""Items encoded by the workers of a Ray cluster, into shards of one folder that all of them see.

Ray Data hands out the shards and does again what a lost worker did not finish. A shard is written whole by the worker
that encodes it, and one of many items is kept on its way (``index/encode_in_parts.py``), so that a lost worker costs
the last few thousand items and no more.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..data import Dataset, available, is_photos
from ..data.image_files import ImageFiles
from ..data.image_stores import FileStore
from ..errors import InputError
from ..hasher.hasher import encoding_batch
from ..index.encode_in_parts import encode_in_parts
from ..runs import Run, load_run
from ..runs.encoding import is_code_file, model_name, read_input
from ..storage import CodeFile, check_can_write
from .connection import Connection
from .shard_list import LIST, write_shards

__all__ = ["EncodedShards", "encode_shards"]

FORMAT = "dshc.shards/1"
SHARD_ITEMS = 1 << 20


@dataclass(frozen=True)
class EncodedShards:
    """What :func:`encode_shards` did: the folder, its shards, and how many of them were there already and sound."""

    folder: Path
    n_items: int
    n_shards: int
    n_kept: int


def encode_shards(
    run_folder: str | os.PathLike[str],
    source: str,
    address: str,
    out: str | os.PathLike[str],
    *,
    shard_items: int = SHARD_ITEMS,
    root: str | None = None,
    labels: str | None = None,
    overwrite: bool = False,
    on_items: Callable[[int, int], None] | None = None,
) -> EncodedShards:
    """Encode every item of ``source`` by a run into code files in the folder ``out``, by all workers of a cluster.

    The run, the source and ``out`` must be seen under the same paths by all nodes. The same call again goes on where it
    was interrupted. Codes are those of ``dshc encode`` in one process.

    Args:
        run_folder, source, root, labels: as ``dshc encode`` has them.
        address: see :class:`dshc.cluster.Connection`.
        shard_items: items of a shard, rounded up to whole batches.
        overwrite: replace the shards of another model, or of other items.
        on_items: ``on_items(done, total)`` is told of the progress.

    Raises:
        InputError: a setting, a folder that holds something else, or an item that cannot be encoded, named.
        ConnectionError, ImportError: no cluster, or no Ray.
    """
    if isinstance(shard_items, bool) or not isinstance(shard_items, int) or shard_items < 1:
        raise InputError(f"shard_items must be a whole number of at least 1, got {shard_items!r}")
    run_folder, out = Path(os.path.abspath(run_folder)), Path(os.path.abspath(out))
    source, root, labels = (
        os.path.abspath(path)
        if path is not None and path not in available() and os.path.exists(path)
        else path
        for path in (source, root, labels)
    )
    run = load_run(run_folder)
    connection = Connection(address)
    try:
        return _encode(connection.ray, run, (source, root, labels), out, shard_items, overwrite, on_items)
    finally:
        connection.close()


def _encode(
    ray: Any,
    run: Run,
    source: tuple[str, str | None, str | None],
    out: Path,
    shard_items: int,
    overwrite: bool,
    on_items: Callable[[int, int], None] | None,
) -> EncodedShards:
    dataset = _read(run, *source)
    step = encoding_batch(run.hasher.seen_shape)
    size = -(-shard_items // step) * step
    n_items = dataset.n_items
    starts = list(range(0, n_items, size))
    shards = [(f"{i:05d}.safetensors", min(size, n_items - start)) for i, start in enumerate(starts)]
    about = {"format": FORMAT, "model": model_name(run), "items": _digest(dataset)}
    _prepare(out, shards, about, overwrite)
    plan = {"folder": os.path.abspath(run.folder), "model": about["model"], "source": source}
    if isinstance(dataset.inputs, ImageFiles) and isinstance(dataset.inputs.store, FileStore):
        plan["dataset"] = ray.put(dataset)
    tasks = [
        {"start": start, "n_items": n, "total": n_items, "path": str(out / name)}
        for start, (name, n) in zip(starts, shards, strict=True)
    ]
    n_kept = done = 0
    for row in _rows(ray, tasks, plan):
        n_kept += int(row["kept"])
        done += int(row["n_items"])
        if on_items is not None:
            on_items(done, n_items)
    return EncodedShards(out, n_items, len(shards), n_kept)


def _rows(ray: Any, tasks: list[dict[str, Any]], plan: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """What became of each shard, as it is done."""
    import ray.data as ray_data

    context = ray_data.DataContext.get_current()
    context.enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    n_workers = max(1, min(len(tasks), int(ray.cluster_resources().get("CPU", 1))))
    work = ray_data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
        _Encoder,
        batch_size=1,
        compute=ray_data.ActorPoolStrategy(min_size=1, max_size=n_workers),
        num_cpus=1,
        fn_constructor_kwargs={"plan": plan},
    )
    for row in work.iter_rows():
        if row["error"]:
            raise InputError(row["error"])
        yield row


class _Encoder:
    """A worker: it loads the run once, and encodes one shard after the other. What is wrong with it, with the run or an
    item comes back as a text: Ray does not hand on the exception that a worker raised."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._error = ""
        try:
            self._open(plan)
        except (ValueError, OSError, ImportError) as error:
            self._error = str(error)

    def _open(self, plan: dict[str, Any]) -> None:
        import ray

        self._run = load_run(plan["folder"])
        if (name := model_name(self._run)) != plan["model"]:
            raise InputError(
                f"{plan['folder']}: must be the model {plan['model']!r} on all nodes, got {name!r}"
            )
        self._dataset = ray.get(plan["dataset"]) if "dataset" in plan else _read(self._run, *plan["source"])

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        task = {name: values[0] for name, values in batch.items()}
        kept, error = False, self._error
        if not error:
            try:
                kept = self._encode(
                    Path(str(task["path"])), int(task["start"]), int(task["n_items"]), task["total"]
                )
            except (ValueError, OSError) as wrong:
                error = str(wrong)
        return {"kept": np.array([kept]), "n_items": np.array([task["n_items"]]), "error": np.array([error])}

    def _encode(self, path: Path, start: int, n: int, total: int) -> bool:
        """Whether the shard was there already and sound."""
        if self._dataset.n_items != total:
            raise InputError(
                f"{self._dataset.name}: must hold the same {total} items on all nodes, got {self._dataset.n_items}"
            )
        part = _cut(self._dataset, start, start + n)
        if _is_sound(path, self._run, part):
            return True
        encode_in_parts(self._run, part, path)
        return False


def _read(run: Run, source: str, root: str | None, labels: str | None) -> Dataset:
    """The items; images of a folder or list stay in their files."""
    in_files = run.hasher.kind == "images" and is_photos(source) and not source.endswith(".parquet")
    return read_input(source, run, root=root, labels=labels, max_memory_mib=0 if in_files else None)


def _cut(dataset: Dataset, start: int, stop: int) -> Dataset:
    rows = slice(start, stop)
    inputs = dataset.inputs
    return Dataset(
        name=f"{dataset.name} {start}-{stop}",
        kind=dataset.kind,
        inputs=inputs.take(np.arange(start, stop)) if isinstance(inputs, ImageFiles) else inputs[rows],
        labels=None if dataset.labels is None else dataset.labels[rows],
        class_names=dataset.class_names,
        ids=None if dataset.ids is None else dataset.ids[rows],
    )


def _is_sound(path: Path, run: Run, part: Dataset) -> bool:
    """Whether a shard is there, undamaged, and of this model and these items."""
    try:
        file = CodeFile.load(path)
    except (OSError, ValueError):
        return False
    same = file.labels is None if part.labels is None else np.array_equal(file.labels, part.labels)
    return (file.model, len(file), file.ids) == (model_name(run), part.n_items, part.ids) and same


def _digest(dataset: Dataset) -> str:
    """What tells one set of items from another: names of images in files, else the content."""
    if isinstance(dataset.inputs, ImageFiles) and dataset.ids is not None:
        text = json.dumps(dataset.ids, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
    return dataset.digest()


def _prepare(out: Path, shards: list[tuple[str, int]], about: dict[str, str], overwrite: bool) -> None:
    """Write the list of a new folder; leave that of the same shards; refuse what else lies there."""
    if out.exists() and not out.is_dir():
        raise InputError(f"--out must name a folder with --cluster, {out} is a file")
    check_can_write(out / LIST)
    if (out / LIST).is_file():
        rows = [{"path": name, "n_items": n} for name, n in shards]
        try:
            there = json.loads((out / LIST).read_bytes())
        except ValueError:
            there = None
        if there == {**about, "shards": rows}:
            return
        if not overwrite:
            raise InputError(
                f"{out}: holds shards of another model, other items or sizes; --overwrite replaces them"
            )
        for old in out.glob("[0-9]*.safetensors"):
            if is_code_file(old):
                old.unlink()
    elif out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out}: must be a new or an empty folder, or that of shards")
    write_shards(out, shards, about)
