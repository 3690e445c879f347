"""One member of the streams engine as a process of its own: settings from LEMO_ variables.

It begins when it reads a line and ends when its input ends.
"""

from __future__ import annotations

import sys

from ray_app import config, wiring

if __name__ == "__main__":
    engine = wiring.engine(config.load())
    sys.stdin.readline()
    engine.start()
    sys.stdin.read()
    engine.stop()
