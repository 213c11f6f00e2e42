"""The table of all pictures: where in COCO each comes from, and how it was cropped."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.datasets.images import damaged
from neurorecon.datasets.nsd.design import Design
from neurorecon.datasets.nsd.layout import DOWNLOAD
from neurorecon.datasets.pickles import load_table
from neurorecon.errors import InputError

#: Columns that are read.
COLUMNS = ("cocoId", "cocoSplit", "cropBox", "nsdId", "shared1000")


def read_information(stem: Path, design: Design) -> pd.DataFrame | None:
    """Read ``nsd_stim_info_merged.csv``, or the ``.pkl`` where only that is there.

    Parameters
    ----------
    stem : path
        The path without its suffix.
    design : Design
        It has to agree on which pictures are shared.

    Returns
    -------
    DataFrame or None
        :data:`COLUMNS`, indexed by ``nsdId``; ``cropBox`` holds (top, bottom, left, right), the shares of the
        picture in COCO that were cut away. None where neither file is there.

    Raises
    ------
    InputError
        Where it cannot be read, lacks columns, or contradicts the design.
    """
    csv, pkl = stem.with_suffix(".csv"), stem.with_suffix(".pkl")
    if not csv.is_file() and not pkl.is_file():
        return None
    path = csv if csv.is_file() else pkl
    table = _read_csv(csv) if path is csv else load_table(pkl, DOWNLOAD)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise _wrong(path, f"without the columns {', '.join(missing)}", f"columns {', '.join(COLUMNS)}, ...")
    table = table[list(COLUMNS)].copy()
    try:
        table[["nsdId", "cocoId"]] = table[["nsdId", "cocoId"]].astype(np.int64)
        table["shared1000"] = table["shared1000"].map(_truth).astype(bool)
        table["cropBox"] = table["cropBox"].map(_box)
    except (ValueError, TypeError, SyntaxError) as error:
        raise damaged(path, error, DOWNLOAD) from error
    if table["nsdId"].duplicated().any():
        raise _wrong(path, f"nsdId {table['nsdId'][table['nsdId'].duplicated()].iloc[0]} twice", "each nsdId once")
    table = table.set_index("nsdId", drop=False)
    shared, designed = set(table["nsdId"][table["shared1000"]]), set(design.shared.tolist())
    if shared != designed:
        raise _wrong(
            path,
            f"{len(shared)} pictures with shared1000, {len(shared & designed)} of them shared by the design",
            f"the {len(designed)} pictures of sharedix in {design.path.name} (which counts from 1, nsdId from 0)",
        )
    absent = sorted(set(design.pictures.ravel().tolist()) - set(table["nsdId"]))
    if absent:
        raise _wrong(path, f"no row for {len(absent)} pictures, e.g. nsdId {absent[0]}", "a row for every picture")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (ValueError, OSError, UnicodeDecodeError) as error:  # pandas' errors of parsing are ValueErrors
        raise damaged(path, error, DOWNLOAD) from error


def _truth(value: object) -> bool:
    if str(value) not in ("True", "False", "1", "0"):
        raise ValueError(f"shared1000 holds {value!r}")
    return str(value) in ("True", "1")


def _box(value: Any) -> tuple[float, float, float, float]:
    """Return the four shares; a CSV has them as text."""
    box = ast.literal_eval(value) if isinstance(value, str) else value
    top, bottom, left, right = (float(number) for number in box)
    return top, bottom, left, right


def _wrong(path: Path, given: str, expected: str) -> InputError:
    return InputError(f"the table of pictures {path} cannot be used", given=given, expected=expected, todo=DOWNLOAD)
