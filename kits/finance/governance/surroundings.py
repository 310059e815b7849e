"""What an assessment depends on besides its inputs: settings, software, the program's text."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import platform
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from common.versions import software_versions
from kits.finance.governance.archive import file_sha256
from kits.finance.governance.arithmetic import arithmetic_library

__all__ = ["code_digests", "current_settings", "current_software"]

_PACKAGES = ("edgartools", "pandas", "safetensors", "scikit-learn", "scipy", "statsmodels")
_ROOT = Path(__file__).parents[3]
_KIT = _ROOT / "kits" / "finance"
_CODE = ("common", "kits/finance")  # the program's text that an assessment passes through
_SETTINGS_OF = ("tasks.py", "disclosures/*.py", "markets/*.py", "risk/*.py")


@cache
def current_software() -> Mapping[str, str]:
    """Returns the versions that figures may depend on: packages, Python, machine, BLAS."""
    found = {
        "blas": arithmetic_library(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return dict(sorted({**software_versions(), **found}.items()))


@cache
def code_digests() -> Mapping[str, str]:
    """Returns the sha256 of the program's text, by folder."""
    digests = {}
    for folder in _CODE:
        sha = hashlib.sha256()
        texts = [path for kind in ("*.py", "*.j2") for path in (_ROOT / folder).rglob(kind)]
        for path in sorted(texts):
            sha.update(f"{path.relative_to(_ROOT).as_posix()}\n{file_sha256(path)}\n".encode())
        digests[folder] = sha.hexdigest()
    return digests


@cache
def current_settings() -> Mapping[str, Mapping[str, Any]]:
    """Returns the constants of the files that decide figures, and the forecasts' defaults.

    Constants are read from the files' text, so nothing is imported for them; what is no
    literal there (patterns, products of others) is left to `code_digests`.

    Returns:
        "markets.paths" and the like, or "forecast_volatility()", to name and JSON value.
    """
    settings: dict[str, Mapping[str, Any]] = {}
    for path in sorted(path for pattern in _SETTINGS_OF for path in _KIT.glob(pattern)):
        constants = dict(_constants(path))
        if constants:
            name = ".".join(path.relative_to(_KIT).with_suffix("").parts)
            settings[name] = constants
    return {**settings, **_defaults()}


def _constants(path: Path) -> Iterator[tuple[str, Any]]:
    """Yields the upper-case names that a file gives a literal value."""
    for statement in ast.parse(path.read_bytes()).body:
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        name = targets[0].id if len(targets) == 1 and isinstance(targets[0], ast.Name) else ""
        if name.isupper():
            try:
                yield name, json.loads(json.dumps(ast.literal_eval(value)))
            except (ValueError, TypeError):
                continue


def _defaults() -> dict[str, dict[str, Any]]:
    from kits.finance.markets.forecasters import forecast_volatility
    from kits.finance.risk.measures import one_day_var_es

    return {
        f"{function.__name__}()": {
            parameter.name: json.loads(json.dumps(parameter.default))
            for parameter in inspect.signature(function).parameters.values()
            if parameter.default is not inspect.Parameter.empty
        }
        for function in (forecast_volatility, one_day_var_es)
    }
