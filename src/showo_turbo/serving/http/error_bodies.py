"""Errors in the shape of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`, without traces."""

import logging
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from showo_turbo.errors import InputError
from showo_turbo.serving.submissions import DrainingError, QueueFullError

logger = logging.getLogger(__name__)

_PARAM = re.compile(r"(\w+)\b")

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}


class ApiError(Exception):
    """Report an error to a client.

    Attributes:
        status: HTTP status.
        message: what is wrong and what to choose.
        param: field of the request that is wrong.
        code: short name of the error.
        headers: further headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        param: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, Any]:
        """Body of the response."""
        kind = _TYPES.get(self.status, "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class ClientGoneError(Exception):
    """Report that a client has closed its connection."""


def invalid(param: str | None, message: str) -> ApiError:
    """Return the error of a value that a client can mend."""
    return ApiError(400, message, "invalid_value", param)


def to_api_error(error: BaseException, params: Collection[str] = ()) -> ApiError:
    """Return what a client is told about an error; unexpected ones are logged, and the client learns no details.

    Args:
        error: the error.
        params: fields of the request; the message of an `InputError` starts with the one that is wrong.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InputError):
        named = _PARAM.match(str(error))
        param = named[1] if named and named[1] in params else None
        return invalid(param, str(error))
    if isinstance(error, QueueFullError):
        return ApiError(429, str(error), "queue_full", headers={"Retry-After": str(error.retry_after)})
    if isinstance(error, DrainingError):
        return ApiError(503, str(error), "draining", headers={"Retry-After": "5"})
    if isinstance(error, TimeoutError):
        return ApiError(504, "the request took longer than the server's request timeout: ask for less", "timeout")
    logger.error("a request failed", exc_info=error)
    return ApiError(500, "the request failed: the server's log has the reason", "internal_error")


@contextmanager
def as_api_errors(params: Collection[str]) -> Iterator[None]:
    """Turn errors of the block into those that a client is told; `params` are the fields of the request."""
    try:
        yield
    except ClientGoneError:
        raise
    except Exception as error:
        raise to_api_error(error, params) from None
