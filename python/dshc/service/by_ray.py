"""``dshc serve --cluster``: the service as a deployment of Ray Serve, over shards that the nodes hold.

Ray Serve's proxy listens on the head node and hands requests on to one replica, wherever Ray puts it; there runs the
same application as without a cluster, gate included. A replica that is lost is started again on another node.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from ..cluster import Connection
from ..errors import InputError, install
from .app import create_app
from .batches import Job
from .served_shards import ServedShards, ShardBatches
from .settings import ServiceSettings, check_address
from .watch import JsonLog

__all__ = ["serve_by_ray"]

_NAME = "dshc"
_CONTROLLER = {"name": "SERVE_CONTROLLER_ACTOR", "namespace": "serve"}  # Ray Serve's own
_SPARE = 64
"""Requests beyond ``max_concurrency`` that reach the gate, which refuses them, and is asked for health."""
_LOOKS = 5.0
"""Seconds between two looks at how the deployment does."""


def import_serve() -> Any:
    """Ray Serve, or an ``ImportError`` that says how to install it."""
    try:
        from ray import serve
    except ImportError as error:
        raise ImportError(
            f"serving by a cluster needs Ray Serve ({error.name}); {install('cluster')}"
        ) from None
    return serve


def serve_by_ray(
    address: str,
    opened: dict[str, Any],
    settings: ServiceSettings | None = None,
    keys: Sequence[str] = (),
    *,
    log: JsonLog | None = None,
) -> None:
    """Answer requests by a cluster until SIGTERM or Ctrl-C: what runs is finished, then all that was started ends.

    Args:
        address: of the cluster, see :class:`dshc.cluster.Connection`.
        opened: what :meth:`ServedShards.open` is told beside the address.
        settings, keys: see :func:`dshc.service.serve`; ``host`` and ``port`` are the head node's.
        log: of this process; requests are logged by the replica, in Ray's files.

    Raises :class:`InputError` for a public address without keys, for what cannot be served, and where Ray Serve runs in
    the cluster already; ``ConnectionError`` and ``ImportError`` as :class:`dshc.cluster.Connection` does.
    """
    settings, log = settings or ServiceSettings(), log or JsonLog()
    check_address(settings, tuple(keys))
    connection = Connection(address)
    try:
        serve = import_serve()
        _check_free(connection.ray)
        # Here first: what cannot be opened is said by name, before anything is deployed.
        ServedShards.open("auto", **opened).close()
        port = settings.port or _free_port(settings.host)
        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        with _told_to_end() as ended:
            is_there = True
            try:
                _deploy(serve, opened, settings.replaced(port=port), tuple(keys), log, ended)
                is_there = _watch(serve, ended, log)
            finally:
                if is_there:  # else all that was started is gone with the cluster
                    # Ray says on stdout that questions to what has ended are not answered.
                    with contextlib.redirect_stdout(io.StringIO()):
                        _end(serve)
                        connection.close()
        if not is_there:
            raise ConnectionError(f"{address}: the cluster does not answer any more")
    finally:
        connection.close()
    log("ended")


def _deploy(
    serve: Any,
    opened: dict[str, Any],
    settings: ServiceSettings,
    keys: tuple[str, ...],
    log: JsonLog,
    ended: threading.Event,
) -> None:
    """Until it is ready, or told to end."""
    shown = f"[{settings.host}]" if ":" in settings.host.strip("[]") else settings.host
    place = f"{shown}:{settings.port}"
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": settings.host.strip("[]"), "port": settings.port},
            logging_config={"log_level": "ERROR", "enable_access_log": False},
        )
    except Exception as error:
        told = _said(str(error)) or _line(error)
        raise InputError(
            f"--host and --port must be free to listen at on the head node, got {place} ({told})"
        ) from None
    log("listening", address=f"http://{place}/", index=opened["path"].name, keys=len(keys))
    deployment = serve.deployment(
        serve.ingress(_application)(_Replica),
        name=_NAME,
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=max(settings.max_concurrency + _SPARE, settings.batch_queries),
        health_check_period_s=1,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=settings.max_seconds + 1,
        logging_config={"log_level": "ERROR", "enable_access_log": False},
    )
    try:
        handle = serve.run(deployment.bind(opened, settings, keys), name=_NAME, route_prefix="/")
        reasons = {""}
        while True:
            items, reason = handle.n_ready.remote().result()
            if reason not in reasons:
                reasons.add(reason)
                log("not ready", error=reason)
            if items is not None or ended.wait(0.05):
                break
        handle.shutdown()
    except Exception as error:
        raise InputError(f"the service must start on a node of the cluster: {_cause(serve, error)}") from None
    if items is not None:
        log("ready", index=opened["path"].name, items=items)


class _Replica:
    """The application and what it serves, on the node that answers requests."""

    def __init__(self, opened: dict[str, Any], settings: ServiceSettings, keys: tuple[str, ...]) -> None:
        self._served = ServedShards.open("auto", **opened, max_seconds=settings.max_seconds)
        application = create_app(self._served, settings, keys, batches=ServeBatches)
        self._service = application.state.service
        _APPLICATION.append(application)

    async def n_ready(self) -> tuple[int | None, str]:
        """The number of items, once the service is ready; and why it is not yet, where something has failed."""
        n_items = len(self._served.index) if self._service.is_ready else None
        return n_items, self._service.not_ready

    def __del__(self) -> None:
        self._served.close()


_APPLICATION: list[Any] = []
"""Of the replica that runs in this process: Ray Serve asks for it by a function without arguments."""


def _application() -> Any:
    return _APPLICATION[-1]


class ServeBatches(ShardBatches):
    """Searches put together by Ray Serve (``serve.batch``): those that arrive within ``seconds`` of the first.

    Of what has come together, jobs of one kind are answered at a time, as many queries as are searched at a time.
    """

    def start(self) -> None:
        serve = import_serve()

        @serve.batch(max_batch_size=self._most, batch_wait_timeout_s=self._seconds)
        async def together(jobs: list[Job]) -> list[Any]:
            for job in jobs:
                job.answer = asyncio.get_running_loop().create_future()
                self._waiting.setdefault(job.kind, []).append(job)
            while self._waiting:
                if taken := self._take():
                    await self._answer(taken)
            return [_outcome(job) for job in jobs]

        self._together = together

    async def search(self, job: Job) -> list[list[dict[str, Any]]]:
        found = await self._together(job)
        if isinstance(found, BaseException):
            raise found
        return found


def _outcome(job: Job) -> Any:
    """An answer, or the exception instead of it: of jobs of several kinds one may fail and the others not."""
    assert job.answer is not None
    if job.answer.cancelled():
        return asyncio.CancelledError()
    return job.answer.exception() or job.answer.result()


def _watch(serve: Any, ended: threading.Event, log: JsonLog) -> bool:
    """Until it is told to end; how the deployment does is logged where it changes. False: the cluster is gone."""
    before = "RUNNING"
    while not ended.wait(_LOOKS):
        try:
            state = str(serve.status().applications[_NAME].status.value)
        except Exception as error:
            log("cluster lost", error=_line(error))
            return False
        if state != before:
            log("state", deployment=state.lower())
            before = state
    return True


def _end(serve: Any) -> None:
    """What runs is finished; then the deployment ends, and Ray Serve."""
    try:
        if _NAME in serve.status().applications:
            serve.delete(_NAME)
    finally:
        serve.shutdown()


@contextlib.contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """Set by SIGTERM and Ctrl-C, in the main thread."""
    ended = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield ended
        return
    before = {
        number: signal.signal(number, lambda *_: ended.set()) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_free(ray: Any) -> None:
    try:
        ray.get_actor(**_CONTROLLER)
    except ValueError:
        return
    raise InputError(
        "the cluster must run no Ray Serve yet, it runs one, with an address of its own; serve shutdown ends it"
    )


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
        free.bind((host.strip("[]"), 0))
        return int(free.getsockname()[1])


def _cause(serve: Any, error: BaseException) -> str:
    """What a replica said that did not start."""
    texts = [str(error)]
    try:
        application = serve.status().applications[_NAME]
        texts += [application.message, *(one.message for one in application.deployments.values())]
    except Exception:  # the controller is gone: what was raised is all there is
        pass
    return next(filter(None, map(_said, texts)), "") or _line(error)


def _said(text: str) -> str:
    """What the exception said at the end of a traceback that Ray hands on as text; empty: there is none."""
    for line in reversed(text.splitlines()):
        name, colon, message = line.strip().partition(": ")
        if colon and name.rpartition(".")[2].endswith("Error") and "ray::" not in line:
            return message
    return ""


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
