"""Structured logs: one JSON object a line, with the request and the tenant that it belongs to."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import Any

import orjson

request_id: ContextVar[str] = ContextVar("request_id", default="")
tenant: ContextVar[str] = ContextVar("tenant", default="")

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": int(record.created * 1000),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": request_id.get(),
            "tenant": tenant.get(),
            **{k: v for k, v in record.__dict__.items() if k not in _STANDARD and not k.startswith("_")},
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return _json({k: v for k, v in line.items() if v != ""})


def _json(line: dict[str, Any]) -> str:
    try:
        return orjson.dumps(line, default=str).decode()
    except TypeError:  # a lone surrogate, a number beyond 64 bits, a key that is no text: everything as text
        texts = {k: str(v).encode(errors="backslashreplace").decode() for k, v in line.items()}
        return orjson.dumps(texts).decode()


def start(level: str) -> None:
    """Send the logs of `ray_app` to standard error; a second call changes only the level.

    To the one that the process began with: in a replica Serve puts another in its place, whose lines wait in memory
    until there are a thousand, and are lost with it.
    """
    logger = logging.getLogger("ray_app")
    logger.setLevel(level)
    if not any(isinstance(h.formatter, JsonLines) for h in logger.handlers):
        out = logging.StreamHandler(sys.__stderr__)
        out.setFormatter(JsonLines())
        logger.addHandler(out)
        logger.propagate = False
