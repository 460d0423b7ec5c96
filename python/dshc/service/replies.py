"""How answers and errors are written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from ..cluster import MissingShards
from ..errors import InputError
from .models import Error
from .service import Service

__all__ = ["as_json", "errors", "tell_errors"]


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    texts = {
        400: "the request cannot be read",
        401: "no API key",
        404: "no such item",
        408: "the request arrives too slowly",
        413: "the request is too large",
        421: "asked under the name of another machine",
        422: "the request says what cannot be answered; the message says what must hold",
        503: "too many requests run, or shards cannot be had",
        504: "the answer took too long",
    }
    always = (401, 408, 413, 421, 503, 504)
    return {status: {"model": Error, "description": texts[status]} for status in sorted({*always, *statuses})}


def as_json(content: Any, status: int = 200) -> Response:
    """In ASCII: names that are no UTF-8 may be among them."""
    body = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    return Response(body, status, media_type="application/json")


def tell_errors(app: FastAPI, service: Service) -> None:
    def told(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
        answer = as_json({"error": {"code": code, "message": message}}, status)
        answer.headers.update(headers or {})
        return answer

    @app.exception_handler(InputError)
    async def of_input(_: Request, error: InputError) -> Response:
        return told(422, "wrong_input", service.without_path(str(error)))

    @app.exception_handler(MissingShards)
    async def of_shards(_: Request, error: MissingShards) -> Response:
        return told(503, "shards_missing", service.without_path(str(error)), {"retry-after": "1"})

    @app.exception_handler(RequestValidationError)
    async def of_form(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return told(
            422, "wrong_form", f"{place}: {first['msg']}"
        )  # never what came: it may be large, or a secret

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> Response:
        return told(error.status_code, getattr(error, "code", "http"), str(error.detail), error.headers)
