"""Searches that are answered together: the same answers as alone, in one search where they fit each other."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served_indexes import N_ITEMS, asked, names_of, random_codes

import dshc
from dshc.service import batches as module
from dshc.service.batches import Batches, Job, answered
from dshc.service.conditions import Condition

CONDITIONS = (
    Condition(),
    Condition(label=("cat",)),
    Condition(where="year >= 2010"),
    Condition(ids=tuple(names_of(N_ITEMS)[:30])),
)


@pytest.fixture(scope="module")
def index(codes_index) -> Any:
    with dshc.HashIndex.open(codes_index, read_only=True) as opened:
        yield opened


def alone(index: Any, job: Job) -> list[list[dict[str, Any]]]:
    """The obvious way: each query by itself."""
    answers = []
    for code in job.queries:
        found = index.search(code[None], min(job.k, len(index)), **job.condition.arguments(index.layout))
        there = [id is not None for id in found.ids[0]]
        answers.append(
            [
                {
                    "id": id,
                    "distance": distance,
                    **({"code": index.get([id]).codes.tobytes().hex()} if job.details else {}),
                }
                for id, distance in zip(
                    found.ids[0][there].tolist(), found.distances[0][there].tolist(), strict=True
                )
            ]
        )
    return answers


jobs = st.lists(
    st.builds(
        lambda seed, n, k, condition, details: Job(
            random_codes(n, 29, seed), k, CONDITIONS[condition], frozenset({"code"} if details else ())
        ),
        st.integers(0, 99),
        st.integers(1, 4),
        st.integers(1, 40),
        st.integers(0, len(CONDITIONS) - 1),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(jobs)
def test_a_job_gets_what_it_would_get_alone(index, jobs: list[Job]) -> None:
    kinds: dict[Any, list[Job]] = {}
    for job in jobs:
        kinds.setdefault(job.kind, []).append(job)
    for together in kinds.values():
        assert answered(index, together) == [alone(index, job) for job in together]


@given(jobs, st.sampled_from([0.0, 0.002]), st.integers(1, 9))
def test_jobs_that_come_at_once(index, jobs: list[Job], seconds: float, most: int) -> None:
    async def run() -> list[Any]:
        batches = Batches(lambda: index, seconds=seconds, most=most)
        batches.start()
        try:
            return await asyncio.gather(*(batches.search(job) for job in jobs))
        finally:
            await batches.stop()

    assert asyncio.run(run()) == [alone(index, job) for job in jobs]


def searched(monkeypatch: pytest.MonkeyPatch) -> tuple[list[list[Job]], threading.Event]:
    """The jobs of every search; the first one waits for the event."""
    seen: list[list[Job]] = []
    go = threading.Event()

    def wait(index: Any, jobs: list[Job]) -> Any:
        seen.append(jobs)
        if len(seen) == 1:
            go.wait(10)
        return answered(index, jobs)

    monkeypatch.setattr(module, "answered", wait)
    return seen, go


def job(k: int = 10, n: int = 1, condition: Condition = CONDITIONS[0]) -> Job:
    return Job(random_codes(n, 29), k, condition)


def run_behind_one(index: Any, go: threading.Event, waiting: list[Job], most: int = 256) -> None:
    """Answers ``waiting``, which arrive while a search runs."""

    async def run() -> None:
        batches = Batches(lambda: index, most=most)
        batches.start()
        first = asyncio.create_task(batches.search(job()))
        await asyncio.sleep(0.05)
        rest = [asyncio.create_task(batches.search(one)) for one in waiting]
        await asyncio.sleep(0.05)
        go.set()
        await asyncio.gather(first, *rest)
        await batches.stop()

    asyncio.run(run())


def test_what_waits_is_searched_together(index, monkeypatch) -> None:
    seen, go = searched(monkeypatch)
    waiting = [job(9), job(16), job(10), job(3), job(4), job(10, condition=CONDITIONS[1])]
    run_behind_one(index, go, waiting)
    assert seen[1:] == [[waiting[0], waiting[1], waiting[2]], [waiting[3], waiting[4]], [waiting[5]]]


def test_a_search_has_so_many_queries_at_most_and_none_waits_for_ever(index, monkeypatch) -> None:
    seen, go = searched(monkeypatch)
    waiting = [job(n=3), job(n=3), job(n=9), job(n=1), job(3)]
    run_behind_one(index, go, waiting, most=6)
    assert seen[1:] == [waiting[:2], [waiting[4]], [waiting[2]], [waiting[3]]]


def test_a_job_that_nobody_waits_for_is_not_begun(index, monkeypatch) -> None:
    seen, go = searched(monkeypatch)

    async def run() -> None:
        batches = Batches(lambda: index)
        batches.start()
        first = asyncio.create_task(batches.search(job()))
        await asyncio.sleep(0.05)
        left = asyncio.create_task(batches.search(job(3)))
        last = asyncio.create_task(batches.search(job(300)))
        await asyncio.sleep(0.05)
        left.cancel()
        go.set()
        await asyncio.gather(first, last)
        await batches.stop()

    asyncio.run(run())
    assert [jobs[0].k for jobs in seen] == [10, 300]


def test_an_error_is_that_of_its_jobs_alone(index) -> None:
    async def run() -> list[Any]:
        batches = Batches(lambda: index)
        batches.start()
        wrong = Condition(label=("gnu",))
        tasks = [batches.search(one) for one in (job(), job(condition=wrong), job())]
        found = await asyncio.gather(*tasks, return_exceptions=True)
        await batches.stop()
        return found

    first, wrong, last = asyncio.run(run())
    assert first == last and len(first[0]) == 10
    assert isinstance(wrong, ValueError) and "label must be one of" in str(wrong)


def test_a_stop_leaves_nobody_waiting(index, monkeypatch) -> None:
    _, go = searched(monkeypatch)

    async def run() -> list[Any]:
        batches = Batches(lambda: index)
        batches.start()
        tasks = [asyncio.create_task(batches.search(job(k))) for k in (10, 100)]
        await asyncio.sleep(0.05)
        go.set()
        await batches.stop()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)

    assert len(asyncio.run(run())) == 2


def test_many_clients_at_once(client, index) -> None:
    """Over HTTP: each gets its own."""
    names = names_of(N_ITEMS)

    def ask(i: int) -> None:
        given = names[i : i + 1 + i % 3]
        k = 1 + i % 30
        found = asked(client, ids=given, k=k)
        right = index.search(index.get(given).codes, k)
        for row, result in enumerate(found["results"]):
            assert [item["id"] for item in result["items"]] == right.ids[row].tolist()
            assert [item["distance"] for item in result["items"]] == right.distances[row].tolist()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(120)))


def test_numbers_of_results_of_one_kind() -> None:
    kinds = [Job(np.zeros((1, 4), np.uint8), k).kind[1] for k in (1, 2, 3, 4, 5, 8, 9, 16, 17)]
    assert kinds == [0, 1, 2, 2, 3, 3, 4, 4, 5]
