"""The routing engine: which model answers which part of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.routing.router import ModelRouter

__all__ = ["ModelRouter"]


def __getattr__(name: str) -> Any:
    """Loads ModelRouter when it is first asked for, so that importing the package is light."""
    if name == "ModelRouter":
        from common.routing.router import ModelRouter

        return ModelRouter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
