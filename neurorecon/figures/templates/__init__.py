"""HTML templates, rendered by jinja2 with every value escaped."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def _environment() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("neurorecon.figures", "templates"),
        # Names come from data sets and command lines, so they must never become markup.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def render(template: str, **values: Any) -> str:
    """Render a template of this folder.

    Parameters
    ----------
    template : str
        File name.
    **values
        Variables of the template; text is escaped.

    Returns
    -------
    str
        The page.

    Raises
    ------
    jinja2.UndefinedError
        If a variable is missing.
    """
    return _environment().get_template(template).render(**values)


def script_json(text: str) -> Any:
    """Escape JSON text for use in a script element, so that nothing in it can close the element."""
    from markupsafe import Markup

    return Markup(
        text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028")
    )
