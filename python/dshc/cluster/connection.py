"""The connection to a Ray cluster, refused in seconds where nobody answers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import warnings
from typing import Any

from ..errors import InputError, install

__all__ = ["Connection", "import_ray"]

_REACHED = 3.0
"""Seconds that a machine has to accept a connection."""
_ANSWERED = 30.0
"""Seconds that a cluster has to let a process in; loading Ray and torch on a busy machine is most of it."""
_QUIET = {"log_to_driver": False, "logging_level": "ERROR"}
_CLIENT = "ray://"
# Where no cluster answers, Ray tries for more than a minute and then ends the process that asked: another asks first.
# For Ray's client, which gives up by itself, none does: it would have a second server process started in the cluster.
_PROBE = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False, logging_level='CRITICAL'); print('in')"


def import_ray() -> Any:
    """Ray, or an ``ImportError`` that says how to install it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ImportError(f"a cluster needs Ray; {install('cluster')}") from None
    return ray


class Connection:
    """This process in a cluster, until :meth:`close`.

    ``address``: ``"local"`` starts Ray on this machine, for as long as the connection lasts; ``"auto"`` is the cluster
    that this machine is in; ``"host:port"`` one that this machine belongs to, ``"ray://host:port"`` one that is reached
    by its client server. A process that is in a cluster already (``ray.init``) stays in it, and in no other.

    Raises:
        InputError: an address of another form, or of another cluster than the process is in.
        ConnectionError: nobody answers there.
        ImportError: Ray is not installed.
    """

    def __init__(self, address: str) -> None:
        if not isinstance(address, str):
            raise TypeError(f"address must be a text, got {type(address).__name__}")
        place = _host_and_port(address)
        self.ray = import_ray()
        self._own = not self.ray.is_initialized()
        if not self._own:
            self._check_same(address, place is not None)
            return
        if address == "local":
            self.ray.init(address="local", include_dashboard=False, **_QUIET)
            return
        if place is not None:
            _check_reached(address, *place)
        if not address.startswith(_CLIENT):
            _check_answered(address)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Ray Client connection timed out")  # the error says it
                self.ray.init(address=address, **_QUIET)
        except Exception as error:
            # Ray's client, refused, stays the way in: all later connections of this process would fail by an assertion.
            self.ray.util.client.ray.disconnect()
            raise ConnectionError(
                f"{address}: no Ray cluster lets this process in ({_line(error)})"
            ) from None

    def _check_same(self, address: str, named: bool) -> None:
        """Refuse the address of another cluster than the process is in."""
        own = self.ray.get_runtime_context().gcs_address
        client = address.startswith(_CLIENT) and self.ray.util.client.ray.is_connected()
        if named and address != own and not client:
            raise InputError(
                f"address must be 'auto' or that of the cluster that this process is in, {own}, got {address!r}"
            )

    def close(self) -> None:
        """Leave the cluster, if the process was not in it before."""
        if self._own and self.ray.is_initialized():
            self.ray.shutdown()


def _host_and_port(address: str) -> tuple[str, int] | None:
    if address in ("local", "auto"):
        return None
    host, colon, port = address.removeprefix(_CLIENT).rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) < 1 << 16:
        raise InputError(f"address must be auto, local, HOST:PORT or ray://HOST:PORT, got {address!r}")
    return host.strip("[]"), int(port)


def _check_reached(address: str, host: str, port: int) -> None:
    try:
        socket.create_connection((host, port), timeout=_REACHED).close()
    except OSError as error:
        raise ConnectionError(
            f"{address}: must be the address of a Ray cluster, nobody answers there ({error.strerror or error})"
        ) from None


def _check_answered(address: str) -> None:
    """Let another process try it, which is ended where it takes too long."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, address],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ANSWERED,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ConnectionError(
            f"{address}: must be the address of a Ray cluster, what listens there does not answer as one within "
            f"{_ANSWERED:.0f} s"
        ) from None
    if "in" not in done.stdout.split():
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise ConnectionError(
            f"{address}: no Ray cluster lets this process in ({lines[-1].strip() if lines else 'no reason given'})"
        )


def _line(error: BaseException) -> str:
    """What an error says; of another machine's traceback, its end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}"
