"""Read the embedded data set: nothing is on disk, everything is computed from a seed when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import ClassVar

import numpy as np
import pandas as pd
from pydantic import Field

from neurorecon.datasets import base
from neurorecon.datasets.scenes.captions import captions
from neurorecon.datasets.scenes.cortex import MESH, build_cortex, load_hemispheres
from neurorecon.datasets.scenes.design import REPETITION_TIME, film_design, image_design
from neurorecon.datasets.scenes.forward import ForwardModel
from neurorecon.datasets.scenes.stimuli import FRAMES, FRAMES_PER_SECOND, Stimuli
from neurorecon.datasets.scenes.subject import SimulatedSubject
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.space import Space


class ScenesOptions(base.Options):
    """Options of the embedded data set."""

    seed: int = Field(0, ge=0, description="Everything follows from it: scenes, brains, noise.")
    subjects: int = Field(2, ge=1, le=99, description="Number of subjects.")
    voxels: int = Field(2500, ge=100, description="Voxels of each subject; about a tenth lie outside all visual areas.")
    train_images: int = Field(1000, ge=0, description="Training images, each shown once.")
    test_images: int = Field(100, ge=0, description="Test images; none is a training image.")
    test_image_repeats: int = Field(3, ge=1, description="Times that each test image is shown.")
    train_films: int = Field(300, ge=0, description="Training clips of 2 s.")
    test_films: int = Field(60, ge=0, description="Test clips of 2 s.")
    train_film_repeats: int = Field(2, ge=1, description="Times that each run of training clips is shown.")
    test_film_repeats: int = Field(10, ge=1, description="Times that each run of test clips is shown.")
    image_size: int = Field(64, ge=16, le=512, description="Pixels on each side of images and films.")
    signal: float = Field(1.0, ge=0.0, description="Multiplies the signal-to-noise ratio of every voxel.")


class ScenesReader(base.Reader):
    """Procedural scenes and films, and simulated visual cortices that see them.

    Parameters
    ----------
    root : None
        Not used: there are no files.
    options : ScenesReader.Options, optional
    """

    name: ClassVar[str] = "scenes"
    Options: ClassVar[type[base.Options]] = ScenesOptions
    needs_root: ClassVar[bool] = False
    roi_groups: ClassVar[dict[str, list[str]]] = {
        "early": ["V1", "V2", "V3"],
        "LVC": ["V1", "V2", "V3", "hV4"],
        "HVC": ["LO", "OFA", "FFA", "PPA", "OPA", "RSC", "EBA", "VWFA"],
        "ventral": ["hV4", "LO", "OFA", "FFA", "PPA", "VWFA"],
        "dorsal": ["V3A", "V3B", "MT", "MST", "IPS"],
        "faces": ["OFA", "FFA"],
        "places": ["PPA", "OPA", "RSC"],
    }
    default_targets: ClassVar[tuple[str, ...]] = ("clip_image", "vqvae", "vdvae", "motion", "category", "gabor")
    options: ScenesOptions

    def __init__(self, root: object = None, options: base.Options | None = None) -> None:
        super().__init__(None, options)
        chosen = self.options
        images, films = chosen.train_images + chosen.test_images, chosen.train_films + chosen.test_films
        if images + films == 0:
            raise InputError(
                "a data set without stimuli",
                given="0 images and 0 films",
                expected="train_images, test_images, train_films or test_films above 0",
                todo="mend [options] of the recipe",
            )
        self._stimuli = Stimuli(chosen.seed, images, films, chosen.image_size)
        self._subject = lru_cache(maxsize=2)(self._simulate)

    @property
    def description(self) -> base.Description:
        """Title, citation, terms, units."""
        return base.Description(
            title="Scenes: procedural images and films seen by simulated visual cortices",
            simulated=True,
            citation="neurorecon, embedded data set; sources of the model are in neurorecon.datasets.scenes",
            terms="BSD-3-Clause",
            units="percent signal change (images); standard deviations of the run (films)",
            notes=(
                "Simulated, not measured. Images: one response estimate a trial. Films: one volume a clip of 2 s; "
                "each run had a polynomial of order 4 removed and was scaled to unit variance."
            ),
        )

    @property
    def subjects(self) -> list[str]:
        """Names of the subjects, ``["subj01", ...]``."""
        return [f"subj{number:02d}" for number in range(1, self.options.subjects + 1)]

    def stimuli(self) -> pd.DataFrame:
        """Return the table of stimuli: training images, test images, training films, test films."""
        return self._table.copy()

    @cached_property
    def _table(self) -> pd.DataFrame:
        scenes = [self._stimuli.scene(number) for number in range(len(self._stimuli))]
        return pd.DataFrame(
            {
                "id": self._ids,
                "kind": ["film" if self._stimuli.is_film(n) else "image" for n in range(len(scenes))],
                "category": [scene.category for scene in scenes],
                "captions": [captions(scene) for scene in scenes],
            }
        )

    @cached_property
    def _ids(self) -> np.ndarray:
        images = [f"image{number:05d}" for number in range(1, self._stimuli.images + 1)]
        films = [f"film{number:04d}" for number in range(1, self._stimuli.films + 1)]
        return np.array(images + films)

    def labels(self) -> pd.DataFrame:
        """Return visible area by category, and the layout of each scene."""
        rows = [self._stimuli.labels(number) for number in range(len(self._stimuli))]
        return pd.DataFrame(rows, columns=self._stimuli.label_names())

    def image_shape(self) -> tuple[int, int, int]:
        """Return (y, x, rgb) of the pictures."""
        return (self.options.image_size, self.options.image_size, 3)

    def read_images(self, start: int, stop: int) -> np.ndarray:
        """Return the pictures of stimuli ``start:stop``, uint8, (stimulus, y, x, rgb); of a film, one frame."""
        start, stop, _ = slice(start, stop).indices(len(self._stimuli))
        self._stimuli.draw_ahead(range(start, stop))
        return _stack((self._stimuli.image(number) for number in range(start, stop)), self.image_shape())

    def film_shape(self) -> tuple[int, int, int, int] | None:
        """Return (frame, y, x, rgb) of the films, or None where there are none."""
        return (FRAMES, *self.image_shape()) if self._stimuli.films else None

    def frames_per_second(self) -> float | None:
        """Return the frame rate of the films, or None where there are none."""
        return FRAMES_PER_SECOND if self._stimuli.films else None

    def read_frames(self, start: int, stop: int) -> np.ndarray:
        """Return the frames of films ``start:stop`` (counted among the films), uint8, (film, frame, y, x, rgb)."""
        start, stop, _ = slice(start, stop).indices(self._stimuli.films)
        first = self._stimuli.images
        films = (self._stimuli.pixels(first + number) for number in range(start, stop))
        return _stack(films, (FRAMES, *self.image_shape()))

    def subject(self, name: str) -> base.SubjectData:
        """Return the recordings of one simulated subject."""
        if name not in self.subjects:
            raise UnknownNameError("subject", name, self.subjects)
        return self._subject(name)

    def _simulate(self, name: str) -> base.SubjectData:
        chosen, number = self.options, self.subjects.index(name) + 1
        cortex = build_cortex(chosen.seed, number, chosen.voxels)
        images, films = self._stimuli.images, range(self._stimuli.images, len(self._stimuli))
        forward = ForwardModel(
            chosen.seed,
            number,
            cortex,
            self._stimuli,
            range(chosen.train_images or images),
            films[: chosen.train_films or None],
        )
        simulated = SimulatedSubject(chosen.seed, number, cortex, forward, self._design, chosen.signal)
        columns = ["hemisphere", "vertex"]
        if cortex.voxels["depth"].any():
            columns.append("depth")
        return base.SubjectData(
            samples=self._samples,
            voxels=cortex.voxels[columns].copy(),
            rois=cortex.rois,
            space=Space(
                kind="surface",
                mesh=MESH,
                vertices={side: len(part.sphere) for side, part in load_hemispheres().items()},
            ),
            read_responses=simulated.read,
            repetition_time={"films": REPETITION_TIME} if self._stimuli.films else {},
            truth=simulated.truth(),
        )

    @cached_property
    def _design(self) -> pd.DataFrame:
        chosen = self.options
        images = image_design(chosen.seed, chosen.train_images, chosen.test_images, chosen.test_image_repeats)
        films = film_design(
            self._stimuli.images,
            chosen.train_films,
            chosen.test_films,
            chosen.train_film_repeats,
            chosen.test_film_repeats,
            first_session=int(images["session"].max()) + 1 if len(images) else 1,
        )
        return pd.concat([part for part in (images, films) if len(part)], ignore_index=True)

    @property
    def _samples(self) -> pd.DataFrame:
        ids = self._ids[self._design["number"].to_numpy(dtype=int)]
        return self._design.assign(stimulus=ids)[list(base.SAMPLE_COLUMNS)]


def _stack(arrays: Iterator[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    parts = list(arrays)
    return np.stack(parts) if parts else np.zeros((0, *shape), dtype=np.uint8)
