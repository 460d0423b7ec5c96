"""`ShardedIndex`: code files and indexes on several machines, searched and measured as if they were one array."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from ..errors import InputError, one_of
from ..evaluation import Conventions
from ..index.filters import Filter
from ..storage import CodeFile
from .histograms import average_precision_of
from .holders import Answers, Holders, LocalHolders, MissingShards
from .merged_evaluation import MergedEvaluation, evaluate_histograms
from .merging import Merge
from .questions import query_codes, query_labels
from .ray_holders import RayHolders
from .shard import ShardFacts
from .shard_list import check_alike, read_shards

__all__ = ["ShardedIndex", "ShardedRadius", "ShardedTopK"]

_PAIRS = 1 << 22
"""Most rows of an answer, or cells of a histogram, that are merged at a time."""
_KEY_RANGES = 16
"""Ids are compared so many times, each time a part of them."""


class ShardedTopK(NamedTuple):
    """``distances`` int32 and ``indices`` int64 ``(n_query, k)``, sorted by (distance, index); an index counts over all
    shards in their order. ``missing``: the shards that are not in it; none, but where ``partial`` was asked for."""

    distances: np.ndarray
    indices: np.ndarray
    missing: tuple[str, ...] = ()


class ShardedRadius(NamedTuple):
    """Query q has ``indices[offsets[q]:offsets[q + 1]]`` and the same part of ``distances``; ``missing`` as above."""

    offsets: np.ndarray
    indices: np.ndarray
    distances: np.ndarray
    missing: tuple[str, ...] = ()


class ShardedIndex:
    """Exact search and exact metrics over shards that lie on the nodes of a Ray cluster.

    Shards are held by actors, one per node, which map their files into memory; each lies with a node that sees it.
    Answers are those of one process over all codes in the order of the shards, to the bit. Where a node is lost its
    shards are opened on others and the question is asked again; a shard that cannot be had is an error that names it.

    Args:
        address: ``"auto"``, ``"local"``, ``"host:port"`` or ``"ray://host:port"`` (see
            :class:`dshc.cluster.Connection`); None: no cluster, all shards in this process.
        shards: as :func:`dshc.cluster.read_shards` accepts them: a folder, a JSON list, or paths.
        partial: answer without the shards that cannot be had; the answer then names them in ``missing``.
        unique_ids: refuse an id that occurs twice in all shards; their ids are read once for it.
        check: compare the checksums of all files when they are opened.
        holders: settings of :class:`dshc.cluster.RayHolders`: ``threads``, ``open_timeout``, ``timeout``.

    Raises:
        InputError: no shards, one twice, shards of different bits, scores, models or classes, an id twice, or one that
            cannot be opened; the message names it.
        ConnectionError: nobody answers at the address.
        ImportError: Ray is not installed.

    >>> import numpy as np, tempfile
    >>> folder = tempfile.mkdtemp()
    >>> for name, codes in (("0", [[0b0011], [0b0111]]), ("1", [[0b1100]])):
    ...     _ = CodeFile(np.array(codes, np.uint8), n_bits=4).save(f"{folder}/{name}.safetensors")
    >>> with ShardedIndex(None, folder) as index:
    ...     index.search(np.array([[0b1100]], np.uint8), k=2).indices
    array([[2, 1]])
    """

    def __init__(
        self,
        address: str | None,
        shards: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        partial: bool = False,
        unique_ids: bool = False,
        check: bool = False,
        **holders: Any,
    ) -> None:
        self._listed = read_shards(shards)
        self.partial = partial
        self._holders: Holders | None = (
            LocalHolders(check=check) if address is None else RayHolders(address, check=check, **holders)
        )
        try:
            facts = self._opened(self._holders.open(self._listed))
            check_alike(list(facts.values()))
            self._facts = facts
            one = next(iter(facts.values()))
            self.n_bits, self.score = one.n_bits, one.score
            self.class_names = next((f.class_names for f in facts.values() if f.class_names), ())
            self.model = next((f.model for f in facts.values() if f.model), "")
            if unique_ids:
                self._check_unique()
        except BaseException:
            self.close()
            raise

    # What is in it

    def __len__(self) -> int:
        """Items of all shards, those that cannot be had included."""
        return int(self.starts[-1])

    def __repr__(self) -> str:
        return (
            f"ShardedIndex({len(self._listed)} shards, {len(self)} items, {self.n_bits} bits, {self.score})"
        )

    @property
    def shards(self) -> tuple[str, ...]:
        """Their paths, in their order."""
        return tuple(shard.path for shard in self._listed)

    def close(self) -> None:
        """Give back what the shards held; a connection that was made for them ends."""
        holders, self._holders = self._holders, None  # at once: two threads may close it
        if holders is not None:
            holders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Questions

    def search(self, queries: np.ndarray | CodeFile, k: int, *, score: str | None = None) -> ShardedTopK:
        """The ``k`` nearest items of each query, as :func:`dshc_fast.hamming_topk` over all codes gives them.

        Args:
            queries: packed codes uint8 ``(n, bytes)``, or a code file.
            k: 1 to the number of items.
            score: None takes the one the shards are made for.

        Raises:
            TypeError, InputError: naming the argument that does not fit, or a shard that cannot be had.
        """
        return self._nearest(queries, k, score, {})

    def _nearest(
        self,
        queries: np.ndarray | CodeFile,
        k: int,
        score: str | None,
        only: Mapping[int, Filter],
    ) -> ShardedTopK:
        """:meth:`search` among the items that the filters, by the places of the shards, let through."""
        codes, score = query_codes(queries, self.n_bits, self.model), self._score(score)
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
            raise TypeError(f"k must be an int, got {type(k).__name__}")
        if not 1 <= k <= len(self):
            raise InputError(f"k must be between 1 and {len(self)} (the items of all shards), got {k}")
        k, missing = int(k), {}
        step = max(1, _PAIRS // (k * len(self._listed)))
        parts = []
        for start in range(0, max(1, len(codes)), step):
            asked = codes[start : start + step]
            merge = self._merge("topk", k, score)
            answers = self._asked(
                "topk", lambda place, asked=asked: (asked, k, score, only.get(place)), merge
            )
            missing.update(answers.missing)
            parts.append(merge.joined(list(answers.values())))
        distances, indices = (np.concatenate(part) for part in zip(*parts, strict=True))
        return ShardedTopK(distances, indices, self._names(missing))

    def radius(
        self, queries: np.ndarray | CodeFile, radius: int, *, score: str | None = None
    ) -> ShardedRadius:
        """All items within ``radius`` of each query (overlap: that share so many bits at least)."""
        codes, score = query_codes(queries, self.n_bits, self.model), self._score(score)
        if isinstance(radius, bool) or not isinstance(radius, (int, np.integer)):
            raise TypeError(f"radius must be an int, got {type(radius).__name__}")
        if not 0 <= radius <= self.n_bits:
            raise InputError(f"radius must be between 0 and {self.n_bits} (the bits), got {radius}")
        merge = self._merge("radius", score=score)
        answers = self._asked("radius", lambda _: (codes, int(radius), score), merge)
        return ShardedRadius(*merge.joined(list(answers.values())), self._names(answers.missing))

    def average_precision(
        self,
        queries: np.ndarray | CodeFile,
        labels: np.ndarray | None = None,
        *,
        k: int | None = None,
        ties: str = "expected",
        denominator: str = "retrieved",
        score: str | None = None,
    ) -> np.ndarray:
        """AP@k of each query, float64 ``(n_query,)``, as :func:`dshc_fast.average_precision` over all codes gives it,
        but for rounding. ``ties`` is ``"expected"``, ``"best"`` or ``"worst"``; ``labels`` None: those of the
        code file.

        With ``partial`` it is that of the shards that could be had, which a warning names not to be all.
        """
        items, relevant, missing = self._histograms(queries, labels, self._score(score))
        if missing:
            warnings.warn(f"average precision without {', '.join(missing)}", UserWarning, stacklevel=2)
        return average_precision_of(
            items, relevant, k=k, ties=ties, denominator=denominator, score=self._score(score)
        )

    def evaluate(
        self,
        queries: np.ndarray | CodeFile,
        labels: np.ndarray | None = None,
        *,
        conventions: Conventions = Conventions(),  # noqa: B008  (frozen)
    ) -> MergedEvaluation:
        """mAP with its bounds and curves under ``conventions``, from the merged histograms of the shards.

        Raises :class:`InputError` for what histograms do not tell: ``ties="index"``, further metrics.
        """
        if conventions.ties == "index":
            raise one_of("ties over shards", "index", ("expected", "best", "worst"))
        if conventions.metrics:
            raise InputError(
                f"metrics must be left out over shards, which tell histograms only, got {conventions.metrics[0]}"
            )
        score = self._score(None if conventions.score is None else str(conventions.score))
        items, relevant, missing = self._histograms(queries, labels, score)
        return evaluate_histograms(items, relevant, conventions, score=score, missing=missing)

    def ids(self, indices: np.ndarray) -> np.ndarray:
        """The ids of items by their indices, objects: text or int, the index where a shard has no ids; of -1 None.

        Raises :class:`InputError` for an index past the items.
        """
        flat = np.asarray(indices).reshape(-1)
        if len(flat) and int(flat.max()) >= len(self):
            raise InputError(f"indices must be below {len(self)}, the number of items, got {int(flat.max())}")
        found = np.empty(len(flat), object)
        found[:] = [None if index < 0 else index for index in flat.tolist()]
        number = np.searchsorted(self.starts, flat, side="right") - 1
        places = {
            place: np.flatnonzero((number == place) & (flat >= 0))
            for place, facts in self._facts.items()
            if facts.has_ids
        }
        asked = {place: (flat[rows] - self.starts[place],) for place, rows in places.items() if len(rows)}
        answers = self._whole(self._open_holders().ask("ids", asked))
        for place, ids in answers.items():
            found[places[place]] = ids
        return found.reshape(np.shape(indices))

    # Pieces of the above

    def _open_holders(self) -> Holders:
        if self._holders is None:
            raise InputError("the sharded index is closed")
        return self._holders

    def _asked(
        self, method: str, question: Callable[[int], tuple[Any, ...]], merge: Merge | None = None
    ) -> Answers:
        """The answers of all shards, or of those that can be had; ``question``: what the one of a place is asked."""
        answers = self._open_holders().ask(
            method, {place: question(place) for place in range(len(self._listed))}, merge
        )
        return self._whole(answers)

    def _merge(self, method: str, k: int = 0, score: str = "hamming") -> Merge:
        return Merge(method, dict(enumerate(self.starts[:-1].tolist())), k, score)

    def _whole(self, answers: Answers) -> Answers:
        if answers.missing and not self.partial:
            reasons = "; ".join(answers.missing[place] for place in sorted(answers.missing))
            raise MissingShards(
                f"{len(answers.missing)} of {len(self._listed)} shards cannot be had, partial=True (--partial) answers "
                f"without: {reasons}"
            )
        if answers.missing and not answers:
            raise MissingShards(
                f"at least one shard must be had, got none: {answers.missing[min(answers.missing)]}"
            )
        return answers

    def _opened(self, answers: Answers) -> dict[int, ShardFacts]:
        facts = dict(self._whole(answers))
        sizes = [
            facts[place].n_items if place in facts else shard.n_items
            for place, shard in enumerate(self._listed)
        ]
        for place, size in enumerate(sizes):
            if size is None:
                raise InputError(
                    f"{answers.missing[place]}; to be left out, its list (shards.json) must say its n_items"
                )
        self.starts = np.cumsum([0, *sizes], dtype=np.int64)
        return facts

    def _names(self, missing: dict[int, str]) -> tuple[str, ...]:
        return tuple(self._listed[place].path for place in sorted(missing))

    def _score(self, score: str | None) -> str:
        if score not in (None, "hamming", "overlap"):
            raise one_of("score", score, ("hamming", "overlap"))
        return score or self.score

    def _histograms(
        self, queries: np.ndarray | CodeFile, labels: np.ndarray | None, score: str
    ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        codes = query_codes(queries, self.n_bits, self.model)
        labels = query_labels(queries, labels, len(codes), self.class_names, self._facts.values())
        step, missing = max(1, _PAIRS // (self.n_bits + 1)), {}
        parts = []
        for start in range(0, len(codes), step):
            question = codes[start : start + step], labels[start : start + step], score
            merge = self._merge("histogram")
            answers = self._asked("histogram", lambda _, question=question: question, merge)
            missing.update(answers.missing)
            parts.append(merge.joined(list(answers.values())))
        items, relevant = (np.concatenate(part) for part in zip(*parts, strict=True))
        return items, relevant, self._names(missing)

    def _check_unique(self) -> None:
        """Refuse an id that two items have; ids are compared by keys of 64 bits, and a key that repeats by the ids."""
        bare = [facts.path for facts in self._facts.values() if not facts.has_ids]
        if bare:
            raise InputError(f"{bare[0]}: must hold ids to be compared (unique_ids), got none")
        width = (1 << 64) // _KEY_RANGES
        for low in range(0, 1 << 64, width):
            answers = self._asked("id_keys", lambda _, low=low: (low, low + width))
            places = np.concatenate([np.full(len(answers[place]), place) for place in sorted(answers)])
            keys = np.concatenate([answers[place] for place in sorted(answers)])
            order = np.argsort(keys, kind="stable")
            same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
            for first in same.tolist():
                pair = [int(places[order[at]]) for at in (first, first + 1)]
                key = int(keys[order[first]])
                told = self._open_holders().ask("id_of_key", dict.fromkeys(set(pair), (key,)))
                names = [self._whole(told)[place] for place in pair]
                if names[0] == names[1]:
                    where = " and ".join(dict.fromkeys(self._listed[place].path for place in pair))
                    raise InputError(f"ids must differ from each other, got {names[0]!r} twice, in {where}")
