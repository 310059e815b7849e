"""The medical kit's models, as data."""

from __future__ import annotations

from pathlib import Path

__all__ = ["NODULE_NETWORK", "NODULE_NETWORK_FOLDER"]

NODULE_NETWORK = "nodule-net"
NODULE_NETWORK_FOLDER = Path(__file__).parent / "weights" / NODULE_NETWORK
