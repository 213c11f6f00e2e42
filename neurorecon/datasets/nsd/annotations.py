"""What is known of each picture: captions, category, objects. All empty where COCO's files are not there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from neurorecon.datasets.nsd.coco import find_files, main_category, read_captions, read_objects
from neurorecon.errors import MissingFileError


@dataclass
class Annotations:
    """Annotations of the pictures that the subjects saw.

    Parameters
    ----------
    coco : dict of int to int
        ``cocoId`` of each ``nsdId``.
    texts : dict of int to list of str
        Captions by ``cocoId``.
    objects : DataFrame
        See :func:`neurorecon.datasets.nsd.coco.read_objects`.
    groups : dict of str to str
        The supercategory of each category.
    has_objects : bool
        Whether COCO's instances were there.
    """

    coco: dict[int, int] = field(default_factory=dict)
    texts: dict[int, list[str]] = field(default_factory=dict)
    objects: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["cocoId", "category", "area"]))
    groups: dict[str, str] = field(default_factory=dict)
    has_objects: bool = False

    def __post_init__(self) -> None:
        self._main = main_category(self.objects)

    def captions(self, picture: int) -> list[str]:
        """Return the captions of a picture, by ``nsdId``."""
        return list(self.texts.get(self.coco.get(picture, -1), []))

    def category(self, picture: int) -> str:
        """Return the COCO category that covers most of a picture; empty where nothing is known."""
        return self._main.get(self.coco.get(picture, -1), "")

    def categories(self) -> list[str]:
        """Return all categories and supercategories."""
        return sorted({*self.groups, *self.groups.values()})

    def showing(self, name: str) -> set[int]:
        """Return the pictures (``nsdId``) that show a category, or any category of a supercategory."""
        wanted = {category for category, group in self.groups.items() if name in (category, group)}
        shown = set(self.objects["cocoId"][self.objects["category"].isin(wanted)])
        return {picture for picture, identity in self.coco.items() if identity in shown}

    def labels(self, pictures: np.ndarray) -> pd.DataFrame | None:
        """Return the visible share of each COCO category, columns ``category:...``, at most 1."""
        if not self.has_objects:
            return None
        areas = self.objects.groupby(["cocoId", "category"])["area"].sum().unstack(fill_value=0.0)
        shares = areas.reindex([self.coco.get(int(picture), -1) for picture in pictures], fill_value=0.0)
        shares = shares.reindex(columns=sorted(self.groups), fill_value=0.0).clip(upper=1.0)
        return pd.DataFrame(
            shares.to_numpy(dtype=np.float32), columns=[f"category:{name}" for name in sorted(self.groups)]
        )


def read_annotations(
    information: pd.DataFrame | None, pictures: np.ndarray, folders: list[Path], demanded: str | None
) -> Annotations:
    """Read what COCO says of some pictures.

    Parameters
    ----------
    information : DataFrame or None
        From :func:`neurorecon.datasets.nsd.information.read_information`.
    pictures : int array
        ``nsdId``.
    folders : list of path
        Where COCO's files may lie.
    demanded : str or None
        The folder that the options name; it has to hold them.
    """
    captions, instances = find_files(folders, "captions"), find_files(folders, "instances")
    if demanded is not None and not captions and not instances:
        raise MissingFileError(
            "COCO's annotations are not where the option annotations says",
            given=f"no captions_*2017.json or instances_*2017.json in {folders[0]}",
            expected="captions_train2017.json and captions_val2017.json",
            todo="check the option; it counts from the folder of the data set",
        )
    if information is None:
        return Annotations()
    table = information.loc[pictures]
    coco = dict(zip(table["nsdId"].tolist(), table["cocoId"].tolist(), strict=True))
    texts = read_captions(captions, set(coco.values()))
    if not instances:
        return Annotations(coco, texts)
    objects, groups = read_objects(instances, table.drop_duplicates("cocoId").set_index("cocoId"))
    return Annotations(coco, texts, objects, groups, has_objects=True)
