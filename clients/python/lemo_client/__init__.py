"""Python client of Lemo.

errors   what a call raises
retry    which calls are sent again, and when
calls    every call: its path, body and query
operators  calls that need an operator's key
client   Lemo and AsyncLemo
tasks    the result of a task, as it comes
"""

from lemo_client.calls import part
from lemo_client.client import AsyncLemo, Lemo
from lemo_client.errors import LemoError, Refused, TaskFailed, TaskTimeout, Unreachable
from lemo_client.retry import Retries
from lemo_client.tasks import AsyncTaskResult, TaskResult

__all__ = [
    "AsyncLemo", "AsyncTaskResult", "Lemo", "LemoError", "Refused", "Retries", "TaskFailed", "TaskResult",
    "TaskTimeout", "Unreachable", "part",
]  # fmt: skip
