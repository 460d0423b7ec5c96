"""Shards held by actors of Ray, each on a node that sees its files; what a lost node held is opened on another."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .hedging import Pace
from .holder_actor import Reason
from .holders import Answers
from .merging import Merge, Together
from .placement import Placement

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

    def ask(self, method: str, questions: dict[int, tuple[Any, ...]], merge: Merge | None = None) -> Answers:
        found = Answers()
        left = set(questions)
        self._look_after_late_ones()
        for _ in range(_ROUNDS):
            with self._lock:
                if absent := sorted(left - set(self._nodes)):
                    unplaced = self._place(absent).missing
                    found.missing.update(unplaced)
                    left -= set(unplaced)
            self._round(_Asking(method, questions, merge), left, found)
            if not left:
                break
        for place in left:
            found.missing.setdefault(
                place, f"{self._shards[place].path}: its holder was lost again and again"
            )
        self._copy_again()
        return found

    def _round(self, asking: _Asking, left: set[int], found: Answers) -> None:
        """Ask for what is left once, and once more of another holder what is late; what is answered is left no more."""
        start = time.monotonic()
        end = start + self._timeout
        twice = math.inf if self._pace is None else start + self._pace.after(asking.kind)
        pending = self._asked(asking, left)
        hedged: set[int] = set()
        while left and pending and (now := time.monotonic()) < end:
            if now >= twice:
                late = {place for _, _, places in pending.values() for place in places if place in left}
                busy = {node for node, _, _ in pending.values()}
                more = self._asked(asking, late - hedged, without=busy)
                hedged.update(place for _, _, places in more.values() for place in places)
                self.n_hedged += len(more)
                pending.update(more)
            ready, _ = self._ray.wait(
                list(pending),
                # Where no pace is measured all are waited for at once.
                num_returns=len(pending) if self._pace is None else 1,
                timeout=max(0.0, (twice if now < twice < end else end) - now),
            )
            for reference in ready:
                node, actor, places = pending.pop(reference)
                self._take(reference, node, actor, places, left, found)
                self._tell_pace(asking, start)
        for reference, (node, actor, places) in pending.items():
            self._tell_pace(asking, start)
            if owed := left.intersection(places):
                reason = Reason(f"no answer within {self._timeout:.0f} s")
                found.missing.update({place: self._named(place, reason) for place in owed})
                self._drop(node, actor)
            else:  # another was faster; this one is looked after, and its answer is not
                with self._lock:
                    self._late.append((reference, node, actor, end))

    def _tell_pace(self, asking: _Asking, start: float) -> None:
        if self._pace is not None:
            self._pace.told(asking.kind, time.monotonic() - start)

    def _asked(
        self, asking: _Asking, left: Iterable[int], without: Collection[str] = ()
    ) -> dict[Any, tuple[str, Any, list[int]]]:
        """Ask nodes for what is left; by the reference of the answer who was asked for which shards."""
        asked = {}
        with self._lock:  # as long as this is held, a node that holds a shard has its actor
            for node, places in self._by_node(left, without).items():
                actor = self._actors[node]
                merge = None if asking.merge is None else asking.merge.of(places)
                questions = {place: asking.questions[place] for place in places}
                asked[actor.ask.remote(asking.method, questions, merge)] = node, actor, places
        return asked

    def _take(
        self, reference: Any, node: str, actor: Any, places: list[int], left: set[int], found: Answers
    ) -> None:
        """What a holder has answered, as far as nobody else has."""
        ((_, answer, reason),) = self._gathered({node: reference}, self._timeout)
        if reason is not None:
            answer = dict.fromkeys(places, reason)
            self._drop(node, actor)
        for place, own in answer.items():
            of = own.places if isinstance(own, Together) else (place,)
            if not left.issuperset(of):
                continue
            if isinstance(own, Reason):
                found.missing[place] = self._named(place, own)
                self._lose(place, node)
                continue
            found[place] = own.answer if isinstance(own, Together) else own
            for one in of:
                found.missing.pop(one, None)
            left.difference_update(of)

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

    def _by_node(self, places: Iterable[int], without: Collection[str]) -> dict[str, list[int]]:
        """The shards that each node is asked for: of the holders of each the first that owes no answer, if any."""
        found: dict[str, list[int]] = {}
        owing = {node for _, node, _, _ in self._late}
        for place in sorted(places):
            nodes = [node for node in self._nodes.get(place, ()) if node not in without]
            if nodes:  # else its node was lost while others were opened
                found.setdefault(next((node for node in nodes if node not in owing), nodes[0]), []).append(
                    place
                )
        return found


@dataclass(frozen=True)
class _Asking:
    """A question to all shards: the method of the shard, its arguments by their places, how answers are merged."""

    method: str
    questions: dict[int, tuple[Any, ...]]
    merge: Merge | None

    @property
    def kind(self) -> tuple[str, int, int]:
        """Questions of one kind take about as long: of so many shards, and between two powers of two as large."""
        first = next(iter(self.questions.values()), ((),))[0]
        size = len(first).bit_length() if hasattr(first, "__len__") else 0
        return self.method, len(self.questions), size
