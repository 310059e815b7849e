"""HTML pages that need nothing else: style inside, no font, no address, everything escaped."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

__all__ = ["render_page"]


def render_page(template: str, **values: Any) -> str:
    """Returns a page of the folder `templates`, the common style inside.

    Args:
        template: File name in the folder.
        values: What the template shows; every value is escaped unless it says otherwise.
    """
    from jinja2 import Environment, StrictUndefined

    folder = files("kits.finance.reporting").joinpath("templates")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = folder.joinpath(template).read_text("utf-8")
    style = folder.joinpath("page.css").read_text("utf-8")
    return environment.from_string(source).render(style=style, **values)
