"""Options of the reader of NSD; each is explained in ``stores/README.md`` too."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from neurorecon.datasets.base import Options

#: The three versions of the betas.
Betas = Literal["betas_fithrf_GLMdenoise_RR", "betas_fithrf", "betas_assumehrf"]


class NsdOptions(Options):
    """What is read of NSD, and how it is split.

    Parameters
    ----------
    subjects : tuple of str
        E.g. ``("subj01", "subj02")``; all on disk where left out.
    sessions : str or tuple of int
        ``"all"`` on disk, a range (``"1-37"``, ``"1-10,12"``), or numbers. Sessions that are named have to be there.
    space : {"func1pt8mm", "func1mm", "fsaverage"}
        Preparation of the betas.
    betas : {"betas_fithrf_GLMdenoise_RR", "betas_fithrf", "betas_assumehrf"}
        Version of the betas (b3, b2, b1 of the paper).
    mask : str
        Which voxels: the name of an ROI (several joined by ``+``), ``"brain"``, or a path to a mask on the same grid
        (``.nii``, ``.nii.gz``; relative to the folder of the data set).
    bad_voxels : {"drop", "keep"}
        What becomes of voxels that are constant or not finite in any session.
    scaling : {"percent", "session"}
        Percent signal change, or z-scores of every voxel within each session (over all its trials).
    samples : {"trial", "average"}
        A sample for each trial, or one for each picture, the mean of its trials.
    image_size : int, optional
        Pixels on each side of the stored pictures; those of the file (425) where left out.
    hemisphere_rois : bool
        Add ``lh.`` and ``rh.`` ROIs from the files of that name. (``lh.V1`` can be selected without: by position.)
    split : {"shared1000", "sessions", "clusters", "category"}
        What is tested on: the shared pictures; the pictures of `test_sessions`; held-out clusters of pictures; the
        pictures that show `test_category`.
    test_repeats : int
        A shared picture is tested on where the sessions read show it at least this often (``"shared1000"``).
    test_sessions : tuple of int
        Sessions that are tested on (``"sessions"``).
    clusters : int
        Number of clusters of pictures (``"clusters"``), found in the words of their captions.
    cluster_table : str, optional
        A CSV with the columns ``nsdId`` and ``cluster``, in place of clusters of captions.
    test_share : float
        Clusters are held out, in random order, until they make up this share of the pictures (``"clusters"``).
    test_category : str, optional
        A COCO category or supercategory, e.g. ``"person"`` or ``"animal"`` (``"category"``).
    category_table : str, optional
        A CSV with the columns ``nsdId`` and ``category`` (a picture may have several rows), in place of COCO's
        instances.
    annotations : str, optional
        Folder of COCO's ``captions_*.json`` and ``instances_*.json``, where it is not one that NSD's tools use.
    seed : int
        Of the clusters and of the order in which they are held out.
    """

    subjects: tuple[str, ...] = ()
    sessions: str | tuple[int, ...] = "all"
    space: Literal["func1pt8mm", "func1mm", "fsaverage"] = "func1pt8mm"
    betas: Betas = "betas_fithrf_GLMdenoise_RR"
    mask: str = "nsdgeneral"
    bad_voxels: Literal["drop", "keep"] = "drop"
    scaling: Literal["percent", "session"] = "percent"
    samples: Literal["trial", "average"] = "trial"
    image_size: int | None = Field(default=None, ge=8, le=1024)
    hemisphere_rois: bool = False
    split: Literal["shared1000", "sessions", "clusters", "category"] = "shared1000"
    test_repeats: int = Field(default=1, ge=1, le=3)
    test_sessions: tuple[int, ...] = ()
    clusters: int = Field(default=40, ge=2)
    cluster_table: str | None = None
    test_share: float = Field(default=0.1, gt=0, lt=1)
    test_category: str | None = None
    category_table: str | None = None
    annotations: str | None = None
    seed: int = Field(default=0, ge=0)

    @field_validator("sessions")
    @classmethod
    def _readable(cls, value: str | tuple[int, ...]) -> str | tuple[int, ...]:
        if isinstance(value, str) and value != "all" and not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", value):
            raise ValueError('has to be "all", a range such as "1-37" or "1-10,12", or a list of numbers')
        if value != "all" and not _numbers(value):
            raise ValueError("names no session")
        return value

    @model_validator(mode="after")
    def _split_is_told_all(self) -> NsdOptions:
        if self.split == "sessions" and not self.test_sessions:
            raise ValueError('split = "sessions" needs test_sessions, e.g. test_sessions = [39, 40]')
        if self.split == "category" and not self.test_category:
            raise ValueError('split = "category" needs test_category, e.g. test_category = "person"')
        return self

    def session_numbers(self) -> list[int] | None:
        """Return the sessions that are asked for, or None where all on disk are."""
        return None if self.sessions == "all" else _numbers(self.sessions)


def _numbers(value: str | tuple[int, ...]) -> list[int]:
    if not isinstance(value, str):
        return sorted(set(value))
    found: set[int] = set()
    for part in value.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return sorted(found)
