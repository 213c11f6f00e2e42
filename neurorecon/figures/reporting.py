"""Tables, and self-contained HTML reports that open offline."""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.figures.style import figure_bytes
from neurorecon.figures.viewer import render, script_json
from neurorecon.io.files import write_bytes
from neurorecon.io.videos import gif_bytes
from neurorecon.provenance import to_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure as DrawnFigure


@dataclass(frozen=True)
class Table:
    """A table for reports and terminals.

    Parameters
    ----------
    columns : sequence of str
        Column headings.
    rows : sequence of sequence
        Cells by row: text, numbers, or None for an empty cell.
    caption : str
        Caption of the table.
    formats : mapping of str to str
        Format specification by column, e.g. ``{"R²": ".3f"}``. Default: three digits.

    Raises
    ------
    InputError
        If a row does not have one cell per column.
    UnknownNameError
        If `formats` names an unknown column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    formats: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise InputError(
                    "a row of the table has the wrong number of cells",
                    given=f"{len(row)} cells",
                    expected=f"{len(self.columns)}: {', '.join(map(str, self.columns))}",
                )
        for name in self.formats:
            if name not in self.columns:
                raise UnknownNameError("column", name, self.columns)

    @classmethod
    def from_frame(cls, frame: Any, caption: str = "", formats: Mapping[str, str] | None = None) -> Table:
        """Create a table from a DataFrame, without its index."""
        columns = [str(name) for name in frame.columns]
        rows = [list(row) for row in frame.itertuples(index=False, name=None)]
        return cls(columns, rows, caption, formats or {})

    @property
    def cells(self) -> list[list[str]]:
        """All cells as text."""
        styles = [self.formats.get(name) or self._style(index) for index, name in enumerate(self.columns)]
        return [[format_cell(value, style) for value, style in zip(row, styles, strict=True)] for row in self.rows]

    def _style(self, index: int) -> str | None:
        """Choose one format for a column, so that its decimal points align."""
        if not self.numeric[index]:
            return None
        numbers = [float(row[index]) for row in self.rows if row[index] is not None]
        finite = [abs(value) for value in numbers if math.isfinite(value)]
        if str(self.columns[index]).lower() in ("p", "q") or not finite:
            return ".2g"
        if all(isinstance(row[index], float) for row in self.rows) and 0.01 <= max(finite) < 1e4:
            return ".3f"
        return None

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers; they are right-aligned."""
        return [
            any(is_number(row[index]) for row in self.rows)
            and all(row[index] is None or is_number(row[index]) for row in self.rows)
            for index in range(len(self.columns))
        ]

    def to_text(self) -> str:
        """Return the table as plain text for a terminal."""
        lines = [list(map(str, self.columns)), *self.cells]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.columns))]
        text = [
            "  ".join(
                cell.rjust(width) if right else cell.ljust(width)
                for cell, width, right in zip(line, widths, self.numeric, strict=True)
            ).rstrip()
            for line in lines
        ]
        rule = "  ".join("─" * width for width in widths)
        return "\n".join([*([self.caption] if self.caption else []), text[0], rule, *text[1:]])


def is_number(value: Any) -> bool:
    """Return whether a cell is a number; booleans are not."""
    return not isinstance(value, bool | str) and hasattr(value, "__float__") and type(value).__name__ != "bool"


def format_cell(value: Any, style: str | None = None) -> str:
    """Format one cell: integers unchanged, floats with three digits, None and NaN as an empty string."""
    if value is None:
        return ""
    if not is_number(value):
        return {True: "yes", False: "no"}.get(value, str(value)) if type(value).__name__ == "bool" else str(value)
    number = float(value)
    if math.isnan(number):
        return ""
    if style is not None:
        text = format(number if style[-1] not in "dn" else int(number), style)
    elif number == int(number) and abs(number) < 1e15 and not isinstance(value, float):
        text = str(int(number))
    else:
        text = f"{number:.3f}" if 1e-3 <= abs(number) < 1e4 or number == 0 else f"{number:.3g}"
    # Use a true minus sign instead of a hyphen.
    return "−" + text[1:] if text.startswith("-") else text


@dataclass(frozen=True)
class Figure:
    """A figure of a report.

    Parameters
    ----------
    source : matplotlib Figure, or path of a PNG or SVG file
        The figure.
    caption : str
        Caption below the figure.
    alt : str
        Alternative text for readers who cannot see the figure. Default: the caption.
    format : {"png", "svg"}
        Format in which a matplotlib figure is embedded.
    """

    source: DrawnFigure | str | os.PathLike[str]
    caption: str = ""
    alt: str = ""
    format: str = "png"

    @property
    def address(self) -> str:
        """The figure as a data URL.

        Raises
        ------
        MissingFileError
            If the file does not exist.
        InputError
            If the format is neither PNG nor SVG.
        """
        kind, content = self._content()
        media = {"png": "image/png", "svg": "image/svg+xml"}[kind]
        return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"

    @property
    def width(self) -> str:
        """CSS width on the page, the same as in print; empty for a file that does not say it."""
        if hasattr(self.source, "get_size_inches"):
            return f"{self.source.get_size_inches()[0] * 25.4:.1f}mm"
        if Path(self.source).suffix.lower() != ".png":
            return ""
        with Image.open(self.source) as image:
            dpi = image.info.get("dpi")
        return f"{image.width / dpi[0] * 25.4:.1f}mm" if dpi else ""

    def _content(self) -> tuple[str, bytes]:
        if hasattr(self.source, "savefig"):
            if self.format not in ("png", "svg"):
                raise InputError(
                    "the figure format is not supported in reports",
                    given=self.format,
                    expected="png or svg",
                    todo='set format="png" or format="svg"',
                )
            return self.format, figure_bytes(self.source, self.format, dpi=250)  # type: ignore[arg-type]
        path = Path(self.source)
        if not path.is_file():
            raise MissingFileError(
                "a figure of the report does not exist", given=str(path), expected="a PNG or SVG file"
            )
        kind = path.suffix.lstrip(".").lower()
        if kind not in ("png", "svg"):
            raise InputError(
                "the figure format is not supported in reports", given=path.name, expected="a .png or .svg file"
            )
        return kind, path.read_bytes()


@dataclass(frozen=True, eq=False)
class Animation:
    """A video of a report, embedded as a GIF that repeats.

    Parameters
    ----------
    frames : uint8 array, shape (frame, y, x, rgb)
        The video, e.g. from :func:`neurorecon.figures.side_by_side`.
    rate : float
        Frames per second.
    caption : str
        Caption below the video, and the text for readers who cannot see it.
    """

    frames: np.ndarray
    rate: float
    caption: str = ""

    @property
    def address(self) -> str:
        """The video as a data URL."""
        return f"data:image/gif;base64,{base64.b64encode(gif_bytes(self.frames, self.rate)).decode('ascii')}"


@dataclass(frozen=True)
class Page:
    """An HTML page embedded in a report, e.g. from :func:`neurorecon.figures.interactive`.

    Parameters
    ----------
    html : str
        The page. It runs in a sandboxed frame that cannot access the report.
    caption : str
        Caption below the page.
    height : int
        Height in pixels.
    """

    html: str
    caption: str = ""
    height: int = 640


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Parameters
    ----------
    title : str
        Heading.
    text : str or sequence of str
        Paragraphs of plain text; markup is escaped.
    items : sequence of Figure, Animation, Table, Page or matplotlib Figure
        Contents below the text, in this order.
    """

    title: str
    text: str | Sequence[str] = ()
    items: Sequence[Any] = field(default_factory=tuple)


def report(
    path: str | os.PathLike[str],
    title: str,
    sections: Sequence[Section],
    provenance: Mapping[str, Any],
    *,
    lead: str = "",
) -> Path:
    """Write an HTML report.

    Parameters
    ----------
    path : path
        The HTML file. Writing is atomic.
    title : str
        Title of the report.
    sections : sequence of Section
        Its sections.
    provenance : mapping
        Provenance record from :func:`neurorecon.provenance.collect`. If it says ``simulated``, the report is labeled
        accordingly.
    lead : str
        Paragraph below the title: the result in one or two sentences.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If an item cannot be embedded.
    MissingFileError
        If the file of a figure does not exist.
    """
    return write_bytes(path, report_html(title, sections, provenance, lead=lead).encode("utf-8"))


def report_html(title: str, sections: Sequence[Section], provenance: Mapping[str, Any], *, lead: str = "") -> str:
    """Return an HTML report as text.

    Parameters
    ----------
    title : str
        Title of the page.
    sections : sequence of Section
        As for :func:`report`.
    provenance : mapping
        The record, which is shown and kept in the page.
    lead : str
        Paragraph below the title.

    Returns
    -------
    str
        One page without references to other files.
    """
    parts: list[dict[str, Any]] = [
        {
            "title": section.title,
            "anchor": f"part-{number}",
            "text": [section.text] if isinstance(section.text, str) else list(section.text),
            "items": [_item(item) for item in section.items],
        }
        for number, section in enumerate(sections, start=1)
    ]
    return render(
        "report.html",
        title=title,
        lead=lead,
        simulated=bool(provenance.get("simulated")),
        parts=parts,
        scripts=any(item["kind"] == "page" for part in parts for item in part["items"]),
        facts=_facts(provenance),
        versions=dict(provenance.get("versions") or {}),
        provenance=to_json(provenance, indent=2),
        record=script_json(to_json(provenance)),
    )


def _item(item: Any) -> dict[str, Any]:
    if hasattr(item, "savefig"):
        item = Figure(item)
    if isinstance(item, Figure):
        return {
            "kind": "image", "address": item.address, "caption": item.caption, "width": item.width,
            "alt": item.alt or item.caption or "figure",
        }  # fmt: skip
    if isinstance(item, Animation):
        return {
            "kind": "image", "address": item.address, "caption": item.caption, "width": f"{item.frames.shape[2]}px",
            "alt": item.caption or "video",
        }  # fmt: skip
    if isinstance(item, Table):
        return {
            "kind": "table", "columns": list(zip(map(str, item.columns), item.numeric, strict=True)),
            "rows": [list(zip(row, item.numeric, strict=True)) for row in item.cells],
            "caption": item.caption,
        }  # fmt: skip
    if isinstance(item, Page):
        return {"kind": "page", "html": item.html, "caption": item.caption, "height": int(item.height)}
    raise InputError(
        "the item cannot be embedded in a report",
        given=type(item).__name__,
        expected="a Figure, Animation, Table, Page or matplotlib figure",
    )


def _facts(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the most important facts of the provenance, as pairs of label and value."""
    named = {
        "command": "Command", "time": "Time (UTC)", "store": "Store", "snapshot": "Snapshot", "seed": "Seed",
        "python": "Python", "platform": "Platform",
    }  # fmt: skip
    return [(words, str(provenance[key])) for key, words in named.items() if provenance.get(key) not in (None, "", {})]
