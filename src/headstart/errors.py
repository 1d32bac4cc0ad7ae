"""Every error that a person or a client sees, in one tree. `api.app` maps the tree to HTTP, in one place.

HeadstartError
├── StartError                what the operator gave is wrong: the command ends with this one message
└── RequestError              one request fails, in OpenAI's error shape; the next one is served
    ├── InvalidRequest        400
    │   ├── UnsupportedFeature    what OpenAI has and this engine doesn't
    │   └── ContextLengthExceeded
    ├── Unauthenticated       401
    ├── Forbidden             403
    ├── NotFound              404
    ├── BodyTooLarge          413
    ├── Overloaded            429, with Retry-After
    ├── RateLimited           429, with the rate-limit headers
    │   └── QuotaExceeded
    ├── EngineFailed          500
    └── StoreFailed           503
"""

from __future__ import annotations


class HeadstartError(Exception):
    """The root of the tree."""


class StartError(HeadstartError):
    """A configuration, model or key file that can't be used. The message says what to do."""


class RequestError(HeadstartError):
    """A request that fails. `param` is the JSON path of what was wrong, as `input[0].content`, or None."""

    status = 400
    type = "invalid_request_error"
    default_code: str | None = None

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code if code is not None else self.default_code


class InvalidRequest(RequestError):
    """The request says something that isn't valid."""


class UnsupportedFeature(InvalidRequest):
    """OpenAI's API has it and this engine doesn't; the message says what works instead, where something does."""

    default_code = "unsupported_parameter"


class ContextLengthExceeded(InvalidRequest):
    """The prompt doesn't fit the model's context."""

    default_code = "context_length_exceeded"


class Unauthenticated(RequestError):
    """No key, or one that isn't known."""

    status = 401
    default_code = "invalid_api_key"


class Forbidden(RequestError):
    """A key that is known, and may not do this."""

    status = 403
    default_code = "insufficient_permissions"


class NotFound(RequestError):
    """An unknown model, path or object."""

    status = 404
    default_code = "not_found"


class BodyTooLarge(RequestError):
    """A body above the configured limit; it is not read to its end."""

    status = 413
    default_code = "request_too_large"


class Overloaded(RequestError):
    """The waiting queue is full. `retry_after` is in whole seconds."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(RequestError):
    """The key's tokens of this minute are used. `headers` go with the answer."""

    status = 429
    type = "tokens"
    default_code = "rate_limit_exceeded"

    def __init__(self, message: str, *, headers: dict[str, str]) -> None:
        super().__init__(message)
        self.headers = headers


class QuotaExceeded(RateLimited):
    """The key's dollars of this day are spent."""

    type = "insufficient_quota"
    default_code = "insufficient_quota"


class EngineFailed(RequestError):
    """The engine failed while it computed this request; it recovered and serves the next one."""

    status = 500
    type = "server_error"
    default_code = "server_error"


class StoreFailed(RequestError):
    """A database can't be read or written right now; nothing was changed. `what` is in it."""

    status = 503
    type = "server_error"
    default_code = "server_error"

    def __init__(self, reason: str, what: str = "Stored responses") -> None:
        super().__init__(f"{what} can't be reached: {reason}. Please try again later.")
