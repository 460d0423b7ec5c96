"""The process of a service: listens, logs as JSON, and ends in order when it is told to."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from types import FrameType

from ..errors import InputError, install
from .app import create_app
from .served import Served
from .settings import ServiceSettings, check_address
from .watch import JsonHandler, JsonLog

try:
    import uvicorn
except ImportError as error:
    raise ImportError(f"dshc serve needs {error.name}; {install('serve')}") from None

__all__ = ["serve"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(
    served: Served,
    settings: ServiceSettings | None = None,
    keys: Sequence[str] = (),
    *,
    log: JsonLog | None = None,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C: what runs is finished, new connections are refused, then this returns.

    Raises :class:`InputError` for a public address without keys, and where the address cannot be listened at.
    """
    settings, log = settings or ServiceSettings(), log or JsonLog()
    check_address(settings, tuple(keys))
    app = create_app(served, settings, keys, log=log)
    logger = logging.getLogger("uvicorn.error")
    logger.handlers, logger.propagate = [JsonHandler(log)], False
    config = uvicorn.Config(
        app,
        host=settings.host.strip("[]"),
        port=settings.port,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=int(settings.max_seconds) + 1,
    )
    server = _Server(config)
    try:
        sockets = [config.bind_socket()]
    except SystemExit:
        raise InputError(
            f"--host and --port must be free to listen at, {settings.host}:{settings.port} is not"
        ) from None
    host, port = sockets[0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log("listening", address=f"http://{shown}:{port}/", index=served.name, keys=len(keys))
    for remark in served.remarks:
        log("remark", message=remark)
    server.run(sockets=sockets)
    log("ended")


class _Server(uvicorn.Server):
    """Ends with exit code 0 when it was told to end; uvicorn's own would end by the signal it was told by."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        app = self.config.app
        app.state.service.is_ready = False  # type: ignore[union-attr]
        super().handle_exit(sig, frame)
