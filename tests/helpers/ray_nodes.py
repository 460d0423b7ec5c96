"""A cluster of Ray on this machine, for tests: nodes that come and go, and the processes of its actors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

__all__ = ["cluster", "nodes", "workers_of"]

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A node without processors, to which this process belongs, and two for work; a test may remove and add some."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Beside other tests on two cores: Ray's own workers would get what those leave (nice 15), and the process
        # that a client has in the cluster 30 s to load Ray.
        patch.setenv("RAY_worker_niceness", "0")
        patch.setenv("RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S", "120")
        from ray.cluster_utils import Cluster

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        head = {**NODE, "num_cpus": 0, "include_dashboard": False, "ray_client_server_port": port}
        found = Cluster(initialize_head=True, head_node_args=head)
        found.client_address = f"ray://127.0.0.1:{port}"
        try:
            yield found
        finally:
            found.shutdown()


@pytest.fixture
def nodes(cluster: Any) -> Iterator[Any]:
    """Adds and removes nodes; none of them is left behind the test."""
    added: list[Any] = []

    class Nodes:
        address = cluster.address
        client_address = cluster.client_address

        def add(self, n: int) -> list[Any]:
            new = [_started(cluster) for _ in range(n)]
            added.extend(new)
            return new

        def remove(self, node: Any) -> None:
            added.remove(node)
            cluster.remove_node(node, allow_graceful=False)

    yield Nodes()
    for node in added:
        cluster.remove_node(node)


def _started(cluster: Any) -> Any:
    """A new node. Ray gives it 30 s, which two cores beside other tests may not have: then another is tried."""
    for left in reversed(range(3)):
        try:
            return cluster.add_node(wait=True, **NODE)
        except Exception as error:
            if not left or "timed out during startup" not in str(error):
                raise
    raise AssertionError


def workers_of(name: str) -> list[int]:
    """Processes of actors of the clusters that this process started, by the name of their class."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                title = (folder / "cmdline").read_bytes().decode(errors="replace")
                if title.startswith("ray::") and name in title and _is_ours(int(folder.name)):
                    found.append(int(folder.name))
            except OSError:  # it has ended
                continue
    return found


def _is_ours(number: int) -> bool:
    """Whether a process descends from this one."""
    while number > 1 and number != os.getpid():
        number = int(Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[1])
    return number == os.getpid()
