"""What the model card is written from: the files beside the weights, and recorded benchmarks.

Nothing is computed here and nothing invented: a file that is absent leaves its tables out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import StoreError
from kits.finance.tasks import ADAPTER_FOLDER

__all__ = ["AdapterEvidence", "CardEvidence", "leaves", "read_evidence"]

_RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"  # in a checkout alone
_SHORT_LIST = 12


@dataclass(frozen=True)
class AdapterEvidence:
    """One folder of weights.

    Args:
        name: Of the folder.
        metrics: metrics.json: what its training measured.
        linkage: linkage.json: the coefficients fitted with it; None where there is none.
    """

    name: str
    metrics: Mapping[str, Any]
    linkage: Mapping[str, Any] | None


@dataclass(frozen=True)
class CardEvidence:
    """Everything that the card shows.

    Args:
        adapters: By name.
        benchmarks: Recorded results of the finance benchmarks, by name.
    """

    adapters: tuple[AdapterEvidence, ...]
    benchmarks: tuple[Mapping[str, Any], ...]


def read_evidence(
    *, weights: Path = ADAPTER_FOLDER.parent, results: Path = _RESULTS
) -> CardEvidence:
    """Reads the evidence.

    Args:
        weights: The folder of the adapters' folders.
        results: The folder of recorded benchmarks.

    Raises:
        StoreError: A file is no JSON object.
    """
    adapters = []
    for path in sorted(weights.glob("*/metrics.json")):
        linkage = path.with_name("linkage.json")
        coefficients = _read(linkage) if linkage.is_file() else None
        adapters.append(AdapterEvidence(path.parent.name, _read(path), coefficients))
    benchmarks = [_read(path) for path in sorted(results.glob("finance.*.json"))]
    return CardEvidence(tuple(adapters), tuple(benchmarks))


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values of nested JSON objects with their names; long lists are left out."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{name}.{key}" if name else str(key))
    elif not isinstance(value, list) or len(value) <= _SHORT_LIST:
        yield name, value


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(path, f"a file that is none ({type(error).__name__})") from error
    if not isinstance(found, dict):
        raise _unusable(path, "another JSON value")
    return found


def _unusable(path: Path, found: str) -> StoreError:
    return StoreError(
        f"{path.parent.name}/{path.name}",
        expected="a JSON object",
        found=found,
        remedy="Restore the file, or write it again by the command that its folder names.",
    )
