"""Prints the Python module of link.proto, as protoc makes it.

Run with: python tests/reference/link_protocol.py > common/protocol/messages/link_pb2.py
(grpcio-tools must be installed, in the version of constraints.txt).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROTO = "common/protocol/messages/link.proto"


def generated() -> str:
    """Returns the text of the module."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        status = protoc.main(["protoc", f"-I{ROOT}", f"--python_out={folder}", PROTO])
        if status != 0:
            raise SystemExit(status)
        return (Path(folder) / PROTO).with_name("link_pb2.py").read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(generated())
