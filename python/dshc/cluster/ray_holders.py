"""Shards held by actors of Ray, each on a node that sees its files; what a lost node held is opened on another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from .connection import Connection
from .holders import Answers, facts_fit, why
from .shard import OpenShard, ShardFacts
from .shard_list import ListedShard

__all__ = ["RayHolders"]

_ROUNDS = 3
"""How often a question is asked before its shard counts as missing."""


class _Holder:
    """The actor: a shard, or the reason why there is none here."""

    def __init__(self, path: str, check: bool, n_threads: int) -> None:
        import torch

        torch.set_num_threads(n_threads)
        self._shard: OpenShard | None = None
        self._reason = ""
        try:
            self._shard = OpenShard(path, check=check)
        except (OSError, ValueError) as error:
            self._reason = why(error, path)

    def facts(self) -> ShardFacts | str:
        return self._reason if self._shard is None else self._shard.facts

    def ask(self, method: str, *question: Any) -> Any:
        return getattr(self._shard, method)(*question)


class RayHolders:
    """See :class:`dshc.cluster.holders.Holders`.

    Args:
        address: see :class:`dshc.cluster.connection.Connection`.
        check: whether checksums are compared when a shard is opened.
        cpus: processors that Ray sets aside for each shard; 0: shards share those of their node, one
            thread each.
        open_timeout, timeout: seconds that a shard has to be opened, and to answer; then it is tried elsewhere.
    """

    def __init__(
        self,
        address: str,
        *,
        check: bool = False,
        cpus: float = 0,
        open_timeout: float = 120,
        timeout: float = 600,
    ) -> None:
        self._connection = Connection(address)
        self._ray = self._connection.ray
        self._check, self._cpus = check, cpus
        self._open_timeout, self._timeout = open_timeout, timeout
        self._shards: Sequence[ListedShard] = ()
        self._facts: dict[int, ShardFacts] = {}
        self._actors: dict[int, Any] = {}
        self._nodes: dict[int, str] = {}

    def open(self, shards: Sequence[ListedShard]) -> Answers:
        self._shards = shards
        found = self._place(range(len(shards)))
        self._facts = dict(found)
        return found

    def ask(self, method: str, questions: dict[int, tuple[Any, ...]]) -> Answers:
        found = Answers()
        left = dict(questions)
        for _ in range(_ROUNDS):
            absent = [place for place in left if place not in self._actors]
            if absent:
                found.missing.update(self._place(absent).missing)
            asked = {}
            for place in left:
                if place in self._actors:
                    asked[place] = self._actors[place].ask.remote(method, *left[place])
            for place, answer, reason in self._gathered(asked, self._timeout):
                if reason is None:
                    found[place] = answer
                    found.missing.pop(place, None)
                    del left[place]
                else:
                    found.missing[place] = reason
                    self._let_go(place)
            if not left:
                break
        return found

    def close(self) -> None:
        for place in list(self._actors):
            self._let_go(place)
        self._connection.close()

    def nodes(self) -> dict[int, str]:
        """The node that holds each shard, by Ray's ids."""
        return dict(self._nodes)

    def _place(self, places: Sequence[int]) -> Answers:
        """Open shards, each on the first of the living nodes, beginning with its own, that can."""
        found = Answers()
        nodes = self._living()
        left = list(places)
        reasons: dict[int, list[str]] = {place: [] for place in left}
        for turn in range(len(nodes)):
            made = {place: self._actor(place, nodes[(place + turn) % len(nodes)]) for place in left}
            asked = {place: actor.facts.remote() for place, actor in made.items()}
            for place, facts, reason in self._gathered(asked, self._open_timeout):
                if reason is None and isinstance(facts, str):
                    reason = facts
                if reason is None:
                    reason = facts_fit(facts, self._facts.get(place), self._shards[place])
                if reason:
                    reasons[place].append(reason)
                    self._ray.kill(made[place])
                    continue
                found[place] = facts
                self._actors[place] = made[place]
                self._nodes[place] = nodes[(place + turn) % len(nodes)]
                left.remove(place)
            if not left:
                break
        for place in left:
            told = list(dict.fromkeys(reasons[place]))
            found.missing[place] = "; ".join(told) or f"{self._shards[place].path}: the cluster has no node"
        return found

    def _living(self) -> list[str]:
        """The nodes that work is for: those with processors, if any has."""
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        workers = [node for node in alive if node["Resources"].get("CPU", 0) > 0]
        return sorted(node["NodeID"] for node in workers or alive)

    def _actor(self, place: int, node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "num_cpus": self._cpus,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False),
        }
        holder = self._ray.remote(_Holder).options(**options)
        return holder.remote(self._shards[place].path, self._check, max(1, int(self._cpus)))

    def _gathered(self, asked: dict[int, Any], timeout: float) -> list[tuple[int, Any, str | None]]:
        """Place, answer and None; or place, None and the reason why there is no answer.

        What a shard itself raises (a wrong argument) is raised; a lost actor, node or file is a reason.
        """
        found: list[tuple[int, Any, str | None]] = []
        end = time.monotonic() + timeout
        for place, reference in asked.items():
            path = self._shards[place].path
            try:
                left = max(0.0, end - time.monotonic())
                found.append((place, self._ray.get(reference, timeout=left), None))
            except self._ray.exceptions.GetTimeoutError:
                found.append((place, None, f"{path}: no answer within {timeout:.0f} s"))
            except self._ray.exceptions.RayTaskError as error:
                cause = error.cause if isinstance(error.cause, Exception) else error
                if not isinstance(cause, (OSError, MemoryError)):
                    raise cause from None
                found.append((place, None, why(cause, path)))
            except self._ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines()
                reason = lines[0] if lines else type(error).__name__
                found.append((place, None, f"{path}: its holder was lost ({reason})"))
        return found

    def _let_go(self, place: int) -> None:
        actor = self._actors.pop(place)
        self._nodes.pop(place, None)
        self._ray.kill(actor)
