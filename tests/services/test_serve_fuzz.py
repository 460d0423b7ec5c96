"""``dshc serve`` under requests that nobody would write: none ends in a defect, and memory stays where it is."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import process_memory
import pytest
from hostile_images import hostile
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from served_indexes import index_of_items, index_with_vectors, png, write_pictures
from served_process import ServedProcess, served_process
from small_hashers import items_of

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (extra 'browser')")

from schemathesis import checks  # noqa: E402 - once it is known to be there

pytestmark = pytest.mark.services
SECONDS = 60


@pytest.fixture(scope="module", params=["images", "features"])
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServedProcess]:
    folder = tmp_path_factory.mktemp("served")
    pictures = write_pictures(folder / "pictures")
    # With vectors, so that they are rescored, and ranked by outputs.
    make = index_of_items if request.param == "images" else index_with_vectors
    with served_process(make(folder / "index", request.param), "--images", pictures) as process:
        process.wait_for("ready")
        yield process
        process.end()
        requests = [event for event in process.events if event["event"] == "request"]
        assert {event["status"] for event in requests} >= {200, 404, 422}
        assert not [event for event in process.events if event["event"] == "defect"]
        assert not process.others
        print(collections.Counter((event["path"], event["status"]) for event in requests))


def test_the_interface_is_as_it_is_described(service: ServedProcess) -> None:
    """Every address, with requests that its description allows and with such that it does not."""
    described = schemathesis.openapi.from_url(f"{service.address}/openapi.json")
    n_addresses = 0
    for found in described.get_all_operations():
        operation = found.ok()
        for mode in schemathesis.GenerationMode:

            @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
            @given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: Any) -> None:
                case.call_and_validate(
                    checks=[
                        checks.not_a_server_error,
                        checks.status_code_conformance,
                        checks.content_type_conformance,
                        checks.response_schema_conformance,
                    ]
                )

            with contextlib.suppress(Unsatisfiable):  # an address without parameters allows no wrong ones
                ask()
        n_addresses += 1
    assert n_addresses == 10


@pytest.mark.parametrize("service", ["images"], indirect=True)
def test_a_minute_of_hostile_images_takes_no_memory(service: ServedProcess) -> None:
    rng = np.random.default_rng(0)
    seen: dict[int, int] = {}
    sizes: list[int] = []
    started = time.monotonic()
    with httpx2.Client(base_url=service.address, timeout=60) as client:
        while (elapsed := time.monotonic() - started) < SECONDS:
            files = [("images", (f"{i}", hostile(rng))) for i in range(int(rng.integers(1, 4)))]
            status = client.post("/search/images", files=files, data={"k": "3"}).status_code
            seen[status] = seen.get(status, 0) + 1
            if elapsed > SECONDS / 4:
                sizes.append(process_memory.resident(service.pid))
        good = client.post("/search/images", files={"images": ("a", png(items_of("images", 1)[0]))})
    third = len(sizes) // 3
    growth = np.median(sizes[-third:]) - np.median(sizes[:third])
    print(f"{seen}, resident {np.median(sizes) / 2**20:.0f} MiB, growth {growth / 2**20:+.1f} MiB")
    assert good.status_code == 200
    assert set(seen) <= {200, 422} and len(seen) == 2
    assert growth < 16 << 20
