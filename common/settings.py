"""The settings of one process, read from the environment (prefix TANDEM_)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.errors import SettingsError

__all__ = ["Settings", "load_settings"]


class Settings(BaseSettings):
    """What can be set without touching code: TANDEM_HOME, TANDEM_DATA, TANDEM_HUB, ..."""

    model_config = SettingsConfigDict(env_prefix="TANDEM_", frozen=True, extra="ignore")

    home: Path = Field(
        default_factory=lambda: Path.home() / ".tandem",
        description="Folder of the result cache and, later, of registry and journal.",
    )
    data: Path | None = Field(
        default=None, description="Folder of the open data sets, for training and benchmarks."
    )
    hub: Literal["offline", "online"] = Field(
        default="offline",
        description="Whether a base model that is absent may be downloaded from a model hub.",
    )
    cache_bytes: int = Field(
        default=1 << 30, ge=1 << 20, description="Upper size of the result cache in bytes."
    )
    engine: Literal["local", "ray"] = Field(
        default="local", description="Where models run: threads of this process, or Ray."
    )
    workers: int = Field(default=4, ge=1, description="Model calls that run at a time.")
    queue: int = Field(
        default=64, ge=0, description="Model calls that may wait; more are refused at once."
    )


@cache
def load_settings() -> Settings:
    """Returns the settings of this process; the environment is read once.

    Raises:
        SettingsError: A TANDEM_ variable has a value that cannot be used.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = [f"TANDEM_{str(f['loc'][0]).upper()} ({f['msg']})" for f in error.errors()]
        raise SettingsError(
            "settings",
            expected="usable values",
            found="; ".join(faults),
            remedy="Change or unset these variables.",
        ) from None
