"""The images that an ROI prefers: what a system generates from the pattern of a brain in which one ROI is active.

A system decodes targets from a response, and generates an image from the targets. Here no stimulus evoked the response.
Three methods say what is decoded, or optimized, for an ROI:

- ``pattern``: standardized voxels are 1 in the ROI, and 0 elsewhere (Ozcelik & VanRullen 2023). What is decoded of a
  target differs from what an inactive brain decodes by W m, the pattern m through the decoder's weights W; ridge
  regressions of large targets give it in dual form, m W' = (m X')(K + aI)^-1 Y, without weights. Such a difference has
  no natural size, so it is scaled: its length becomes `factor` times that of a typical training target, measured from
  their mean. The image of an ROI does not depend on which other ROIs are asked for.
- ``stimuli``: the mean target of the training stimuli that drive the ROI most, scaled likewise.
- ``gradient``: ascent from the pattern on the response that an encoding model predicts, through the generator; the
  length of the difference from the mean is kept.

Beside each image stand two opinions of it: the responses that an encoding model of all ROIs predicts for it (is the
ROI driven, and only the ROI?), and the category that a judge sees in it, a network that took no part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import pandas as pd
from sklearn.base import clone

from neurorecon.analyses.reconstruct import job_of, system_of
from neurorecon.analyses.response_model import BANDS, ResponseModel, standardized_by
from neurorecon.analyses.results import Result, Score, plain_parameter
from neurorecon.analyses.roi_targets import (
    FACTOR,
    STEPS,
    RoiOptimalSettings,
    ascend,
    named_targets,
    optimal_targets,
)
from neurorecon.decoders.samples import Within
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.extract import ensure_targets
from neurorecon.metrics.base import load_metric
from neurorecon.parallel import Compute
from neurorecon.stats import permutation_p
from neurorecon.store.store import Store
from neurorecon.systems.base import System, require_train_split, seed_of
from neurorecon.systems.decoded import Decoded
from neurorecon.systems.diffusion import DiffusionSystem
from neurorecon.systems.generation import generate_parts, networks_of

if TYPE_CHECKING:
    from neurorecon.metrics.networks import ImageNetwork

#: What localizers of ROIs contrast (Kanwisher et al. 1997; Epstein & Kanwisher 1998; Downing et al. 2001), as
#: categories that judges know.
EXPECTED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("FFA", "OFA"), ("face",)),
    **dict.fromkeys(("EBA", "FBA"), ("person",)),
    **dict.fromkeys(("PPA", "OPA", "RSC"), ("room", "building")),
}


class Encoder(Protocol):
    """A model of responses to images, from anywhere."""

    def predict(self, images: np.ndarray) -> np.ndarray:
        """Return responses, shape (image,) or (image, output), to images (image, y, x, rgb), float32 in [0, 1]."""


# -- the result -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RoiOptimal(Result):
    """The images that ROIs of one subject prefer.

    Parameters
    ----------
    system : str
        Name of the system.
    rois : list of str
        Which ROIs.
    images : array, shape (roi, seed, y, x, rgb)
        float32 in [0, 1].
    table : DataFrame
        One row per image: ``roi``, ``seed``, ``targets`` (that it was generated from), ``predicted`` (the response of
        the ROI to the image that the encoding model predicts, in standard deviations of its mean response over training
        stimuli), ``selectivity`` (minus the mean prediction of the ROIs without common voxels), ``eccentricity`` (where
        the contrast energy is: its mean distance from the center, in half widths), ``verdict`` of the judge,
        ``expected`` (whether that is what localizers of the ROI contrast; empty where nothing is expected), and columns
        of an external encoder.
    responses : DataFrame
        Predicted responses of all ROIs, means over the images of each ROI; index ``images of``.
    encoding : DataFrame
        One row per ROI: ``roi``, ``voxels``, ``r`` (correlation of predicted and measured responses over the test
        stimuli), ``p`` (exchanged pairs) and ``alpha``.
    decoded : dict of str to Decoded
        What the images were generated from, one stimulus, by ROI.
    store : Store, optional
        With the targets that had to be computed.
    """

    kind: str = "roi_optimal"
    system: str
    rois: list[str]
    images: np.ndarray
    table: pd.DataFrame
    responses: pd.DataFrame
    encoding: pd.DataFrame
    decoded: dict[str, Decoded] = field(default_factory=dict, repr=False, compare=False)
    store: Store | None = field(default=None, repr=False, compare=False)

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return f"{self.subject}_{self.system}_{self.kind}"

    def source(self, store: Store) -> Store:
        """Return the store that the result was made from."""
        return store if self.store is None else self.store

    def made_by(self, store: Store) -> dict[str, dict[str, Any]]:
        """Return what made the targets, the networks that generated, and the judge."""
        names = [*self.chosen["sources"], *self.chosen["bands"]]
        found = {name: store.about_target(name)[1] for name in names if name in store.targets_available}
        networks = {f"network {role}": made for role, made in self.chosen["networks"].items()}
        return {**found, **networks, **self.chosen["judge_weights"]}

    def summary(self) -> pd.DataFrame:
        """Return one row per ROI: verdicts, and means over the images."""
        rows = []
        for roi, part in self.table.groupby("roi", sort=False):
            row: dict[str, Any] = {"roi": roi, "targets": part["targets"].iloc[0], "images": len(part)}
            if "verdict" in part:
                counts = part["verdict"].value_counts()
                row["verdicts"] = ", ".join(f"{name} {number}" for name, number in counts.items())
                known = part["expected"].notna().all()
                row["as expected"] = f"{int(part['expected'].sum())} of {len(part)}" if known else None
            means = part[["predicted", "selectivity", "eccentricity"]].mean()
            rows.append({**row, **means.to_dict()})
        return pd.DataFrame(rows)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables of ROIs, images, predicted responses and encoding models, and the scores if there are."""
        found = {"rois": self.summary(), "images": self.table, "responses": self.responses, "encoding": self.encoding}
        if self.scores:
            found["scores"] = pd.DataFrame([score.row() for score in self.scores])
        return found

    def arrays(self) -> dict[str, dict[str, np.ndarray]]:
        """Return the images."""
        return {"images": {"roi": np.array(self.rois), "seed": np.array(self.chosen["seeds"]), "images": self.images}}

    def figures(self, store: Store) -> dict[str, Callable[[], Any]]:
        """Return what draws the grid: a row for each ROI, a column for each seed."""
        return {"grid": lambda: self._grid(store)}

    def _grid(self, store: Store) -> Any:
        from neurorecon.figures import panel

        below = {
            roi: [
                f"{row.get('verdict', '')} {row['predicted']:+.1f}".strip().replace("-", "−")
                for _, row in part.iterrows()
            ]
            for roi, part in self.table.groupby("roi", sort=False)
        }
        judge = "The category that the judge sees, and the" if "verdict" in self.table else "The"
        return panel(
            {roi: self.images[number] for number, roi in enumerate(self.rois)},
            below=below,
            captions=[f"seed {seed}" for seed in self.chosen["seeds"]],
            title=f"Images that ROIs prefer · {self.system} · {store.name} · {self.subject}",
            note=f"{judge} response of the ROI that its encoding model predicts (standard deviations). "
            f"Method: {self.chosen['method']}.",
            simulated=store.simulated,
        )

    def pages(self, store: Store, record: Mapping[str, Any]) -> dict[str, Callable[[], str]]:
        """Return what makes the report."""
        return {"report": lambda: self._report(store, record)}

    def _report(self, store: Store, record: Mapping[str, Any]) -> str:
        from neurorecon.figures import Figure, Section, Table, report_html

        grid = Figure(self._grid(store), "Images that ROIs prefer, one row for each ROI.")
        tables = [Table.from_frame(self.summary(), "Verdicts, and means over the images of each ROI.")]
        if self.scores:
            scores = pd.DataFrame([score.row() for score in self.scores])
            tables.append(Table.from_frame(scores, "Compared with random sets of as many voxels."))
        selective = Table.from_frame(self.responses.reset_index(), "Rows: images of an ROI; columns: predicted ROIs.")
        models = Table.from_frame(self.encoding, "Encoding models, over test stimuli.")
        sections = [
            Section("Images", (), [grid, *tables]),
            Section("Predicted responses of all ROIs", self.sentence, [selective, models]),
            Section("Every image", (), [Table.from_frame(self.table)]),
        ]
        return report_html(f"Images that ROIs prefer · {store.name} · {self.subject}", sections, record)

    @property
    def sentence(self) -> str:
        """How the images were made, in one sentence."""
        return (
            f"{self.system}, method {self.chosen['method']}, {self.chosen['scaling']}; "
            f"encoding model: {' + '.join(self.chosen['bands'])}."
        )

    def text(self, store: Store) -> str:
        """Return how the images were made, and the table of ROIs."""
        label = "SIMULATED responses" if store.simulated else "measured responses"
        lines = [f"\n{self.subject} · {store.name} ({label}) · {self.task}", self.sentence]
        lines.append(self.summary().to_string(index=False, float_format=lambda value: f"{value:.2f}", na_rep="-"))
        for score in self.scores:
            lines.append(
                f"{score.name}: {score.value:.2f}, random sets {score.null_mean:.2f} (at most {score.null_max:.2f}), "
                f"p {score.p:.3f}"
            )
        return "\n".join([*lines, *(f"warning: {text}" for text in self.chosen["warnings"])])


# -- computing --------------------------------------------------------------------------------------------------------


def roi_optimal(
    store: Store,
    roi: str | Sequence[str] | None = None,
    system: str | System = "brain-diffuser",
    subject: str | None = None,
    *,
    within: str | Sequence[str] | None = None,
    method: Literal["pattern", "stimuli", "gradient"] = "pattern",
    targets: Sequence[str] | None = None,
    factor: float = FACTOR,
    share: float = 0.05,
    relative: bool = False,
    mean_of: Literal["true", "decoded"] = "true",
    steps: int = STEPS,
    bands: Sequence[str] = BANDS,
    judge: str | ImageNetwork | None = None,
    encoder: Encoder | None = None,
    random_sets: int = 0,
    seeds: int = 8,
    seed: int = 0,
    task: str | None = None,
    options: Mapping[str, Any] | None = None,
    models: str | None = None,
    center: Within | Literal["auto"] | None = "auto",
    scale: Within | Literal["auto"] | None = "auto",
    device: str = "cpu",
    folder: str | Path | None = None,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
) -> RoiOptimal:
    """Generate the images that ROIs prefer.

    Parameters
    ----------
    store : Store
        From :func:`neurorecon.open_store`; targets that it lacks are computed.
    roi : str or sequence of str, optional
        ROIs, each by an expression as in :meth:`Store.responses` (``"FFA"``, ``"V1+V2"``, ``"lh.PPA"``); by default
        all ROIs of the subject.
    system : str or System
        A registered name, the folder of a saved system, or a system. A fitted system is not fitted again.
    subject : str, optional
        By default the first.
    within : str or sequence of str, optional
        Voxels that the system is fitted to; by default all, or those of a fitted system.
    method : {"pattern", "stimuli", "gradient"}
        See :mod:`neurorecon.analyses.roi_optimal`. ``gradient`` needs a system with latent diffusion.
    targets : sequence of str, optional
        Targets of the system to generate from; by default all.
    factor, share, relative, mean_of, steps
        As for :class:`RoiOptimalSettings`.
    bands : sequence of str
        Targets of the encoding model.
    judge : str or ImageNetwork, optional
        Who says what the images show: a network with the layer ``"category"``, or the name of a metric on one. By
        default the probe for drawn scenes, else nobody.
    encoder : Encoder, optional
        An external judge: anything with ``predict(images)``. Its values are further columns of the table.
    random_sets : int
        Random sets of as many voxels outside of each ROI; with them, the verdicts of an ROI have a null.
    seeds, seed : int
        Images of each ROI, and the seed of the first.
    task, options, models, center, scale, device, folder, compute
        As for :func:`neurorecon.reconstruct`.

    Returns
    -------
    RoiOptimal

    Raises
    ------
    UnknownNameError
        If a name does not exist.
    InputError
        If the system does not generate images, no decoder reads the voxels of an ROI, or the arguments contradict each
        other.
    """
    given = system if isinstance(system, System) else None
    if given is not None and options:
        raise InputError(
            "options are for a system that is given by name",
            given=f"a {type(given).__name__} and the options {', '.join(options)}",
            todo="change the system itself: system.set_params(...)",
        )
    settings = RoiOptimalSettings(
        roi=roi, within=within, system=system.name if isinstance(system, System) else system,
        options=dict(options or {}), models=models, method=method, targets=targets, factor=factor, share=share,
        relative=relative, mean_of=mean_of, steps=steps, bands=bands, random_sets=random_sets, seeds=seeds, seed=seed,
        judge=judge if isinstance(judge, str) else None, task=task, center=center, scale=scale, device=device,
    )  # fmt: skip
    return compute_roi_optimal(
        store, store.subjects[0] if subject is None else subject, settings, compute, system=given,
        judge=None if isinstance(judge, str) else judge, encoder=encoder, folder=folder,
    )  # fmt: skip


def compute_roi_optimal(
    store: Store,
    subject: str,
    settings: RoiOptimalSettings,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    *,
    system: System | None = None,
    judge: ImageNetwork | None = None,
    encoder: Encoder | None = None,
    folder: str | Path | None = None,
    reuse: str | Path | None = None,
) -> RoiOptimal:
    """Do what :func:`roi_optimal` does, from its settings.

    Parameters
    ----------
    store : Store
        Open.
    subject : str
        Whose brain.
    settings : RoiOptimalSettings
        Which images.
    compute : Compute
        Who computes.
    system, judge, encoder
        In place of those that the settings name.
    folder, reuse : path, optional
        Folders of fits, as for :func:`neurorecon.analyses.reconstruct.compute_reconstruction`.
    """
    built = system_of(settings.fit) if system is None else system
    fitted, within = hasattr(built, "decoders_"), settings.fit.rois
    if fitted and within is None:
        within = built.provenance_["roi"]
    if not fitted:
        built = clone(built)
    published = _check_system(built, fitted, settings)
    networks = networks_of(built)  # missing weights show before anything is computed
    masks = _masks(store, subject, settings.rois, within)
    if published and (len(masks) < 2 or settings.random_sets):
        raise InputError(
            "the released code standardizes across ROIs",
            given=f"{', '.join(masks)}, random_sets={settings.random_sets}",
            expected="two ROIs or more, and no random sets",
            todo="add ROIs, or choose the preset corrected, where the image of an ROI depends on no other",
        )
    models = settings.models if settings.models is not None else built.get_params().get("models", "bundled")
    judge, about_judge = _judge(store, settings, judge, models)
    store = built.with_targets(store, settings.fit.asked_models, compute.progress)
    asked = settings.fit.asked_models
    needed = [*settings.bands, *(["clip_image"] if settings.method == "gradient" else [])]
    store = ensure_targets(
        store, needed, models=asked if asked is not None or models == "bundled" else models,
        device=settings.device if settings.device.startswith("cuda") else None, progress=compute.progress,
    )  # fmt: skip
    job = job_of(store, subject, within, built, {}, settings.fit, compute)
    require_train_split(store, subject, job.task)
    train = job.training()
    standardized = standardized_by(built if fitted else None, train)
    model = ResponseModel.fit(
        store, standardized, _model_masks(store, subject, masks, within), settings.bands, models, settings.device
    )

    splits = store.samples(subject).query("task == @job.task")["split"]
    test = job.read(split="test") if (splits == "test").any() else None
    encoding = model.evaluated(test, standardized, settings.n_permutations, settings.seed)
    random = {
        f"random {number + 1} of {roi}": _random_set(mask, seed_of(settings.seed, f"random {number + 1} of {roi}"))
        for roi, mask in masks.items()
        for number in range(settings.random_sets)
    }
    everyone = {**masks, **random}
    decoded = optimal_targets(job, train, standardized, everyone, settings, published, folder, reuse)
    of_roi = {name: named_targets(one, settings.targets) for name, one in decoded.items()}
    if settings.method == "gradient":
        assert isinstance(built, DiffusionSystem), "others were refused"
        embedding = ResponseModel.fit(store, standardized, masks, ("clip_image",), models, settings.device)
        of_roi = {name: ascend(built, embedding, one, train, settings, compute) for name, one in of_roi.items()}
    found = _generated(built, of_roi, job.seeds, compute)
    table = _image_table(found, of_roi, list(masks), job.seeds, model, judge, encoder, store)
    scores = _against_random(subject, found, list(masks), judge, store, settings) if random else []
    images = np.stack([found[name] for name in masks])
    predicted = pd.DataFrame({name: model.predict(images[number]).mean(axis=0) for number, name in enumerate(masks)})
    parameters = built.get_params(deep=False)
    return RoiOptimal(
        subject=subject, task=job.task, settings=settings, system=built.name, rois=list(masks), images=images,
        table=table, encoding=encoding, scores=scores, store=store,
        responses=pd.DataFrame(predicted.T.to_numpy(), pd.Index(masks, name="images of"), model.rois),
        decoded={name: of_roi[name] for name in masks},
        chosen={
            "system": built.name,
            "options": {name: plain_parameter(value) for name, value in parameters.items()},
            "sources": built.sources,
            "networks": networks,
            "roi": list(masks),
            "within": within,
            "task": job.task,
            "method": settings.method,
            "scaling": "published constants, standardized across ROIs" if published
            else f"{settings.factor:g} typical deviations from the mean target",
            "targets": {name: list(of_roi[name]) for name in masks},
            "bands": list(settings.bands),
            "judge": about_judge[0],
            "judge_weights": about_judge[1],
            "voxels": len(train.voxels),
            "roi_voxels": {name: int(mask.sum()) for name, mask in masks.items()},
            "train_samples": len(train.table),
            "centering": {name: getattr(job.centering, name) for name in ("center", "scale", "reason")},
            "seeds": job.seeds,
            "warnings": list(job.centering.warnings),
        },
    )  # fmt: skip


def _check_system(system: System, fitted: bool, settings: RoiOptimalSettings) -> bool:
    """Refuse systems without images of ROIs; return whether the released code's constants are used."""
    if "image" not in system.kinds:
        raise InputError(
            "images of ROIs need a system that generates images",
            given=f"{system.name!r} generates {' and '.join(system.kinds)}s",
            todo="choose another system: neurorecon systems",
        )
    for name in settings.targets or ():
        if name not in system.targets:
            raise UnknownNameError(f"target of the system {system.name!r}:", name, list(system.targets))
    if settings.method == "gradient" and not isinstance(system, DiffusionSystem):
        raise InputError(
            "gradients need a generator that can be differentiated",
            given=f"the system {system.name!r}",
            expected="a system with latent diffusion, e.g. brain-diffuser, takagi or mind-diffuser",
            todo="choose another method: pattern or stimuli",
        )
    parameters = system.get_params(deep=False)
    published = (
        system.name == "brain-diffuser" and parameters.get("preset") == "released" and settings.method == "pattern"
    )
    if published and not fitted:
        system.set_params(renorm="none")  # constants take the place of renormalization
    moments = {name: getattr(decoder, "renorm", None) for name, decoder in getattr(system, "decoders_", {}).items()}
    wrong = [name for name, renorm in moments.items() if renorm == "test" or (published and renorm is not None)]
    if wrong:
        raise InputError(
            "this system rescales what it decodes by moments that ROIs do not have",
            given=f"a fitted system, renorm={moments[wrong[0]]!r} of {', '.join(wrong)}",
            expected="renorm='none'" if published else "renorm='train' or 'none'",
            todo="name the system instead, so that it is fitted for ROIs",
        )
    return published


def _masks(
    store: Store, subject: str, rois: str | Sequence[str] | None, within: str | Sequence[str] | None
) -> dict[str, np.ndarray]:
    """Return the voxels of each ROI among those that the system is fitted to."""
    voxels = store.voxels(subject, within).index.to_numpy()
    names = list(store.rois(subject)) if rois is None else [rois] if isinstance(rois, str) else list(rois)
    found = {name: np.isin(voxels, store.voxels(subject, name).index.to_numpy()) for name in dict.fromkeys(names)}
    if rois is None:
        found = {name: mask for name, mask in found.items() if mask.any()}
    for name, mask in found.items():
        if not mask.any() or mask.all():
            raise InputError(
                f"the ROI {name!r} has {'all' if mask.any() else 'no'} voxels that the system is fitted to",
                given=f"{len(voxels)} voxels" + ("" if within is None else f" of {within!r}"),
                expected="some of them, and others beside it",
                todo="choose other voxels for the system: --within",
            )
    if not found:
        raise InputError("there is no ROI", given=f"{subject} without ROIs", expected="a store with ROIs")
    return found


def _model_masks(
    store: Store, subject: str, masks: Mapping[str, np.ndarray], within: str | Sequence[str] | None
) -> dict[str, np.ndarray]:
    """Return the ROIs that responses are predicted of: those asked for, and all of the subject."""
    voxels = store.voxels(subject, within).index.to_numpy()
    known = {name: mask[voxels] for name, mask in store.roi_masks(subject).items()}
    return {**masks, **{name: mask for name, mask in known.items() if mask.any() and name not in masks}}


def _random_set(mask: np.ndarray, seed: int) -> np.ndarray:
    """Draw as many voxels outside of an ROI as it has."""
    outside = np.flatnonzero(~mask)
    if len(outside) < mask.sum():
        raise InputError(
            "an ROI is too large to be compared with random voxels outside of it",
            given=f"{int(mask.sum())} of {len(mask)} voxels",
            expected="at most half of the voxels",
            todo="leave random sets out for this ROI",
        )
    return np.isin(np.arange(len(mask)), np.random.default_rng(seed).choice(outside, int(mask.sum()), replace=False))


def _judge(
    store: Store, settings: RoiOptimalSettings, judge: ImageNetwork | None, models: Any
) -> tuple[ImageNetwork | None, tuple[str, dict[str, Any]]]:
    """Return the judge, its name, and what identifies its weights."""
    name = type(judge).__name__
    if judge is None:
        name = settings.judge or ("probe" if store.simulated else "")
        if not name:
            return None, ("none", {})
        metric = load_metric(name, models, settings.device)
        judge = metric.network
        if judge is None or metric.layer != "category":
            raise InputError(
                f"the metric {name!r} names no categories",
                given=f"layer {metric.layer!r}",
                expected="a metric on the layer 'category' of a network, e.g. probe",
                todo="choose another judge",
            )
        try:
            judge.check(store)
        except InputError:
            if settings.judge is not None:
                raise
            return None, ("none", {})
    if "category" not in judge.layers:
        raise UnknownNameError(f"layer of {name}:", "category", judge.layers)
    return judge, (name, {f"judge {name}": judge.record()})


def _generated(
    system: System, of_roi: Mapping[str, Decoded], seeds: Sequence[int], compute: Compute
) -> dict[str, np.ndarray]:
    """Return the images of each ROI, (seed, y, x, rgb); ROIs with the same targets are generated together."""
    import xarray

    found: dict[str, np.ndarray] = {}
    for names in dict.fromkeys(tuple(one) for one in of_roi.values()):
        rois = [roi for roi, one in of_roi.items() if tuple(one) == names]
        parts = [of_roi[roi] for roi in rois]
        arrays = {name: xarray.concat([part[name] for part in parts], "stimulus") for name in names}
        together = Decoded(arrays, rois, parts[0].training, parts[0].reliability)
        found |= dict(zip(rois, generate_parts(system, together, seeds, compute, label="ROIs"), strict=True))
    return {roi: found[roi] for roi in of_roi}


# -- judging ----------------------------------------------------------------------------------------------------------


def eccentricity(images: np.ndarray) -> np.ndarray:
    """Return where the contrast energy of images is: its mean distance from the center, in half widths.

    Energy is the squared gradient of luminance.

    Parameters
    ----------
    images : array, shape (image, y, x, rgb)

    Returns
    -------
    array, shape (image,)
        NaN for images of one color.
    """
    luminance = images @ np.array([0.299, 0.587, 0.114])
    down, right = np.gradient(luminance, axis=(1, 2))
    energy = down**2 + right**2
    y, x = (2 * (np.arange(size) + 0.5) / size - 1 for size in luminance.shape[1:])
    distance = np.hypot(*np.meshgrid(y, x, indexing="ij"))
    total = energy.sum(axis=(1, 2))
    return np.asarray((energy * distance).sum(axis=(1, 2)) / np.where(total > 0, total, np.nan))


def expected_of(roi: str, groups: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return what an ROI is expected to prefer: categories, or none if that is not known of all its parts.

    Parameters
    ----------
    roi : str
        An expression, e.g. ``"FFA"``, ``"lh.FFA-1"``, ``"PPA+OPA"``.
    groups : mapping of str to sequence of str
        Members of groups of ROIs.
    """
    parts = [re.sub(r"^[lr]h\.", "", part.strip()) for part in roi.split("+")] if roi not in EXPECTED else [roi]
    parts = [member for part in parts for member in groups.get(part, [part])]
    found = {EXPECTED.get(re.sub(r"-\d+$", "", part), ()) for part in parts}
    return found.pop() if len(found) == 1 else ()


def _image_table(
    images: Mapping[str, np.ndarray],
    of_roi: Mapping[str, Decoded],
    rois: Sequence[str],
    seeds: Sequence[int],
    model: ResponseModel,
    judge: ImageNetwork | None,
    encoder: Encoder | None,
    store: Store,
) -> pd.DataFrame:
    """Return the table of images; see :class:`RoiOptimal`."""
    parts = []
    for roi in rois:
        predicted = model.predict(images[roi])
        part = pd.DataFrame({
            "roi": roi,
            "seed": list(seeds),
            "targets": "+".join(of_roi[roi]),
            "predicted": predicted[:, model.rois.index(roi)],
            "selectivity": model.selectivity(predicted, roi),
            "eccentricity": eccentricity(images[roi]),
        })  # fmt: skip
        if judge is not None:
            verdict = judge.features(images[roi], "category").astype(str)
            wanted = expected_of(roi, store.roi_groups)
            right = [bool(name in wanted) for name in verdict] if wanted else [None] * len(verdict)
            part = part.assign(verdict=verdict, expected=pd.array(right, dtype="boolean"))
        if encoder is not None:
            values = np.asarray(encoder.predict(images[roi]), dtype=np.float64)
            if values.shape[:1] != (len(images[roi]),) or values.ndim > 2:
                raise InputError(
                    "the external encoder does not return one row for each image",
                    given=f"shape {values.shape} for {len(images[roi])} images",
                    expected="(image,) or (image, output)",
                )
            columns = ["external"] if values.ndim == 1 else [f"external_{n}" for n in range(values.shape[1])]
            part = part.assign(**dict(zip(columns, values.reshape(len(values), -1).T, strict=True)))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _against_random(
    subject: str,
    images: Mapping[str, np.ndarray],
    rois: Sequence[str],
    judge: ImageNetwork | None,
    store: Store,
    settings: RoiOptimalSettings,
) -> list[Score]:
    """Return scores of the verdicts of each ROI, with random sets of voxels as their null.

    Sets are exchanged, not images: the images of a set have one pattern in common. The distance of a set is the total
    variation between the shares of its verdicts and the mean shares of all other sets.
    """
    if judge is None:
        return []
    scores = []
    for roi in rois:
        names = [roi, *(f"random {number + 1} of {roi}" for number in range(settings.random_sets))]
        verdicts = np.stack([judge.features(images[name], "category").astype(str) for name in names])
        shares = np.stack([(verdicts == kind).mean(axis=1) for kind in np.unique(verdicts)], axis=1)
        others = (shares.sum(axis=0) - shares) / (len(shares) - 1)
        distance = np.abs(shares - others).sum(axis=1) / 2
        found = {"distance of verdicts": distance}
        wanted = expected_of(roi, store.roi_groups)
        if wanted:
            found["verdicts as expected"] = np.isin(verdicts, wanted).mean(axis=1)
        for name, values in found.items():
            p = float(permutation_p(values[0], values[1:]))
            scores.append(
                Score(f"{subject} {roi} {name}", float(values[0]), settings.seeds, float(values[1:].mean()),
                      float(values[1:].max()), p, settings.random_sets)
            )  # fmt: skip
    return scores
