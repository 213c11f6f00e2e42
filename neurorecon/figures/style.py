"""The look of a figure: widths of journals, small sans-serif type, nothing that is not data.

Widths are those of Nature Neuroscience (89, 120 and 183 mm), which fit eLife's page as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.figures.colors import GRAY, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Widths in millimeters.
WIDTHS = {"single": 89.0, "one-and-a-half": 120.0, "double": 183.0}

#: Fonts in order of preference. DejaVu Sans comes with matplotlib, so one of them is always there.
FONTS = ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans")

#: The words on every figure of simulated data.
SIMULATED = "simulated data"

_TAG = "neurorecon-simulated"


def style_settings() -> dict[str, Any]:
    """Return the matplotlib settings of :func:`journal_style`."""
    return {
        "font.family": "sans-serif",
        "font.sans-serif": list(_installed_fonts()),
        "font.size": 7,
        "axes.titlesize": 8,
        "axes.labelsize": 7,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "legend.fontsize": 7,
        "figure.titlesize": 8,
        "axes.titlelocation": "left",
        "axes.linewidth": 0.5,
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.width": 0.5,
        "ytick.major.width": 0.5,
        "xtick.major.size": 2.0,
        "ytick.major.size": 2.0,
        "xtick.major.pad": 2.0,
        "ytick.major.pad": 2.0,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": False,
        "legend.frameon": False,
        "lines.linewidth": 0.8,
        "patch.linewidth": 0.5,
        "figure.facecolor": "white",
        "axes.facecolor": "white",
        "savefig.facecolor": "white",
        "figure.dpi": 100,
        "savefig.dpi": 300,
        "savefig.bbox": None,
        "image.interpolation": "antialiased",
        "mathtext.fontset": "dejavusans",
        "axes.unicode_minus": True,
        # Type 42 keeps whole TrueType fonts in the PDF: journals refuse the Type 3 fonts that are the
        # default.
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        # SVG goes into pages and slides on machines without our fonts, so its letters are drawn as outlines;
        # the PDF beside it keeps text as text for whoever has to edit it.
        "svg.fonttype": "path",
        # Names inside an SVG are random unless they are salted: with this, same input, same bytes.
        "svg.hashsalt": "neurorecon",
    }


@contextmanager
def journal_style() -> Iterator[None]:
    """Make figures for print within this context; matplotlib's settings are restored afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        settings: Any = matplotlib.rcParams
        settings.update(style_settings())
        yield


def width_mm(width: str | float) -> float:
    """Return a width in millimeters: a name of :data:`WIDTHS`, or a number."""
    if isinstance(width, str):
        if width not in WIDTHS:
            raise UnknownNameError("figure width", width, WIDTHS)
        return WIDTHS[width]
    if not 20 <= float(width) <= 500:
        raise InputError("this width is not one of a page", given=f"{width} mm", expected="20 to 500 mm")
    return float(width)


def new_figure(width: str | float, height: float) -> Figure:
    """Make a figure that no global state knows of.

    Parameters
    ----------
    width : str or float
        A name of :data:`WIDTHS`, or millimeters.
    height : float
        Millimeters.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_mm(width) / 25.4, height / 25.4))
    FigureCanvasAgg(figure)
    return figure


def axes_mm(figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """Add axes at a place given in millimeters from the upper left corner of the figure."""
    full_width, full_height = figure.get_size_inches() * 25.4
    box = (left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height)
    return figure.add_axes(box, **options)


def text_mm(figure: Figure, left: float, top: float, text: str, **options: Any) -> Any:
    """Write text at a place given in millimeters from the upper left corner of the figure."""
    full_width, full_height = figure.get_size_inches() * 25.4
    options = {"va": "top", "ha": "left", **options}
    return figure.text(left / full_width, 1 - top / full_height, text, **options)


def text_size_mm(figure: Figure, text: str, size: float, weight: str = "normal") -> tuple[float, float]:
    """Measure a text: width and height in millimeters."""
    from matplotlib.text import Text

    probe = Text(0, 0, text, fontsize=size, fontweight=weight)
    probe.set_figure(figure)
    box = probe.get_window_extent(renderer=figure.canvas.get_renderer())  # type: ignore[attr-defined]
    return box.width / figure.dpi * 25.4, box.height / figure.dpi * 25.4


def wrap_mm(figure: Figure, text: str, width: float, size: float) -> str:
    """Break a text into lines that are at most `width` millimeters wide."""
    # Letters are a little wider or narrower at other resolutions, so the last bit of a line stays free.
    width *= 0.95
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}".strip()
            if line and text_size_mm(figure, longer, size)[0] > width:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return "\n".join(lines)


def tag_simulated(figure: Figure) -> None:
    """Write "simulated data" into the upper right corner, once."""
    if is_tagged(figure):
        return
    text_mm(
        figure, figure.get_size_inches()[0] * 25.4 - 1.2, 1.2, SIMULATED, ha="right", fontsize=6, color=GRAY,
        style="italic", gid=_TAG,
    )  # fmt: skip


def is_tagged(figure: Figure) -> bool:
    """Say whether the figure carries the words "simulated data"."""
    return any(text.get_gid() == _TAG for text in figure.texts)


@cache
def _installed_fonts() -> tuple[str, ...]:
    # Only fonts that exist are asked for: matplotlib logs a warning for each one that does not.
    from matplotlib import font_manager

    names = {entry.name for entry in font_manager.fontManager.ttflist}
    return tuple(name for name in FONTS if name in names) or ("DejaVu Sans",)
