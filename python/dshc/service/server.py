"""The process of a service: listens, logs as JSON, and ends in order when it is told to."""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import socket
import threading
import warnings
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

# Of Pillow nothing: it may say hundreds of things of a damaged image, and who sends one shall not fill the log.
_LOGGERS = {"": JsonHandler, "uvicorn.error": JsonHandler, "PIL": lambda _: logging.NullHandler()}
_BACKLOG = 2048  # uvicorn's own
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
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=int(settings.max_seconds) + 1,
    )
    server = _Server(config)
    listener = _listener(settings)
    for name, handler in _LOGGERS.items():
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler(log)], False
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log("listening", address=f"http://{shown}:{port}/", index=served.name, keys=len(keys))
    for remark in served.remarks:
        log("remark", message=remark)
    # What is there by now stays; looking through all of it for garbage would hold up requests by 0.1 s now and then.
    gc.collect()
    gc.freeze()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.showwarning = lambda message, category, *_: log("warning", message=str(message))
        server.run(sockets=[listener])
    log("ended")


def _listener(settings: ServiceSettings) -> socket.socket:
    """A socket that listens. It says that it is TCP: then asyncio has answers sent without delay (TCP_NODELAY)."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise InputError(
            f"--host must be an address of this machine, got {settings.host!r} ({error})"
        ) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)  # from now on clients wait, and are not refused
    except OSError as error:
        listener.close()
        raise InputError(
            f"--host and --port must be free to listen at, got {settings.host}:{settings.port} ({error.strerror})"
        ) from None
    return listener


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
