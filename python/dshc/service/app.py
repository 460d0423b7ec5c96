"""The application: addresses, the page, what stands before them. :class:`Service` does the work."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from importlib.resources import files

import dshc_fast

from ..errors import install
from .served import Served
from .settings import ServiceSettings

try:
    import python_multipart  # noqa: F401 - FastAPI asks for it when a form is declared
    from fastapi import FastAPI, Response

    from .batches import Batches
    from .gate import Gate
    from .item_routes import add_items, add_state
    from .replies import tell_errors
    from .search_routes import add_search
    from .service import Service
    from .watch import JsonLog
except ImportError as error:
    raise ImportError(f"dshc serve needs {error.name}; {install('serve')}") from None

__all__ = ["create_app"]

_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_DESCRIPTION = """Exact search in hash codes. By default distances are Hamming distances, or overlaps where the index
ranks by them, and items are sorted by (distance, order in the index); `ranked_by` says which. With an API key, requests
show it as `X-API-Key` or as a bearer token."""


def create_app(
    served: Served,
    settings: ServiceSettings | None = None,
    keys: Sequence[str] = (),
    *,
    log: JsonLog | None = None,
    batches: type[Batches] = Batches,
) -> FastAPI:
    """The application that serves ``served`` (ASGI); its lifespan begins and ends the service's threads.

    ``keys``: of which a request must show one; none: everybody may ask. ``log``: where requests are logged, by default
    on stderr. ``batches``: how searches are put together. The service is ``app.state.service``.
    """
    service = Service(served, settings or ServiceSettings(), keys, log=log, batches=batches)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await service.start()
        try:
            yield
        finally:
            await service.stop()

    app = FastAPI(
        title="dshc serve",
        version=dshc_fast.__version__,
        description=_DESCRIPTION,
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # to a place that the Host header names
        lifespan=lifespan,
    )
    app.state.service = service
    app.add_middleware(Gate, service=service)
    tell_errors(app, service)
    add_search(app, service)
    add_items(app, service)
    add_state(app, service)
    _add_page(app)
    return app


def _add_page(app: FastAPI) -> None:
    folder = files("dshc.service") / "page"
    for address, (name, media_type) in _PAGE.items():
        endpoint = _file((folder / name).read_bytes(), media_type)
        app.add_api_route(
            address, endpoint, include_in_schema=False, methods=["GET", "HEAD"], response_class=Response
        )


def _file(content: bytes, media_type: str) -> Callable[[], Awaitable[Response]]:
    async def file() -> Response:
        return Response(content, media_type=media_type, headers={"cache-control": "no-cache"})

    return file
