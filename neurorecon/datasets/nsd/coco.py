"""COCO's annotations: captions, and which objects are in a picture. Files of any size are read piece by piece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from neurorecon.datasets.images import damaged
from neurorecon.errors import InputError

#: What to do where a file is damaged.
DOWNLOAD = "download annotations_trainval2017.zip again from cocodataset.org and unpack it"

#: A store keeps this many captions of a picture; some in COCO have six or seven.
CAPTIONS = 5

#: Characters read at a time.
PIECE = 2**20

#: What may lie between the objects of a list.
_BETWEEN = re.compile(r"[\s,]*")


def find_files(folders: list[Path], kind: str) -> list[Path]:
    """Return ``captions_train2017.json`` and ``..._val2017.json`` (or ``instances_``) of the first folder with any."""
    for folder in folders:
        found = [folder / f"{kind}_{split}2017.json" for split in ("train", "val")]
        if any(path.is_file() for path in found):
            return [path for path in found if path.is_file()]
    return []


def rows(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of one list at the top of a JSON file, e.g. ``"annotations"``.

    ``instances_train2017.json`` has 450 MB, and takes several GB where it is loaded as a whole.

    Raises
    ------
    InputError
        Where the file is damaged or has no such list.
    """
    decoder = json.JSONDecoder()
    try:
        with path.open(encoding="utf-8") as file:
            text, place = _find_list(file, key), 0
            while True:
                place = _BETWEEN.match(text, place).end()  # type: ignore[union-attr]
                if text.startswith("]", place):
                    return
                try:
                    value, place = decoder.raw_decode(text, place)
                except ValueError:
                    more = file.read(PIECE)
                    if not more:
                        raise
                    text, place = text[place:] + more, 0
                    continue
                yield value
    except (ValueError, OSError) as error:  # broken JSON and wrong encodings are ValueErrors
        raise damaged(path, error, DOWNLOAD) from error


def _find_list(file: TextIO, key: str) -> str:
    """Read up to the beginning of the list; return what was read behind it."""
    mark, text = re.compile(rf'"{key}"\s*:\s*\['), ""
    while more := file.read(PIECE):
        text = text[-64:] + more  # the mark may lie across two pieces
        found = mark.search(text)
        if found:
            return text[found.end() :]
    raise ValueError(f"no list {key!r} in the file")


def read_captions(paths: list[Path], wanted: set[int]) -> dict[int, list[str]]:
    """Read the captions of some pictures, as they are: nothing in them is interpreted or cleaned.

    Parameters
    ----------
    paths : list of path
        From :func:`find_files`.
    wanted : set of int
        ``cocoId`` of the pictures.

    Returns
    -------
    dict of int to list of str
        The first five by the captions' own ids.
    """
    found: dict[int, list[tuple[int, str]]] = {}
    for path in paths:
        for row in rows(path, "annotations"):
            try:
                picture = int(row["image_id"])
                if picture in wanted:
                    found.setdefault(picture, []).append((int(row["id"]), str(row["caption"])))
            except (KeyError, TypeError, ValueError) as error:
                raise damaged(path, error, DOWNLOAD) from error
    return {picture: [text for _, text in sorted(texts)[:CAPTIONS]] for picture, texts in found.items()}


def read_objects(paths: list[Path], boxes: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read which objects are to be seen in some pictures, after NSD cropped them.

    Parameters
    ----------
    paths : list of path
        From :func:`find_files`.
    boxes : DataFrame
        Indexed by ``cocoId``: ``cropBox``.

    Returns
    -------
    objects : DataFrame
        One row an object: ``cocoId``, ``category``, ``area`` (visible share of the picture, of the bounding box).
    groups : dict of str to str
        The supercategory of each category.
    """
    crops = boxes["cropBox"].to_dict()
    names: dict[int, str] = {}
    groups: dict[str, str] = {}
    found: list[tuple[int, str, float]] = []
    for path in paths:
        try:
            for row in rows(path, "categories"):
                names[int(row["id"])] = str(row["name"])
                groups[str(row["name"])] = str(row.get("supercategory", row["name"]))
            sizes = {
                int(row["id"]): (float(row["width"]), float(row["height"]))
                for row in rows(path, "images")
                if int(row["id"]) in crops
            }
            for row in rows(path, "annotations"):
                picture = int(row["image_id"])
                if picture in sizes:
                    area = _visible(row["bbox"], sizes[picture], crops[picture])
                    found.append((picture, names[int(row["category_id"])], area))
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, error, DOWNLOAD) from error
    table = pd.DataFrame(found, columns=["cocoId", "category", "area"])
    return table[table["area"] > 0].reset_index(drop=True), groups


def _visible(box: list[float], size: tuple[float, float], crop: tuple[float, float, float, float]) -> float:
    """Return the share of the cropped picture that a bounding box (x, y, width, height) covers."""
    width, height = size
    top, bottom, left, right = crop
    low = np.array([left * width, top * height])
    high = np.array([(1 - right) * width, (1 - bottom) * height])
    start = np.maximum(box[:2], low)
    stop = np.minimum(np.add(box[:2], box[2:]), high)
    return float(np.prod(np.clip(stop - start, 0, None)) / np.prod(high - low))


def main_category(objects: pd.DataFrame) -> dict[int, str]:
    """Return the category that covers most of each picture (sum over its objects)."""
    if objects.empty:
        return {}
    areas = objects.groupby(["cocoId", "category"], sort=True)["area"].sum()
    return {int(picture): str(name) for picture, name in areas.groupby(level=0).idxmax()}
