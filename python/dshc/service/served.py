"""What is served: an index in its present state, the hasher of queries, pictures of items."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from ..data import is_photos
from ..errors import InputError
from ..index import HashIndex, add_source, read_source
from ..index.hasher_beside import FOLDER as HASHER
from ..index.manifest import MANIFEST
from ..index.sources import calibrate_by_run, layout_of_run
from ..runs import Run, load_run
from ..runs.run_folder import CONFIG
from .pictures import ArrayPictures, FolderPictures, Pictures

if TYPE_CHECKING:
    from ..hasher import Hasher

__all__ = ["Served", "pictures_of_run"]


class Served:
    """An index that is read while another process may write it.

    Made by :meth:`open`. Attributes: ``index``, its present state; a search keeps the one that it began with.
    ``hasher`` of queries and ``pictures`` of the items, None where there are none; ``name``; ``remarks``, what could
    not be had.
    """

    is_one_index: ClassVar[bool] = True  # which can rescore, and rank by real-valued outputs

    def __init__(
        self, index: HashIndex, pictures: Pictures | None = None, *, hasher: Hasher | None = None
    ) -> None:
        self.index, self.pictures, self.hasher, self.name = index, pictures, hasher, index.path.name
        self.remarks: tuple[str, ...] = ()
        self._seen = self._stamp()
        self._held = ExitStack()

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        images: str | os.PathLike[str] | None = None,
        max_pixels: int = 40_000_000,
        memory: int | None = None,
        on_items: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Serve an index; or the database of a run, for which an index is made in a temporary folder.

        Args:
            path: folder of an index or of a run.
            images: folder to which the ids of items are relative paths; by default a run's own images.
            max_pixels: pictures of more are not shown.
            memory: see :meth:`dshc.HashIndex.open`.
            on_items: told ``(done, total)`` while the codes of a run are added.

        Raises :class:`InputError` or ``OSError`` naming the folder that is none of these.
        """
        path = Path(os.path.abspath(path))  # a message shows it whole, and without_path takes it out
        own = None if images is None else FolderPictures(images, max_pixels)
        if path.joinpath(MANIFEST).exists() or not path.joinpath(CONFIG).is_file():
            if not path.is_dir():
                raise FileNotFoundError(f"{path}: no such folder of an index or a run")
            index = HashIndex.open(path, read_only=True, memory=memory, clusters=True)
            return cls(index, own, hasher=index.hasher if path.joinpath(HASHER).is_dir() else None)
        run = load_run(path)
        held = ExitStack()
        try:
            folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="dshc-serve-"))) / "index"
            remarks = _index_of_run(folder, run, on_items)
            if own is None:
                own, more = pictures_of_run(run, max_pixels)
                remarks += more
            found = cls(
                HashIndex.open(folder, read_only=True, memory=memory, clusters=True), own, hasher=run.hasher
            )
        except BaseException:
            held.close()
            raise
        found.name, found.remarks, found._held = path.name, remarks, held
        return found

    def close(self) -> None:
        """Remove what was made for a run."""
        self.index.close()
        self._held.close()

    def has_changed(self) -> bool:
        """Whether a writer has been at the index since it was last read; a look at one small file."""
        return self._stamp() != self._seen

    def newer(self) -> HashIndex:
        """The index as it is on the disk now; the present one stays as it is.

        What both have in common stays open and prepared. Raises ``ValueError`` or ``OSError`` where it cannot be read,
        :class:`InputError` where it is another index now.
        """
        stamp = self._stamp()
        newer = copy.copy(self.index)  # `refresh` gives the copy parts of its own, and changes none
        newer.refresh()
        if newer.layout != self.index.layout:
            raise InputError(
                f"{newer.path}: must be the index that was opened, got one of another layout; start again"
            )
        if newer.hasher_checksum != self.index.hasher_checksum:
            raise InputError(
                f"{newer.path}: must have the hasher that was opened with it, got another; start again"
            )
        self._seen = stamp  # of what could not be read there will be another look
        return newer

    def without_path(self, text: str) -> str:
        """A message without where the index lies."""
        return text.replace(str(self.index.path), "the index")

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = os.stat(self.index.path / MANIFEST)
        except OSError:  # it is being replaced, or gone: the state that is open is served on
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size


def _index_of_run(folder: Path, run: Run, on_items: Callable[[int, int], None] | None) -> tuple[str, ...]:
    with HashIndex.create(folder, **layout_of_run(run)) as index:
        add_source(index, read_source(index, os.fspath(run.folder)), on_items=on_items)
        if index.layout.labels == "none" or index.score != "hamming":
            return ()
        try:
            calibrate_by_run(index, run)
        except (ImportError, OSError, ValueError) as error:
            return (f"precision by radius is not known: {error}",)
    return ()


def pictures_of_run(run: Run, max_pixels: int) -> tuple[Pictures | None, tuple[str, ...]]:
    if run.hasher.kind != "images":
        return None, ()
    source = run.settings.data.source
    try:
        if is_photos(source) and Path(source).is_dir():
            return FolderPictures(source, max_pixels), ()
        items, dataset = run.split.database, run.dataset
        names = map(str, items) if dataset.ids is None else (dataset.ids[item] for item in items)
        return ArrayPictures(dataset.inputs, dict(zip(names, items.tolist(), strict=True))), ()
    except (ImportError, OSError, ValueError) as error:
        return None, (f"no pictures of the items: {error}",)
