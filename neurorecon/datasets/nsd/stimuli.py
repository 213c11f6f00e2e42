"""NSD's images: their origin in COCO, captions and objects, pixels, and the train-test split."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from neurorecon.datasets.nsd.experiment import Design
from neurorecon.datasets.nsd.layout import DOWNLOAD, Layout, NsdOptions
from neurorecon.datasets.splits import LEFT_OUT, cluster_texts, hold_out_groups, hold_out_sessions, hold_out_stimuli
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.io.arrays import dataset_of, open_array, open_hdf5_file, wrong_shape
from neurorecon.io.files import broken_link, damaged, require_file
from neurorecon.io.images import ImageFiles, image_files
from neurorecon.io.tables import as_table, load_table, read_table, read_text_table

#: Columns to read.
COLUMNS = ("cocoId", "cocoSplit", "cropBox", "nsdId", "shared1000")


def read_information(stem: Path, design: Design) -> pd.DataFrame | None:
    """Read ``nsd_stim_info_merged.csv``, or the ``.pkl`` file if there is no CSV file.

    Parameters
    ----------
    stem : path
        The path without extension.
    design : Design
        The design, which must agree on the shared images.

    Returns
    -------
    DataFrame or None
        :data:`COLUMNS`, indexed by ``nsdId``; ``cropBox`` contains (top, bottom, left, right), the fractions of the
        COCO image that were cropped. None if neither file exists.

    Raises
    ------
    InputError
        If the file cannot be read, lacks columns, or contradicts the design.
    """
    csv, pkl = stem.with_suffix(".csv"), stem.with_suffix(".pkl")
    for path in (csv, pkl):
        broken_link(path, "the table of images")
    if not csv.is_file() and not pkl.is_file():
        return None
    path = csv if csv.is_file() else pkl
    read = read_text_table(csv) if path is csv else as_table(load_table(pkl, DOWNLOAD), str(pkl))
    read.require(COLUMNS)
    numbers = {name: read.integers(name, 0) for name in ("nsdId", "cocoId")}
    table = read.frame[list(COLUMNS)].assign(**numbers)
    for column, convert, expected in (
        ("shared1000", _truth, "True or False"),
        ("cropBox", _box, "four fractions, (top, bottom, left, right)"),
    ):
        found = []
        for row, value in enumerate(table[column]):
            try:
                found.append(convert(value))
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                raise _wrong(path, f"{column} {str(value)[:60]!r} in {read.row(row)}", expected) from None
        table[column] = pd.Series(found, index=table.index, dtype=bool if column == "shared1000" else object)
    if table["nsdId"].duplicated().any():
        raise _wrong(path, f"nsdId {table['nsdId'][table['nsdId'].duplicated()].iloc[0]} twice", "each nsdId once")
    table = table.set_index("nsdId", drop=False)
    shared, designed = set(table["nsdId"][table["shared1000"]]), set(design.shared.tolist())
    if shared != designed:
        raise _wrong(
            path,
            f"{len(shared)} images with shared1000, of which {len(shared & designed)} are shared in the design",
            f"the {len(designed)} images of sharedix in {design.path.name} (which counts from 1, nsdId from 0)",
        )
    absent = sorted(set(design.images.ravel().tolist()) - set(table["nsdId"]))
    if absent:
        raise _wrong(path, f"no row for {len(absent)} images, e.g. nsdId {absent[0]}", "a row for every image")
    return table


def _truth(value: object) -> bool:
    if str(value) not in ("True", "False", "1", "0"):
        raise ValueError(f"shared1000 holds {value!r}")
    return str(value) in ("True", "1")


def _box(value: Any) -> tuple[float, float, float, float]:
    """Return the four fractions, which are text in a CSV file."""
    box = ast.literal_eval(value) if isinstance(value, str) else value
    top, bottom, left, right = (float(number) for number in box)
    return top, bottom, left, right


def _wrong(path: Path, given: str, expected: str) -> InputError:
    return InputError(f"the table of images {path} cannot be used", given=given, expected=expected, todo=DOWNLOAD)


#: Advice if a file of COCO is damaged.
COCO_DOWNLOAD = "download annotations_trainval2017.zip again from cocodataset.org and unpack it"

#: Number of captions to keep per image; some images in COCO have six or seven.
CAPTIONS = 5

#: Characters to read at a time.
PIECE = 2**20

#: Text between the objects of a JSON list.
_BETWEEN = re.compile(r"[\s,]*")


def find_files(folders: list[Path], kind: str) -> list[Path]:
    """Find ``captions_train2017.json`` and ``..._val2017.json`` (or ``instances_``) in the first folder with either."""
    for folder in folders:
        found = [folder / f"{kind}_{split}2017.json" for split in ("train", "val")]
        for path in found:
            broken_link(path, f"COCO's annotations, {path.name}")
        if any(path.is_file() for path in found):
            return [path for path in found if path.is_file()]
    return []


def rows(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of one top-level list of a JSON file, e.g. ``"annotations"``.

    The file is streamed, because loading ``instances_train2017.json`` (450 MB) as a whole takes several GB of memory.

    Raises
    ------
    InputError
        If the file is damaged or has no such list.
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
    except (ValueError, OSError, RecursionError) as error:  # invalid JSON and encodings raise ValueError
        raise damaged(path, error, COCO_DOWNLOAD) from error


def _find_list(file: TextIO, key: str) -> str:
    """Read up to the beginning of the list; return the text that was read beyond it."""
    mark, text = re.compile(rf'"{key}"\s*:\s*\['), ""
    while more := file.read(PIECE):
        text = text[-64:] + more  # the mark may span two pieces
        found = mark.search(text)
        if found:
            return text[found.end() :]
    raise ValueError(f"no list {key!r} in the file")


def read_captions(paths: list[Path], wanted: set[int]) -> dict[int, list[str]]:
    """Read the captions of the given images, unmodified.

    Parameters
    ----------
    paths : list of path
        From :func:`find_files`.
    wanted : set of int
        ``cocoId`` of the images.

    Returns
    -------
    dict of int to list of str
        Up to five captions per ``cocoId``, in the order of the ids of the captions.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    found: dict[int, list[tuple[int, str]]] = {}
    for path in paths:
        for row in rows(path, "annotations"):
            try:
                image = int(row["image_id"])
                if image in wanted:
                    found.setdefault(image, []).append((int(row["id"]), str(row["caption"])))
            except (KeyError, TypeError, ValueError) as error:
                raise damaged(path, error, COCO_DOWNLOAD) from error
    return {image: [text for _, text in sorted(texts)[:CAPTIONS]] for image, texts in found.items()}


def read_objects(paths: list[Path], boxes: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read the objects that are visible in the given images after cropping.

    Parameters
    ----------
    paths : list of path
        From :func:`find_files`.
    boxes : DataFrame
        ``cropBox``, indexed by ``cocoId``.

    Returns
    -------
    objects : DataFrame
        One row per object: ``cocoId``, ``category``, ``area`` (fraction of the cropped image that the bounding box
        covers).
    groups : dict of str to str
        The supercategory of each category.

    Raises
    ------
    InputError
        If a file is damaged.
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
                image = int(row["image_id"])
                if image in sizes:
                    area = _visible(row["bbox"], sizes[image], crops[image])
                    found.append((image, names[int(row["category_id"])], area))
        except InputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise damaged(path, error, COCO_DOWNLOAD) from error
    table = pd.DataFrame(found, columns=["cocoId", "category", "area"])
    return table[table["area"] > 0].reset_index(drop=True), groups


def _visible(box: list[float], size: tuple[float, float], crop: tuple[float, float, float, float]) -> float:
    """Return the fraction of the cropped image that a bounding box (x, y, width, height) covers."""
    width, height = size
    top, bottom, left, right = crop
    low = np.array([left * width, top * height])
    high = np.array([(1 - right) * width, (1 - bottom) * height])
    start = np.maximum(box[:2], low)
    stop = np.minimum(np.add(box[:2], box[2:]), high)
    return float(np.prod(np.clip(stop - start, 0, None)) / np.prod(high - low))


def main_category(objects: pd.DataFrame) -> dict[int, str]:
    """Return the category with the largest total area in each image, by ``cocoId``."""
    if objects.empty:
        return {}
    areas = objects.groupby(["cocoId", "category"], sort=True)["area"].sum()
    return {int(image): str(name) for image, name in areas.groupby(level=0).idxmax()}


@dataclass
class Annotations:
    """COCO's annotations of the images that the subjects saw.

    Parameters
    ----------
    coco : dict of int to int
        ``cocoId`` of each ``nsdId``.
    texts : dict of int to list of str
        Captions by ``cocoId``.
    objects : DataFrame
        From :func:`read_objects`.
    groups : dict of str to str
        The supercategory of each category.
    has_objects : bool
        Whether COCO's instances were found.
    missing : dict of str to str
        Why there are no ``captions``, or no ``categories``, or not of all images.
    """

    coco: dict[int, int] = field(default_factory=dict)
    texts: dict[int, list[str]] = field(default_factory=dict)
    objects: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["cocoId", "category", "area"]))
    groups: dict[str, str] = field(default_factory=dict)
    has_objects: bool = False
    missing: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._main = main_category(self.objects)

    def report(self, images: np.ndarray) -> dict[str, str]:
        """Return what users should know: which annotations the images (``nsdId``) lack, and why."""
        found = {}
        without = sum(not self.captions(int(image)) for image in images)
        if without:
            some = "none" if without == len(images) else f"none of {without:,} of {len(images):,} images"
            found["captions"] = f"{some}: {self.missing.get('captions', 'COCO has none of them')}"
        if "categories" in self.missing:
            found["categories"] = f"none: {self.missing['categories']}"
        return found

    def captions(self, image: int) -> list[str]:
        """Return the captions of an image, given its ``nsdId``."""
        return list(self.texts.get(self.coco.get(image, -1), []))

    def category(self, image: int) -> str:
        """Return the COCO category with the largest area in an image; ``""`` if unknown."""
        return self._main.get(self.coco.get(image, -1), "")

    def categories(self) -> list[str]:
        """Return all categories and supercategories."""
        return sorted({*self.groups, *self.groups.values()})

    def showing(self, name: str) -> set[int]:
        """Return the images (``nsdId``) that show a category, or any category of a supercategory."""
        wanted = {category for category, group in self.groups.items() if name in (category, group)}
        shown = set(self.objects["cocoId"][self.objects["category"].isin(wanted)])
        return {image for image, identity in self.coco.items() if identity in shown}

    def labels(self, images: np.ndarray) -> pd.DataFrame | None:
        """Return the area of each COCO category in each image (at most 1), in columns ``category:...``."""
        if not self.has_objects:
            return None
        areas = self.objects.groupby(["cocoId", "category"])["area"].sum().unstack(fill_value=0.0)
        shares = areas.reindex([self.coco.get(int(image), -1) for image in images], fill_value=0.0)
        shares = shares.reindex(columns=sorted(self.groups), fill_value=0.0).clip(upper=1.0)
        return pd.DataFrame(
            shares.to_numpy(dtype=np.float32), columns=[f"category:{name}" for name in sorted(self.groups)]
        )


def read_annotations(
    information: pd.DataFrame | None, images: np.ndarray, folders: list[Path], demanded: str | None
) -> Annotations:
    """Read COCO's annotations of the given images.

    Parameters
    ----------
    information : DataFrame or None
        From :func:`read_information`.
    images : int array, shape (image,)
        ``nsdId`` of the images.
    folders : list of path
        Folders that may contain COCO's files.
    demanded : str or None
        The option ``annotations``; if given, COCO's files must exist.

    Returns
    -------
    Annotations
        Empty if `information` is None.

    Raises
    ------
    MissingFileError, InputError
        If the required files are missing, or a file is damaged.
    """
    captions, instances = find_files(folders, "captions"), find_files(folders, "instances")
    if demanded is not None and not captions and not instances:
        raise MissingFileError(
            "the folder in the option annotations does not contain COCO's annotations",
            given=f"no captions_*2017.json or instances_*2017.json in {folders[0]}",
            expected="captions_train2017.json and captions_val2017.json",
            todo="check the option; the path is relative to the folder of the data set",
        )
    if information is None:
        why = "nsd_stim_info_merged.csv (or .pkl) is missing, which says where in COCO the images are from"
        return Annotations(missing={"captions": why, "categories": why})
    where = f"in {' or '.join(map(str, folders))}"
    missing = {}
    absent = [name for name in ("captions_train2017.json", "captions_val2017.json")
              if name not in [path.name for path in captions]]  # fmt: skip
    if absent:
        missing["captions"] = f"no {' and no '.join(absent)} {where}"
    table = information.loc[images]
    coco = dict(zip(table["nsdId"].tolist(), table["cocoId"].tolist(), strict=True))
    texts = read_captions(captions, set(coco.values()))
    if not instances:
        missing["categories"] = f"no instances_train2017.json and no instances_val2017.json {where}"
        return Annotations(coco, texts, missing=missing)
    objects, groups = read_objects(instances, table.drop_duplicates("cocoId").set_index("cocoId"))
    return Annotations(coco, texts, objects, groups, has_objects=True, missing=missing)


def open_images(layout: Layout, ids: np.ndarray, options: NsdOptions) -> NsdImages | ImageFiles | None:
    """Open the images where the options say they are.

    Parameters
    ----------
    layout : Layout
        The paths of the files.
    ids : int array, shape (stimulus,)
        ``nsdId`` (from 0) of the images to read.
    options : NsdOptions
        Their ``images``, ``image_table`` and ``image_size``.

    Returns
    -------
    NsdImages, ImageFiles or None
        Has ``shape`` and ``read(start, stop)``. None if the store is to be built without images.

    Raises
    ------
    MissingFileError, InputError
        If the images are missing or damaged, or one of `ids` is not among them.
    """
    if options.images == "none":
        return None
    if options.images is None:
        return NsdImages(layout.stimuli, ids, ids, options.image_size)
    place = layout.root / options.images
    table = None if options.image_table is None else read_table(layout.root / options.image_table)
    if table is not None:
        table.require(["nsdId", *(["file"] if place.is_dir() else [])])
        numbers = table.integers("nsdId", 0)
        table.refuse_duplicates(numbers, "images", "each nsdId once")
    elif not place.is_dir():
        raise InputError(
            "which images these are is unknown",
            given=f"images = {options.images!r} without image_table",
            expected="a table with the column nsdId (from 0), one row per image of the file, in its order",
            todo="save such a table as CSV, and name it in the option image_table",
        )
    if place.is_dir():
        if table is None:
            matches = [(path.name, _SHARED_NAME.fullmatch(path.name)) for path in sorted(place.iterdir())]
            files = {int(match[1]) - 1: name for name, match in matches if match}  # these names count from 1
        else:
            files = dict(zip(numbers.tolist(), table.names("file").tolist(), strict=True))
        rows = _rows_of_images(ids, np.array(list(files), dtype=int), place, options)
        chosen = [files[int(list(files)[row])] for row in rows]
        return image_files(place, [f"nsd{number:05d}" for number in ids], chosen, options.image_size)
    return NsdImages(place, ids, _rows_of_images(ids, numbers, place, options), options.image_size, len(numbers))


#: Names of the files in NSD's folder ``shared1000``: the number among the shared images, and the 73k id, both from 1.
_SHARED_NAME = re.compile(r"shared\d{4}_nsd(\d{5})\.(?:png|jpe?g)")


def _rows_of_images(ids: np.ndarray, there: np.ndarray, place: Path, options: NsdOptions) -> np.ndarray:
    """Return where each image is among those that are there, int of shape (stimulus,)."""
    row = {int(number): place for place, number in enumerate(there)}
    absent = [int(number) for number in ids if int(number) not in row]
    if absent:
        raise MissingFileError(
            "some of the images are missing",
            given=f"{len(there):,} images in {place}{f', by {options.image_table}' if options.image_table else ''}; "
            f"without {len(absent):,} of the {len(ids):,} that were shown, e.g. nsdId {absent[0]}",
            expected="every image that the subjects saw in the sessions read",
            todo="add the images (the option image_table names a table that says which file is which nsdId), or build "
            'the store without any: images = "none"',
        )
    return np.array([row[int(number)] for number in ids], dtype=int)


class NsdImages:
    """NSD's images, read in slices from the dataset ``imgBrick`` (image, y, x, rgb), 39.6 GB.

    Parameters
    ----------
    path : path
        ``nsd_stimuli.hdf5``.
    ids : int array, shape (stimulus,)
        ``nsdId`` (from 0) of the images to read.
    rows : int array, shape (stimulus,)
        Their rows in the file. In the whole file, these are their ids.
    size : int or None
        Pixels on each side. None keeps the size in the file.
    number : int, optional
        Number of images that the file must have, for files with a part of the images.

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or damaged, or does not contain the images.
    """

    def __init__(
        self, path: Path, ids: np.ndarray, rows: np.ndarray, size: int | None, number: int | None = None
    ) -> None:
        broken_link(path, 'nsd_stimuli.hdf5 (39.6 GB), or images = "none" in [options]')
        if not path.is_file():
            raise MissingFileError(
                "the images are missing",
                given=f"no file {path}",
                expected="nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5 in the folder of the data set (39.6 GB)"
                if number is None
                else "the file in the option images",
                todo=f'{DOWNLOAD}; or set images = "none" in [options] to build the store without images',
            )
        self._path, self._ids = path, np.asarray(rows)
        self._file: Any = None
        data = self._data()
        if len(data.shape) != 4 or data.shape[3] != 3 or data.shape[1] != data.shape[2]:
            raise wrong_shape(path, data.shape, "(image, 425, 425, 3)", DOWNLOAD)
        if data.dtype != np.uint8:
            raise InputError(
                f"the images in {path} have the wrong data type", given=str(data.dtype), expected="uint8", todo=DOWNLOAD
            )
        if number is not None and number != data.shape[0]:
            raise InputError(
                "the table of images does not match the file of images",
                given=f"{number:,} rows for the {data.shape[0]:,} images in {path}",
                expected="one row per image, in the order of the file",
                todo="fix the table in the option image_table",
            )
        if len(self._ids) and self._ids.max() >= data.shape[0]:
            raise InputError(
                f"{path} contains fewer images than the design",
                given=f"{data.shape[0]:,} images",
                expected=f"at least {self._ids.max() + 1:,}",
                todo=DOWNLOAD,
            )
        self._stored = int(data.shape[1])
        self.size = size or self._stored

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image, (y, x, rgb)."""
        return (self.size, self.size, 3)

    def _data(self) -> Any:
        if self._path.suffix == ".npy":
            return open_array(self._path, None, "imgBrick")
        if self._file is None:
            self._file = open_hdf5_file(self._path, DOWNLOAD)
        return dataset_of(self._file, "imgBrick", self._path, "images", DOWNLOAD)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_file": None}  # an open file cannot be pickled

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        data, ids = self._data(), self._ids[start:stop]
        found = np.empty((len(ids), self.size, self.size, 3), dtype=np.uint8)
        try:
            for row, number in enumerate(ids):
                found[row] = self._resized(data[int(number)])
        except OSError as error:
            raise damaged(self._path, error, DOWNLOAD) from error
        return found

    def _resized(self, image: np.ndarray) -> np.ndarray:
        from PIL import Image

        if self.size == self._stored:
            return image
        # Bicubic with antialiasing, as in CLIP's preprocessing.
        return np.asarray(Image.fromarray(image).resize((self.size, self.size), Image.Resampling.BICUBIC))


def split_trials(
    trials: dict[str, pd.DataFrame], annotations: Annotations, options: NsdOptions, root: Path
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, str]]]:
    """Assign each trial to a split.

    Parameters
    ----------
    trials : dict of str to DataFrame
        The trials of each subject, from :meth:`Design.trials`.
    annotations : Annotations
        Captions and objects of the images.
    options : NsdOptions
        The options of the reader, which define the split.
    root : path
        Folder that paths in the options are relative to.

    Returns
    -------
    splits : dict of str to array of str, shape (trial,)
        The split of each trial; ``""`` if it is left out.
    reports : dict of str to dict of str to str
        Notes for :attr:`SubjectData.report` of each subject.

    Raises
    ------
    InputError
        If the split cannot be made, or a subject would have no training or no test trials.
    """
    if options.split == "shared1000":
        found = {name: _shared(table, options.test_repeats) for name, table in trials.items()}
    elif options.split == "sessions":
        found = _sessions(trials, options)
    else:
        images = np.unique(np.concatenate([table["nsdId"].to_numpy() for table in trials.values()]))
        choose = _clusters if options.split == "clusters" else _category
        held_out = choose(images, annotations, options, root)
        found = {name: hold_out_stimuli(table["nsdId"].to_numpy(), held_out) for name, table in trials.items()}
    _check(found, options)
    return found, {name: _report(split, trials[name], options) for name, split in found.items()}


def _shared(trials: pd.DataFrame, repeats: int) -> np.ndarray:
    """Test on the shared images, and leave out those that were not shown often enough."""
    shown = trials.groupby("nsdId")["nsdId"].transform("size").to_numpy()
    split = hold_out_stimuli(trials["nsdId"].to_numpy(), set(trials["nsdId"][trials["shared"]]))
    split[trials["shared"].to_numpy() & (shown < repeats)] = LEFT_OUT
    return split


def _sessions(trials: dict[str, pd.DataFrame], options: NsdOptions) -> dict[str, np.ndarray]:
    read = sorted(set().union(*(table["session"] for table in trials.values())))
    absent = [number for number in options.test_sessions if number not in read]
    if absent:
        raise UnknownNameError("session to test on", absent[0], read)
    return hold_out_sessions(trials, options.test_sessions)


def _clusters(images: np.ndarray, annotations: Annotations, options: NsdOptions, root: Path) -> set[int]:
    if options.cluster_table:
        table = _table(root / options.cluster_table, "cluster").drop_duplicates("nsdId").set_index("nsdId")["cluster"]
        absent = [int(number) for number in images if number not in table.index]
        if absent:
            raise InputError(
                f"{root / options.cluster_table} lacks some images",
                given=f"no row for {len(absent):,} of {len(images):,} images, e.g. nsdId {absent[0]}",
                expected="a row for every image that the subjects saw",
                todo="add the missing rows",
            )
        clusters = table.loc[images].to_numpy()
    else:
        clusters = cluster_texts(
            [annotations.captions(int(number)) for number in images], options.clusters, options.seed
        )
    held_out = hold_out_groups(clusters, options.test_share, options.seed)
    return {int(number) for number, cluster in zip(images, clusters.tolist(), strict=True) if cluster in held_out}


def _category(images: np.ndarray, annotations: Annotations, options: NsdOptions, root: Path) -> set[int]:
    """Return the images that show anything of the category, however small."""
    name = str(options.test_category)
    if options.category_table:
        table = _table(root / options.category_table, "category")
        known = table["category"]
        found = set(table["nsdId"][known == name])
    else:
        if not annotations.has_objects:
            raise MissingFileError(
                'split = "category" requires annotations of the images',
                given=annotations.missing.get("categories", "no instances of COCO"),
                expected="COCO's annotations in the folder annotations, or the option category_table",
                todo="download annotations_trainval2017.zip from cocodataset.org, or set category_table",
            )
        found, known = annotations.showing(name), pd.Series(annotations.categories())
    found &= set(images.tolist())
    if not found:
        raise UnknownNameError("category", name, sorted(set(known)))
    return found


def _table(path: Path, column: str) -> pd.DataFrame:
    require_file(
        path,
        f"a CSV file with the columns nsdId and {column}, named in the option {column}_table",
        "check the path, which is relative to the folder of the data set",
    )
    table = read_table(path)
    table.require(["nsdId", column])
    return pd.DataFrame({"nsdId": table.integers("nsdId", 0), column: table.names(column)})


def _check(found: dict[str, np.ndarray], options: NsdOptions) -> None:
    for name, split in found.items():
        if not {"train", "test"} <= set(split):
            counts = ", ".join(f"{int((split == part).sum()):,} {part}" for part in ("train", "test"))
            raise InputError(
                f"the split {options.split!r} leaves {name} without training or without test samples",
                given=f"{counts} of {len(split):,} trials",
                expected="samples to train on and samples to test on",
                todo="read more sessions, or change the options of the split",
            )


def _report(split: np.ndarray, trials: pd.DataFrame, options: NsdOptions) -> dict[str, str]:
    out = split == LEFT_OUT
    if not out.any():
        return {}
    images = trials["nsdId"][out].nunique()
    why = {
        "shared1000": f"of {images:,} shared images shown less than {options.test_repeats} times",
        "sessions": f"of {images:,} test images, shown in training sessions too",
    }[options.split]
    return {"trials left out": f"{int(out.sum()):,} {why}"}
