"""Generate the Python of `proto/lemo/v1` into `ray_app/serving/grpc/lemo/v1`; every make target runs it once."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "ray_app" / "serving" / "grpc"
PACKAGE = "ray_app.serving.grpc.lemo.v1"


def main() -> int:
    import grpc_tools
    from grpc_tools import protoc

    files = sorted((HERE / "lemo" / "v1").glob("*.proto"))
    include = Path(grpc_tools.__file__).parent / "_proto"
    line = ["protoc", f"-I{HERE}", f"-I{include}", f"--python_out={OUT}", f"--pyi_out={OUT}"]
    line += [f"--grpc_python_out={OUT}", *map(str, files)]
    if code := protoc.main(line):
        return int(code)
    for made in (OUT / "lemo" / "v1").glob("*_pb2*.py*"):
        text = re.sub(r"^from lemo\.v1 import", f"from {PACKAGE} import", made.read_text(), flags=re.M)
        # Messages are pickled by the name of their module, so it must be the one that can be imported.
        made.write_text(text.replace("(DESCRIPTOR, 'lemo.v1.", f"(DESCRIPTOR, '{PACKAGE}."))
    return 0


if __name__ == "__main__":
    sys.exit(main())
