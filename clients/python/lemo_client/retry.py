"""Which calls are sent again, and when."""

from __future__ import annotations

import random
from dataclasses import dataclass

import httpx

from lemo_client.calls import Call

AGAIN = (429, 503)  # nothing of the call was taken
NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Retries:
    """`times` after the first. The k-th pause is `first_s` * 2**(k-1), at most `most_s`, drawn between half and all of
    it; never shorter than the server's Retry-After, which counts up to `most_s`."""

    times: int = 3
    first_s: float = 0.2
    most_s: float = 10.0

    def after_answer(self, answer: httpx.Response, tries: int) -> float | None:
        """Seconds until the next try, after `tries` of them; None: there is none."""
        if answer.status_code not in AGAIN or tries > self.times:
            return None
        told = answer.headers.get("retry-after", "")
        return max(self._pause(tries), min(self.most_s, float(told)) if told.isdigit() else 0.0)

    def after_error(self, call: Call, error: httpx.TransportError, tries: int) -> float | None:
        """A call that may have been taken is sent again only where a second one has no other effect than the first."""
        if tries > self.times or not (call.safe or isinstance(error, NEVER_SENT)):
            return None
        return self._pause(tries)

    def _pause(self, tries: int) -> float:
        whole = min(self.most_s, self.first_s * 2.0 ** (tries - 1))
        return whole * random.uniform(0.5, 1.0)
