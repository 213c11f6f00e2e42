"""Reader of the Natural Scenes Dataset (NSD): 7 T responses of eight subjects to 73,000 photographs."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from neurorecon.datasets.base import Description, Options, Reader, SubjectData
from neurorecon.datasets.nsd.experiment import check_behavior, read_behavior, read_design
from neurorecon.datasets.nsd.layout import (
    Layout,
    NsdOptions,
    check_root,
    find_sessions,
    find_subjects,
    source_files,
)
from neurorecon.datasets.nsd.rois import ROI_GROUPS
from neurorecon.datasets.nsd.stimuli import Annotations, open_images, read_annotations, read_information, split_trials
from neurorecon.datasets.nsd.subject import SubjectFiles, open_subject, subject_data
from neurorecon.datasets.nsd.tasks import TaskImages, imagery_stimuli, synthetic_stimuli
from neurorecon.errors import UnknownNameError

CITATION = (
    "Allen EJ, St-Yves G, Wu Y, Breedlove JL, Prince JS, Dowdle LT, Nau M, Caron B, Pestilli F, Charest I, "
    "Hutchinson JB, Naselaris T, Kay K (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and "
    "artificial intelligence. Nat Neurosci 25:116-126. doi:10.1038/s41593-021-00962-x. Images and captions: "
    "Lin TY et al. (2014). Microsoft COCO: common objects in context. arXiv:1405.0312"
)

#: Papers of the further tasks.
FURTHER_CITATIONS = {
    "synthetic": "NSD-synthetic: Gifford AT et al. (2025), github.com/gifale95/NSD-synthetic.",
    "imagery": "NSD-imagery: Kneeland R et al. (2025), arXiv:2506.06898.",
}


class NsdReader(Reader):
    """Reader of the Natural Scenes Dataset.

    Tables and headers are checked when the reader is created. Betas and images are read in slices, with one session in
    memory at a time.

    Parameters
    ----------
    root : path
        The folder with ``nsddata``, ``nsddata_betas`` and ``nsddata_stimuli``, as NSD distributes them.
    options : NsdOptions, optional
        What to read, and how to split it.

    Raises
    ------
    MissingFileError
        If a file is missing; the message names it.
    InputError
        If a file cannot be used, or two files contradict each other.

    References
    ----------
    Allen et al. 2022, Nature Neuroscience 25:116-126, and the NSD data manual.
    """

    name: ClassVar[str] = "nsd"
    version: ClassVar[int] = 2
    Options: ClassVar[type[Options]] = NsdOptions
    roi_groups: ClassVar[dict[str, list[str]]] = ROI_GROUPS
    options: NsdOptions

    def __init__(self, root: str | Path | None, options: NsdOptions | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        layout = self._layout = Layout(self.root)
        check_root(self.root)
        core = "core" in self.options.task
        design = read_design(layout.design) if core else None
        self._subjects = find_subjects(layout, self.options)
        information = None if design is None else read_information(layout.stimulus_table, design)
        self._files: dict[str, SubjectFiles] = {}
        for name in self._subjects:
            sessions = find_sessions(layout, name, self.options)
            self._files[name] = open_subject(layout, design, name, sessions, self.options)
        everything = {name: files.trials for name, files in self._files.items()}
        trials = {name: table[table["task"] == "images"] for name, table in everything.items()}
        shown = np.array([], dtype=int)
        if core:
            trials = {name: table.astype({"nsdId": int, "shared": bool}) for name, table in trials.items()}
            shown = np.unique(np.concatenate([table["nsdId"].to_numpy() for table in trials.values()]))
        folders = layout.annotations(self.options.annotations)
        self._annotations = (
            read_annotations(information, shown, folders, self.options.annotations) if core else Annotations()
        )
        self._splits: dict[str, np.ndarray] = {}
        self._reports: dict[str, dict[str, str]] = {name: {} for name in trials}
        self._ids = shown
        if core:
            self._splits, self._reports = split_trials(trials, self._annotations, self.options, self.root)
            kept = [trials[name]["nsdId"].to_numpy()[self._splits[name] != ""] for name in trials]
            self._ids = np.unique(np.concatenate(kept))
        self._images = open_images(layout, self._ids, self.options) if core else None
        for name, table in everything.items():
            own = table[table["task"] != "images"]
            test = np.where(own["task"] == "synthetic", "synthetic", "imagery")
            test = np.where(own["stimulus"] == "", "", test)
            self._splits[name] = np.concatenate([self._splits.get(name, np.array([], dtype="<U9")), test])
        self._further = self._open_further(everything)
        self._behavior = {name: self._checked_behavior(name) for name in self._subjects}
        self._data: dict[str, SubjectData] = {}

    def _open_further(self, trials: dict[str, pd.DataFrame]) -> pd.DataFrame:
        """Return the stimuli of NSD-synthetic and NSD-imagery, those with an image first, and open the images."""
        parts = [pd.DataFrame(columns=["id", "category", "source"])]
        tasks = {"synthetic": (synthetic_stimuli, ["synthetic"]), "imagery": (imagery_stimuli, ["vision", "imagery"])}
        for task, (stimuli, named) in tasks.items():
            if task in self.options.task:
                own = {name: table[table["task"].isin(named)] for name, table in trials.items()}
                parts.append(stimuli(self._layout, own, self.options))
        found = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)
        found = found.iloc[np.argsort(found["source"].isna().to_numpy(), kind="stable")].reset_index(drop=True)
        sources = found["source"][found["source"].notna()].tolist()
        size = self._images.shape[0] if self._images is not None else self.options.image_size or 425
        self._further_images = TaskImages(sources, size) if sources else None
        return found

    def _checked_behavior(self, name: str) -> pd.DataFrame | None:
        path = self._layout.behavior(name)
        trials = self._files[name].trials
        table = read_behavior(path) if "core" in self.options.task else None
        if table is not None:
            check_behavior(path, table, trials[trials["task"] == "images"])
        return table

    @classmethod
    def sources(cls, root: Path, options: NsdOptions) -> list[Path]:
        """List the design, images and annotations, and the betas and ROIs of the subjects and sessions to read."""
        return source_files(Layout(root), options)

    @property
    def description(self) -> Description:
        """Title, citation, terms of use and units of the data set."""
        options = self.options
        simulated = self.simulated
        return Description(
            title=f"NSD{' in miniature' if simulated else ''}: natural photographs, 7 T",
            simulated=simulated,
            citation=" ".join([CITATION, *(text for task, text in FURTHER_CITATIONS.items() if task in options.task)]),
            terms="NSD Terms of Use (naturalscenesdataset.org): no redistribution; images under COCO's terms",
            units={
                "percent": "percent signal change",
                "session": "standard deviations of the training trials of the session",
                "session-all": "standard deviations of the session",
            }[options.scaling],
            notes=f"{'' if options.task == ('core',) else 'Tasks: ' + ', '.join(options.task) + '. '}"
            f"Betas {options.betas} in {options.space}, mask {options.mask!r}; "
            f"{'single trials' if options.samples == 'trial' else 'means over the trials of an image'}; "
            f"split {options.split!r}. Stimulus nsd00000 is nsdId 0 (73KID 1).",
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, ``subj01`` to ``subj08``: those in the options, or all on disk."""
        return list(self._subjects)

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: the images that any of the subjects saw, sorted by ``nsdId``."""
        ids = self._ids.tolist()
        table = pd.DataFrame(
            {
                "id": [stimulus_id(number) for number in ids],
                "kind": "image",
                "category": [self._annotations.category(number) for number in ids],
                "captions": [self._annotations.captions(number) for number in ids],
            }
        )
        if not len(self._further):
            return table
        with_image = self._further["source"].notna() | (self.options.images == "none")
        concept = self._further["category"] == "conceptual"
        further = self._further[["id", "category"]].assign(
            kind=np.where(with_image & ~concept, "image", "other"), captions=[[] for _ in range(len(self._further))]
        )
        return pd.concat([table, further], ignore_index=True)[table.columns.tolist()]

    def labels(self) -> pd.DataFrame | None:
        """Return the share of each image that each COCO category covers, or None without COCO's instances.

        NaN for the images of NSD-synthetic and NSD-imagery, whose objects nobody labeled.
        """
        found = self._annotations.labels(self._ids)
        if found is None or not len(self._further):
            return found
        return found.reindex(range(len(self._ids) + len(self._further)))

    def image_shape(self) -> tuple[int, int, int] | None:
        """Return the shape of an image, (y, x, rgb): (425, 425, 3) unless the options say otherwise; None without."""
        there = [images.shape for images in (self._images, self._further_images) if images is not None]
        return there[0] if there else None

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        number, parts = len(self._ids), []
        if self._images is not None and start < number:
            parts.append(self._images.read(start, min(stop, number)))
        if self._further_images is not None and stop > number:
            parts.append(self._further_images.read(max(start - number, 0), stop - number))
        return np.concatenate(parts) if parts else super().read_images(start, stop)

    def subject(self, name: str) -> SubjectData:
        """Return the data of one subject.

        Raises
        ------
        UnknownNameError, InputError
            If the subject does not exist, or none of its voxels can be used.
        """
        if name not in self._subjects:
            raise UnknownNameError("subject", name, self._subjects)
        if name not in self._data:
            self._data[name] = subject_data(
                self._files[name],
                self._splits[name],
                {**self._reports[name], **self._annotations.report(self._ids)},
                self._behavior[name],
                self.options,
            )
        return self._data[name]


def stimulus_id(number: int) -> str:
    """Return the id of an image in the store, from its ``nsdId`` (from 0)."""
    return f"nsd{number:05d}"
