"""Who holds the shards: actors on the nodes of Ray (``ray_holders.py``), or this process, which is the obvious twin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..errors import InputError
from .merging import Merge
from .shard import OpenShard, ShardFacts
from .shard_list import ListedShard

__all__ = ["Answers", "Holders", "LocalHolders", "MissingShards", "facts_fit", "why"]


class MissingShards(InputError):
    """Shards cannot be had, and no answer without them was asked for; the message names them."""


class Answers(dict[int, Any]):
    """Answers by the place of the shard, or of one of the shards that an answer was put together of; ``missing`` says
    why each shard that none is of has none."""

    def __init__(self) -> None:
        super().__init__()
        self.missing: dict[int, str] = {}


class Holders(Protocol):
    """Opens shards and hands questions on to them."""

    def open(self, shards: Sequence[ListedShard]) -> Answers:
        """:class:`ShardFacts` of each."""

    def ask(self, method: str, questions: dict[int, tuple[Any, ...]], merge: Merge | None = None) -> Answers:
        """What ``method`` of :class:`OpenShard` answers to each question, by the place of the shard; with ``merge``
        lifted, and put together as far as one process holds the shards."""

    def close(self) -> None:
        """Give back what was held."""


class LocalHolders:
    """All shards in this process, one after the other."""

    def __init__(self, *, check: bool = False) -> None:
        self._check = check
        self._shards: dict[int, OpenShard] = {}
        self._unopened: dict[int, str] = {}

    def open(self, shards: Sequence[ListedShard]) -> Answers:
        found = Answers()
        for place, shard in enumerate(shards):
            try:
                self._shards[place] = OpenShard(shard.path, check=self._check)
                facts = self._shards[place].facts
                if wrong := facts_fit(facts, None, shard):
                    raise InputError(wrong)
                found[place] = facts
            except (OSError, ValueError) as error:
                found.missing[place] = self._unopened[place] = why(error, shard.path)
        return found

    def ask(self, method: str, questions: dict[int, tuple[Any, ...]], merge: Merge | None = None) -> Answers:
        found = Answers()
        for place, question in questions.items():
            if place in self._unopened:
                found.missing[place] = self._unopened[place]
            else:
                answer = getattr(self._shards[place], method)(*question)
                found[place] = answer if merge is None else merge.lifted(place, answer)
        return found

    def close(self) -> None:
        self._shards.clear()


def why(error: BaseException, path: str) -> str:
    """The reason in a few words that name the shard."""
    text = str(error).strip() or type(error).__name__
    return text if path in text else f"{path}: {text}"


def facts_fit(facts: ShardFacts, before: ShardFacts | None, listed: ListedShard) -> str:
    """What is wrong with a shard that was opened, or opened anew; empty where nothing is."""
    if before is not None and facts.identity != before.identity:
        return f"{facts.path}: must be what was opened first, its content is another now"
    if listed.n_items is not None and facts.n_items != listed.n_items:
        return f"{facts.path}: must hold {listed.n_items} items, as its list says, got {facts.n_items}"
    return ""
