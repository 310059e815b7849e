"""Fixtures that the whole test tree shares."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.settings import load_settings


@pytest.fixture(scope="session")
def tandem_data() -> Path:
    """The folder of open data sets, or a skip with the reason."""
    folder = os.environ.get("TANDEM_DATA")
    default = Path(__file__).parents[2] / "shared" / "data"
    path = Path(folder) if folder else default
    if not path.is_dir():
        pytest.skip("open data sets are absent: set TANDEM_DATA to their folder")
    return path


@pytest.fixture(scope="session")
def debian_tool() -> Callable[[str], str]:
    """Finds a Debian tool: absent, its tests skip with the reason; under CI they fail."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None and "CI" in os.environ:
            pytest.fail(f"{name} is not installed, and continuous integration needs it")
        if path is None:
            pytest.skip(
                f"{name} is not installed (Debian: dicom3tools, dcmtk, chromium, redis-server)"
            )
        return path

    return find


@pytest.fixture(scope="session", autouse=True)
def tandem_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the test run's own."""
    home = tmp_path_factory.mktemp("tandem-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANDEM_HOME", str(home))
        load_settings.cache_clear()
        yield home
    load_settings.cache_clear()
