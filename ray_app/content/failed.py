"""Why a page or a source could not be had."""

from __future__ import annotations

from ray_app.errors import LemoError


class FetchFailed(LemoError):
    """A page that could not be fetched or read. `again`: another try may help, not before `after_s`. `status_code`: of
    the answer, 0 where there was none."""

    status, code, reason = 502, "UNAVAILABLE", "FETCH_FAILED"

    def __init__(self, message: str, again: bool = False, after_s: float | None = None, status_code: int = 0) -> None:
        super().__init__(message)
        self.again, self.after_s, self.status_code = again, after_s, status_code
