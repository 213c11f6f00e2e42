"""The base class of systems: decode targets from responses, then generate images or videos from the targets.

The seam between the two steps is a :class:`Decoded` object. Analyses change it (drop a target, exchange stimuli,
replace a target by noise) and generate again, so they are written once for all systems.
"""

from __future__ import annotations

import inspect
import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

import neurorecon
from neurorecon.decoders.persistence import load_decoder
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.samples import Recordings, choose_shown_task, training_images
from neurorecon.decoders.smoother import predict_target_blocks
from neurorecon.decoders.targets import Targets
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.features.extract import ensure_targets, require_networks
from neurorecon.features.vdvae import first_features
from neurorecon.io import tensors
from neurorecon.io.files import write_json
from neurorecon.io.tensors import block_digest
from neurorecon.models.load import noise_like as noise_like
from neurorecon.models.load import seed_of as seed_of
from neurorecon.parallel import Compute, ResultsFolder
from neurorecon.registry import SYSTEMS
from neurorecon.store.store import Store
from neurorecon.systems.decoded import FORMAT, RESPONSES, Decoded, read_json
from neurorecon.systems.decoded import MissingTargetError as MissingTargetError
from neurorecon.systems.decoded import as_images as as_images

if TYPE_CHECKING:
    import xarray

_DESCRIPTION, _ARRAYS = "system.json", "system.safetensors"


@dataclass(frozen=True)
class TargetSpec:
    """How one target is decoded.

    Parameters
    ----------
    source : str
        A target of the store, or ``"images"`` or ``"frames"`` (float in [0, 1]).
    decoder : estimator
        Unfitted; it is cloned for each fit. Needs ``fit(X, y, groups=...)`` and ``predict(X)``. If its ``fit`` takes
        ``checkpoint=``, a folder, an interrupted fit resumes within its training.
    roi : str, tuple of str or None
        Voxels of this decoder among those that :meth:`System.fit` is given; None for all of these.
    standardize : bool
        Divide each voxel by its standard deviation over the training samples (voxels that never change keep their
        scale). The training mean is always subtracted.
    required : bool
        Raise an error if this target is missing when images are generated. Without an optional target, generation is
        unconditional in that respect.
    groups : int or str, optional
        Decode only the first groups of a target that consists of groups (``vdvae``): this many of them, or those up to
        and including the first one at a resolution, e.g. ``"16x16"``. By default all that are stored. What is decoded
        has the shape of the stored target in any case: features of the other groups are the means of training.
    beside : tuple of str
        Further targets of the store, on which the decoder is trained beside `source`: its ``fit`` gets a dict of all,
        in this order, and ``predict`` returns a dict of which `source` is used.
    elsewhere : str, optional
        A target of images that stands for `source`, as ``vqvae`` does for the first frames of clips. If the subject has
        seen at least as many training images as stimuli of the task, the decoder is trained on the images: repeats are
        averaged, responses are standardized on their own, and the target gets the mean of `source`. Not with other
        samples than those of the training split, as in cross-validation; see :meth:`Recordings.elsewhere`.

    Examples
    --------
    >>> import neurorecon as nr
    >>> nr.TargetSpec("vqvae", nr.RidgeDecoder(alpha=100.0), roi="early", required=True).sources
    ('vqvae',)
    """

    source: str
    decoder: Any
    roi: str | tuple[str, ...] | None = None
    standardize: bool = True
    required: bool = False
    groups: int | str | None = None
    beside: tuple[str, ...] = ()
    elsewhere: str | None = None

    def __post_init__(self) -> None:
        if self.elsewhere is not None and self.beside:
            raise InputError(
                f"{self.source!r} cannot be learned from images",
                given=f"elsewhere={self.elsewhere!r}, beside={self.beside!r}",
                expected="one of the two: images have no target beside",
                todo="leave one out",
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """All targets of the store that the decoder is trained on."""
        return self.source, *self.beside

    def part(self, target: xarray.DataArray) -> xarray.DataArray:
        """Return what is decoded of a target, dims (stimulus, feature), or all of it."""
        if self.groups is None:
            return target
        features = first_features(target.attrs, self.groups)
        kept = [start for start in target.attrs["group_boundaries"] if start <= features]
        return target[:, :features].assign_attrs(group_boundaries=kept)


class System(BaseEstimator):
    """A reconstruction system: subclasses define which targets are decoded, and how images are generated from them.

    As in scikit-learn, ``__init__`` stores its parameters as given, under their names, and does nothing else.

    Attributes
    ----------
    name : str
        Name in the registry.
    kinds : tuple of {"image", "video"}
        What is reconstructed.
    averages : {"responses", "reconstructions"}
        Whether the repeats of a stimulus are averaged before decoding or after generation.
    trains_on : {"stimuli", "samples"}
        Whether repeats are averaged for training, too, or each sample is one of its own.
    metrics : tuple of str
        Scores that are computed by default; if empty, those of the registry.
    networks : tuple of str
        Roles of the networks that images are generated with, as ``neurorecon weights list`` shows them, e.g.
        ``("autoencoder",)``. Their weights are those that the parameter `models` names.
    carries_responses : bool
        Whether generation uses the measured responses, too: then ``decoded["responses"]`` holds them, (stimulus,
        voxel), in standard deviations of training.
    decoders_ : dict of str to estimator
        The fitted decoders.
    voxels_ : int array, shape (voxel,)
        Rows of the subject's table of voxels that :meth:`decode` expects.
    mean_, scale_ : array, shape (voxel,)
        Of the training responses; the scale of a voxel that never changes is 1.
    training_ : dict of str to (mean, deviation)
        Of each target over the training samples, in the shape of the target.
    targets_ : dict of str to dict
        Names of the dimensions, shape and attributes of each stored target.
    learned_ : dict of str to array
        What :meth:`learn` returned.
    training_stimuli_ : list of str
        Ids of the stimuli of the training samples; None for systems that were saved by version 0.1.
    provenance_ : dict
        What the system was fitted to: store, snapshot, digest, subject, task, ROI, numbers of samples and stimuli.
    """

    name: ClassVar[str] = ""
    kinds: ClassVar[tuple[Literal["image", "video"], ...]] = ("image",)
    averages: ClassVar[Literal["responses", "reconstructions"]] = "responses"
    trains_on: ClassVar[Literal["stimuli", "samples"]] = "stimuli"
    metrics: ClassVar[tuple[str, ...]] = ()
    networks: ClassVar[tuple[str, ...]] = ()
    carries_responses: ClassVar[bool] = False

    #: All classes that can be loaded from a folder, by name.
    classes: ClassVar[dict[str, type[System]]] = {}

    decoders_: dict[str, Any]
    voxels_: np.ndarray
    mean_: np.ndarray
    scale_: np.ndarray
    training_: dict[str, tuple[np.ndarray, np.ndarray]]
    targets_: dict[str, dict[str, Any]]
    learned_: dict[str, np.ndarray]
    training_stimuli_: list[str] | None
    provenance_: dict[str, Any]

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.__dict__.get("name"):
            System.classes[cls.name] = cls

    # -- what subclasses define --------------------------------------------------------------------------------------

    @property
    def targets(self) -> Mapping[str, TargetSpec]:
        """The targets to decode, by their key in :class:`Decoded`."""
        raise NotImplementedError(f"{type(self).__name__} has to define targets")

    def generate(self, decoded: Decoded, *, seed: int = 0) -> xarray.DataArray:
        """Generate images or videos from decoded targets.

        Parameters
        ----------
        decoded : Decoded
            ``decoded["name"]`` raises an error if a target is missing; ``decoded.get("name")`` returns None, for
            generation without it.
        seed : int
            Draw the noise of each stimulus with ``noise_like(shape, seed, stimulus)`` or ``seed_of(seed, stimulus)``,
            so that it depends neither on the batch nor on the order.

        Returns
        -------
        DataArray, dims (stimulus, [frame,] y, x, rgb), float32 in [0, 1]
            From :func:`as_images`.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define generate")

    def stages(self, decoded: Decoded, *, seed: int = 0) -> dict[str, xarray.DataArray]:
        """Return what earlier stages of the generation make of decoded targets, by the name of the stage.

        Returns
        -------
        dict of str to DataArray, dims (stimulus, [frame,] y, x, rgb)
            Empty for a system of one stage.
        """
        return {}

    def variants(
        self,
        decoded: Decoded,
        seeds: Sequence[int],
        *,
        strengths: Sequence[float] | None = None,
        start: np.ndarray | None = None,
        toward: Any = None,
    ) -> Iterator[np.ndarray]:
        """Generate with several seeds; for systems that generate by diffusion, also from other starts.

        Parameters
        ----------
        decoded : Decoded
        seeds : sequence of int
        strengths : sequence of float, optional
            Strengths of the diffusion, in turn.
        start : array, shape (stimulus, channel, y, x), optional
            Latents that the diffusion starts from, in place of the first stage.
        toward : (callable, float), optional
            What pulls images during sampling, as in :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`.

        Yields
        ------
        array, shape (stimulus, y, x, rgb)
            The images of each seed.
        """
        if strengths is not None or start is not None or toward is not None:
            raise self._without_diffusion()
        for seed in seeds:
            yield self.generate(decoded, seed=seed).values

    def encode(self, images: np.ndarray) -> np.ndarray:
        """Return the latents that diffusion starts from, (stimulus, channel, y, x), for systems that generate by it.

        Parameters
        ----------
        images : array, shape (stimulus, y, x, rgb)
            In [0, 1].
        """
        raise self._without_diffusion()

    @property
    def pulls(self) -> bool:
        """Whether what was decoded can pull images during sampling."""
        return False

    def _without_diffusion(self) -> InputError:
        return InputError(
            f"the system {self.name!r} does not generate by diffusion",
            given="a strength, latents to start from, or a gradient",
            expected="seeds alone",
            todo="leave strengths, average and gradient out",
        )

    def learn(self, recordings: Recordings) -> dict[str, np.ndarray]:
        """Return what generation needs of the training samples besides decoded targets; it is saved with the system.

        Parameters
        ----------
        recordings : Recordings
            The training samples; ``recordings.target(source)`` are targets, dims (stimulus, ...).

        Returns
        -------
        dict of str to array
            Empty by default.
        """
        return {}

    def exact_null(
        self, responses: np.ndarray, targets: Mapping[str, np.ndarray], shown: np.ndarray, labels: np.ndarray
    ) -> Any:
        """Return an object that refits the cross-validated system under exchanged pairs; None if that takes too long.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
        targets : mapping of str to array, shape (stimulus, ...)
            By source.
        shown : int array, shape (sample,)
            Which stimulus each sample shows.
        labels : array, shape (sample,)
            Held out as a whole in each fold.

        Returns
        -------
        object or None
            ``reconstruct(order)`` gives each stimulus i the targets of stimulus ``order[i]`` and returns two arrays:
            the reconstructions of the stimuli, and those of the samples.
        """
        return None

    # -- what all systems share ---------------------------------------------------------------------------------------

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the targets, their decoders, and what the system was fitted to."""
        import pandas as pd

        rows = [
            {
                "target": name,
                "stored as": spec.source,
                "decoder": type(spec.decoder).__name__,
                "ROI": "all voxels" if spec.roi is None else "+".join(np.atleast_1d(spec.roi)),
                "required": "yes" if spec.required else "no",
            }
            for name, spec in self.targets.items()
        ]
        about: Mapping[str, Any] = getattr(self, "provenance_", {})
        fitted = ", ".join(f"{key} {about[key]}" for key in ("subject", "task", "roi", "samples") if key in about)
        changed = {key: value for key, value in self.get_params(deep=False).items() if value is not None}
        parameters = ", ".join(f"{key}={value!r}" for key, value in changed.items())
        return (
            f"<p><strong>{escape(self.name or type(self).__name__)}</strong>, "
            f"{'fitted to ' + escape(fitted) if fitted else 'not fitted'}</p>"
            f"{pd.DataFrame(rows).to_html(index=False, border=0)}<p><small>{escape(parameters)}</small></p>"
        )

    def _repr_mimebundle_(self, **keywords: Any) -> dict[str, str]:
        """Return text and HTML; notebooks ask for this first, and that of scikit-learn draws a diagram."""
        return {"text/plain": repr(self), "text/html": self._repr_html_()}

    @property
    def network_roles(self) -> tuple[str, ...]:
        """The roles of the networks that these parameters generate with: those of :attr:`networks`."""
        return self.networks

    @property
    def sources(self) -> list[str]:
        """All targets of the store that decoders are trained on."""
        return list(dict.fromkeys(source for spec in self.targets.values() for source in spec.sources))

    def fit(
        self,
        store: Store | None,
        subject: str,
        roi: str | tuple[str, ...] | list[str] | None = None,
        *,
        task: str | None = None,
        samples: ArrayLike | Recordings | None = None,
        stimuli: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        alone: bool = False,
        folder: str | Path | None = None,
        coordinates: str | Path | None = None,
        compute: Compute = Compute(),  # noqa: B008 (frozen)
    ) -> Self:
        """Fit one decoder for each target.

        Parameters
        ----------
        store : Store
            Targets that it lacks are computed, see :func:`neurorecon.features.extract.ensure_targets`. None if
            `samples` are recordings of arrays.
        subject : str
        roi : str or list of str, optional
            As for :meth:`Store.responses`; by default all voxels.
        task : str, optional
            By default the one with the most stimuli that have all targets.
        samples : int array or Recordings, optional
            Rows of ``store.samples(subject)`` to train on; repeats among them are averaged if the system `averages`
            responses. Or samples that were read before, which are used as they are and determine subject, task and ROI.
            By default the training split, with repeats averaged unless the system `trains_on` samples.
        stimuli : array of str, shape (sample,), optional
            The stimulus of each sample, for fits on re-paired data; by default the one that was shown.
        groups : array, shape (sample,), optional
            Samples of one group are never on both sides of a fold of inner cross-validation; by default the samples of
            a stimulus.
        alone : bool
            Stimuli will be decoded one by one, so decoders that rescale by the moments of the test set
            (``renorm="test"``) use those of the training set.
        folder : path, optional
            Save each decoder here as soon as it is fitted, and the state of a network after each epoch, so that an
            interrupted fit resumes. When all are fitted, the folder holds what :meth:`save` writes.
        coordinates : path, optional
            Existing folder in which ridge decoders keep their coordinates, (component, feature), instead of memory: 12
            GB for 8,859 samples and 350,000 features. The system needs it as long as it decodes.
        compute : Compute
            Who computes; only its ``threads`` are used.

        Returns
        -------
        System
            Itself.

        Raises
        ------
        InputError
            If targets and samples do not match, or `folder` holds a fit to other data.
        """
        recordings, labels = self._training(store, subject, roi, task, samples, stimuli, groups)
        with compute.limited():
            self._fit(
                recordings,
                labels,
                alone,
                None if folder is None else Path(folder),
                coordinates=None if coordinates is None else Path(coordinates),
            )
        return self

    def fit_decode(
        self,
        store: Store | None,
        subject: str,
        responses: Any,
        roi: str | tuple[str, ...] | list[str] | None = None,
        *,
        task: str | None = None,
        samples: ArrayLike | Recordings | None = None,
        groups: ArrayLike | None = None,
        alone: bool = False,
        standardized: bool = False,
        compute: Compute = Compute(),  # noqa: B008 (frozen)
    ) -> Decoded:
        """Fit, and decode responses that are already known.

        Large targets are streamed, and decoders with ``fit_and_predict`` keep no weights for them: with 8,859 samples
        and 350,000 features, weights would take 12 GB. :meth:`decode` and :meth:`save` do not work for such targets
        afterwards. Small targets are decoded to the same bits as by ``fit(...).decode(responses)``. If `compute` has a
        scheduler or a folder, large targets of a ridge regression with one alpha are computed in blocks of features,
        here or on a cluster, and the same call resumes. If it has a folder, each target that was decoded is kept there.

        Parameters
        ----------
        responses : array or DataArray, shape (stimulus, voxel)
            As for :meth:`decode`, like `standardized`.
        store, subject, roi, task, samples, groups, alone, compute
            As for :meth:`fit`; scheduler, folder and progress of `compute` are used too.
        """
        recordings, labels = self._training(store, subject, roi, task, samples, None, groups)
        with compute.limited():
            predicted = self._fit(recordings, labels, alone, None, responses, compute, standardized=standardized)
            values, ids = self._responses(responses, standardized)
            predicted = {**self._predict(values, set(self.decoders_) - set(predicted)), **predicted}
            return self._decoded(predicted, ids, values)

    def fit_arrays(
        self, responses: ArrayLike, targets: Mapping[str, ArrayLike], groups: ArrayLike | None = None
    ) -> Self:
        """Fit to arrays instead of a store.

        Parameters
        ----------
        responses : array, shape (sample, voxel)
            Finite.
        targets : mapping of str to array, shape (sample, ...)
            By source, one row per sample.
        groups : array, shape (sample,), optional
            As for :meth:`fit`; by default each sample is a group.
        """
        numbers = np.arange(len(np.asarray(responses))).astype(str)
        recordings = Recordings.of_arrays(responses, numbers, targets)
        labels = numbers if groups is None else np.asarray(groups).astype(str)
        self._fit(recordings, labels, False, None)
        return self

    def decode(self, responses: Any, *, standardized: bool = False) -> Decoded:
        """Decode the targets from responses.

        Parameters
        ----------
        responses : array or DataArray, shape (stimulus, voxel)
            The voxels of fit, in the same order. If a DataArray has the coordinates ``stimulus`` and ``voxel``, they
            name the stimuli and are checked; the rows of an array are numbered.
        standardized : bool
            Responses are in standard deviations of the training responses, as the pattern of an ROI is.

        Returns
        -------
        Decoded

        Raises
        ------
        InputError
            If these are not the voxels of fit, or responses are not finite.
        """
        check_is_fitted(self, "decoders_")
        values, stimuli = self._responses(responses, standardized)
        return self._decoded(self._predict(values, self.decoders_), stimuli, values)

    def reconstruct(self, responses: Any, *, seed: int = 0) -> xarray.DataArray:
        """Decode and generate; parameters are those of :meth:`decode` and :meth:`generate`."""
        return self.generate(self.decode(responses), seed=seed)

    def save(self, folder: str | Path) -> Path:
        """Save the fitted system in a folder that :func:`load_system` reads, without pickle.

        Returns
        -------
        Path
            The folder: ``system.json``, ``system.safetensors`` and a folder for each decoder.
        """
        check_is_fitted(self, "decoders_")
        place = Path(folder)
        for name, decoder in self.decoders_.items():
            self._save_decoder(place, name, decoder, self.provenance_.get("fit"))
        self._save_description(place)
        return place

    # -- fitting ----------------------------------------------------------------------------------------------------

    def _training(
        self, store: Store | None, subject: str, roi: Any, task: str | None, samples: Any, stimuli: Any, groups: Any
    ) -> tuple[Recordings, np.ndarray]:
        """Return the training samples and their groups."""
        if isinstance(samples, Recordings):
            recordings = samples
        else:
            if store is None:
                raise InputError("a system is fitted to a store", given="no store", todo="use fit_arrays for arrays")
            store = self.with_targets(store)
            chosen = choose_shown_task(store, subject, self.sources, task)
            if samples is None:
                require_train_split(store, subject, chosen)
                if self.trains_on == "stimuli":
                    recordings = Recordings.read(store, subject, roi, task=chosen, split="train")
                else:
                    table = store.samples(subject)
                    rows = np.flatnonzero((table["split"] == "train") & (table["task"] == chosen))
                    recordings = Recordings.read(store, subject, roi, task=chosen, rows=rows)
            else:
                recordings = Recordings.read(store, subject, roi, task=chosen, rows=samples)
        if stimuli is not None:
            recordings = recordings.showing(stimuli)
        labels = recordings.stimuli if groups is None else np.asarray(groups).astype(str)
        if labels.shape != recordings.stimuli.shape:
            raise InputError(
                "groups do not match the samples",
                given=f"shape {labels.shape}",
                expected=f"({len(recordings.table)},), one label for each sample",
                todo="take them from the same selection of samples",
            )
        averaged = self.averages == "responses" and self.trains_on == "stimuli"
        if not isinstance(samples, Recordings) and samples is not None and averaged:
            first = recordings.table.drop_duplicates("stimulus").index.to_numpy()
            recordings, labels = recordings.averaged(), labels[first]
        return recordings, labels

    def with_targets(self, store: Store, models: str | Path | None = None, progress: bool = True) -> Store:
        """Return the store with all targets of this system; those that it lacks are computed and stored.

        Parameters
        ----------
        store : Store
        models : {"bundled", "published"} or path, optional
            By default those of the system, unless these are the bundled ones: as a default of systems they compute
            targets of simulated data only; of measured data they have to be asked for.
        progress : bool
            Show progress bars.
        """
        own = getattr(self, "models", None)
        more = [spec.elsewhere for spec in self.targets.values() if spec.elsewhere is not None]
        pairs = [(subject, task) for subject in store.subjects for task in store.tasks(subject)] if more else []
        if hasattr(self, "decoders_") or all(training_images(store, *pair) is None for pair in pairs):
            more = []  # nothing is learned from them
        return ensure_targets(
            store,
            [*self.sources, *more],
            models=models if models is not None or own == "bundled" else own,
            device=getattr(self, "device", None),
            progress=progress,
        )

    def _fit(
        self,
        recordings: Recordings,
        groups: np.ndarray,
        alone: bool,
        folder: Path | None,
        known: Any = None,
        compute: Compute = Compute(),  # noqa: B008 (frozen)
        coordinates: Path | None = None,
        standardized: bool = False,
    ) -> dict[str, np.ndarray]:
        """Fit all decoders; return the predictions of those that keep no weights, for responses that are known."""
        responses = recordings.responses.astype(np.float64)
        _check_finite(responses)
        specs = dict(self.targets)
        columns = {name: _columns(recordings, name, spec) for name, spec in specs.items()}
        self.mean_, self.scale_ = standardizer(responses)
        self.voxels_, self._columns_ = recordings.voxels, columns
        self.decoders_, self.targets_, self.training_ = {}, {}, {}
        self.training_stimuli_ = recordings.table["stimulus"].astype(str).drop_duplicates().tolist()
        self.provenance_ = self._provenance(recordings, alone)
        if learned := self.learned_elsewhere(recordings):
            self.provenance_["elsewhere"] = learned
        digest, predicted, done, models = None, {}, None, getattr(self, "models", None)
        if folder is not None:
            digest = self.fit_digest(recordings, groups, alone=alone)
            self.provenance_["fit"] = digest
            _begin(folder, digest)
        if known is not None and compute.folder is not None:
            digest = self.fit_digest(recordings, groups, alone=alone)
            what = {"decoded": digest, "responses": block_digest(self._responses(known, standardized)[0])}
            done = ResultsFolder.of(what, compute.folder)
        for name, spec in specs.items():
            target = recordings.target(spec.source)
            beside = {source: recordings.target(source) for source in spec.beside}
            other = recordings.elsewhere() if spec.elsewhere is not None else None
            further = {} if other is None else {str(spec.elsewhere): other.target(str(spec.elsewhere))}
            if models is not None:
                for source, stored in {spec.source: target, **beside, **further}.items():
                    require_networks(source, stored.attrs, models, f"the system {self.name!r}")
            self.targets_[name] = {
                "dims": [str(dim) for dim in target.dims[1:]],
                "shape": [int(size) for size in target.shape[1:]],
                "attrs": dict(target.attrs),
            }
            kept = None if folder is None else _resume(folder, name, digest)
            if kept is not None:
                self.decoders_[name], self.training_[name] = kept
                continue
            decoder = clone(spec.decoder)
            if done is not None and done.has(name):
                found = done.get(name)
                predicted[name], self.training_[name] = found["decoded"], (found["mean"], found["deviation"])
                if "alpha" in found:
                    decoder.alpha_ = found["alpha"][()]  # what is known of a decoder that keeps no weights
                if "reliability" in found:
                    decoder.left_out_correlation_ = found["reliability"]
                self.decoders_[name] = decoder
                continue
            if alone and getattr(decoder, "renorm", None) == "test":
                decoder.set_params(renorm="train")
            inputs, part, labels = self._inputs(responses, spec, columns[name]), spec.part(target), groups
            checkpoint = None
            if other is not None:
                inputs, part, labels = self._learned_elsewhere(name, spec, other, part)
            if known is not None and hasattr(decoder, "fit_and_predict") and not isinstance(target.data, np.ndarray):
                new = self._inputs(self._responses(known, standardized)[0], spec, columns[name])
                if labels is groups and _fits_into_jobs(decoder, spec, recordings, compute):
                    predicted[name] = _predict_in_jobs(decoder, spec, recordings, inputs, new, compute)
                else:
                    predicted[name] = decoder.fit_and_predict(inputs, part, new, groups=labels)
            else:
                place = folder if folder is not None else None if done is None else done.path
                takes, kept_in = inspect.signature(decoder.fit).parameters, dict[str, Path]()
                if place is not None and "checkpoint" in takes:
                    checkpoint = kept_in["checkpoint"] = place / "training" / name
                if coordinates is not None and "coordinates" in takes:
                    kept_in["coordinates"] = coordinates / f"{name}.npy"
                decoder.fit(inputs, {spec.source: part, **beside} if beside else part, groups=labels, **kept_in)
            self.decoders_[name], self.training_[name] = decoder, _moments(target)
            if folder is not None:
                self._save_decoder(folder, name, decoder, digest)
            if done is not None:
                if name not in predicted:
                    predicted |= self._predict(self._responses(known, standardized)[0], {name})
                mean, deviation = self.training_[name]
                found = {"decoded": np.asarray(predicted[name]), "mean": mean, "deviation": deviation}
                if hasattr(decoder, "alpha_"):
                    found["alpha"] = np.asarray(decoder.alpha_)
                if hasattr(decoder, "left_out_correlation_"):
                    found["reliability"] = decoder.left_out_correlation_
                done.prepare()
                done.put(name, found)
            if checkpoint is not None:  # the decoder is complete on disk
                shutil.rmtree(checkpoint, ignore_errors=True)
        self.learned_ = self.learn(recordings)
        if folder is not None:
            shutil.rmtree(folder / "training", ignore_errors=True)
            self._save_description(folder)
        return predicted

    def _learned_elsewhere(
        self, name: str, spec: TargetSpec, other: Recordings, target: Any
    ) -> tuple[np.ndarray, Any, np.ndarray]:
        """Return inputs, target and groups of a decoder that is trained on images."""
        responses = other.responses.astype(np.float64)
        _check_finite(responses)
        mean, scale = standardizer(responses)
        columns = self._columns_[name]
        centered = (responses - mean)[:, columns]
        stand_in = spec.part(other.target(str(spec.elsewhere)))
        if stand_in.shape[1:] != target.shape[1:]:
            raise InputError(
                f"{name!r} cannot be learned from images",
                given=f"{spec.elsewhere} of the task {other.task!r} with features {stand_in.shape[1:]}",
                expected=f"{target.shape[1:]}, as {spec.source} has",
                todo="compute both targets with the same networks and sizes",
            )
        shift = np.asarray(target.mean("sample") - stand_in.mean("sample").data)
        inputs = centered / scale[columns] if spec.standardize else centered
        return inputs, (stand_in + shift).astype(stand_in.dtype), other.stimuli

    def _predict(self, values: np.ndarray, names: Collection[str]) -> dict[str, np.ndarray]:
        """Return the predictions of decoders from responses in their original units."""
        specs, found = self.targets, {}
        for name in [name for name in self.decoders_ if name in names]:
            spec = specs[name]
            predicted = self.decoders_[name].predict(self._inputs(values, spec, self._columns_[name]))
            found[name] = np.asarray(predicted[spec.source] if spec.beside else predicted)
        return found

    def _decoded(self, predicted: Mapping[str, np.ndarray], stimuli: np.ndarray, responses: np.ndarray) -> Decoded:
        """Return predictions as arrays in the shape of the stored targets, and responses where they are used, too."""
        import xarray

        arrays, moments = {}, dict(self.training_)
        for name, about in self.targets_.items():
            values, mean = predicted[name].reshape(len(stimuli), -1), self.training_[name][0].ravel()
            if values.shape[1] < len(mean):  # only first groups are decoded
                rest = np.broadcast_to(mean[values.shape[1] :], (len(values), len(mean) - values.shape[1]))
                values = np.concatenate([values, rest], axis=1)
            arrays[name] = xarray.DataArray(
                values.astype(np.float32, copy=False).reshape(len(stimuli), *about["shape"]),
                dims=("stimulus", *about["dims"]),
                coords={"stimulus": ("stimulus", stimuli)},
                attrs=about["attrs"],
                name=name,
            )
        if self.carries_responses:
            arrays[RESPONSES] = xarray.DataArray(
                ((responses - self.mean_) / self.scale_).astype(np.float32),
                dims=("stimulus", "voxel"),
                coords={"stimulus": ("stimulus", stimuli)},
                name=RESPONSES,
            )
            moments[RESPONSES] = np.zeros_like(self.mean_), np.ones_like(self.scale_)
        return Decoded(arrays, stimuli, moments, self.reliability_)

    @property
    def reliability_(self) -> dict[str, np.ndarray]:
        """How well each feature was decoded from left-out training samples, of the targets where this was measured.

        See :class:`Decoded`; measured by ``RidgeDecoder(score_left_out=True)``.
        """
        return {
            name: decoder.left_out_correlation_.astype(np.float32).reshape(self.targets_[name]["shape"])
            for name, decoder in self.decoders_.items()
            if hasattr(decoder, "left_out_correlation_")
        }

    def learned_elsewhere(self, recordings: Recordings) -> dict[str, dict[str, Any]]:
        """Return what a fit to these samples learns from images, as :attr:`elsewhere_`."""
        found = {}
        for name, spec in self.targets.items():
            if spec.elsewhere is not None and (other := recordings.elsewhere()) is not None:
                found[name] = {"task": other.task, "target": spec.elsewhere, "stimuli": len(other.table)}
        return found

    @property
    def elsewhere_(self) -> dict[str, dict[str, Any]]:
        """What was learned from images: their task, their target and their number, by target."""
        found: dict[str, dict[str, Any]] = getattr(self, "provenance_", {}).get("elsewhere", {})
        return found

    def inputs_of(self, name: str, responses: np.ndarray) -> np.ndarray:
        """Return the inputs of the decoder of a target, (sample, voxel): responses of its voxels, centered and scaled.

        Parameters
        ----------
        name : str
        responses : array, shape (sample, voxel)
            Of the voxels of fit.
        """
        check_is_fitted(self, "decoders_")
        return self._inputs(np.asarray(responses, dtype=np.float64), self.targets[name], self._columns_[name])

    def _inputs(self, responses: np.ndarray, spec: TargetSpec, columns: np.ndarray | slice) -> np.ndarray:
        """Return the inputs of a decoder: centered responses, standardized if its target says so."""
        centered = responses[:, columns] - self.mean_[columns]
        return centered / self.scale_[columns] if spec.standardize else centered

    def _responses(self, responses: Any, standardized: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return responses as float64 and the ids of their stimuli; refuse those that cannot be decoded.

        Those that are `standardized` are returned in their original units.
        """
        values = np.asarray(responses, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.mean_):
            raise InputError(
                "these responses do not match the voxels that the system was fitted on",
                given=f"shape {values.shape}",
                expected=f"(stimulus, {len(self.mean_)})",
                todo="select the same subject and roi as for fit",
            )
        coordinates = getattr(responses, "coords", {})
        if "voxel" in coordinates and not np.array_equal(coordinates["voxel"].values, self.voxels_):
            raise InputError(
                "these responses come from other voxels than those that the system was fitted on",
                given=f"voxels {coordinates['voxel'].values[:5].tolist()} ...",
                expected=f"voxels {self.voxels_[:5].tolist()} ..., in this order",
                todo="select the same subject and roi as for fit",
            )
        _check_finite(values)
        stimuli = coordinates["stimulus"].values if "stimulus" in coordinates else np.arange(len(values))
        if standardized:
            values = values * self.scale_ + self.mean_
        return values, np.asarray(stimuli).astype(str)

    def _provenance(self, recordings: Recordings, alone: bool) -> dict[str, Any]:
        store = recordings.store
        return {
            "system": self.name,
            "subject": recordings.subject,
            "task": recordings.task,
            "roi": list(recordings.roi) if isinstance(recordings.roi, tuple) else recordings.roi,
            "samples": len(recordings.table),
            "stimuli": int(recordings.table["stimulus"].nunique()),
            "store": None if store is None else store.location,
            "snapshot": None if store is None else store.snapshot,
            "digest": None if store is None else store.digest,
            "split_column": None if store is None else store.split_column,
            "alone": alone,
            "centered": recordings.center or "no",
            "scaled": recordings.scale or "no",
            "neurorecon": neurorecon.__version__,
        }

    def fit_digest(self, recordings: Recordings, groups: ArrayLike | None = None, *, alone: bool = False) -> str:
        """Return a digest of everything that determines the decoders; the store's digest covers the targets.

        Parameters
        ----------
        recordings : Recordings
            The training samples.
        groups, alone
            As for :meth:`fit`.
        """
        labels = recordings.stimuli if groups is None else np.asarray(groups).astype(str)
        specs = {
            name: [spec.source, spec.roi, spec.standardize, about_estimator(spec.decoder), spec.groups, *spec.beside]
            for name, spec in self.targets.items()
        }
        for name, spec in self.targets.items():
            if spec.elsewhere is not None and (other := recordings.elsewhere()) is not None:
                specs[name] += [spec.elsewhere, block_digest(other.responses), block_digest(other.stimuli)]
        about = self._provenance(recordings, alone)
        del about["split_column"]  # of a split, only its training samples matter, so several share a fit
        everything = {
            **about,
            "digest": None if recordings.store is None else recordings.store.content_digest,
            "store": None,  # copies of a store may lie anywhere
            "snapshot": None,
            "targets": specs,
            "responses": block_digest(recordings.responses),
            "shown": block_digest(recordings.stimuli),
            "groups": block_digest(labels),
            "voxels": block_digest(recordings.voxels),
        }
        return block_digest(np.array([json.dumps(everything, sort_keys=True, default=list)], dtype=object))

    # -- on disk ----------------------------------------------------------------------------------------------------

    def _save_decoder(self, folder: Path, name: str, decoder: Any, digest: str | None) -> None:
        if not hasattr(decoder, "save"):
            raise InputError(
                f"the decoder of {name!r} cannot be written to disk",
                given=type(decoder).__name__,
                expected="a decoder with a method save(folder)",
                todo="derive it from neurorecon.decoders.persistence.Persistent",
            )
        place = folder / "decoders" / name
        place.mkdir(parents=True, exist_ok=True)
        mean, deviation = self.training_[name]
        tensors.save(place / "training.safetensors", {"mean": mean, "deviation": deviation})
        decoder.save(place, provenance={"fit": digest})

    def _save_description(self, folder: Path) -> None:
        arrays: dict[str, Any] = {"voxels": self.voxels_, "mean": self.mean_, "scale": self.scale_}
        for name, columns in self._columns_.items():
            arrays[f"columns.{name}"] = np.arange(len(self.voxels_))[columns]
        arrays |= {f"learned.{name}": values for name, values in self.learned_.items()}
        parameters = {
            name: tensors.pack(value, f"parameters.{name}", arrays)
            for name, value in self.get_params(deep=False).items()
        }
        folder.mkdir(parents=True, exist_ok=True)
        tensors.save(folder / _ARRAYS, arrays)
        description = {
            "format": FORMAT,
            "system": self.name,
            "parameters": parameters,
            "targets": self.targets_,
            "stimuli": self.training_stimuli_,
            "provenance": self.provenance_,
            "fit": self.provenance_.get("fit"),
            "complete": True,
        }
        write_json(folder / _DESCRIPTION, description)

    def _load(self, folder: Path, description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Self:
        self.voxels_, self.mean_, self.scale_ = arrays["voxels"], arrays["mean"], arrays["scale"]
        self.targets_, self.provenance_ = description["targets"], description["provenance"]
        self.training_stimuli_ = description.get("stimuli")
        self._columns_ = {name: _as_slice(arrays[f"columns.{name}"], len(self.voxels_)) for name in self.targets_}
        learned = [name for name in arrays if name.startswith("learned.")]
        self.learned_ = {name.removeprefix("learned."): arrays[name] for name in learned}
        self.decoders_, self.training_ = {}, {}
        for name in self.targets_:
            place = folder / "decoders" / name
            self.decoders_[name] = load_decoder(place)
            moments = tensors.load(place / "training.safetensors")[0]
            self.training_[name] = moments["mean"], moments["deviation"]
        return self


def load_system(name_or_folder: str | Path, **parameters: Any) -> Any:
    """Return an unfitted system by its registered name, or load a fitted one from its folder.

    Parameters
    ----------
    name_or_folder : str or path
        A registered name, e.g. ``"linear-pixels"``, or a folder that :meth:`System.save` wrote.
    **parameters
        Of the system, e.g. ``models=`` or ``device=``. They replace the parameters of a saved system.

    Returns
    -------
    System

    Raises
    ------
    UnknownNameError, InputError
        If there is no such system or parameter.
    MissingFileError
        If the folder does not hold a complete system.

    Examples
    --------
    >>> import neurorecon as nr
    >>> system = nr.load_system("linear-pixels", cv=5)
    >>> system.cv, list(system.targets)
    (5, ['images'])
    """
    folder = Path(name_or_folder)
    if isinstance(name_or_folder, str) and name_or_folder in SYSTEMS.names():
        return _make(name_or_folder, SYSTEMS.load(name_or_folder), parameters)
    if not folder.is_dir():
        raise UnknownNameError("system", name_or_folder, SYSTEMS.names())
    description = read_json(folder / _DESCRIPTION, "system.save(folder)")
    if not description.get("complete"):
        raise MissingFileError(
            "the system in this folder is incomplete: its fit was interrupted",
            given=str(folder),
            expected="all decoders",
            todo="run the same fit with the same folder again; it resumes",
        )
    name, arrays = description["system"], tensors.load(folder / _ARRAYS)[0]
    kind = SYSTEMS.load(name) if name in SYSTEMS.names() else System.classes.get(name)
    if kind is None:
        raise UnknownNameError("system", name, [*SYSTEMS.names(), *System.classes])
    saved = {key: tensors.unpack(value, arrays) for key, value in description["parameters"].items()}
    return _make(name, kind, {**saved, **parameters})._load(folder, description, arrays)


def standardizer(responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of every voxel; the deviation of one that never changes is 1.

    Parameters
    ----------
    responses : array, shape (sample, voxel)
        Training samples only.

    Returns
    -------
    mean, deviation : array, shape (voxel,)
    """
    deviation = responses.std(axis=0)
    still = (responses == responses[:1]).all(axis=0)
    return responses.mean(axis=0), np.where(still | (deviation == 0), 1.0, deviation)


def correlate_rows(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the correlation over the last axis, (...,); 0 where one of the two is constant."""
    one, other = (values - values.mean(axis=-1, keepdims=True) for values in (one, other))
    norms = np.linalg.norm(one, axis=-1) * np.linalg.norm(other, axis=-1)
    return (one * other).sum(axis=-1) / np.where(norms > 0, norms, np.inf)


def _make(name: str, kind: type, parameters: Mapping[str, Any]) -> Any:
    known = list(inspect.signature(kind).parameters)
    for parameter in parameters:
        if parameter not in known:
            raise UnknownNameError(f"parameter of the system {name!r}:", parameter, known)
    return kind(**parameters)


def require_train_split(store: Store, subject: str, task: str) -> None:
    """Refuse a task without training samples."""
    samples = store.samples(subject)
    splits = sorted(set(samples.loc[samples["task"] == task, "split"]))
    if "train" not in splits:
        raise InputError(
            f"the task {task!r} has no samples to train on",
            given=f"splits: {', '.join(splits)}",
            expected="a split 'train'",
            todo="pass samples=, the rows to train on",
        )


def _check_finite(responses: np.ndarray) -> None:
    bad = ~np.isfinite(responses)
    if bad.any():
        raise InputError(
            "some responses are not finite",
            given=f"{int(bad.sum())} values in {int(bad.any(axis=0).sum())} voxels",
            expected="finite numbers",
            todo="leave these voxels out, or check the store: neurorecon check",
        )


def _columns(recordings: Recordings, name: str, spec: TargetSpec) -> np.ndarray | slice:
    """Return the voxels of a decoder among those that were read."""
    if spec.roi is None:
        return slice(None)
    if recordings.store is None:
        raise InputError(
            f"the decoder of {name!r} needs an ROI, but arrays have none",
            given=f"roi={spec.roi!r}",
            expected="a store with ROIs",
            todo="build a store with neurorecon.build_from_arrays, and fit to it",
        )
    try:
        wanted = recordings.store.voxels(recordings.subject, spec.roi).index.to_numpy()
    except UnknownNameError as error:
        raise InputError(
            f"the store does not have the ROI that {name!r} is decoded from",
            given=f"roi={spec.roi!r}, ROIs {', '.join(recordings.store.rois(recordings.subject)) or 'none'}",
            expected="ROIs of the store",
            todo="choose others with rois=, or rois={} for all voxels (in the shell --set rois={})",
        ) from error
    found = np.flatnonzero(np.isin(recordings.voxels, wanted))
    if not len(found):
        raise InputError(
            f"the decoder of {name!r} has no voxels",
            given=f"its ROI {spec.roi!r} among the {len(recordings.voxels)} voxels of {recordings.roi!r}",
            expected="voxels in both",
            todo="fit with a roi= that contains its ROI, or decode from all that are read: rois={} (--set rois={})",
        )
    return _as_slice(found, len(recordings.voxels))


def _as_slice(columns: np.ndarray, voxels: int) -> np.ndarray | slice:
    return slice(None) if len(columns) == voxels else columns


def _fits_into_jobs(decoder: Any, spec: TargetSpec, recordings: Recordings, compute: Compute) -> bool:
    """Return whether a target is computed in jobs: its results are kept, and no parameter depends on its values."""
    plain = type(decoder) is RidgeDecoder and np.ndim(decoder.alpha) == 0 and decoder.missing == "raise"
    return (
        compute.keeps_files
        and plain
        and decoder.renorm is None
        and not decoder.score_left_out
        and decoder.select_voxels is None
        and spec.groups is None
        and recordings.store is not None
        and spec.source not in ("images", "frames")
    )


def _predict_in_jobs(
    decoder: RidgeDecoder,
    spec: TargetSpec,
    recordings: Recordings,
    inputs: np.ndarray,
    new: np.ndarray,
    compute: Compute,
) -> np.ndarray:
    """Return the predictions of a ridge regression, computed in blocks of features."""
    assert recordings.store is not None
    found = predict_target_blocks(
        inputs,
        recordings.store,
        spec.source,
        recordings.stimuli.tolist(),
        new,
        float(np.asarray(decoder.alpha)),
        fit_intercept=decoder.fit_intercept,
        device=decoder.device,
        dtype=decoder.dtype,
        block=decoder.target_block,
        scheduler=compute.scheduler,
        threads=compute.threads,
        results=compute.folder,
        progress=compute.progress,
    )
    return found.array()


def _moments(target: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation of each feature over samples, float32, in blocks of features."""
    blocks = Targets(target, "float64")
    mean, deviation = np.empty((2, blocks.n_targets), dtype=np.float32)
    for columns, values in blocks.blocks():
        mean[columns], deviation[columns] = values.mean(axis=0), values.std(axis=0)
    return mean.reshape(blocks.shape), deviation.reshape(blocks.shape)


def about_estimator(estimator: Any) -> list[Any]:
    """Return class and parameters of an estimator as JSON types."""
    arrays: dict[str, Any] = {}
    parameters = {name: tensors.pack(value, name, arrays) for name, value in estimator.get_params(deep=False).items()}
    return [type(estimator).__name__, parameters, {name: block_digest(value) for name, value in arrays.items()}]


def _begin(folder: Path, digest: str) -> None:
    """Write into a folder what is being fitted, or refuse a folder that holds another fit."""
    file = folder / _DESCRIPTION
    if file.is_file():
        found = read_json(file, "system.save(folder)").get("fit")
        if found != digest:
            raise InputError(
                "cannot resume: the system in this folder was fitted to other data or with other settings",
                given=str(folder),
                expected="an empty folder, or the folder of the same fit",
                todo="choose another folder, or delete this one",
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, {"format": FORMAT, "fit": digest, "complete": False})


def _resume(folder: Path, name: str, digest: str | None) -> tuple[Any, tuple[np.ndarray, np.ndarray]] | None:
    """Return a decoder that is complete on disk, with the moments of its target."""
    place = folder / "decoders" / name
    try:
        decoder = load_decoder(place)
        moments = tensors.load(place / "training.safetensors")[0]
    except InputError:  # missing, or cut short when the fit was killed
        return None
    if (decoder.provenance_ or {}).get("fit") != digest:
        return None
    return decoder, (moments["mean"], moments["deviation"])
