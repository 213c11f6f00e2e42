"""The contract of reconstruction systems, for ours and for those of other packages.

:class:`~neurorecon.systems.base.System` itself keeps most of it, but a system that overrides more than ``targets`` and
``generate`` can break any part.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.decoders.samples import Recordings, stored_target
from neurorecon.errors import InputError
from neurorecon.store.store import Store, open_store
from neurorecon.systems.base import Decoded, System, TargetSpec, load_system
from neurorecon.systems.decoded import RESPONSES
from neurorecon.testing.contract import Check, ContractError, draw, expect, global_state, run_all

#: Largest difference between images in [0, 1], or relative to the largest decoded value, that batches may make.
TOLERANCE = 1e-4

#: Options of the default store, which is simulated.
_OPTIONS = {"subjects": 1, "voxels": 300, "train_images": 80, "test_images": 20, "test_videos": 0, "train_videos": 0}
_VIDEO_OPTIONS = {"train_images": 8, "test_images": 8, "train_videos": 60, "test_videos": 20}


@dataclass
class SystemTrial:
    """A system under test, and results that several checks use.

    Parameters
    ----------
    system : System
        With the parameters to test. Only copies of it are fitted.
    store : Store
    subject : str
    tolerance : float
    """

    system: Any
    store: Store
    subject: str
    tolerance: float

    @property
    def copy(self) -> Any:
        """An unfitted copy of the system."""
        from sklearn.base import clone

        return clone(self.system)

    def fit(self, **options: Any) -> Any:
        """Return a copy that is fitted to the training split, or with other options."""
        fitted = self.copy
        returned = fitted.fit(self.store, self.subject, **options)
        expect(returned is fitted, "fit has to return the system itself.")
        return fitted

    @cached_property
    def fitted(self) -> Any:
        """A copy that is fitted to the training split; checks must not change it."""
        return self.fit()

    @cached_property
    def task(self) -> str:
        """The task that the copy was fitted to."""
        return str(self.fitted.provenance_["task"])

    @cached_property
    def responses(self) -> Any:
        """Responses to the test stimuli with their coordinates, (stimulus, voxel)."""
        return Recordings.read(self.store, self.subject, task=self.task, split="test").averaged().labeled_responses()

    @cached_property
    def decoded(self) -> Decoded:
        """The targets that are decoded from these responses."""
        found = self.fitted.decode(self.responses)
        expect(isinstance(found, Decoded), f"decode has to return a Decoded, but returns a {type(found).__name__}.")
        return found

    @property
    def decoded_targets(self) -> dict[str, Any]:
        """The targets among what is decoded: all but responses that are carried along."""
        return {name: array for name, array in self.decoded.items() if name in self.specs}

    @cached_property
    def images(self) -> Any:
        """The images that are generated from these targets."""
        return self.fitted.generate(self.decoded, seed=1)

    @property
    def specs(self) -> Mapping[str, TargetSpec]:
        """The targets of the system."""
        return dict(self.system.targets)

    def expect_close(self, one: Any, other: Any, sentence: str) -> None:
        """Expect two arrays to differ by at most the tolerance, relative to the largest value."""
        one, other = np.asarray(one), np.asarray(other)
        expect(one.shape == other.shape, f"{sentence} Shapes differ: {one.shape} and {other.shape}.")
        largest = float(np.abs(one).max(initial=0)) or 1.0
        difference = float(np.abs(one - other).max(initial=0)) / largest
        expect(
            difference <= self.tolerance,
            f"{sentence} They differ by {difference:.1e} of the largest value (tolerance {self.tolerance:g}).",
        )


def check_parameters(trial: SystemTrial) -> None:
    """Parameters follow scikit-learn: named, stored as given, cloned, and refused if unknown."""
    system, names = trial.system, set(trial.system.get_params(deep=False))
    expect(isinstance(system, System), f"A system has to be derived from System, but is a {type(system).__name__}.")
    expect(bool(system.name), "A system has to have a name.")
    kinds = set(system.kinds)
    expect(kinds and kinds <= {"image", "video"}, f"kinds have to be 'image' or 'video', but are {system.kinds}.")
    for name in names:
        expect(hasattr(system, name), f"__init__ has to store its parameter {name!r} under that name.")
    twin = trial.copy  # scikit-learn complains where __init__ changes a parameter
    for name in names:
        same = repr(getattr(twin, name)) == repr(getattr(system, name))
        expect(same, f"clone has to keep the parameter {name!r}.")
    fitted = [name for name in vars(twin) if name.endswith("_") and not name.startswith("_")]
    expect(not fitted, f"What is fitted may not be there before fit, but {', '.join(fitted)} is.")
    try:
        twin.set_params(no_such_parameter=1)
    except ValueError:
        return
    raise ContractError("set_params has to refuse parameters that are not known.")


def check_unfitted(trial: SystemTrial) -> None:
    """Nothing is decoded or saved before fit."""
    from sklearn.exceptions import NotFittedError

    with tempfile.TemporaryDirectory() as folder:
        calls: dict[str, Callable[[], Any]] = {
            "decode": lambda: trial.copy.decode(np.zeros((2, 3))),
            "save": lambda: trial.copy.save(folder),
        }
        for what, call in calls.items():
            try:
                call()
            except (NotFittedError, InputError):
                continue
            raise ContractError(f"{what} before fit has to raise scikit-learn's NotFittedError.")


def check_targets(trial: SystemTrial) -> None:
    """Every target has a specification, and is in the store."""
    expect(trial.specs, "A system has to have targets.")
    for name, spec in trial.specs.items():
        expect(isinstance(spec, TargetSpec), f"The target {name!r} has to be a TargetSpec.")
        expect(trial.store.stimuli_with(spec.source), f"No stimulus of the store has the target {spec.source!r}.")
        for method in ("fit", "predict"):
            expect(hasattr(spec.decoder, method), f"The decoder of {name!r} has to have {method}.")
        fitted = [key for key in vars(spec.decoder) if key.endswith("_") and not key.startswith("_")]
        expect(not fitted, f"The decoder of {name!r} has to be unfitted.")


def check_fit(trial: SystemTrial) -> None:
    """A fit does not change the store, and fits every target."""
    before = trial.store.digest
    fitted = trial.fitted
    expect(open_store(trial.store.location).digest == before, "fit may not change the store.")
    expect(set(fitted.decoders_) == set(trial.specs), "fit has to fit a decoder for each target.")
    for name in fitted.decoders_:
        spec = trial.specs[name]
        expect(fitted.decoders_[name] is not spec.decoder, f"fit has to clone the decoder of {name!r}.")
    voxels = trial.store.voxel_count(trial.subject)
    expect(len(fitted.voxels_) == voxels, f"fit without roi has to take all {voxels} voxels.")


def check_training_samples(trial: SystemTrial) -> None:
    """``samples=`` chooses the training samples, and ``stimuli=`` their stimuli."""
    table = trial.store.samples(trial.subject)
    rows = np.flatnonzero((table["task"] == trial.task) & (table["split"] == "train"))
    values = {name: array.values for name, array in trial.decoded_targets.items()}
    fewer = trial.fit(task=trial.task, samples=rows[: len(rows) * 2 // 3]).decode(trial.responses)
    same = [name for name in values if np.array_equal(fewer[name].values, values[name])]
    expect(not same, f"fit has to train on samples= alone, but {', '.join(same)} does not depend on it.")
    shown = table["stimulus"].to_numpy(str)[rows]
    if trial.task in trial.store.series(trial.subject):
        return  # rows whose run ends before the peak of the response cannot be used, so these stimuli would not fit
    unique = list(dict.fromkeys(shown.tolist()))
    other = dict(zip(unique, np.roll(unique, 1), strict=True))
    wrong = trial.fit(task=trial.task, samples=rows, stimuli=[other[name] for name in shown]).decode(trial.responses)
    same = [name for name in values if np.array_equal(wrong[name].values, values[name])]
    expect(not same, f"fit has to pair samples with stimuli=, but {', '.join(same)} does not depend on it.")


def check_decode(trial: SystemTrial) -> None:
    """Decoded targets have the dimensions, coordinates, type and units of the stored ones."""
    decoded, stimuli = trial.decoded, trial.responses["stimulus"].values
    names = set(trial.specs) | ({RESPONSES} if trial.fitted.carries_responses else set())
    expect(set(decoded) == names, f"decode has to return {names}, but returns {set(decoded)}.")
    expect(np.array_equal(decoded.stimuli, stimuli), "decode has to keep the stimuli in their order.")
    if trial.fitted.carries_responses:
        own = (trial.responses.values - trial.fitted.mean_) / trial.fitted.scale_
        trial.expect_close(own, decoded[RESPONSES].values, "Carried responses have to be those that were decoded.")
    for name, array in trial.decoded_targets.items():
        stored = stored_target(trial.store, trial.specs[name].source, stimuli.tolist()[:1])
        expect(array.dims == stored.dims, f"{name!r} has to have the dims {stored.dims}, but has {array.dims}.")
        expect(
            array.shape[1:] == stored.shape[1:],
            f"{name!r} has to have the shape {stored.shape[1:]} of the stored target, but has {array.shape[1:]}.",
        )
        expect(array.dtype == np.float32, f"{name!r} has to be float32, but is {array.dtype}.")
        expect(bool(np.isfinite(array.values).all()), f"{name!r} has to be finite.")
        mean, deviation = decoded.training[name]
        away = np.abs(array.values.mean(axis=0) - mean)
        expect(
            float(np.median(away)) <= 3 * float(np.median(deviation)) + 1e-6,
            f"{name!r} has to be in the units of the stored target, but its mean lies {np.median(away):.3g} from "
            f"that of training (deviation {np.median(deviation):.3g}).",
        )
    again = trial.fitted.decode(trial.responses)
    for name, array in decoded.items():
        expect(np.array_equal(array.values, again[name].values), "decode has to be without randomness.")


def check_standardized(trial: SystemTrial) -> None:
    """Standardized responses decode to the same values as responses in their original units."""
    fitted = trial.fitted
    scaled = (trial.responses.values.astype(np.float64) - fitted.mean_) / fitted.scale_
    found = fitted.decode(scaled, standardized=True)
    for name, array in trial.decoded.items():
        trial.expect_close(array.values, found[name].values, "standardized=True has to undo the standardization.")


def check_subset(trial: SystemTrial) -> None:
    """A stimulus decodes to the same values, whichever other stimuli are decoded with it."""
    if any(getattr(spec.decoder, "renorm", None) == "test" for spec in trial.specs.values()):
        return  # the published rescaling by the moments of the test set
    found = trial.fitted.decode(trial.responses[[3, 1]])
    for name, array in trial.decoded.items():
        trial.expect_close(array.values[[3, 1]], found[name].values, f"{name!r} may not depend on other stimuli.")


def check_learns(trial: SystemTrial) -> None:
    """Decoded targets are more like those of their stimuli than like those of others."""
    stimuli = trial.decoded.stimuli.tolist()
    gains = []
    for name, array in trial.decoded_targets.items():
        mean, deviation = (moment.ravel() for moment in trial.decoded.training[name])
        vary = deviation > 0
        true = stored_target(trial.store, trial.specs[name].source, stimuli).values.reshape(len(stimuli), -1)
        one, other = (
            (rows[:, vary] - mean[vary]) / deviation[vary] for rows in (array.values.reshape(true.shape), true)
        )
        one, other = (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9) for rows in (one, other))
        pairs = one @ other.T
        own = np.diagonal(pairs)
        gains.append(own.mean() - (pairs.sum() - own.sum()) / (pairs.size - len(pairs)))
    expect(
        float(np.mean(gains)) > 0,
        "Decoded targets have to be more like those of their own stimuli than like those of others, but the difference "
        f"of cosines is {np.mean(gains):.3f}.",
    )


def check_images(trial: SystemTrial) -> None:
    """Images have the dimensions, range and dtype that analyses expect."""
    images = trial.images
    frames = ("frame",) if trial.system.kinds[0] == "video" else ()
    dims = ("stimulus", *frames, "y", "x", "rgb")
    expect(
        getattr(images, "dims", None) == dims,
        f"generate has to return a DataArray with dims {dims}, but returns {getattr(images, 'dims', type(images))}.",
    )
    expect(images.sizes["rgb"] == 3, f"Images have to have 3 colors, but have {images.sizes['rgb']}.")
    expect(images.dtype == np.float32, f"Images have to be float32, but are {images.dtype}.")
    low, high = float(images.min()), float(images.max())
    expect(0 <= low <= high <= 1, f"Images have to lie in [0, 1], but lie in [{low:.3g}, {high:.3g}].")
    expect(
        "stimulus" in images.coords and np.array_equal(images["stimulus"].values, trial.decoded.stimuli),
        "Images have to have the coordinate stimulus of what was decoded.",
    )


def check_missing_targets(trial: SystemTrial) -> None:
    """Optional targets may be missing, one by one or all together; an error names a missing required target."""
    optional = [name for name, spec in trial.specs.items() if not spec.required]
    carried = [RESPONSES] if trial.fitted.carries_responses else []
    for dropped in [*([name] for name in optional), optional, carried, [*optional, *carried]]:
        try:
            found = trial.fitted.generate(trial.decoded.drop(*dropped), seed=1)
        except Exception as error:
            raise ContractError(
                f"generate has to work without {', '.join(dropped)}, which is not required, but raises "
                f"{type(error).__name__}: {error}"
            ) from error
        expect(found.shape == trial.images.shape, f"Images without {', '.join(dropped)} have another shape.")
    for name in set(trial.specs) - set(optional):
        try:
            trial.fitted.generate(trial.decoded.drop(name), seed=1)
        except InputError as error:
            expect(name in str(error), f"The error about the missing target has to name {name!r}, but says: {error}")
        else:
            raise ContractError(f"generate has to refuse to go without {name!r}, which is required.")
    if len(optional) == len(trial.specs):
        found = trial.fitted.generate(Decoded.empty(trial.decoded.stimuli), seed=1)
        expect(found.shape == trial.images.shape, "Unconditional images have another shape.")


def check_seed(trial: SystemTrial) -> None:
    """The same seed gives the same bits; neither the batch nor the order of stimuli matters."""
    draw()
    again = trial.fitted.generate(trial.decoded, seed=1)
    expect(np.array_equal(again.values, trial.images.values), "generate has to return the same bits for the same seed.")
    order = np.arange(len(trial.decoded.stimuli))[::-1]
    turned = trial.fitted.generate(trial.decoded.take(order), seed=1)
    trial.expect_close(trial.images.values[order], turned.values, "Images may not depend on the order of the stimuli.")
    part = trial.fitted.generate(trial.decoded.take(order[:2]), seed=1)
    trial.expect_close(trial.images.values[order[:2]], part.values, "Images may not depend on the batch.")


def check_inputs_stay(trial: SystemTrial) -> None:
    """The inputs of decode and generate do not change."""
    given = trial.responses.copy(deep=True)
    trial.fitted.decode(given)
    expect(np.array_equal(given.values, trial.responses.values), "decode may not write into the responses.")
    before = {name: array.values.copy() for name, array in trial.decoded.items()}
    trial.fitted.generate(trial.decoded, seed=1)
    for name, values in before.items():
        expect(np.array_equal(values, trial.decoded[name].values), "generate may not write into what was decoded.")


def check_foreign_voxels(trial: SystemTrial) -> None:
    """Responses of other voxels are refused."""
    other = trial.responses.assign_coords(voxel=trial.responses["voxel"].values[::-1])
    broken = trial.responses.copy(deep=True)
    broken[0, 0] = np.nan
    wrong = {"fewer voxels": trial.responses.values[:, :-1], "voxels in another order": other, "NaN": broken}
    for what, responses in wrong.items():
        try:
            trial.fitted.decode(responses)
        except InputError:
            continue
        raise ContractError(f"decode has to refuse {what} with an InputError.")


def check_save(trial: SystemTrial) -> None:
    """A saved system loads with the same bits, without pickle."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(trial.fitted.save(Path(folder) / "system"))
        kinds = {file.suffix for file in place.rglob("*") if file.is_file()}
        expect(kinds == {".json", ".safetensors"}, f"save has to write JSON and safetensors, but wrote {kinds}.")
        loaded = load_system(place)
    expect(type(loaded) is type(trial.system), "load_system has to return a system of the class that was saved.")
    for name, value in trial.system.get_params(deep=False).items():
        expect(repr(getattr(loaded, name)) == repr(value), f"load_system has to bring back the parameter {name!r}.")
    found = loaded.decode(trial.responses)
    for name, array in trial.decoded.items():
        expect(np.array_equal(array.values, found[name].values), "A loaded system has to decode the same bits.")
        expect(array.attrs == found[name].attrs, "A loaded system has to keep the attributes of its targets.")
    images = loaded.generate(found, seed=1)
    expect(np.array_equal(images.values, trial.images.values), "A loaded system has to generate the same bits.")


def check_resume(trial: SystemTrial) -> None:
    """An interrupted fit resumes in its folder, and a fit to other data is refused there."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "fit"
        trial.fit(folder=folder)
        names = list(trial.specs)
        state = json.loads((folder / "system.json").read_text())
        # As if the process had been killed before the last decoder was written.
        (folder / "system.json").write_text(json.dumps({**state, "complete": False}))
        shutil.rmtree(folder / "decoders" / names[-1])
        kept = {file: file.stat().st_mtime_ns for file in (folder / "decoders").rglob("*") if file.is_file()}
        resumed = trial.fit(folder=folder).decode(trial.responses)
        again = [file for file, time in kept.items() if file.stat().st_mtime_ns != time]
        expect(not again, "A fit that resumes may not fit again what was complete.")
        found = load_system(folder).decode(trial.responses)
        for name, array in trial.decoded.items():
            same = np.array_equal(array.values, resumed[name].values) and np.array_equal(
                array.values, found[name].values
            )
            expect(same, f"A fit that was interrupted has to decode the same bits of {name!r} as one that was not.")
        table = trial.store.samples(trial.subject)
        rows = np.flatnonzero((table["task"] == trial.task) & (table["split"] == "train"))
        try:
            trial.fit(folder=folder, task=trial.task, samples=rows[: len(rows) // 2])
        except InputError:
            return
        raise ContractError("fit has to refuse a folder that holds a fit to other samples.")


def check_global_state(trial: SystemTrial) -> None:
    """Random state, threads and settings of the process do not change."""
    from himalaya.backend import get_backend

    assert trial.images is not None  # networks are loaded by now
    draw()
    before = {**global_state(), "himalaya's backend": get_backend().name}
    fitted = trial.fit()
    fitted.generate(fitted.decode(trial.responses), seed=1)
    after = {**global_state(), "himalaya's backend": get_backend().name}
    for name, value in before.items():
        expect(
            value == after[name],
            f"A system may not change {name}, which belongs to the process: use a generator of your own, or a context "
            "that puts it back.",
        )


CHECKS: tuple[Callable[[SystemTrial], None], ...] = (
    check_parameters,
    check_unfitted,
    check_targets,
    check_fit,
    check_training_samples,
    check_decode,
    check_standardized,
    check_subset,
    check_learns,
    check_images,
    check_missing_targets,
    check_seed,
    check_inputs_stay,
    check_foreign_voxels,
    check_save,
    check_resume,
    check_global_state,
)


class SystemCheck(Check):
    """One check of the contract; its function takes a :class:`SystemTrial`."""

    def __call__(
        self, system: Any, store: Store | None = None, *, subject: str | None = None, tolerance: float = TOLERANCE
    ) -> None:
        """Run the check; the parameters are those of :func:`check_system`.

        Raises
        ------
        ContractError
            If the system breaks the contract. Errors that the system raises are passed through.
        """
        self.function(_trial(system, store, subject, tolerance))


def system_checks() -> list[SystemCheck]:
    """Return all checks, e.g. for ``pytest.mark.parametrize("check", system_checks(), ids=str)``."""
    return SystemCheck.of(CHECKS)


def check_system(
    system: Any, store: Store | None = None, *, subject: str | None = None, tolerance: float = TOLERANCE
) -> list[str]:
    """Run all checks on a system.

    Parameters
    ----------
    system : System
        With the parameters to test, and fast enough to be fitted several times.
    store : Store, optional
        With the targets of the system, a split "train" and a split "test". By default, a small simulated store with
        these targets is built.
    subject : str, optional
        By default the first.
    tolerance : float
        Largest difference, relative to the largest value, between decoding or generating in different batches.

    Returns
    -------
    list of str
        Names of the checks, all of which passed.

    Raises
    ------
    ContractError
        If checks failed: one line for each, with the name of the check and what was expected.
    """
    trial = _trial(system, store, subject, tolerance)
    return run_all(system_checks(), trial, what="system", name=system.name or type(system).__name__)


def _trial(system: Any, store: Store | None, subject: str | None, tolerance: float) -> SystemTrial:
    if store is None:
        elsewhere = {spec.elsewhere for spec in system.targets.values() if spec.elsewhere is not None}
        sources = {*system.sources, *elsewhere} - {"images", "frames"}
        store = _simulated_store(tuple(sorted(sources)), "video" in system.kinds)
    return SystemTrial(system, store, subject or store.subjects[0], tolerance)


@lru_cache(maxsize=8)
def _simulated_store(targets: tuple[str, ...], videos: bool) -> Store:
    """Build a small store of the embedded data set, once per process."""
    import neurorecon
    from neurorecon.datasets.recipe import Recipe

    folder = tempfile.mkdtemp(prefix="neurorecon-check-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    options = {**_OPTIONS, **(_VIDEO_OPTIONS if videos else {})}
    recipe = Recipe(name="check", reader="scenes", targets=list(targets), options=options)
    return neurorecon.build(recipe, Path(folder) / "check.icechunk", progress=False)
