"""Results kept by exact content."""

from __future__ import annotations

from common.routing.cache.result_cache import ResultCache

__all__ = ["ResultCache"]
