"""What every request passes: who asks, how large and how long it may be, what is logged, headers for browsers."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from .problems import Problem
from .service import Service
from .settings import has_key, is_local

__all__ = ["Gate"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_OPEN = frozenset({"/health", "/ready"})
"""Answered to anybody and under any load: who runs the service asks these."""
_UNDER_LOAD = frozenset({"/metrics"})
"""Answered under any load: it is then that they are wanted."""
_FILES = frozenset({"/", "/page.css", "/page.js", "/icon.svg", "/openapi.json"})
"""The same for every index: no key is needed. The page asks for one."""
_LONGEST_PATH = 200  # characters that are logged

HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class Gate:
    """Stands before the application (ASGI)."""

    def __init__(self, app: Any, service: Service) -> None:
        self._app, self._service = app, service
        self._n_running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        service, started = self._service, perf_counter()
        counts = scope.setdefault("state", {})
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                present = {name for name, _ in message.get("headers", ())}
                more = [(name, value) for name, value in HEADERS if name not in present]
                if b"cache-control" not in present:
                    more.append((b"cache-control", b"no-store"))
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        service.metrics.running.inc()
        try:
            await self._pass(scope, receive, answer)
        except Problem as problem:
            if not status:
                await _say(answer, problem)
        except Exception as error:
            service.log("defect", error=repr(error), traceback=traceback.format_exc())
            if not status:
                await _say(answer, Problem(500, "defect", "the service failed; its log says why"))
        finally:
            service.metrics.running.dec()
            seconds = perf_counter() - started
            route = getattr(scope.get("route"), "path", "other")
            service.metrics.requests.labels(_method(scope), route, str(status)).inc()
            service.metrics.seconds.labels(route).observe(seconds)
            service.log(
                "request",
                method=_method(scope),
                path=scope["path"][:_LONGEST_PATH],
                status=status,  # 0: the client left, or the server ends
                ms=round(seconds * 1000, 2),
                queries=counts.get("queries", 0),
                items=counts.get("items", 0),
            )

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, settings, path = self._service, self._service.settings, scope["path"]
        if path in _OPEN:
            await self._app(scope, receive, send)
            return
        headers = scope["headers"]
        if service.keys:
            if path not in _FILES and not has_key(headers, service.keys):
                raise Problem(
                    401, "no_key", "the request must show an API key, as X-API-Key or a bearer token"
                )
        elif not self._is_our_name(headers):
            raise Problem(
                421, "wrong_host", "the Host header must name this machine; --name allows other names"
            )
        if self._n_running >= settings.max_concurrency and path not in _UNDER_LOAD:
            raise Problem(
                503, "busy", f"{settings.max_concurrency} requests run already, come again", retry_after=1
            )
        body = _Body(receive, settings.max_upload)
        body.check_length(headers)
        self._n_running += 1
        try:
            async with asyncio.timeout(settings.max_seconds):
                await self._app(scope, body.receive, send)
        except TimeoutError:
            if not body.is_whole:
                raise Problem(
                    408, "slow", f"a request must arrive within {settings.max_seconds:g} s"
                ) from None
            raise Problem(504, "late", f"the answer took more than {settings.max_seconds:g} s") from None
        finally:
            self._n_running -= 1

    def _is_our_name(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether a service without keys was asked under a name of its own.

        A page of another site may have its own name point to this machine (DNS rebinding), and would then be answered.
        """
        host = next((value for name, value in headers if name == b"host"), b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] if ":" in host else host
        return is_local(name) or name in map(str.lower, self._service.settings.names)


class _Body:
    """Passes a body on up to a number of bytes."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._most, self._n = receive, most, 0
        self.is_whole = False

    def check_length(self, headers: list[tuple[bytes, bytes]]) -> None:
        for name, value in headers:
            if name == b"content-length" and (not value.isdigit() or int(value[:18]) > self._most):
                raise self._too_large()

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._n += len(message.get("body", b""))
            if self._n > self._most:
                raise self._too_large()
            self.is_whole = not message.get("more_body", False)
        return message

    def _too_large(self) -> Problem:
        return Problem(413, "too_large", f"a request must have at most {self._most} bytes, got more")


def _method(scope: Scope) -> str:
    """Of the known ones: what else a client makes up is no label of a metric."""
    method = scope["method"]
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "other"


async def _say(send: Send, problem: Problem) -> None:
    content = json.dumps({"error": {"code": problem.code, "message": problem.message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    headers += [(name.encode(), value.encode()) for name, value in (problem.headers or {}).items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
