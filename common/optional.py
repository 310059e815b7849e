"""Import optional packages, or say which extra brings them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from common.errors import MissingExtraError

__all__ = ["require"]


def require(module: str, *, extra: str) -> ModuleType:
    """Imports `module`, which the extra `extra` of tandem-kits brings.

    Args:
        module: Dotted module name.
        extra: Name of the extra in pyproject.toml.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: The package, or one that it needs, is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"package {module}",
            expected="it to be installed",
            found=f"no module named {error.name}",
            remedy=f"Install it with: pip install 'tandem-kits[{extra}]'.",
        ) from error
