"""Shards held by actors of Ray, each on a node that sees its files; what a lost node held is opened on another."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from .connection import Connection
from .holders import Answers, facts_fit, why
from .shard import OpenShard, ShardFacts
from .shard_list import ListedShard

__all__ = ["RayHolders"]

_LARGE = 1 << 16
"""Bytes from which on an array is not sent with each question anew."""
_ROUNDS = 3
"""How often a question is asked whose holder is lost while it answers."""


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
        self._lost_on: dict[int, set[str]] = {}

    def open(self, shards: Sequence[ListedShard]) -> Answers:
        self._shards = shards
        found = self._place(range(len(shards)))
        self._facts = dict(found)
        return found

    def ask(self, method: str, questions: dict[int, tuple[Any, ...]]) -> Answers:
        found = Answers()
        left = questions = self._shared(questions)
        for _ in range(_ROUNDS):
            if absent := [place for place in left if place not in self._actors]:
                found.missing.update(self._place(absent).missing)
            asked = {
                place: self._actors[place].ask.remote(method, *question)
                for place, question in left.items()
                if place in self._actors
            }
            left = {}
            for place, answer, reason in self._gathered(asked, self._timeout):
                if reason is None:
                    found[place] = answer
                    found.missing.pop(place, None)
                else:
                    found.missing[place] = reason
                    self._lost_on.setdefault(place, set()).add(self._nodes[place])
                    self._let_go(place)
                    left[place] = questions[place]
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
        """Open shards, each on the first that can of the nodes that see its files."""
        found = Answers()
        nodes = self._seeing([self._shards[place].path for place in places])
        left = {place: self._in_turn(place, nodes[self._shards[place].path]) for place in places}
        reasons: dict[int, list[str]] = {place: [] for place in places}
        for turn in range(max(map(len, left.values()), default=0)):
            left = {place: seeing for place, seeing in left.items() if turn < len(seeing)}
            node = {place: seeing[turn] for place, seeing in left.items()}
            made = {place: self._actor(place, node[place]) for place in left}
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
                self._actors[place], self._nodes[place] = made[place], node[place]
                del left[place]
            if not left:
                break
        for place in places:
            if place not in found:
                told = "; ".join(dict.fromkeys(reasons[place]))
                unseen = f"{self._shards[place].path}: no such file or folder on any node"
                found.missing[place] = told or unseen
        return found

    def _in_turn(self, place: int, nodes: Sequence[str]) -> list[str]:
        """Nodes in the order in which a shard tries them, each beginning with another; where it was lost comes last."""
        first = place % len(nodes) if nodes else 0
        return sorted([*nodes[first:], *nodes[:first]], key=lambda node: node in self._lost_on.get(place, ()))

    def _shared(self, questions: dict[int, tuple[Any, ...]]) -> dict[int, tuple[Any, ...]]:
        """The questions with large arrays put where every node finds them, each once."""
        put: dict[int, Any] = {}

        def shared(part: Any) -> Any:
            if not isinstance(part, np.ndarray) or part.nbytes < _LARGE:
                return part
            if id(part) not in put:
                put[id(part)] = self._ray.put(part)
            return put[id(part)]

        return {place: tuple(map(shared, question)) for place, question in questions.items()}

    def _seeing(self, paths: Sequence[str]) -> dict[str, list[str]]:
        """The nodes that see each path, in a fixed order; a node that does not tell sees none."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        def seen(
            paths: Sequence[str],
        ) -> list[bool]:  # sent by value: a node need not load the program for it
            import os

            return [os.path.exists(path) for path in paths]

        look = self._ray.remote(seen)
        asked = {
            node: look.options(
                num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(list(paths))
            for node in self._living()
        }
        if asked:
            self._ray.wait(list(asked.values()), num_returns=len(asked), timeout=self._open_timeout)
        found: dict[str, list[str]] = {path: [] for path in paths}
        for node, reference in asked.items():
            try:
                there = self._ray.get(reference, timeout=0)
            except self._ray.exceptions.RayError:  # too late, or lost
                continue
            for path, is_there in zip(paths, there, strict=True):
                if is_there:
                    found[path].append(node)
        return found

    def _living(self) -> list[str]:
        """The nodes that work is for, sorted: those with processors, if any has."""
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
