"""The settings of one process, read from the environment (prefix TANDEM_)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from common.errors import SettingsError

__all__ = ["Settings", "load_settings"]


class Settings(BaseSettings):
    """What can be set without touching code: TANDEM_HOME, TANDEM_DATA, TANDEM_HUB, ..."""

    model_config = SettingsConfigDict(env_prefix="TANDEM_", frozen=True, extra="ignore")

    home: Path = Field(
        default_factory=lambda: Path.home() / ".tandem",
        description="Folder of keys, sessions, journal, audit log and result cache.",
    )
    data: Path | None = Field(
        default=None, description="Folder of the open data sets, for training and benchmarks."
    )
    hub: Literal["offline", "online"] = Field(
        default="offline",
        description="Whether a base model that is absent may be downloaded from a model hub.",
    )
    cache: Literal["on", "off"] = Field(
        default="on",
        description="Whether the server keeps results; off where no input comes twice.",
    )
    cache_bytes: int = Field(
        default=1 << 30, ge=1 << 20, description="Upper size of the result cache in bytes."
    )
    cache_url: SecretStr | None = Field(
        default=None,
        description="URL of a Redis (redis:// or rediss://) for results that servers share.",
    )
    engine: Literal["local", "ray"] = Field(
        default="local", description="Where models run: threads of this process, or Ray."
    )
    workers: int = Field(default=4, ge=1, description="Model calls that run at a time.")
    queue: int = Field(
        default=64, ge=0, description="Model calls that may wait; more are refused at once."
    )
    ray_address: str | None = Field(
        default=None,
        description="Host and port of a Ray cluster's head; without it Ray is started here.",
    )
    ray_replicas: int = Field(
        default=2, ge=1, description="Replicas for each placement: model calls at a time there."
    )
    ray_models: int = Field(
        default=4, ge=1, description="Most models open in one replica; the least used goes first."
    )
    ray_cpus: float = Field(
        default=1.0, ge=0, description="Cores of a replica; its models use as many threads."
    )
    ray_gpus: float = Field(default=0.0, ge=0, description="GPUs of a replica.")
    ray_placements: dict[str, dict[str, float]] = Field(
        default_factory=dict,
        description="What other models need, by name, as JSON: cpus, gpus, custom resources.",
    )
    batch: int = Field(
        default=32,
        ge=1,
        description="Most waiting tasks that one call of a network takes together; 1: each alone.",
    )
    host: str = Field(default="127.0.0.1", description="Address that `tandem serve` listens on.")
    port: int = Field(
        default=8080, ge=0, le=65535, description="Port for HTTP; 0 draws a free one."
    )
    grpc_port: int = Field(
        default=8081, ge=0, le=65535, description="Port for gRPC; 0 draws a free one."
    )
    tls_certificate: Path | None = Field(
        default=None, description="Certificate chain in PEM; with it both ports speak TLS alone."
    )
    tls_key: Path | None = Field(default=None, description="Private key of that certificate, PEM.")
    tls_client_ca: Path | None = Field(
        default=None, description="Authorities in PEM; clients then need a certificate of theirs."
    )
    rate_per_s: float = Field(
        default=200.0, gt=0, description="Requests a second of one API key, twice that at once."
    )
    body_bytes: int = Field(
        default=64 << 20, ge=1, description="Largest request body in bytes of one API key."
    )
    request_timeout_s: float = Field(
        default=60.0, gt=0, description="Longest time for one request; a caller may ask for less."
    )
    connections: int = Field(
        default=1024, ge=1, description="Open HTTP connections; more are answered 503."
    )
    drain_notice_s: float = Field(
        default=2.0,
        ge=0,
        description="After SIGTERM: how long new requests get 503 before the ports are closed.",
    )
    drain_s: float = Field(
        default=30.0, gt=0, description="After SIGTERM: how long open requests may take to finish."
    )
    session_days: float = Field(
        default=30.0, gt=0, description="Sessions unchanged for longer are erased."
    )
    journal_days: float = Field(
        default=90.0, gt=0, description="Ended transactions older than this are erased."
    )
    cache_days: float = Field(default=30.0, gt=0, description="Results older than this are erased.")


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
