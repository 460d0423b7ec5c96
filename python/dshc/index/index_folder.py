"""The folder of an index: made, opened and closed, shown in one of its states, looked up by id, changed in one step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np

from ..errors import InputError
from ..storage.disk import Disk
from ..storage.folder_lock import folder_lock
from . import hasher_beside
from .changes import Change, remove_left_overs
from .layout import IdKind, LabelKind, Layout, VectorKind
from .manifest import MANIFEST, Manifest, read_manifest, write_manifest
from .new_items import schema_of
from .part_files import verify
from .part_search import PartSearch, default_memory
from .parts import OpenPart

if TYPE_CHECKING:
    from ..hasher import Hasher

__all__ = ["IndexFolder"]

PARTS = "parts"


class IndexFolder:
    """What :class:`dshc.HashIndex` stands on; see there."""

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        *,
        read_only: bool,
        memory: int | None,
        device: str,
        tables: bool,
        clusters: bool,
        disk: Disk,
        held: contextlib.ExitStack,
    ) -> None:
        self.path, self.read_only = path, read_only
        self._memory = default_memory() if memory is None else memory
        self._device, self._tables, self._clusters, self._disk, self._held = (
            device,
            tables,
            clusters,
            disk,
            held,
        )
        self._hasher: Hasher | None = None
        self._closed = False
        self._search: PartSearch | None = None
        self._show(manifest, None)

    # Made, opened, closed

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        bits: int | None = None,
        score: str | None = None,
        ids: IdKind = "int64",
        labels: LabelKind = "none",
        class_names: Sequence[str] | None = None,
        vectors: VectorKind = "none",
        dimensions: int = 0,
        metadata: dict[str, str] | None = None,
        model: str = "",
        hasher: Hasher | None = None,
        memory: int | None = None,
        device: str = "cpu",
        tables: bool = False,
        clusters: bool = False,
        disk: Disk | None = None,
    ) -> Self:
        """A new, empty index, open for writing, in a folder that does not exist or is empty.

        Args:
            bits, score: of the codes; by default the hasher's, and ``"hamming"``.
            ids, labels, class_names, vectors, dimensions, metadata, model: see :class:`dshc.index.Layout`; metadata by
                name and Arrow type, ``{"year": "int32", "camera": "string"}``.
            hasher: makes codes of items; it is saved beside them (:meth:`HashIndex.add_images`).
            memory: bytes of codes that searches hold in memory, by default a quarter of the machine's; the rest is read
                from the disk.
            device: where codes are searched, ``"cpu"`` or ``"cuda"``.
            tables: keep substring tables of the codes that are held in memory (:class:`dshc_fast.HammingDatabase`),
                which look up what is very near instead of scanning, where that is faster; on the CPU.
            clusters: put these codes to centers, where they lie around few as learned codes do, so that a search
                compares what may be near alone; on the CPU.

        Raises:
            InputError, TypeError: a setting out of range, or a folder that holds anything.
            OSError: naming the folder where it cannot be written.
        """
        path, disk = Path(path), disk or Disk()
        if hasher is not None:
            bits, score = hasher.n_bits if bits is None else bits, score or hasher.score
            if (bits, score) != (hasher.n_bits, hasher.score):
                raise InputError(
                    f"bits and score must be those of the hasher, {hasher.n_bits} and {hasher.score!r}, got {bits} and "
                    f"{score!r}"
                )
            if class_names is None and labels != "none":
                class_names = hasher.class_names
        if bits is None:
            raise InputError("bits must be given without a hasher, got none")
        layout = Layout(
            bits,
            score or "hamming",
            ids,
            labels,
            _checked_names(class_names),
            vectors,
            _checked_dimensions(dimensions),
            _checked_columns(metadata),
            model,
        )
        if layout.metadata:
            schema_of(layout)  # refuses unknown types
        _check_free(path)
        held = contextlib.ExitStack()
        held.enter_context(folder_lock(path))
        try:
            _check_free(path)  # again, now that nobody else can write
            disk.make_folder(path / PARTS)
            hasher_beside.remove(path)
            digest = hasher_beside.save(path, hasher) if hasher is not None else ""
            manifest = Manifest(layout, hasher=digest)
            write_manifest(path, manifest, disk)
            disk.sync_folder(path.absolute().parent)
            made = cls(
                path,
                manifest,
                read_only=False,
                memory=memory,
                device=device,
                tables=tables,
                clusters=clusters,
                disk=disk,
                held=held,
            )
        except BaseException:
            held.close()
            raise
        made._hasher = hasher
        return made

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        read_only: bool = False,
        memory: int | None = None,
        device: str = "cpu",
        tables: bool = False,
        clusters: bool = False,
        disk: Disk | None = None,
    ) -> Self:
        """Open an index, in milliseconds whatever its size: its codes are read when they are searched.

        Raises:
            FileNotFoundError: the folder holds no index.
            InputError: another process is writing it (open it with ``read_only=True``), or a newer version wrote it.
            ValueError: a damaged file, which is named.
        """
        path, disk = Path(path), disk or Disk()
        if not path.joinpath(MANIFEST).exists():
            read_manifest(path)  # says what is missing, and makes no folder for a lock
        held = contextlib.ExitStack()
        if not read_only:
            held.enter_context(folder_lock(path))
        try:
            manifest = read_manifest(path)
            if not read_only:
                remove_left_overs(path / PARTS, manifest, disk)
            return cls(
                path,
                manifest,
                read_only=read_only,
                memory=memory,
                device=device,
                tables=tables,
                clusters=clusters,
                disk=disk,
                held=held,
            )
        except BaseException:
            held.close()
            raise

    def close(self) -> None:
        """Let another process write. A closed index answers nothing."""
        self._closed = True
        self._parts: list[OpenPart] = []
        self._search = None
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def refresh(self) -> bool:
        """Show what the writer has changed since; whether there was anything. Of no use to the writer itself."""
        self._check_open()
        before = self._manifest.commit
        self._show(read_manifest(self.path), self._search)
        return self._manifest.commit != before

    def _show(self, manifest: Manifest, before: PartSearch | None) -> None:
        """Open the parts of a manifest; those that are open already stay so."""
        known = {} if before is None else {part.part: part for part in before.parts}
        while True:
            try:
                parts = [
                    known[part] if part in known else OpenPart(self.path / PARTS, part, manifest.layout)
                    for part in manifest.parts
                ]
                break
            except FileNotFoundError as error:  # a writer replaced parts between our two looks
                again = read_manifest(self.path)
                if again.commit == manifest.commit:
                    raise ValueError(f"{error.filename}: damaged, it is missing") from None
                manifest = again
        self._manifest, self._parts = manifest, parts
        self._search = PartSearch(
            parts,
            manifest.layout.score,
            memory=self._memory,
            device=self._device,
            tables=self._tables,
            clusters=self._clusters,
            before=before,
        )

    # What is in it

    @property
    def layout(self) -> Layout:
        return self._manifest.layout

    @property
    def n_bits(self) -> int:
        return self.layout.n_bits

    @property
    def score(self) -> str:
        return self.layout.score

    @property
    def hasher_checksum(self) -> str:
        """SHA-256 of the weights of the hasher beside the index; empty where there is none."""
        return self._manifest.hasher

    @property
    def n_removed(self) -> int:
        """Removed items that still take room on the disk, until they are merged away or :meth:`compact` is called."""
        return sum(part.n_removed for part in self._manifest.parts)

    @property
    def n_file_bytes(self) -> int:
        """Bytes of its parts on the disk."""
        return sum(file.size for part in self._manifest.parts for file in part.files)

    def __len__(self) -> int:
        return len(self._manifest)

    def __repr__(self) -> str:
        return f"HashIndex({str(self.path)!r}, {len(self)} items, {self.n_bits} bits, {self.score})"

    @property
    def hasher(self) -> Hasher:
        """The hasher beside the codes; :class:`InputError` where there is none."""
        if self._hasher is None:
            self._hasher = hasher_beside.load(self.path, self._manifest)
        return self._hasher

    def check(self, on_bytes: Callable[[int], None] | None = None) -> None:
        """Read every file and compare it with its checksum; ``on_bytes`` is told of the progress.

        Of an index that was changed since it was opened, what it is now. Raises ``ValueError`` naming the first file
        that is damaged.
        """
        self._check_open()
        manifest, parts = self._manifest, self._parts
        for part, opened in zip(manifest.parts, parts, strict=True):
            for file in part.files:
                try:
                    verify(self.path / PARTS, file, on_bytes)
                except FileNotFoundError:
                    if not self.read_only or read_manifest(self.path).commit == manifest.commit:
                        raise ValueError(
                            f"{self.path / PARTS / file.name}: damaged, the file is gone"
                        ) from None
                    with type(self).open(self.path, read_only=True) as now:
                        now.check(on_bytes)
                    return
            if not opened.ids.sound:
                raise ValueError(
                    f"{self.path / PARTS / part.arrays.name}: its ids are not in the order that they are kept in, as "
                    "ids 2^63 apart once were written; compact the index, and look for ids that it has twice"
                )
        if self._manifest.hasher:
            hasher_beside.check(self.path, self._manifest)

    # For those who change it

    def _check_open(self) -> None:
        if self._closed:
            raise InputError(f"{self.path}: the index is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self.read_only:
            raise InputError(f"{self.path}: was opened with read_only=True; open it for writing to change it")

    def _publish(self, change: Change) -> None:
        """Make a change the state of the index; if that fails, nothing is changed."""
        before = {file.name for part in self._manifest.parts for file in part.files}
        try:
            write_manifest(self.path, change.manifest, self._disk)
        except BaseException:
            if read_manifest(self.path).commit != change.manifest.commit:
                change.undo(self._disk)
            else:  # it is there, and only not yet certain to survive a power cut
                self._show(change.manifest, self._search)
            raise
        self._show(change.manifest, self._search)
        after = {file.name for part in change.manifest.parts for file in part.files}
        for name in sorted(before - after):
            with contextlib.suppress(OSError):  # a file too many; the next writer removes it
                self._disk.remove(self.path / PARTS / name)


def _checked_names(names: object) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError("class_names must be a sequence of names, got a single text")
    names = tuple(names or ())  # type: ignore[arg-type]  # that is the question
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise TypeError(f"class_names must be text, got {wrong[0]!r}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"class_names must differ, got {twice!r} twice")
    return names


def _checked_dimensions(dimensions: object) -> int:
    if isinstance(dimensions, bool) or not isinstance(dimensions, (int, np.integer)):
        raise TypeError(f"dimensions must be an int, got {type(dimensions).__name__}")
    return int(dimensions)


def _checked_columns(metadata: Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    columns = tuple((metadata or {}).items())
    for name, kind in columns:
        if not (isinstance(name, str) and isinstance(kind, str)):
            raise TypeError(
                f"metadata must name columns and their types of Arrow as text, got {name!r}: {kind!r}"
            )
    return columns


def _check_free(path: Path) -> None:
    if path.exists() and not _is_free(path):
        raise InputError(f"{path}: must be a new or an empty folder for a new index")


def _is_free(path: Path) -> bool:
    """Whether a folder is empty, but for what a creation leaves that was cut off before there was an index."""
    left = {".lock", PARTS, "index.json.tmp", hasher_beside.FOLDER}
    names = {entry.name for entry in path.iterdir()} if path.is_dir() else {""}
    if not names <= left or (
        hasher_beside.FOLDER in names and PARTS not in names
    ):  # the parts' folder is made first
        return False
    return not (path / PARTS).exists() or not any((path / PARTS).iterdir())
