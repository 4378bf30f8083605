"""Refusals of requests, in one form: OpenAI's clients read its `error`, gradio's page its `detail`."""

from __future__ import annotations

import math

from starlette.responses import JSONResponse, Response

from engine.errors import EngineError

PREFIX = "/v1/"
"""The endpoint's paths begin with it."""

_KINDS = {
    401: ("authentication_error", "invalid_api_key"),
    404: ("invalid_request_error", "not_found"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("server_error", "unavailable"),
}
_LONGEST_WAIT = 600  # seconds


class Refusal(EngineError):
    """A request that is not served.

    Args:
        status: Of HTTP.
        message: For people.
        param: The field that is to blame, if one is.
        code: For programs; None takes the status's own.
        after: Seconds after which it may be tried again.
        close: Whether the connection ends, so that nothing more of the body is read.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        after: float | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        kind, own_code = _KINDS.get(status, ("invalid_request_error", None))
        self.status = status
        error = {"message": message, "type": kind, "param": param, "code": code or own_code}
        self.body = {"error": error, "detail": message}
        self.headers = {"Connection": "close"} if close else {}
        if after is not None:
            self.headers["Retry-After"] = str(min(_LONGEST_WAIT, max(1, math.ceil(after))))
        if status == 401:
            self.headers["WWW-Authenticate"] = "Bearer"

    def response(self) -> Response:
        return JSONResponse(self.body, self.status, self.headers)
