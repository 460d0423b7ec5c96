"""The actor of a node of Ray, which holds all shards of the node and asks them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .holders import why
from .merging import Merge, Together
from .shard import OpenShard, ShardFacts

__all__ = ["Holder", "Reason"]


class Reason(str):
    """Why there is no answer."""


class Holder:
    """The actor of a node: the shards that it holds, ``n_threads`` of them asked at a time, each by one thread."""

    def __init__(self, check: bool, n_threads: int) -> None:
        import torch

        self._check = check
        self._shards: dict[int, OpenShard] = {}
        self._pool = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))

    def open(self, paths: dict[int, str]) -> dict[int, ShardFacts | Reason]:
        def one(place: int) -> ShardFacts | Reason:
            try:
                self._shards[place] = OpenShard(paths[place], check=self._check)
            except (OSError, ValueError) as error:
                return Reason(why(error, paths[place]))
            return self._shards[place].facts

        return dict(zip(paths, self._pool.map(one, paths), strict=True))

    def ask(self, method: str, questions: dict[int, tuple[Any, ...]], merge: Merge | None) -> dict[int, Any]:
        """By the places of the shards; with ``merge`` one answer of all that have one, by the place of the first."""

        def one(place: int) -> Any:
            shard = self._shards[place]
            try:
                answer = getattr(shard, method)(*questions[place])
            except (OSError, MemoryError) as error:
                return Reason(why(error, shard.facts.path))
            return answer if merge is None else merge.lifted(place, answer)

        found = dict(zip(questions, self._pool.map(one, questions), strict=True))
        if merge is None:
            return found
        answered = tuple(place for place, answer in found.items() if not isinstance(answer, Reason))
        if not answered:
            return found
        joined = merge.joined([found.pop(place) for place in answered])
        return {**found, answered[0]: Together(answered, joined)}
