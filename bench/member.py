"""One member of the pool as a process of its own; settings from LEMO_ variables.

It begins at the first line of its input and ends with it; between, it answers each line with the seconds of CPU that it
has used since. What the flows import is imported before, as the loops of bench.loops do.
"""

from __future__ import annotations

import sys
import time

import aiokafka  # noqa: F401
import clickhouse_connect  # noqa: F401

from ray_app import config, wiring

if __name__ == "__main__":
    settings = config.load()
    engine = wiring.engine(settings)
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.process_time()
    engine.start()
    while sys.stdin.readline():
        print(time.process_time() - began, flush=True)
    engine.stop()
