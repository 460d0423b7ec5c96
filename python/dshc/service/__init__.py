"""Search in an index over HTTP: a JSON interface with limits, and a page for the browser (``dshc serve``)."""

from .served import Served
from .settings import ServiceSettings, read_keys

__all__ = ["Served", "ServiceSettings", "create_app", "read_keys", "serve"]


def __getattr__(name: str) -> object:
    """What needs the extra ``serve`` is imported when it is asked for."""
    if name == "create_app":
        from .app import create_app

        return create_app
    if name == "serve":
        from .server import serve

        return serve
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
