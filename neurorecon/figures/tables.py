"""Tables that read well in a terminal and in a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neurorecon.errors import InputError, UnknownNameError


@dataclass(frozen=True)
class Table:
    """A table.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : sequence of sequence
        Cells: text, numbers, None for an empty one.
    caption : str
        Above or below it.
    formats : mapping of str to str
        How the numbers of a column are written, e.g. ``{"R²": ".3f"}``; by default three digits.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    formats: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise InputError(
                    "a row of the table does not fit its columns",
                    given=f"{len(row)} cells",
                    expected=f"{len(self.columns)}: {', '.join(map(str, self.columns))}",
                )
        for name in self.formats:
            if name not in self.columns:
                raise UnknownNameError("column", name, self.columns)

    @classmethod
    def from_frame(cls, frame: Any, caption: str = "", formats: Mapping[str, str] | None = None) -> Table:
        """Make a table of a DataFrame, without its index."""
        columns = [str(name) for name in frame.columns]
        rows = [list(row) for row in frame.itertuples(index=False, name=None)]
        return cls(columns, rows, caption, formats or {})

    @property
    def cells(self) -> list[list[str]]:
        """All cells as text."""
        styles = [self.formats.get(name) or self._style(index) for index, name in enumerate(self.columns)]
        return [[format_cell(value, style) for value, style in zip(row, styles, strict=True)] for row in self.rows]

    def _style(self, index: int) -> str | None:
        """Choose one style for a column, so that its decimal points stand below each other."""
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
        """Which columns hold numbers; they are set flush right."""
        return [
            any(is_number(row[index]) for row in self.rows)
            and all(row[index] is None or is_number(row[index]) for row in self.rows)
            for index in range(len(self.columns))
        ]

    def to_text(self) -> str:
        """Return the table for a terminal."""
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
    """Say whether a cell is a number (truth values are words)."""
    return not isinstance(value, bool | str) and hasattr(value, "__float__") and type(value).__name__ != "bool"


def format_cell(value: Any, style: str | None = None) -> str:
    """Write one cell: whole numbers as they are, others with three digits, nothing for None or NaN."""
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
    # A hyphen is no minus sign.
    return "−" + text[1:] if text.startswith("-") else text
