"""Figures to files that say how they were made, and come out the same, byte for byte, each time."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.figures.style import style_settings, tag_simulated
from neurorecon.provenance import to_json, write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("png", "svg", "pdf")

#: Key of the record in the text chunk of a PNG.
PNG_KEY = "neurorecon-provenance"

_SOFTWARE = "neurorecon"


def save_figure(
    figure: Figure,
    stem: str | os.PathLike[str],
    provenance: Mapping[str, Any],
    formats: Sequence[str] = FORMATS,
    *,
    dpi: float = 300,
) -> list[Path]:
    """Save a figure with the record of how it was made inside each file.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        The figure. Where the record says ``simulated`` and the figure does not, the words are added.
    stem : path
        Path without a suffix; one is added per format.
    provenance : mapping
        What :func:`neurorecon.provenance.collect` returned. It goes into a text chunk of the PNG
        (:data:`PNG_KEY`), the description of the SVG and the subject of the PDF.
    formats : sequence of {"png", "svg", "pdf"}
        Which files to write.
    dpi : float
        Of the PNG, and of pixel images inside SVG and PDF.

    Returns
    -------
    list of Path
        The files, in the order of `formats`. Each appears whole or not at all.

    Raises
    ------
    UnknownNameError
        For another format.
    """
    for name in formats:
        if name not in FORMATS:
            raise UnknownNameError("figure format", name, FORMATS)
    stem = Path(stem)
    if not stem.name:
        raise InputError("a figure needs a file name", given=str(stem), expected="a path such as maps/MT")
    if provenance.get("simulated"):
        tag_simulated(figure)
    record = to_json(provenance)
    return [
        write_bytes(stem.parent / f"{stem.name}.{name}", figure_bytes(figure, name, record, dpi=dpi))
        for name in formats
    ]


def figure_bytes(figure: Figure, format: str, record: str = "{}", *, dpi: float = 300) -> bytes:
    """Return the content of a figure's file; `record` is the provenance as JSON text."""
    import matplotlib

    buffer = io.BytesIO()
    # Text and vectors are only made into bytes now, so the settings have to hold now, whatever the caller's
    # are.
    with matplotlib.rc_context():
        settings: Any = matplotlib.rcParams
        settings.update(style_settings())
        figure.savefig(buffer, format=format, dpi=dpi, metadata=_metadata(format, record))
    return buffer.getvalue()


def read_provenance(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the record back from a PNG, SVG, PDF or HTML file that neurorecon wrote.

    Raises
    ------
    MissingFileError
        Where there is no such file.
    InputError
        Where the file carries no record.
    """
    import json

    path = Path(path)
    if not path.is_file():
        raise MissingFileError("there is no such figure", given=str(path), expected="an existing file")
    readers = {".png": _read_png, ".svg": _read_svg, ".pdf": _read_pdf, ".html": _read_html}
    if path.suffix not in readers:
        raise UnknownNameError("figure format", path.suffix.lstrip("."), (*FORMATS, "html"))
    record = readers[path.suffix](path.read_bytes())
    if record is None:
        raise InputError(
            "this figure does not say how it was made",
            given=str(path),
            expected="a file written by neurorecon",
            todo="some programs remove the description when they save a file again; use the original",
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
