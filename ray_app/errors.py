"""One tree of errors. Each says what happened, the value, what is allowed, and the next step."""

from __future__ import annotations


class LemoError(Exception):
    """Base: `status` for HTTP, `code` the gRPC status name, `reason` a constant that clients match on."""

    status = 500
    code = "INTERNAL"
    reason = "INTERNAL"

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata


class InvalidField(LemoError):
    """A field holds a value that is not allowed."""

    status, code, reason = 400, "INVALID_ARGUMENT", "INVALID_FIELD"

    def __init__(self, field: str, value: object, allowed: str) -> None:
        shown = _text(value).encode(errors="backslashreplace").decode()  # a lone surrogate could not be sent
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        super().__init__(f"{field} is {shown!r}; allowed: {allowed}", field=field, value=shown, allowed=allowed)
        self.field, self.allowed = field, allowed


def _text(value: object) -> str:
    try:
        return str(value)
    except RecursionError:  # JSON may be nested deeper than Python writes it
        return "a value that is nested too deeply"


class OtherEpoch(LemoError):
    """A version's rows no longer mean the items that they meant when it was made."""

    status, code, reason = 409, "ABORTED", "OTHER_EPOCH"

    def __init__(self, name: str, id: str, epoch: str, live: str) -> None:
        super().__init__(
            f"{name} {id} has the rows of epoch {epoch}; a compaction has numbered them anew since, and only "
            f"versions of epoch {live} can serve. Make another: run the job that makes {name}",
            field="version", value=id, allowed=f"a version of row epoch {live}",
        )  # fmt: skip


class InvalidBody(LemoError):
    """The body as a whole cannot be read."""

    status, code, reason = 400, "INVALID_ARGUMENT", "INVALID_BODY"


class BodyTooLarge(LemoError):
    """A body or message is larger than the limit."""

    status, code, reason = 413, "RESOURCE_EXHAUSTED", "BODY_TOO_LARGE"

    def __init__(self, most: int) -> None:
        super().__init__(f"the body is larger than {most} bytes. Send it in parts", allowed=f"{most} bytes")


class Unauthenticated(LemoError):
    """No key was sent, or one that nobody has."""

    status, code, reason = 401, "UNAUTHENTICATED", "UNAUTHENTICATED"


class Forbidden(LemoError):
    """The key is known, and may not do this."""

    status, code, reason = 403, "PERMISSION_DENIED", "FORBIDDEN"


class NotFound(LemoError):
    """What the call names is not there."""

    status, code, reason = 404, "NOT_FOUND", "NOT_FOUND"


class UnknownScenario(NotFound):
    """The tenant has no scenario of this name; the message lists those that it has."""

    reason = "UNKNOWN_SCENARIO"

    def __init__(self, scenario: str, tenant: str, known: list[str]) -> None:
        shown = scenario if len(scenario) <= 80 else scenario[:77] + "..."
        super().__init__(
            f"scenario {shown!r} is unknown to tenant {tenant!r}. Known: {', '.join(known)}. "
            f"Make one: PUT /api/v1/scenarios/{shown}",
            field="scenario", value=shown, allowed=", ".join(known),
        )  # fmt: skip


class Unavailable(LemoError):
    """A part that the call cannot do without is away; nothing was acknowledged."""

    status, code, reason = 503, "UNAVAILABLE", "UNAVAILABLE"

    def __init__(self, message: str, retry_after_s: int = 2, **metadata: str) -> None:
        super().__init__(message, retry_after_s=str(retry_after_s), **metadata)
        self.retry_after_s = retry_after_s


class Overloaded(LemoError):
    """As many calls are in hand as the replica takes."""

    status, code, reason = 429, "RESOURCE_EXHAUSTED", "OVERLOADED"


class InvalidSettings(LemoError):
    """The settings cannot be used; raised at start."""

    reason = "INVALID_SETTINGS"


class DataFolderInUse(LemoError):
    """Another cluster holds the data folder."""

    reason = "DATA_FOLDER_IN_USE"


class BrokenArtifact(LemoError):
    """A stored artifact is missing a file or its checksum differs."""

    reason = "BROKEN_ARTIFACT"
