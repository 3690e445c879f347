"""One member of the streams engine as a process of its own: settings from a file (JSON), or from LEMO_ variables.

It begins when it reads a line and ends when its input ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ray_app import config, wiring

if __name__ == "__main__":
    given = config.Settings.model_validate_json(Path(sys.argv[1]).read_text()) if sys.argv[1:] else config.load()
    engine = wiring.engine(given)
    sys.stdin.readline()
    engine.start()
    sys.stdin.read()
    engine.stop()
