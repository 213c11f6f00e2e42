"""Reader of Miyawaki 2008: responses of early visual cortex to patterns of 10 by 10 patches, one subject.

Two layouts are read, whichever the folder holds: the excerpt ``V1_mean_figure.mat`` (V1, block means of the
figure session) and what :func:`nilearn.datasets.fetch_miyawaki2008` leaves in ``nilearn_data/miyawaki2008``
(NIfTI runs of the random and the figure session, with masks of the areas).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets.base import SAMPLE_COLUMNS, Description, Options, Reader, SubjectData
from neurorecon.datasets.miyawaki2008_figures import PATCHES, stimulus_table
from neurorecon.datasets.miyawaki2008_nifti import read_figure_and_random_runs
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.space import Space

#: Name of the excerpt's file.
EXCERPT = "V1_mean_figure.mat"

#: Blocks in a run of the figure session, and seconds from one to the next (12 s figure, 12 s rest).
BLOCKS_PER_RUN, BLOCK_SECONDS = 10, 24.0

CITATION = (
    "Miyawaki Y, Uchida H, Yamashita O, Sato M, Morito Y, Tanabe HC, Sadato N, Kamitani Y (2008). "
    "Visual image reconstruction from human brain activity using a combination of multiscale local "
    "image decoders. Neuron 60:915-929. doi:10.1016/j.neuron.2008.11.004"
)
CITATION_EXCERPT = (
    " Fujiwara Y, Miyawaki Y, Kamitani Y (2013). Modular encoding and decoding models derived from Bayesian "
    "canonical correlation analysis. Neural Comput 25:979-1005. doi:10.1162/NECO_a_00423"
)


class MiyawakiOptions(Options):
    """Options of the reader of Miyawaki 2008.

    All but the defaults concern the NIfTI runs; the excerpt holds preprocessed block means, taken as they
    are. The defaults are those of nilearn's examples on these data, except that the volumes of a block are
    averaged, as in the paper.

    Parameters
    ----------
    detrend : bool
        Remove the linear trend of every voxel in every run.
    standardize : bool
        Divide every voxel by its standard deviation in the run, about its mean.
    lag : int
        Volumes (2 s each) by which the response follows the stimulus.
    samples : {"block", "volume"}
        ``"block"``: one sample a presentation, the mean of its volumes. ``"volume"``: one sample a volume,
        as in nilearn's examples. Every volume then counts as a repeat, though those of one presentation
        share their noise: noise ceilings computed from them are too high.
    """

    detrend: bool = True
    standardize: bool = True
    lag: int = Field(default=2, ge=0, le=20)
    samples: str = Field(default="block", pattern="^(block|volume)$")


@dataclass(frozen=True)
class Content:
    """What a folder holds, whichever its layout.

    Parameters
    ----------
    stimuli : DataFrame
        The table of stimuli.
    patterns : array, shape (stimulus, y, x)
        uint8, 0 or 1.
    data : SubjectData
        The one subject.
    notes, units, citation, terms : str
        For the description.
    """

    stimuli: pd.DataFrame
    patterns: np.ndarray
    data: SubjectData
    notes: str
    units: str
    citation: str
    terms: str


class Miyawaki2008Reader(Reader):
    """Reader of Miyawaki et al. 2008.

    Parameters
    ----------
    root : path
        The folder with ``V1_mean_figure.mat``, or the one with ``func``, ``label`` and ``mask``.
    options : MiyawakiOptions, optional
        Preprocessing of the NIfTI runs.

    Raises
    ------
    MissingFileError
        Where the folder holds neither layout, or a file of it is missing.
    InputError
        Where a file cannot be used; the message names it.

    References
    ----------
    Miyawaki et al. 2008, Neuron 60:915-929.
    """

    name: ClassVar[str] = "miyawaki2008"
    Options: ClassVar[type[Options]] = MiyawakiOptions
    #: VP is the ventral part of V3.
    roi_groups: ClassVar[dict[str, list[str]]] = {
        "early": ["V1", "V2", "V3", "VP"],
        "LVC": ["V1", "V2", "V3", "VP", "V4v"],
    }
    options: MiyawakiOptions

    def __init__(self, root: str | Path | None, options: MiyawakiOptions | None = None) -> None:
        super().__init__(root, options)
        assert self.root is not None  # the base class refuses None
        excerpt, runs = (self.root / EXCERPT).is_file(), (self.root / "func").is_dir()
        if excerpt == runs:
            raise MissingFileError(
                "the folder of Miyawaki 2008 has to hold one of the two layouts",
                given=f"{self.root} with {'both' if excerpt else 'neither'}",
                expected=f"either {EXCERPT}, or the folders func, label and mask",
                todo="pass the folder of the excerpt, or nilearn_data/miyawaki2008 after "
                "nilearn.datasets.fetch_miyawaki2008()",
            )
        self._content = _read_excerpt(self.root / EXCERPT) if excerpt else _read_runs(self.root, self.options)

    @property
    def description(self) -> Description:
        """Title, citation, terms, units."""
        content = self._content
        return Description(
            title="Miyawaki 2008: early visual cortex, patterns of 10 by 10 patches",
            simulated=self.simulated,
            citation=content.citation,
            terms=content.terms,
            units=content.units,
            notes=content.notes,
        )

    @property
    def subjects(self) -> list[str]:
        """The one subject."""
        return ["subj01"]

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: figures by their name, random patterns by number."""
        return self._content.stimuli.copy()

    def image_shape(self) -> tuple[int, int, int]:
        """Return (10, 10, 3)."""
        return (PATCHES, PATCHES, 3)

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return patterns ``start:stop`` as gray pictures, 0 or 255, uint8, shape (stimulus, 10, 10, 3)."""
        return np.repeat(self._content.patterns[start:stop, :, :, None] * np.uint8(255), 3, axis=3)

    def subject(self, name: str) -> SubjectData:
        """Return the recordings of the one subject."""
        if name not in self.subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._content.data


def _read_excerpt(path: Path) -> Content:
    """Read the block means of V1."""
    flat, responses = _load_excerpt(path)
    patterns = flat.T.reshape(-1, PATCHES, PATCHES).transpose(0, 2, 1)  # column-major, as MATLAB has it
    unique, stimulus_of_block = _unique_in_order(patterns)
    stimuli = stimulus_table(unique)
    block = np.arange(len(patterns))
    samples = pd.DataFrame(
        {
            "stimulus": stimuli["id"].to_numpy()[stimulus_of_block],
            "task": "images",
            "session": 1,
            "run": block // BLOCKS_PER_RUN + 1,
            "repeat": pd.Series(stimulus_of_block).groupby(stimulus_of_block).cumcount() + 1,
            "split": "train",
            "time": (block % BLOCKS_PER_RUN) * BLOCK_SECONDS,
        },
        columns=list(SAMPLE_COLUMNS),
    )
    data = SubjectData(
        samples=samples,
        voxels=pd.DataFrame(index=range(responses.shape[1])),
        rois={"V1": np.ones(responses.shape[1], dtype=bool)},
        space=Space("none"),
        read_responses=lambda start, stop: responses[start:stop].copy(),
    )
    return Content(
        stimuli,
        unique,
        data,
        notes="Block means of V1, preprocessed by the authors. All samples are 'train': cross-validate by "
        "category, one figure out. The file holds no times: seconds count from the first block of the run, "
        "by the design (12 s figure, 12 s rest).",
        units="block mean (units of the authors)",
        citation=CITATION + CITATION_EXCERPT,
        terms="Excerpt of KamitaniLab/VBCCA, BSD-3-Clause style",
    )


def _load_excerpt(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Load and check ``I2`` (pixel, block), and ``R2`` as float32 (block, voxel)."""
    from scipy.io import loadmat

    try:
        content = loadmat(path, variable_names=["I2", "R2"])
    except Exception as error:  # scipy raises whatever a damaged file leads it to: a dozen types
        raise InputError(
            f"{path} cannot be read",
            given=f"{path.stat().st_size} bytes; {type(error).__name__}: {error}",
            expected="a MATLAB file of version 5",
            todo="the copy is damaged or incomplete: copy it again",
        ) from error
    missing = [name for name in ("I2", "R2") if name not in content]
    if missing:
        raise InputError(
            f"{path} lacks {' and '.join(missing)}",
            given="a MATLAB file without it",
            expected="I2 (100, block), the patterns, and R2 (voxel, block), the responses",
            todo="take V1_mean_figure.mat as KamitaniLab/VBCCA distributes it",
        )
    patterns, responses = content["I2"], content["R2"]
    blocks = patterns.shape[-1]
    if (
        patterns.shape != (PATCHES**2, blocks)
        or responses.shape != (responses.shape[0], blocks)
        or min(responses.shape) == 0
        or blocks % BLOCKS_PER_RUN
    ):
        raise InputError(
            f"the arrays in {path} have the wrong shape",
            given=f"I2 {patterns.shape}, R2 {responses.shape}",
            expected="I2 (100, block) and R2 (voxel, block), whole runs of 10 blocks: (100, 80), (797, 80)",
            todo="take V1_mean_figure.mat as KamitaniLab/VBCCA distributes it",
        )
    if not np.isin(patterns, (0, 1)).all():
        raise InputError(
            f"the patterns I2 in {path} are not black and white",
            given=f"values from {patterns.min()} to {patterns.max()}",
            expected="0 and 1",
            todo="take V1_mean_figure.mat as KamitaniLab/VBCCA distributes it",
        )
    if responses.dtype.kind not in "fiu" or not np.isfinite(responses).all():
        raise InputError(
            f"the responses R2 in {path} are not all finite numbers",
            given=f"{responses.dtype}"
            + (f", {(~np.isfinite(responses)).sum()} not finite" if responses.dtype.kind == "f" else ""),
            expected="finite numbers",
            todo="remove the voxels or blocks concerned, or take the file as distributed",
        )
    return patterns.astype(np.uint8), np.ascontiguousarray(responses.T, dtype=np.float32)


def _unique_in_order(patterns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct patterns in order of first appearance, and the place of each pattern among them."""
    _, first, inverse = np.unique(patterns.reshape(len(patterns), -1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return patterns[first[order]], np.argsort(order)[inverse.ravel()]


def _read_runs(root: Path, options: MiyawakiOptions) -> Content:
    """Read nilearn's layout."""
    runs = read_figure_and_random_runs(root, options)
    return Content(
        runs.stimuli,
        runs.patterns,
        runs.data,
        notes=runs.notes,
        units="standard deviations of the run" if options.standardize else "scanner units",
        citation=CITATION,
        terms="As distributed by the authors for nilearn; license not stated",
    )
