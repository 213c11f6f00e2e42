"""HTML pages, filled in by jinja2 with every value escaped."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("neurorecon.figures", "templates"),
        # Names come from data sets and command lines: nothing of them may become markup.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: Any) -> str:
    """Fill in a template of this folder.

    Parameters
    ----------
    template : str
        File name.
    **values
        What it asks for; a missing one is an error. Text is escaped.
    """
    return _environment().get_template(template).render(**values)


def script_json(text: str) -> Any:
    """Mark JSON text as fit for a script element: nothing in it can end the element."""
    from markupsafe import Markup

    return Markup(
        text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028")
    )
