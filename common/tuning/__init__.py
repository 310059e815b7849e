"""The tuning workflow: a Trainer for small adapters and for whole models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.tuning.trainer import Trainer

__all__ = ["Trainer"]


def __getattr__(name: str) -> Any:
    """Loads Trainer when it is first asked for, so that importing the package is light."""
    if name == "Trainer":
        from common.tuning.trainer import Trainer

        return Trainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
