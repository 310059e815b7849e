"""Versions of the installed packages that an answer depends on."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType

__all__ = ["software_versions"]

_PACKAGES = (
    "tandem-kits",
    "arch",
    "highdicom",
    "monai",
    "numpy",
    "peft",
    "pydicom",
    "sktime",
    "torch",
    "transformers",
)


@cache
def software_versions() -> Mapping[str, str]:
    """Returns the version of each package of interest that is installed, by name."""
    found: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return MappingProxyType(found)
