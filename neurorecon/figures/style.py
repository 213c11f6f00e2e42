"""Style of all figures: sizes, fonts, colors, and saving with provenance.

Bands use the Okabe-Ito palette (Okabe & Ito 2008, "Color Universal Design"), which remains distinguishable with all
common color vision deficiencies. R2 and other one-sided quantities use a perceptually uniform color map; weights and
patterns use a diverging one, symmetric around zero.

Widths follow Nature Neuroscience (89, 120 and 183 mm), and fit eLife's page as well.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.files import write_bytes
from neurorecon.provenance import to_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Color of each known band. Bands that are used together are distinguishable for color-blind readers.
BAND_COLORS: dict[str, str] = {
    "gabor": "#0072B2",
    "category": "#D55E00",
    "motion": "#009E73",
    "clip": "#CC79A7",
    "clip_image": "#CC79A7",
    "clip_vision": "#882255",
    "clip_text": "#E69F00",
    "vqvae": "#56B4E9",
    "vdvae": "#4B2E83",
    "layout": "#8C6D31",
}

#: Label of each known band in figures: its role and its target.
BAND_LABELS: dict[str, str] = {
    "clip_image": "semantic (CLIP)",
    "clip_image_mean": "semantic (CLIP, mean of frames)",
    "clip_vision": "semantic (CLIP tokens)",
    "clip_text": "semantic (CLIP, captions)",
    "category": "semantic (categories)",
    "vqvae": "structure (VQ-VAE)",
    "vqvae_frames": "structure (VQ-VAE, all frames)",
    "vqvae_first": "structure (VQ-VAE, first frame)",
    "vdvae": "low-level (VDVAE)",
    "gabor": "low-level (Gabor)",
    "motion": "motion (energy)",
    "optical_flow": "motion (optical flow)",
}

#: Colors of bands that are not in :data:`BAND_COLORS` (Paul Tol's "muted" and "bright" schemes).
FURTHER_COLORS = (
    "#882255", "#44AA99", "#DDCC77", "#661100", "#AA3377", "#117733", "#EE6677", "#88CCEE", "#999933",
    "#4477AA",
)  # fmt: skip

#: Description of each quantity, written below the figure.
QUANTITIES: dict[str, str] = {
    "encoding": "Encoding model: variance of each voxel that the features explain (not decoder weights)",
    "decoding": "Decoder weights: how the decoder reads each voxel (not where the information is)",
    "weights": "Decoder weights: how the decoder reads each voxel (not where the information is)",
    "gradient": "Gradient of the decoder: how what is decoded changes with each voxel (not where the information is)",
    "product": "Product of the weights of the layers, averaged over features (not where the information is)",
    "importance": "Importance: what the decoding score loses on held-out stimuli without the voxels",
    "haufe": "Haufe pattern of the decoder: covariance of voxel and decoded target (Haufe et al. 2014)",
}

#: Quantities with values on both sides of zero.
SIGNED = ("decoding", "haufe")

INK = "#1a1a1a"

GRAY = "#6b6b6b"

LIGHT = "#d9d9d9"

#: Color maps of one-sided quantities, and of quantities with both signs.
SEQUENTIAL = "inferno"

DIVERGING = "RdBu_r"


def band_colors(names: Iterable[str]) -> dict[str, str]:
    """Assign a color to each band.

    Known bands have fixed colors (:data:`BAND_COLORS`). The name of any other band selects its color, or the next
    free one if that color is already used in the figure.

    Parameters
    ----------
    names : iterable of str
        Names of the bands, in the order of the figure.

    Returns
    -------
    dict of str to str
        Hexadecimal colors.
    """
    names = list(names)
    colors = {name: BAND_COLORS[name.lower()] for name in names if name.lower() in BAND_COLORS}
    for name in names:
        if name in colors:
            continue
        start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        order = [FURTHER_COLORS[(start + step) % len(FURTHER_COLORS)] for step in range(len(FURTHER_COLORS))]
        free = [color for color in order if color not in colors.values()]
        colors[name] = free[0] if free else order[0]
    return {name: colors[name] for name in names}


def band_label(name: str) -> str:
    """Return the label of a band in figures, e.g. ``semantic (CLIP)``, or its name if it is not a known band."""
    return BAND_LABELS.get(name.lower(), name)


def quantity_note(quantity: str | None) -> str:
    """Return the description of a quantity for the note below a figure; empty for None.

    Raises
    ------
    UnknownNameError
        If the quantity is not in :data:`QUANTITIES`.
    """
    if quantity is None:
        return ""
    if quantity not in QUANTITIES:
        raise UnknownNameError("quantity", quantity, QUANTITIES)
    return QUANTITIES[quantity]


def default_colormap(quantity: str | None) -> str:
    """Return the name of the default color map of a quantity."""
    return DIVERGING if quantity in SIGNED else SEQUENTIAL


def color_map(name: str) -> Any:
    """Return a matplotlib color map by name; the default one without its black end.

    Outlines and text are black, so a value of zero must not be. The truncated map is still perceptually uniform.

    Raises
    ------
    UnknownNameError
        If matplotlib has no such color map.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    if name not in colormaps:
        raise UnknownNameError("color map", name, sorted(colormaps))
    if name != SEQUENTIAL:
        return colormaps[name]
    return ListedColormap(colormaps[name](np.linspace(0.13, 0.97, 256)), name=f"{name}-without-black")


def nice_limits(
    low: float, high: float, *, vmin: float | None, vmax: float | None, quantity: str | None
) -> tuple[float, float]:
    """Choose the limits of a color scale.

    Parameters
    ----------
    low, high : float
        Robust range of the data, e.g. percentiles.
    vmin, vmax : float or None
        Limits fixed by the caller.
    quantity : str or None
        Scales of weights and patterns are symmetric around zero, unless `vmin` is not negative. Scales of explained
        variance start at zero, because negative values explain nothing.

    Returns
    -------
    (float, float)
        Limits with at most two significant digits.
    """
    if quantity in SIGNED and (vmin is None or vmin < 0):
        given = [abs(value) for value in (vmin, vmax) if value is not None]
        end = max(given) if given else _round_up(max(abs(low), abs(high)))
        return -end, end
    starts_at_zero = low >= 0 or quantity == "encoding"
    bottom = vmin if vmin is not None else (0.0 if starts_at_zero else -_round_up(-low))
    top = vmax if vmax is not None else (_round_up(high) if high > 0 else 0.0)
    return (bottom, top) if top > bottom else (bottom, bottom + 1e-6 + abs(bottom))


def _round_up(value: float) -> float:
    import math

    if value <= 0 or not math.isfinite(value):
        return 1.0
    step = 10 ** math.floor(math.log10(value)) / 10
    for factor in (10, 12, 15, 20, 25, 30, 40, 50, 60, 80, 100):
        if factor * step >= value * (1 - 1e-9):
            return float(round(factor * step, 12))
    return float(value)


FORMATS = ("png", "svg", "pdf")

#: Key of the provenance record among the text chunks of a PNG.
PNG_KEY = "neurorecon-provenance"

_SOFTWARE = "neurorecon"

#: How hard PNGs are compressed: twice as quick as the default (6), for files a tenth larger.
_COMPRESSION = 4


def save_figure(
    figure: Figure,
    stem: str | os.PathLike[str],
    provenance: Mapping[str, Any],
    formats: Sequence[str] = FORMATS,
    *,
    dpi: float = 300,
) -> list[Path]:
    """Save a figure, with its provenance record inside each file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure. It is labeled "simulated data" if the provenance says ``simulated``.
    stem : path
        Path without a suffix.
    provenance : mapping
        Provenance record from :func:`neurorecon.provenance.collect`. It is stored in a text chunk of the PNG
        (:data:`PNG_KEY`), the description of the SVG, and the subject of the PDF.
    formats : sequence of {"png", "svg", "pdf"}
        Formats to write.
    dpi : float
        Resolution of the PNG, and of raster images inside SVG and PDF.

    Returns
    -------
    list of Path
        The files, in the order of `formats`. Writing is atomic.

    Raises
    ------
    UnknownNameError
        If a format is unknown.
    InputError
        If `stem` has no file name.
    """
    for name in formats:
        if name not in FORMATS:
            raise UnknownNameError("figure format", name, FORMATS)
    stem = Path(stem)
    if not stem.name:
        raise InputError("the figure has no file name", given=str(stem), expected="a path such as maps/MT")
    if provenance.get("simulated"):
        tag_simulated(figure)
    record = to_json(provenance)
    return [
        write_bytes(stem.parent / f"{stem.name}.{name}", figure_bytes(figure, name, record, dpi=dpi))
        for name in formats
    ]


def figure_bytes(figure: Figure, format: str, record: str = "{}", *, dpi: float = 300) -> bytes:
    """Render a figure to the bytes of a file; `record` is the provenance as JSON text."""
    import matplotlib

    buffer = io.BytesIO()
    # Text and vectors are rendered only now, so the settings of our style have to hold now.
    with matplotlib.rc_context():
        settings: Any = matplotlib.rcParams
        settings.update(style_settings())
        options: dict[str, Any] = {"pil_kwargs": {"compress_level": _COMPRESSION}} if format == "png" else {}
        figure.savefig(buffer, format=format, dpi=dpi, metadata=_metadata(format, record), **options)
    return buffer.getvalue()


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the provenance record from a PNG, SVG, PDF or HTML file written by neurorecon.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    dict
        The record.

    Raises
    ------
    MissingFileError
        If the file does not exist.
    UnknownNameError
        If its suffix is not one of these formats.
    InputError
        If the file has no record.
    """
    import json

    path = Path(path)
    if not path.is_file():
        raise MissingFileError("the figure does not exist", given=str(path), expected="an existing file")
    readers = {".png": _read_png, ".svg": _read_svg, ".pdf": _read_pdf, ".html": _read_html}
    if path.suffix not in readers:
        raise UnknownNameError("figure format", path.suffix.lstrip("."), (*FORMATS, "html"))
    record = readers[path.suffix](path.read_bytes())
    if record is None:
        raise InputError(
            "the figure has no provenance record",
            given=str(path),
            expected="a file written by neurorecon",
            todo="use the original file; some programs drop the record when they save a copy",
        )
    return json.loads(record)


def _metadata(format: str, record: str) -> dict[str, Any]:
    if format == "png":
        return {"Software": _SOFTWARE, PNG_KEY: record}
    if format == "svg":
        return {"Date": None, "Creator": _SOFTWARE, "Description": record}
    return {"CreationDate": None, "ModDate": None, "Creator": _SOFTWARE, "Producer": None, "Subject": record}


def _read_png(content: bytes) -> str | None:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        image.load()
        return image.info.get(PNG_KEY)


def _read_svg(content: bytes) -> str | None:
    from xml.etree import ElementTree

    for element in ElementTree.fromstring(content).iter():
        if element.tag.endswith("}description"):
            return element.text
    return None


def _read_pdf(content: bytes) -> str | None:
    start = content.find(b"/Subject (")
    if start < 0:
        return None
    raw, position, depth = bytearray(), start + len(b"/Subject ("), 1
    while position < len(content):
        byte = content[position : position + 1]
        if byte == b"\\":
            following = content[position + 1 : position + 2]
            octal = content[position + 1 : position + 4]
            if octal.isdigit() and len(octal) == 3:
                raw.append(int(octal, 8))
                position += 4
                continue
            raw += {b"n": b"\n", b"r": b"\r", b"t": b"\t"}.get(following, following)
            position += 2
            continue
        depth += {b"(": 1, b")": -1}.get(byte, 0)
        if depth == 0:
            break
        raw += byte
        position += 1
    text = bytes(raw)
    return text.decode("utf-16") if text.startswith(b"\xfe\xff") else text.decode("latin-1")


def _read_html(content: bytes) -> str | None:
    import re

    found = re.search(
        r'<script type="application/json" id="provenance">(.*?)</script>', content.decode("utf-8"), re.DOTALL
    )
    return found.group(1).strip() if found else None


#: Widths in millimeters.
WIDTHS = {"single": 89.0, "one-and-a-half": 120.0, "double": 183.0}

#: Fonts in order of preference. DejaVu Sans ships with matplotlib, so at least one is always available.
FONTS = ("Arial", "Helvetica", "Liberation Sans", "DejaVu Sans")

#: Label on every figure of simulated data.
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
        # Type 42 embeds TrueType fonts in the PDF; journals reject matplotlib's default, Type 3.
        "pdf.fonttype": 42,
        "ps.fonttype": 42,
        # SVG is used in web pages and slides on machines without our fonts, so its text becomes outlines.
        # The PDF keeps text editable.
        "svg.fonttype": "path",
        # Without a fixed salt, ids inside an SVG are random; with it, the same figure gives the same bytes.
        "svg.hashsalt": "neurorecon",
    }


@contextmanager
def journal_style() -> Iterator[None]:
    """Apply the style within a context, and restore matplotlib's settings afterwards.

    Yields
    ------
    None
    """
    import matplotlib

    with matplotlib.rc_context():
        settings: Any = matplotlib.rcParams
        settings.update(style_settings())
        yield


def width_mm(width: str | float) -> float:
    """Return a figure width in millimeters, from a name of :data:`WIDTHS` or a number."""
    if isinstance(width, str):
        if width not in WIDTHS:
            raise UnknownNameError("figure width", width, WIDTHS)
        return WIDTHS[width]
    if not 20 <= float(width) <= 500:
        raise InputError("the figure width is out of range", given=f"{width} mm", expected="20 to 500 mm")
    return float(width)


def new_figure(width: str | float, height: float) -> Figure:
    """Create a figure without registering it with pyplot.

    Parameters
    ----------
    width : str or float
        A name of :data:`WIDTHS`, or a number of millimeters.
    height : float
        Height in millimeters.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_mm(width) / 25.4, height / 25.4))
    FigureCanvasAgg(figure)
    return figure


def axes_mm(figure: Figure, left: float, top: float, width: float, height: float, **options: Any) -> Axes:
    """Add axes at a position in millimeters from the upper left corner of the figure."""
    full_width, full_height = figure.get_size_inches() * 25.4
    box = (left / full_width, 1 - (top + height) / full_height, width / full_width, height / full_height)
    return figure.add_axes(box, **options)


def text_mm(figure: Figure, left: float, top: float, text: str, **options: Any) -> Any:
    """Write text at a position in millimeters from the upper left corner of the figure."""
    full_width, full_height = figure.get_size_inches() * 25.4
    options = {"va": "top", "ha": "left", **options}
    return figure.text(left / full_width, 1 - top / full_height, text, **options)


def text_size_mm(figure: Figure, text: str, size: float, weight: str = "normal") -> tuple[float, float]:
    """Measure the width and height of a text in millimeters."""
    from matplotlib.text import Text

    probe = Text(0, 0, text, fontsize=size, fontweight=weight)
    probe.set_figure(figure)
    box = probe.get_window_extent(renderer=figure.canvas.get_renderer())  # type: ignore[attr-defined]
    return box.width / figure.dpi * 25.4, box.height / figure.dpi * 25.4


def wrap_mm(figure: Figure, text: str, width: float, size: float) -> str:
    """Wrap a text into lines of at most `width` millimeters."""
    # Text is slightly wider or narrower at other resolutions, so leave some room.
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
    """Write "simulated data" in the upper right corner, once; a title that reaches there gets smaller."""
    from matplotlib.backends.backend_agg import RendererAgg

    if is_tagged(figure):
        return
    renderer = RendererAgg(*figure.bbox.size, figure.dpi)  # whatever canvas the figure has
    right = figure.get_size_inches()[0] * 25.4 - 1.2
    titles = [(text, text.get_window_extent(renderer)) for text in figure.texts]
    text_mm(figure, right, 1.2, SIMULATED, ha="right", fontsize=6, color=GRAY, style="italic", gid=_TAG)
    tag = figure.texts[-1].get_window_extent(renderer)
    end = tag.x0 - 2 / 25.4 * figure.dpi  # 2 mm between them
    for text, box in titles:
        if box.overlaps(tag):
            centered = text.get_horizontalalignment() == "center"  # then it shrinks on both sides
            room = 2 * end - box.x0 - box.x1 if centered else end - box.x0
            text.set_fontsize(text.get_fontsize() * max(0.4, 0.97 * room / box.width))  # hinting rounds widths


def is_tagged(figure: Figure) -> bool:
    """Return whether the figure is labeled "simulated data"."""
    return any(text.get_gid() == _TAG for text in figure.texts)


@cache
def _installed_fonts() -> tuple[str, ...]:
    # matplotlib logs a warning for each missing font, so name only installed ones.
    from matplotlib import font_manager

    names = {entry.name for entry in font_manager.fontManager.ttflist}
    return tuple(name for name in FONTS if name in names) or ("DejaVu Sans",)
