"""The contract of extractors of targets: checks that third parties can run on their own."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from neurorecon.testing.contract import Check, ContractError, draw, expect, global_state, run_all


@dataclass(frozen=True)
class Examples:
    """Stimuli to try an extractor on.

    Parameters
    ----------
    images : array, uint8, shape (stimulus, y, x, rgb)
    videos : array, uint8, shape (stimulus, frame, y, x, rgb)
    captions : list of list of str
        Some with several captions.
    categories : list of str
    frames_per_second : float
    """

    images: np.ndarray = field(default_factory=lambda: _videos(5, 1, 48, 64)[:, 0])
    videos: np.ndarray = field(default_factory=lambda: _videos(5, 8, 48, 64))
    captions: list[list[str]] = field(
        default_factory=lambda: [["a red car"], ["one tool", "a tool here"], ["a person"], ["a building"], ["animal"]]
    )
    categories: list[str] = field(default_factory=lambda: ["animal", "tool", "animal", "person", "tool"])
    frames_per_second: float = 4.0

    def of(self, needs: str) -> Any:
        """Return the stimuli that a target is computed from."""
        kinds = {"images": self.images, "frames": self.videos, "captions": self.captions}
        return kinds.get(needs, self.categories)


def _videos(stimuli: int, frames: int, height: int, width: int) -> np.ndarray:
    """Return videos of a bright spot that moves over a colored grating, different for each stimulus."""
    y, x = np.mgrid[:height, :width] / width
    found = np.empty((stimuli, frames, height, width, 3), dtype=np.uint8)
    for number in range(stimuli):
        angle = np.pi * number / stimuli
        wave = 0.5 + 0.4 * np.sin(2 * np.pi * (3 + 2 * number) * (x * np.cos(angle) + y * np.sin(angle)))
        for frame in range(frames):
            center = 0.2 + 0.07 * frame
            spot = np.exp(-((x - center) ** 2 + (y - 0.1 * (number + 1)) ** 2) / 0.01)
            color = np.array([1.0, 0.3 + 0.15 * number, 0.8 - 0.15 * number])
            mixed = wave[..., None] * color * (1 - spot[..., None]) + spot[..., None]
            found[number, frame] = np.round(255 * np.clip(mixed, 0, 1))
    return found


@dataclass
class Trial:
    """An extractor under test.

    Parameters
    ----------
    extractor : Extractor
    others : sequence of Extractor
        The same extractor with other settings.
    examples : Examples
    tolerance : float
    """

    extractor: Any
    others: Sequence[Any]
    examples: Examples
    tolerance: float

    def run(self, stimuli: Any = None, batch: int | None = None) -> np.ndarray:
        """Return the target of the examples, or of other stimuli."""
        chosen = self.stimuli if stimuli is None else stimuli
        found: np.ndarray = self.extractor.transform(
            chosen, batch=batch, frames_per_second=self.examples.frames_per_second
        )
        return found

    @property
    def stimuli(self) -> Any:
        """The examples that suit the extractor: a copy, so that nothing an extractor does to it is passed on."""
        return copy.deepcopy(self.examples.of(self.extractor.needs))

    @cached_property
    def values(self) -> np.ndarray:
        """The target of the examples, computed at once."""
        return self.run()

    def first_batch(self) -> Any:
        """Return the batch that the extractor sees first, as ``transform`` makes it."""
        seen: list[Any] = []
        extractor = pickle.loads(pickle.dumps(self.extractor))

        def keep(batch: Any) -> Any:
            seen.append(batch)
            return type(extractor).prepare(extractor, batch)

        extractor.prepare = keep
        extractor.transform(self.stimuli, frames_per_second=self.examples.frames_per_second)
        return seen[0]


#: What a target can be computed from.
_NEEDS = ("images", "frames", "captions", "categories", "table")

#: What has to be said of every target.
_SAID = ("model", "preprocessing", "source")


def check_class(trial: Trial) -> None:
    """Class attributes."""
    extractor = trial.extractor
    bases = [f"{base.__module__}.{base.__name__}" for base in type(extractor).__mro__]
    expect(
        "neurorecon.features.base.Extractor" in bases,
        "An extractor has to be an instance of a subclass of neurorecon.features.base.Extractor.",
    )
    name = getattr(extractor, "name", None)
    expect(
        isinstance(name, str) and name.isidentifier() and name == name.lower(),
        f"name has to be a lower-case identifier, e.g. 'clip_vision', but is {name!r}.",
    )
    expect(extractor.needs in _NEEDS, f"needs has to be one of {', '.join(_NEEDS)}, but is {extractor.needs!r}.")
    version = extractor.version
    expect(
        isinstance(version, int) and not isinstance(version, bool) and version > 0,
        f"version has to be an integer from 1 on, but is {version!r}.",
    )
    batch = extractor.batch
    expect(isinstance(batch, int) and batch > 0, f"batch has to be an integer from 1 on, but is {batch!r}.")


def check_values(trial: Trial) -> None:
    """Type, shape, finite numbers that say something."""
    values, number = trial.values, len(trial.stimuli)
    expect(isinstance(values, np.ndarray), f"A target has to be a NumPy array, but is a {type(values).__name__}.")
    raw = trial.extractor.compute(trial.extractor.prepare(trial.first_batch()))
    expect(np.asarray(raw).dtype == np.float32, f"A target has to be float32, but is {np.asarray(raw).dtype}.")
    expect(
        values.ndim >= 2 and values.shape[0] == number and values.size > 0,
        f"A target has to have the shape (stimulus, ...) with {number} stimuli, but has {values.shape}.",
    )
    expect(np.isfinite(values).all(), "A target has to hold finite numbers.")
    expect(np.ptp(values, axis=0).any(), "A target has to differ between different stimuli.")


def check_dims(trial: Trial) -> None:
    """Names of axes and features."""
    dims, axes = trial.extractor.dims, trial.values.ndim - 1
    expect(
        dims is None or (len(dims) == axes and len({*dims, "stimulus", "sample"}) == axes + 2),
        f"dims has to be None or {axes} different names without 'stimulus' and 'sample', but is {dims!r}.",
    )
    names = trial.extractor.feature_names(trial.first_batch())
    if names is None:
        return
    expect(axes == 1, "feature_names has to return None for targets of more than one axis.")
    expect(
        len(names) == trial.values.shape[1]
        and len(set(names)) == len(names)
        and all(isinstance(n, str) for n in names),
        f"feature_names has to return {trial.values.shape[1]} different strings, but returns {len(names)} names.",
    )


def check_determinism(trial: Trial) -> None:
    """The same stimuli, the same numbers, whatever random numbers the caller draws."""
    first = trial.values.copy()
    draw()
    expect(np.array_equal(first, trial.run()), "A target has to be the same to the bit when it is computed again.")


def check_batches(trial: Trial) -> None:
    """Neither the size of the batch nor its other stimuli matter."""
    whole = trial.values
    largest = float(np.abs(whole).max()) or 1.0
    for size in (1, 2):
        difference = float(np.abs(trial.run(batch=size) - whole).max()) / largest
        expect(
            difference <= trial.tolerance,
            f"A target may not depend on the size of the batch, but with {size} at a time it differs by "
            f"{difference:.1e} of the largest value (tolerance {trial.tolerance:g}).",
        )


def check_input_types(trial: Trial) -> None:
    """uint8, float from 0 to 1, and PIL images are the same images."""
    if trial.extractor.needs not in ("images", "frames"):
        return
    from PIL import Image

    kinds = {"float32": trial.stimuli.astype(np.float32) / np.float32(255), "float64": trial.stimuli / 255.0}
    if trial.extractor.needs == "images":
        kinds["PIL"] = [Image.fromarray(image) for image in trial.stimuli]
    else:
        kinds["PIL"] = [[Image.fromarray(frame) for frame in video] for video in trial.stimuli]
    for kind, stimuli in kinds.items():
        expect(
            np.array_equal(trial.run(stimuli), trial.values),
            f"A target has to be the same for uint8 and for {kind} images.",
        )


def check_inputs_stay(trial: Trial) -> None:
    """What is handed in is not written into, and what comes back is the caller's."""
    stimuli = trial.stimuli
    values = trial.run(stimuli)
    expect(pickle.dumps(stimuli) == pickle.dumps(trial.stimuli), "An extractor may not write into its input.")
    kept = values.copy()
    trial.run(stimuli[::-1])
    expect(np.array_equal(values, kept), "A target has to be an array of its own, not one that is used again.")


def check_made_by(trial: Trial) -> None:
    """How the numbers came about, as JSON, and the same before and after computing."""
    said = trial.extractor.made_by()
    expect(isinstance(said, dict), f"made_by has to return a dict, but returns a {type(said).__name__}.")
    for key in _SAID:
        expect(isinstance(said.get(key), str) and said[key], f"made_by has to say {key!r} in words.")
    for what, value in (("made_by", said), ("layout", trial.extractor.layout())):
        try:
            same = json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError) as error:
            raise ContractError(f"{what} has to hold JSON types only, but {error}.") from error
        expect(same, f"{what} has to be the same after a way through JSON (lists, not tuples; text as keys).")
    trial.run()
    expect(trial.extractor.made_by() == said, "made_by has to be the same before and after computing.")


def check_settings(trial: Trial) -> None:
    """Other settings are said."""
    said = [trial.extractor.made_by(), *(other.made_by() for other in trial.others)]
    for number, one in enumerate(said):
        expect(
            one not in said[:number],
            "made_by has to differ between extractors with different settings, or targets would be mixed, but two say "
            f"the same: {one}.",
        )


def check_pickle(trial: Trial) -> None:
    """Other processes compute with a copy."""
    twin = pickle.loads(pickle.dumps(trial.extractor))
    expect(twin.made_by() == trial.extractor.made_by(), "made_by has to be the same after pickling.")
    found = twin.transform(trial.stimuli, frames_per_second=trial.examples.frames_per_second)
    expect(np.array_equal(found, trial.values), "A target has to be the same to the bit after pickling.")


def check_global_state(trial: Trial) -> None:
    """Random numbers, threads and settings of the process stay as they are."""
    draw()  # so that an extractor that seeds the generators is noticed the second time, too
    before = global_state()
    fresh = pickle.loads(pickle.dumps(trial.extractor))  # so that loading a network is watched as well
    fresh.transform(trial.stimuli, frames_per_second=trial.examples.frames_per_second)
    after = global_state()
    for name, value in before.items():
        expect(
            value == after[name],
            f"An extractor may not change {name}, which belongs to the process: use a generator of your own, or a "
            "context that puts it back.",
        )


CHECKS: tuple[Callable[[Trial], None], ...] = (
    check_class,
    check_values,
    check_dims,
    check_determinism,
    check_batches,
    check_input_types,
    check_inputs_stay,
    check_made_by,
    check_settings,
    check_pickle,
    check_global_state,
)

#: Largest difference, relative to the largest value, that the size of a batch may make.
TOLERANCE = 1e-5


class ExtractorCheck(Check):
    """One check of the contract; its function takes a :class:`~neurorecon.testing.extractors.Trial`."""

    def __call__(
        self,
        extractor: Any,
        *,
        others: Sequence[Any] = (),
        examples: Examples | None = None,
        tolerance: float = TOLERANCE,
    ) -> None:
        """Run the check; the parameters are those of :func:`check_extractor`.

        Raises
        ------
        ContractError
            Where the extractor does not keep the contract. What the extractor itself raises is passed through.
        """
        self.function(Trial(extractor, others, examples or Examples(), tolerance))


def extractor_checks() -> list[ExtractorCheck]:
    """Return all checks, e.g. for ``pytest.mark.parametrize("check", extractor_checks(), ids=str)``."""
    return ExtractorCheck.of(CHECKS)


def check_extractor(
    extractor: Any,
    *,
    others: Sequence[Any] = (),
    examples: Examples | None = None,
    tolerance: float = TOLERANCE,
) -> list[str]:
    """Run all checks on an extractor.

    Parameters
    ----------
    extractor : Extractor
        Made with the settings to test.
    others : sequence of Extractor
        The same extractor with other settings that change its numbers: what it says of itself has to differ.
    examples : Examples, optional
        Stimuli; by default five small images, videos, lists of captions and categories.
    tolerance : float
        Largest difference, relative to the largest value, that the size of a batch may make.

    Returns
    -------
    list of str
        Names of the checks, all of which were passed.

    Raises
    ------
    ContractError
        Where checks failed: a line for each, with the name of the check and what was expected.
    """
    trial = Trial(extractor, others, examples or Examples(), tolerance)
    name = getattr(extractor, "name", type(extractor).__name__)
    return run_all(extractor_checks(), trial, what="extractor", name=repr(name))
