"""The page at /docs: every operation and every kind of problem, without scripts or CDN.

The server often stands where nothing else can be reached, so the page holds all that it
shows. `/openapi.json` has the same for programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from common.serving.problems import PROBLEMS

__all__ = ["CONTENT_SECURITY_POLICY", "docs_page"]

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
_STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "code{background:#eee;padding:0 .3em}table{border-collapse:collapse}"
    "td,th{border:1px solid #bbb;padding:.2rem .6rem;text-align:left}"
    "section{border-top:1px solid #bbb;margin-top:1rem}"
)


def docs_page(schema: Mapping[str, Any]) -> str:
    """Returns the page for an OpenAPI schema."""
    operations = "".join(
        _operation(path, method, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    )
    title = escape(schema["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title} {escape(schema['info']['version'])}</h1>"
        f"<p>{escape(schema['info'].get('description', ''))}</p>"
        "<p>Send the key as <code>Authorization: Bearer KEY</code> or <code>X-API-Key: KEY</code>. "
        'The schema for programs: <a href="/openapi.json">/openapi.json</a>.</p>'
        f"<h2>Operations</h2>{operations}<h2>Problems</h2>{_problems()}</html>"
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    key = "needs a key" if operation.get("security") else "open to all"
    parts = [
        f"<section><h3><code>{method.upper()} {escape(path)}</code></h3>",
        f"<p>{escape(operation.get('summary', ''))} ({key})</p>",
        f"<p>{escape(operation.get('description', ''))}</p>",
    ]
    rows = "".join(_parameters(operation))
    if rows:
        parts.append(f"<table><tr><th>parameter<th>in<th>needed{rows}</table>")
    media = operation.get("requestBody", {}).get("content", {})
    if media:
        parts.append(f"<p>Body: {', '.join(f'<code>{escape(one)}</code>' for one in media)}</p>")
    return "".join(parts) + "</section>"


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    for one in operation.get("parameters", ()):
        needed = "yes" if one.get("required") else "no"
        yield f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}<td>{needed}"


def _problems() -> str:
    rows = "".join(
        f'<tr id="{escape(problem.kind.partition("#")[2])}"><td>{problem.status}'
        f"<td>{escape(problem.title)}<td><code>{kind.__name__}</code><td>{problem.grpc}"
        for kind, problem in PROBLEMS.items()
    )
    return f"<table><tr><th>HTTP<th>title<th>error<th>gRPC{rows}</table>"
