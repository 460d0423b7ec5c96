"""Shards held by actors of Ray, each on a node that sees its files; what a lost node held is opened on another."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from typing import Any

from ..errors import InputError
from .hedging import Pace
from .holders import Answers
from .placement import Placement, Reason

__all__ = ["RayHolders"]

_ROUNDS = 3
"""How often a question is asked whose holder is lost while it answers."""


class RayHolders(Placement):
    """See :class:`dshc.cluster.holders.Holders`. One actor per node holds all of its shards: a question is a message to
    each node, and not to each shard. May be asked by several threads.

    Args:
        address: see :class:`dshc.cluster.Connection`.
        check: whether checksums are compared when a shard is opened.
        threads: shards that a node asks at a time; None: as many as Ray has processors there.
        open_timeout, timeout: seconds that a node has to open its shards, and to answer; then others are tried.
        copies: nodes that hold each shard, as far as so many see it.
        hedge: quantile of the times of the last answers after which a question is asked of the second holder too,
            where there is one; the first answer counts, and the other is dropped. None: never.
    """

    def __init__(
        self,
        address: str,
        *,
        check: bool = False,
        threads: int | None = None,
        open_timeout: float = 120,
        timeout: float = 600,
        copies: int = 1,
        hedge: float | None = None,
    ) -> None:
        self._pace = None if hedge is None else Pace(hedge)
        if hedge is not None and copies == 1:
            raise InputError("copies must be at least 2 where hedge is given, got 1")
        super().__init__(address, check=check, threads=threads, copies=copies, open_timeout=open_timeout)
        self._timeout = timeout
        self._late: list[tuple[Any, str, Any, float]] = []
        self.n_hedged = 0

    def ask(self, method: str, questions: dict[int, tuple[Any, ...]]) -> Answers:
        found = Answers()
        left = set(questions)
        self._look_after_late_ones()
        for _ in range(_ROUNDS):
            with self._lock:
                if absent := sorted(left - set(self._nodes)):
                    unplaced = self._place(absent).missing
                    found.missing.update(unplaced)
                    left -= set(unplaced)
            self._round(method, questions, left, found)
            if not left:
                break
        for place in left:
            found.missing.setdefault(
                place, f"{self._shards[place].path}: its holder was lost again and again"
            )
        self._copy_again()
        return found

    def _round(
        self, method: str, questions: dict[int, tuple[Any, ...]], left: set[int], found: Answers
    ) -> None:
        """Ask for what is left once, and once more of another holder what is late; what is answered is left no more."""
        kind = (method, len(questions), _size_of(questions))
        start = time.monotonic()
        end = start + self._timeout
        twice = math.inf if self._pace is None else start + self._pace.after(kind)
        pending = self._asked(method, questions, self._by_node(left))
        # Without a pace to be measured all are waited for at once.
        one_by_one = self._pace is not None
        while left and pending:
            until = min(end, twice)
            ready, _ = self._ray.wait(
                list(pending),
                num_returns=1 if one_by_one else len(pending),
                timeout=max(0.0, until - time.monotonic()),
            )
            for reference in ready:
                node, actor, places = pending.pop(reference)
                self._take(reference, node, actor, places, left, found)
                if self._pace is not None:
                    self._pace.told(kind, time.monotonic() - start)
            if time.monotonic() >= end:
                break
            if time.monotonic() >= twice:
                twice = math.inf
                late = {place for _, _, places in pending.values() for place in places if place in left}
                asked = {node for node, _, _ in pending.values()}
                more = self._asked(method, questions, self._by_node(late, without=asked))
                self.n_hedged += len(more)
                pending.update(more)
        for reference, (node, actor, places) in pending.items():
            if self._pace is not None:
                self._pace.told(kind, time.monotonic() - start)
            if left.intersection(places):
                reason = Reason(f"no answer within {self._timeout:.0f} s")
                found.missing.update(
                    {place: self._named(place, reason) for place in left.intersection(places)}
                )
                self._drop(node, actor)
            else:  # another was faster; this one is looked after, and its answer is not
                with self._lock:
                    self._late.append((reference, node, actor, end))

    def _asked(
        self, method: str, questions: dict[int, tuple[Any, ...]], parts: dict[str, list[int]]
    ) -> dict[Any, tuple[str, Any, list[int]]]:
        """Ask nodes for their parts; by the reference of the answer who was asked for which shards."""
        asked = {}
        with self._lock:
            for node, places in parts.items():
                actor = self._actors[node]
                reference = actor.ask.remote(method, {place: questions[place] for place in places})
                asked[reference] = node, actor, places
        return asked

    def _take(
        self, reference: Any, node: str, actor: Any, places: list[int], left: set[int], found: Answers
    ) -> None:
        ((_, answer, reason),) = self._gathered({node: reference}, 0)
        if reason is not None:
            answer = dict.fromkeys(places, reason)
            self._drop(node, actor)
        for place, own in answer.items():
            if place not in left:
                continue
            if isinstance(own, Reason):
                found.missing[place] = self._named(place, own)
                self._lose(place, node)
            else:
                found[place] = own
                found.missing.pop(place, None)
                left.discard(place)

    def _look_after_late_ones(self) -> None:
        """Forget answers that have come too late; drop a holder that gives none at all."""
        if not self._late:
            return
        with self._lock:
            ready, _ = self._ray.wait(
                [late[0] for late in self._late], num_returns=len(self._late), timeout=0
            )
            done, now = set(ready), time.monotonic()
            waiting = [late for late in self._late if late[0] not in done]
            self._late = [late for late in waiting if late[3] > now]
            for _, node, actor, end in waiting:
                if end <= now:
                    self._drop(node, actor)

    def _by_node(self, places: Iterable[int], without: Collection[str] = ()) -> dict[str, list[int]]:
        """The shards that each node is asked for: of the holders of each the first that owes no answer, if any."""
        found: dict[str, list[int]] = {}
        with self._lock:
            owing = {node for _, node, _, _ in self._late}
            for place in sorted(places):
                nodes = [node for node in self._nodes.get(place, ()) if node not in without]
                if nodes:  # else its node was lost while others were opened
                    found.setdefault(
                        next((node for node in nodes if node not in owing), nodes[0]), []
                    ).append(place)
        return found


def _size_of(questions: dict[int, tuple[Any, ...]]) -> int:
    """Between which powers of two the length lies of what is asked: longer questions take longer."""
    first = next(iter(questions.values()), ((),))[0]
    return len(first).bit_length() if hasattr(first, "__len__") else 0
