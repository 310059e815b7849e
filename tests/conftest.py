"""Fixtures that the whole test tree shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tandem_data() -> Path:
    """The folder of open data sets, or a skip with the reason."""
    folder = os.environ.get("TANDEM_DATA")
    default = Path(__file__).parents[2] / "shared" / "data"
    path = Path(folder) if folder else default
    if not path.is_dir():
        pytest.skip("open data sets are absent: set TANDEM_DATA to their folder")
    return path
