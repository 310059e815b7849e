"""Settings come from TANDEM_ variables and faults are named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import SettingsError
from common.settings import load_settings


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    load_settings.cache_clear()
    yield
    load_settings.cache_clear()


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TANDEM_HOME", str(tmp_path))
    assert load_settings().home == tmp_path


def test_the_hub_is_off_unless_switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TANDEM_HUB", raising=False)
    assert load_settings().hub == "offline"


def test_every_unusable_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_HUB", "maybe")
    monkeypatch.setenv("TANDEM_CACHE_BYTES", "7")
    with pytest.raises(SettingsError, match=r"TANDEM_HUB.*TANDEM_CACHE_BYTES"):
        load_settings()
