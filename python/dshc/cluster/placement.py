"""Which nodes of Ray hold which shards: actors on nodes that see the files, and others where those are lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import InputError
from .connection import Connection
from .holder_actor import Holder, Reason
from .holders import Answers, facts_fit
from .shard import ShardFacts
from .shard_list import ListedShard

__all__ = ["Placement"]

_LOOKS = 0.2
"""Seconds between two looks, of who waits for a node, at whether the holders are closed."""
_ENDS = 5.0
"""Most seconds that closing waits for a copy that is being opened; it ends at its next look, if Ray answers."""


class Placement:
    """What :class:`dshc.cluster.RayHolders` stands on; see there. What changes is changed under ``_lock``: every node
    in ``_nodes`` has its actor in ``_actors``.
    """

    def __init__(
        self, address: str, *, check: bool, threads: int | None, copies: int, open_timeout: float
    ) -> None:
        for name, value in (("threads", threads), ("copies", copies)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name} must be a whole number of at least 1, got {value!r}")
        self._connection = Connection(address)
        self._ray = self._connection.ray
        self._check, self._threads, self._copies, self._open_timeout = check, threads, copies, open_timeout
        self._shards: Sequence[ListedShard] = ()
        self._facts: dict[int, ShardFacts] = {}
        self._actors: dict[str, Any] = {}
        self._nodes: dict[int, list[str]] = {}
        self._lost_on: dict[int, set[str]] = {}
        self._short: set[int] = set()
        self._copier: threading.Thread | None = None
        self._closed = threading.Event()
        self._lock = threading.RLock()

    def open(self, shards: Sequence[ListedShard]) -> Answers:
        self._shards = shards
        found = self._place(range(len(shards)))
        self._facts = dict(found)
        return found

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            for node, actor in list(self._actors.items()):
                self._drop(node, actor)
            copier = self._copier
        if copier is not None:
            copier.join(_ENDS)
        self._connection.close()

    def nodes(self) -> dict[int, str]:
        """The node that is asked first for each shard, by Ray's ids."""
        return {place: nodes[0] for place, nodes in self.holders().items()}

    def holders(self) -> dict[int, tuple[str, ...]]:
        """All nodes that hold each shard."""
        with self._lock:
            return {place: tuple(nodes) for place, nodes in self._nodes.items()}

    def _place(self, places: Sequence[int]) -> Answers:
        """Open shards. Nodes on which one of them was lost are asked when others cannot have it: where a node has died,
        Ray may call it alive for some 15 s, and waits for it."""
        living = self._living()
        suspects = {node for place in places for node in self._lost_on.get(place, ())}
        others = {node: cpus for node, cpus in living.items() if node not in suspects}
        found = self._place_on(places, others)
        if found.missing and len(others) < len(living):
            again = self._place_on(
                sorted(found.missing), {node: living[node] for node in living if node in suspects}
            )
            found.update(again)
            found.missing = again.missing
        return found

    def _place_on(self, places: Sequence[int], living: dict[str, int]) -> Answers:
        """Open shards, each on the first that can of those of the nodes that see its files, or on the first ones."""
        found = Answers()
        seeing = self._seeing([self._shards[place].path for place in places], living)
        turns = {place: self._in_turn(place, seeing[self._shards[place].path]) for place in places}
        left, reasons = set(places), {place: [] for place in places}
        for turn in range(max(map(len, turns.values()), default=0)):
            asked, actors, parts = {}, {}, {}
            with self._lock:
                if self._closed.is_set():
                    for place in left:
                        reasons[place].append(self._named(place, Reason("its holders are closed")))
                    break
                chosen = {
                    place: turns[place][turn]
                    for place in sorted(left)
                    if turn < len(turns[place]) and turns[place][turn] not in self._nodes.get(place, ())
                }
                for node in sorted(set(chosen.values())):
                    parts[node] = {p: self._shards[p].path for p, own in chosen.items() if own == node}
                    actors[node] = self._actor(node, living)
                    asked[node] = actors[node].open.remote(parts[node])
            for node, answer, reason in self._gathered(asked, self._open_timeout):
                if reason is not None:
                    answer = dict.fromkeys(parts[node], reason)
                    self._drop(node, actors[node])
                for place, facts in answer.items():
                    if not isinstance(facts, Reason):
                        known = self._facts.get(place) or found.get(place)
                        wrong = facts_fit(facts, known, self._shards[place])
                        facts = Reason(wrong) if wrong else facts
                    if not isinstance(facts, Reason) and not self._hold(place, node, actors[node]):
                        facts = Reason("its holder was lost")
                    if isinstance(facts, Reason):
                        reasons[place].append(self._named(place, facts))
                        continue
                    found[place] = facts
                    if len(self._nodes.get(place, ())) >= self._copies:
                        left.discard(place)
            if not left:
                break
        for place in left - set(found):
            told = "; ".join(dict.fromkeys(reasons[place]))
            found.missing[place] = told or f"{self._shards[place].path}: no such file or folder on any node"
        return found

    def _copy_again(self) -> None:
        """Where a shard has lost one of several holders, open it on another node, once, if there is one. A thread of
        its own does it, one at a time: no question waits for it."""
        with self._lock:
            if self._short and self._copier is None and not self._closed.is_set():
                self._copier = threading.Thread(target=self._copy, name="dshc-copies", daemon=True)
                self._copier.start()

    def _copy(self) -> None:
        try:
            while True:
                with self._lock:
                    short, self._short = sorted(self._short & set(self._nodes)), set()
                    lost = {node for place in short for node in self._lost_on.get(place, ())}
                    if not short or self._closed.is_set():
                        self._copier = None
                        return
                self._place_on(
                    short, {node: cpus for node, cpus in self._living().items() if node not in lost}
                )
        except Exception:
            with self._lock:
                self._copier = None
            if not self._closed.is_set():  # else it ends because the connection does
                raise

    @staticmethod
    def _in_turn(place: int, nodes: Sequence[str]) -> list[str]:
        """Nodes in the order in which a shard tries them, each beginning with another."""
        first = place % len(nodes) if nodes else 0
        return [*nodes[first:], *nodes[:first]]

    def _seeing(self, paths: Sequence[str], nodes: Iterable[str]) -> dict[str, list[str]]:
        """The nodes that see each path, in a fixed order; a node that does not tell sees none."""

        def seen(
            paths: Sequence[str],
        ) -> list[bool]:  # sent by value: a node need not load the program for it
            import os

            return [os.path.exists(path) for path in paths]

        look = self._ray.remote(seen)
        asked = {node: look.options(**self._on(node)).remote(list(paths)) for node in nodes}
        end = time.monotonic() + self._open_timeout
        waiting = list(asked.values())
        while waiting and not self._closed.is_set() and (left := end - time.monotonic()) > 0:
            _, waiting = self._ray.wait(waiting, num_returns=len(waiting), timeout=min(left, _LOOKS))
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

    def _living(self) -> dict[str, int]:
        """The nodes that work is for, sorted, and their processors: those that have some, if any has."""
        alive = {
            node["NodeID"]: node["Resources"].get("CPU", 0) for node in self._ray.nodes() if node["Alive"]
        }
        workers = {node: cpus for node, cpus in alive.items() if cpus > 0}
        return {node: max(1, int(cpus)) for node, cpus in sorted((workers or alive).items())}

    def _actor(self, node: str, living: dict[str, int]) -> Any:
        if node not in self._actors:
            holder = self._ray.remote(Holder).options(**self._on(node))
            self._actors[node] = holder.remote(self._check, self._threads or living[node])
        return self._actors[node]

    def _on(self, node: str) -> dict[str, Any]:
        """Where Ray is to run something: on this node and no other, beside whatever runs there."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}

    def _gathered(self, asked: dict[str, Any], timeout: float) -> list[tuple[str, Any, Reason | None]]:
        """Node, answer and None; or node, None and the reason why there is no answer.

        What a shard itself raises (a wrong argument) is raised; a lost actor or node is a reason.
        """
        found: list[tuple[str, Any, Reason | None]] = []
        end = time.monotonic() + timeout
        for node, reference in asked.items():
            try:
                found.append((node, self._got(reference, end), None))
            except self._ray.exceptions.GetTimeoutError:
                found.append((node, None, Reason(f"no answer within {timeout:.0f} s")))
            except self._ray.exceptions.RayTaskError as error:
                raise (error.cause if isinstance(error.cause, Exception) else error) from None
            except self._ray.exceptions.RayError as error:
                lines = str(error).strip().splitlines()
                reason = lines[0] if lines else type(error).__name__
                found.append((node, None, Reason(f"its holder was lost ({reason})")))
        return found

    def _got(self, reference: Any, end: float) -> Any:
        """An answer that comes before ``end``, and before the holders are closed."""
        while True:
            try:
                return self._ray.get(reference, timeout=min(max(0.0, end - time.monotonic()), _LOOKS))
            except self._ray.exceptions.GetTimeoutError:
                if self._closed.is_set() or time.monotonic() >= end:
                    raise

    def _named(self, place: int, reason: str) -> str:
        path = self._shards[place].path
        return str(reason) if path in reason else f"{path}: {reason}"

    def _hold(self, place: int, node: str, actor: Any) -> bool:
        """A node has opened a shard; False where its actor was dropped meanwhile."""
        with self._lock:
            if self._actors.get(node) is not actor:
                return False
            nodes = self._nodes.setdefault(place, [])
            if node not in nodes:  # a question and a copy may both have opened it there
                nodes.append(node)
            return True

    def _lose(self, place: int, node: str) -> None:
        with self._lock:
            self._lost_on.setdefault(place, set()).add(node)
            left = [one for one in self._nodes.get(place, ()) if one != node]
            self._nodes.pop(place, None)
            if left:
                self._nodes[place] = left
                self._short.add(place)

    def _drop(self, node: str, actor: Any) -> None:
        """End what holds the shards of a node; another thread may have been faster."""
        with self._lock:
            if self._actors.get(node) is not actor:
                return
            self._ray.kill(self._actors.pop(node))
            for place in [place for place, nodes in self._nodes.items() if node in nodes]:
                self._lose(place, node)
