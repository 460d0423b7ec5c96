"""What a service answers where it cannot do what it was asked: a status and a message."""

from __future__ import annotations

from starlette.exceptions import HTTPException

__all__ = ["Problem"]


class Problem(HTTPException):
    """Ends a request with ``status`` and the JSON ``{"error": {"code": ..., "message": ...}}``.

    ``code`` is a word for programs, the message is for people; ``retry_after`` in seconds, where to come again helps.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        if status == 401:
            headers["www-authenticate"] = "Bearer"
        super().__init__(status, message, headers)
        self.status, self.code, self.message = status, code, message
