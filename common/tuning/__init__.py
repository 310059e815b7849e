"""The tuning workflow: a Trainer for small adapters and for whole models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.tuning.trainer import Trainer
    from common.tuning.tuned import load_tuned

__all__ = ["Trainer", "load_tuned"]


def __getattr__(name: str) -> Any:
    """Loads a name when it is first asked for, so that importing the package is light."""
    if name == "Trainer":
        from common.tuning.trainer import Trainer

        return Trainer
    if name == "load_tuned":
        from common.tuning.tuned import load_tuned

        return load_tuned
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
