"""What a program is told where it gets no text, in the shape and with the status that OpenAI's clients expect."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response

from engine.errors import EngineError, InvalidRequest, PromptTooLong

PREFIX = "/v1/"
"""How the paths of the endpoint begin."""

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

    Attributes:
        status: Of HTTP.
        param: The field that is to blame, if one is.
        code: More exactly what it is, for programs; None is what the status says.
        after: Seconds after which it may be tried again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.after = status, param, code, after

    @property
    def body(self) -> dict[str, Any]:
        """As JSON has it."""
        kind, code = _KINDS.get(self.status, ("invalid_request_error", None))
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code or code}}

    def response(self, close: bool = False) -> Response:
        """The answer; with `close`, nothing more of a body is read."""
        headers = {"Connection": "close"} if close else {}
        if self.after is not None:
            headers["Retry-After"] = str(min(_LONGEST_WAIT, max(1, math.ceil(self.after))))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return JSONResponse(self.body, self.status, headers)


@contextmanager
def blamed(param: str) -> Iterator[None]:
    """What the engine finds wrong inside is the fault of a field."""
    try:
        yield
    except InvalidRequest as error:
        code = "context_length_exceeded" if isinstance(error, PromptTooLong) else None  # by which clients know it
        raise Refusal(400, str(error), param, code) from None


class Words(Protocol):
    """Makes the answer that says why not."""

    def __call__(self, status: int, text: str, close: bool = False) -> Response:
        """With `close`, nothing more of a body is read."""
        ...


def refused(status: int, text: str, close: bool = False) -> Response:
    """`Words` for programs."""
    return Refusal(status, text).response(close)
