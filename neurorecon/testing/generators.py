"""The contract of generators, for ours and for those of other packages.

:class:`~neurorecon.generators.base.Generator` itself keeps most of it, but what a subclass makes of a batch can break
any part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neurorecon.errors import InputError
from neurorecon.generators.base import Generator
from neurorecon.testing.contract import Check, ContractError, draw, expect, global_state, run_all

#: Largest difference between images in [0, 1] that batches may make: one gray level.
TOLERANCE = 1 / 255


@dataclass
class GeneratorTrial:
    """A generator under test, and results that several checks use.

    Parameters
    ----------
    generator : Generator
    conditions : mapping of str to array, shape (stimulus, ...)
        All conditions that can be given together, of four or more stimuli that differ.
    tolerance : float
    """

    generator: Any
    conditions: Mapping[str, np.ndarray]
    tolerance: float

    def __post_init__(self) -> None:
        counts = {len(values) for values in self.conditions.values()}
        if len(counts) != 1 or min(counts) < 4:
            raise InputError(
                "the conditions do not fit the contract of generators",
                given=f"{sorted(counts)} stimuli",
                expected="the same four or more stimuli in each condition",
            )

    @property
    def stimuli(self) -> list[str]:
        """Ids."""
        return [f"stimulus {number}" for number in range(len(next(iter(self.conditions.values()))))]

    @cached_property
    def images(self) -> np.ndarray:
        """The images of all stimuli."""
        return np.asarray(self.generator.generate(self.stimuli, self.conditions, seed=1))

    def some(self, rows: Any) -> np.ndarray:
        """Return the images of some stimuli, generated together."""
        stimuli = [self.stimuli[row] for row in rows]
        given = {name: values[rows] for name, values in self.conditions.items()}
        return np.asarray(self.generator.generate(stimuli, given, seed=1))

    def expect_close(self, one: np.ndarray, other: np.ndarray, sentence: str) -> None:
        """Expect images to differ by at most the tolerance."""
        difference = float(np.abs(one - other).max())
        expect(
            difference <= self.tolerance, f"{sentence} They differ by {difference:.4f} (at most {self.tolerance:.4f})."
        )


def check_parameters(trial: GeneratorTrial) -> None:
    """Parameters follow scikit-learn; the weights of all networks have a name and a sha256."""
    from sklearn.base import clone

    generator = trial.generator
    expect(isinstance(generator, Generator), f"It has to be a Generator, but is a {type(generator).__name__}.")
    expect(bool(generator.name), "A generator has to have a name.")
    twin = clone(generator)
    for name, value in generator.get_params(deep=False).items():
        expect(repr(getattr(twin, name)) == repr(value), f"clone has to keep the parameter {name!r}.")
    for record in generator.record():
        expect(bool(record.get("weights_sha256")), f"The weights {record.get('weights')!r} have to have a sha256.")
    unknown = set(generator.required) - set(generator.conditions)
    expect(not unknown, f"required names conditions that there are not: {unknown}.")


def check_images(trial: GeneratorTrial) -> None:
    """There is one image for each stimulus, float32 in [0, 1], of the size that the generator states."""
    images = trial.images
    expected = (len(trial.stimuli), *trial.generator.image_shape)
    expect(images.shape == expected, f"Images have to have the shape {expected}, but have {images.shape}.")
    expect(images.dtype == np.float32, f"Images have to be float32, but are {images.dtype}.")
    expect(bool(np.isfinite(images).all()), "Images have to be finite.")
    expect(0 <= images.min() <= images.max() <= 1, "Images have to lie in [0, 1].")


def check_seed(trial: GeneratorTrial) -> None:
    """The same seed gives the same bits; neither the batch nor the order of stimuli matters."""
    draw()
    again = trial.generator.generate(trial.stimuli, trial.conditions, seed=1)
    expect(np.array_equal(again, trial.images), "generate has to return the same bits for the same seed.")
    order = np.arange(len(trial.stimuli))[::-1]
    trial.expect_close(trial.images[order], trial.some(order), "Images may not depend on the order of stimuli.")
    trial.expect_close(trial.images[[2]], trial.some([2]), "Images may not depend on which others are asked for.")
    from sklearn.base import clone

    small = clone(trial.generator).set_params(batch_size=3)
    parts = small.generate(trial.stimuli, trial.conditions, seed=1)
    trial.expect_close(trial.images, parts, "Images may not depend on the batch.")


def check_conditions(trial: GeneratorTrial) -> None:
    """Each condition changes the images, and each that is not required may be missing."""
    for name, values in trial.conditions.items():
        other = {**trial.conditions, name: np.roll(values, 1, axis=0)}
        found = trial.generator.generate(trial.stimuli, other, seed=1)
        expect(not np.array_equal(found, trial.images), f"The condition {name!r} has to change the images.")
        rest = {key: value for key, value in trial.conditions.items() if key != name}
        if name in trial.generator.required:
            try:
                trial.generator.generate(trial.stimuli, rest, seed=1)
            except InputError as error:
                expect(name in str(error), f"The error has to name the missing condition {name!r}, but says: {error}")
                continue
            raise ContractError(f"generate has to refuse to go without {name!r}, which is required.")
        found = trial.generator.generate(trial.stimuli, rest, seed=1)
        expect(found.shape == trial.images.shape, f"Images without {name!r} have another shape.")


def check_bad_conditions(trial: GeneratorTrial) -> None:
    """Unknown conditions, wrong shapes and NaN are refused."""
    name, values = next(iter(trial.conditions.items()))
    broken = np.array(values, dtype=np.float32)
    broken.flat[0] = np.nan
    wrong = {
        "an unknown condition": {**trial.conditions, "no such condition": values},
        "too few rows": {**trial.conditions, name: values[:-1]},
        "another number of axes": {**trial.conditions, name: values[..., None]},
        "NaN": {**trial.conditions, name: broken},
    }
    for what, conditions in wrong.items():
        try:
            trial.generator.generate(trial.stimuli, conditions, seed=1)
        except InputError:
            continue
        raise ContractError(f"generate has to refuse {what} with an InputError.")


def check_state(trial: GeneratorTrial) -> None:
    """Conditions, random state, threads and settings of the process do not change."""
    before = {name: np.array(values) for name, values in trial.conditions.items()}
    assert trial.images is not None  # networks are loaded by now
    draw()
    state = global_state()
    trial.generator.generate(trial.stimuli, trial.conditions, seed=2)
    for name, value in global_state().items():
        expect(value == state[name], f"A generator may not change {name}, which belongs to the process.")
    for name, values in before.items():
        expect(np.array_equal(values, trial.conditions[name]), f"generate may not write into the condition {name!r}.")


CHECKS: tuple[Callable[[GeneratorTrial], None], ...] = (
    check_parameters,
    check_images,
    check_seed,
    check_conditions,
    check_bad_conditions,
    check_state,
)


class GeneratorCheck(Check):
    """One check of the contract; its function takes a :class:`GeneratorTrial`."""

    def __call__(self, generator: Any, conditions: Mapping[str, np.ndarray], *, tolerance: float = TOLERANCE) -> None:
        """Run the check; the parameters are those of :func:`check_generator`.

        Raises
        ------
        ContractError
            If the generator breaks the contract. Errors that it raises are passed through.
        """
        self.function(GeneratorTrial(generator, conditions, tolerance))


def generator_checks() -> list[GeneratorCheck]:
    """Return all checks, e.g. for ``pytest.mark.parametrize("check", generator_checks(), ids=str)``."""
    return GeneratorCheck.of(CHECKS)


def check_generator(generator: Any, conditions: Mapping[str, np.ndarray], *, tolerance: float = TOLERANCE) -> list[str]:
    """Run all checks on a generator.

    Parameters
    ----------
    generator : Generator
        With the parameters to test, and fast enough to generate a few images several times.
    conditions : mapping of str to array, shape (stimulus, ...)
        All conditions that can be given together, of four or more stimuli that differ.
    tolerance : float
        Largest difference between images, in [0, 1], that batches may make.

    Returns
    -------
    list of str
        Names of the checks, all of which passed.

    Raises
    ------
    ContractError
        If checks failed: one line for each, with the name of the check and what was expected.
    """
    trial = GeneratorTrial(generator, conditions, tolerance)
    return run_all(generator_checks(), trial, what="generator", name=generator.name or type(generator).__name__)
