"""Light commands stay light, and every file says what is public (ruff sorts it)."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "monai",
    "sktime",
    "statsmodels",
    "arch",
    "fastapi",
    "pydantic",
}
SOURCES = sorted(
    path
    for top in ("common", "kits", "benchmarks")
    for path in (ROOT / top).rglob("*.py")
    if not path.name.endswith("_pb2.py")  # made by protoc
)


@pytest.mark.parametrize("statement", ["import common", "import common.routing", "import kits.cli"])
def test_light_imports_load_no_heavy_library(statement: str) -> None:
    program = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert HEAVY.isdisjoint(done.stdout.split())


def test_help_loads_no_heavy_library() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kits", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert HEAVY.isdisjoint(imported)
    assert "finance" in done.stdout
    assert "medical" in done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_all_names_what_the_file_defines(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not tree.body or path.name in {"__init__.py", "__main__.py"}:
        return
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    assert len(listed) == 1, "one __all__ in each file"
    assert set(listed[0]) <= set(_top_level_names(tree))


def _top_level_names(tree: ast.Module) -> list[str]:
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.ImportFrom):
            names += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names += [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
    return names
