"""The contract of extractors, as checks that third parties can run on their own extractors."""

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
    """Example stimuli for testing an extractor.

    Parameters
    ----------
    images : array, uint8, shape (stimulus, y, x, rgb)
    videos : array, uint8, shape (stimulus, frame, y, x, rgb)
    captions : list of list of str
        Captions of each stimulus, for some stimuli more than one.
    categories : list of str
        Category of each stimulus.
    frames_per_second : float
        Frame rate of the videos.
    """

    images: np.ndarray = field(default_factory=lambda: _videos(5, 1, 48, 64)[:, 0])
    videos: np.ndarray = field(default_factory=lambda: _videos(5, 8, 48, 64))
    captions: list[list[str]] = field(
        default_factory=lambda: [["a red car"], ["one tool", "a tool here"], ["a person"], ["a building"], ["animal"]]
    )
    categories: list[str] = field(default_factory=lambda: ["animal", "tool", "animal", "person", "tool"])
    frames_per_second: float = 4.0

    def of(self, needs: str) -> Any:
        """Return the stimuli of the kind that an extractor needs."""
        kinds = {"images": self.images, "frames": self.videos, "captions": self.captions}
        return kinds.get(needs, self.categories)


def _videos(stimuli: int, frames: int, height: int, width: int) -> np.ndarray:
    """Return videos of a bright spot that moves over a colored grating; each stimulus is different."""
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
        Extractor with the settings to test.
    others : sequence of Extractor
        The same extractor with other settings.
    examples : Examples
        Stimuli.
    tolerance : float
        As in :func:`check_extractor`.
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
        """A copy of the examples that suit the extractor, so that the originals cannot be modified."""
        return copy.deepcopy(self.examples.of(self.extractor.needs))

    @cached_property
    def values(self) -> np.ndarray:
        """The target of all examples, computed in a single call."""
        return self.run()

    def first_batch(self) -> Any:
        """Return the first batch that ``transform`` passes to the extractor."""
        seen: list[Any] = []
        extractor = pickle.loads(pickle.dumps(self.extractor))

        def keep(batch: Any) -> Any:
            seen.append(batch)
            return type(extractor).prepare(extractor, batch)

        extractor.prepare = keep
        extractor.transform(self.stimuli, frames_per_second=self.examples.frames_per_second)
        return seen[0]


#: Allowed values of ``Extractor.needs``.
_NEEDS = ("images", "frames", "captions", "categories", "table")

#: Required keys of ``made_by``.
_SAID = ("model", "preprocessing", "source")


def check_class(trial: Trial) -> None:
    """The class and its attributes are valid."""
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
        f"version has to be a positive integer, but is {version!r}.",
    )
    batch = extractor.batch
    expect(isinstance(batch, int) and batch > 0, f"batch has to be a positive integer, but is {batch!r}.")


def check_values(trial: Trial) -> None:
    """Values are finite float32, have the right shape, and differ between stimuli."""
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
    """Names of axes and features match the values."""
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
    """The same stimuli give the same values, whatever random numbers the caller draws."""
    first = trial.values.copy()
    draw()
    expect(np.array_equal(first, trial.run()), "A target has to be the same, bit for bit, when it is computed again.")


def check_batches(trial: Trial) -> None:
    """Values depend neither on the batch size nor on the other stimuli of a batch."""
    whole = trial.values
    largest = float(np.abs(whole).max()) or 1.0
    for size in (1, 2):
        difference = float(np.abs(trial.run(batch=size) - whole).max()) / largest
        expect(
            difference <= trial.tolerance,
            f"A target may not depend on the batch size, but with {size} per batch it differs by "
            f"{difference:.1e} of the largest value (tolerance {trial.tolerance:g}).",
        )


def check_input_types(trial: Trial) -> None:
    """uint8, float from 0 to 1 and PIL images give the same values."""
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
    """Inputs are not modified, and returned arrays are not reused."""
    stimuli = trial.stimuli
    values = trial.run(stimuli)
    expect(pickle.dumps(stimuli) == pickle.dumps(trial.stimuli), "An extractor may not write into its input.")
    kept = values.copy()
    trial.run(stimuli[::-1])
    expect(np.array_equal(values, kept), "A target has to be an array of its own, not a buffer that is reused.")


def check_made_by(trial: Trial) -> None:
    """``made_by`` is complete, JSON, and the same before and after computing."""
    said = trial.extractor.made_by()
    expect(isinstance(said, dict), f"made_by has to return a dict, but returns a {type(said).__name__}.")
    for key in _SAID:
        expect(isinstance(said.get(key), str) and said[key], f"made_by has to have {key!r}, a non-empty string.")
    for what, value in (("made_by", said), ("layout", trial.extractor.layout())):
        try:
            same = json.loads(json.dumps(value, allow_nan=False)) == value
        except (TypeError, ValueError) as error:
            raise ContractError(f"{what} has to hold JSON types only: {error}.") from error
        expect(same, f"{what} has to survive a round trip through JSON (lists, not tuples; strings as keys).")
    trial.run()
    expect(trial.extractor.made_by() == said, "made_by has to be the same before and after computing.")


def check_settings(trial: Trial) -> None:
    """``made_by`` differs between different settings."""
    said = [trial.extractor.made_by(), *(other.made_by() for other in trial.others)]
    for number, one in enumerate(said):
        expect(
            one not in said[:number],
            "made_by has to differ between extractors with different settings, or their targets would be mixed, but "
            f"two return the same: {one}.",
        )


def check_pickle(trial: Trial) -> None:
    """An extractor can be pickled, so that other processes can compute with it."""
    twin = pickle.loads(pickle.dumps(trial.extractor))
    expect(twin.made_by() == trial.extractor.made_by(), "made_by has to be the same after pickling.")
    found = twin.transform(trial.stimuli, frames_per_second=trial.examples.frames_per_second)
    expect(np.array_equal(found, trial.values), "A target has to be the same, bit for bit, after pickling.")


def check_global_state(trial: Trial) -> None:
    """The global state is unchanged: random numbers, threads, settings."""
    draw()  # so that seeding the global generators is noticed the second time, too
    before = global_state()
    fresh = pickle.loads(pickle.dumps(trial.extractor))  # so that loading a network is checked, too
    fresh.transform(trial.stimuli, frames_per_second=trial.examples.frames_per_second)
    after = global_state()
    for name, value in before.items():
        expect(
            value == after[name],
            f"An extractor may not change {name}, which is global state: use a generator of its own, or a context "
            "manager that restores it.",
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

#: Largest difference between batch sizes, relative to the largest value.
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
            If the extractor violates the contract. Exceptions of the extractor itself are not caught.
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
        Extractor with the settings to test.
    others : sequence of Extractor
        The same extractor with other settings that change its values; their ``made_by`` has to differ.
    examples : Examples, optional
        Stimuli. Default: five small images, videos, lists of captions, and categories.
    tolerance : float
        Largest difference between batch sizes, relative to the largest value.

    Returns
    -------
    list of str
        Names of the checks, all of which passed.

    Raises
    ------
    ContractError
        If checks failed, with one line per failure: the name of the check and what was expected.
    """
    trial = Trial(extractor, others, examples or Examples(), tolerance)
    name = getattr(extractor, "name", type(extractor).__name__)
    return run_all(extractor_checks(), trial, what="extractor", name=repr(name))
