"""Holders that are lost, and copies that are made, where the moment counts; nodes are those of a Ray of this process.

tests/services has the same with nodes that are lost indeed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as LateError
from types import SimpleNamespace
from typing import Any

import pytest
from shard_cases import Shards, make_shards

import dshc.cluster.placement as placement
from dshc.cluster import RayHolders
from dshc.cluster.shard_list import read_shards


class RayError(Exception):
    pass


class GetTimeoutError(RayError):
    pass


class RayTaskError(RayError):
    cause = None


class Actor:
    """One thread that works off its messages, and answers none once it is killed."""

    def __init__(self, ray: FakeRay, node: str, held: Any) -> None:
        self._ray, self.node, self._held = ray, node, held
        self._pool, self._owed = ThreadPoolExecutor(1), []
        self.is_killed = False

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._told(name, arguments))

    def _told(self, name: str, arguments: tuple[Any, ...]) -> Future[Any]:
        answer: Future[Any] = Future()
        if self.is_killed:
            answer.set_exception(RayError("killed"))
            return answer
        self._owed.append(answer)

        def work() -> None:
            try:
                self._ray.before(self.node, name)
                found = getattr(self._held, name)(*arguments)
            except Exception as error:
                found = error
            if not answer.done():
                answer.set_result(found)

        self._pool.submit(work)
        return answer

    def kill(self) -> None:
        self.is_killed = True
        for answer in self._owed:
            if not answer.done():
                answer.set_exception(RayError("killed"))


class FakeRay:
    """As much of Ray as holders use, on nodes a, b and c."""

    def __init__(self) -> None:
        self.exceptions = SimpleNamespace(
            RayError=RayError, GetTimeoutError=GetTimeoutError, RayTaskError=RayTaskError
        )
        self.before: Callable[[str, str], None] = lambda node, method: None

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": node, "Alive": True, "Resources": {"CPU": 1}} for node in "abc"]

    def remote(self, what: Any) -> Any:
        def of(node: str) -> Any:
            if isinstance(what, type):
                return SimpleNamespace(remote=lambda *arguments: Actor(self, node, what(*arguments)))

            def done(*arguments: Any) -> Future[Any]:
                answer: Future[Any] = Future()
                answer.set_result(what(*arguments))
                return answer

            return SimpleNamespace(remote=done)

        return SimpleNamespace(options=lambda node: of(node))

    def get(self, answer: Future[Any], timeout: float) -> Any:
        try:
            return answer.result(timeout)
        except LateError:
            raise GetTimeoutError from None

    def wait(self, answers: list[Any], *, num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        done, left = wait(answers, timeout)
        return list(done), list(left)

    def kill(self, actor: Actor) -> None:
        actor.kill()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    made = FakeRay()
    connection = SimpleNamespace(ray=made, close=lambda: None)
    monkeypatch.setattr(placement, "Connection", lambda address: connection)
    monkeypatch.setattr(RayHolders, "_on", lambda self, node: {"node": node})
    return made


@pytest.fixture
def shards(tmp_path: Any) -> Shards:
    return make_shards(tmp_path, n_shards=2)


@pytest.fixture
def holders(ray: FakeRay, shards: Shards) -> Iterator[RayHolders]:
    made = RayHolders("fake", copies=2, open_timeout=20, timeout=20)
    assert not made.open(read_shards(shards.paths)).missing
    yield made
    made.close()


def ask(holders: RayHolders, shards: Shards) -> None:
    """Both shards are asked, and answer."""
    question = shards.queries.codes, 5, "hamming", None
    found = holders.ask("topk", dict.fromkeys(range(2), question))
    assert set(found) == {0, 1} and not found.missing


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_holder_is_dropped_as_it_is_about_to_be_asked(holders: RayHolders, shards: Shards) -> None:
    """By another thread, between its choice and the question."""
    chosen = holders._by_node
    droppers: list[threading.Thread] = []

    def choose(*arguments: Any) -> dict[str, list[int]]:
        parts = chosen(*arguments)
        if not droppers:
            node = next(iter(parts))
            droppers.append(threading.Thread(target=holders._drop, args=(node, holders._actors[node])))
            droppers[0].start()
            droppers[0].join(0.3)
        return parts

    holders._by_node = choose
    ask(holders, shards)
    droppers[0].join(10)
    assert not droppers[0].is_alive()


def test_no_question_waits_for_a_copy(ray: FakeRay, holders: RayHolders, shards: Shards) -> None:
    assert holders.holders() == {0: ("a", "b"), 1: ("b", "c")}
    goes_on = threading.Event()
    opening: list[str] = []

    def before(node: str, method: str) -> None:
        if method == "open":
            opening.append(node)
            goes_on.wait(20)

    ray.before = before
    holders._drop("a", holders._actors["a"])
    for _ in range(3):
        ask(holders, shards)  # of shard 0 only b is left, and c is opening it
    until(lambda: opening == ["c"])
    assert holders.holders() == {0: ("b",), 1: ("b", "c")}
    ask(holders, shards)
    goes_on.set()
    until(lambda: holders.holders() == {0: ("b", "c"), 1: ("b", "c")})
    until(lambda: holders._copier is None)
    assert opening == ["c"]


def test_a_copy_ends_when_the_holders_are_closed(ray: FakeRay, holders: RayHolders, shards: Shards) -> None:
    goes_on = threading.Event()
    ray.before = lambda node, method: goes_on.wait(20) if method == "open" else None
    holders._drop("a", holders._actors["a"])
    ask(holders, shards)
    copier = holders._copier
    assert copier is not None and copier.is_alive()
    start = time.monotonic()
    holders.close()
    assert time.monotonic() - start < 4 and not copier.is_alive()
    goes_on.set()
    assert holders.holders() == {} and not holders._actors


def test_a_node_is_lost_as_it_opens_a_copy(ray: FakeRay, holders: RayHolders, shards: Shards) -> None:
    """What it says too late is not believed."""
    opened, goes_on = threading.Event(), threading.Event()
    gathered = holders._gathered

    def late(asked: dict[str, Any], timeout: float) -> Any:
        found = gathered(asked, timeout)
        if asked and threading.current_thread() is holders._copier:
            opened.set()
            goes_on.wait(20)
        return found

    holders._gathered = late
    holders._drop("a", holders._actors["a"])
    ask(holders, shards)
    assert opened.wait(20)
    holders._drop("c", holders._actors["c"])
    goes_on.set()
    until(lambda: holders._copier is None)
    assert holders.holders() == {0: ("b",), 1: ("b", "a")}, "1 was held by c, and is copied in its turn"
    ask(holders, shards)
