"""What the image of an ROI is generated from: optimal targets, by three methods.

See :mod:`neurorecon.analyses.roi_optimal`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neurorecon.analyses.design import CenteredSettings, ReconstructSettings
from neurorecon.analyses.reconstruct import Job
from neurorecon.analyses.response_model import BANDS, ResponseModel, Standardized
from neurorecon.decoders.samples import Recordings
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.io.tensors import block_digest
from neurorecon.parallel import Compute, Results, ResultsFolder
from neurorecon.systems.base import about_estimator, seed_of
from neurorecon.systems.decoded import Decoded
from neurorecon.systems.diffusion import DiffusionSystem
from neurorecon.systems.generation import networks_of

METHODS = ("pattern", "stimuli", "gradient")

#: Length of the scaled difference from the mean target, in lengths of a typical training target.
FACTOR = 1.5

#: Constants of the released code of Brain-Diffuser: lengths of what is added to the intercept, by target. That of the
#: VDVAE is then standardized across ROIs, given the moments of training, and scaled to the second length.
PUBLISHED: Mapping[str, tuple[float, ...]] = {"vdvae": (50.0, 80.0), "clip_text": (9.0,), "clip_vision": (15.0,)}

#: Steps of the ascent.
STEPS = 20

#: Length of a step, in lengths of the difference from the mean target.
STEP = 0.15

#: Training samples that give the covariance of a target: 240 MB of CLIP's text tokens.
MOST_SAMPLES = 1000

#: The id of the pattern without an active voxel.
_REST = "rest"


@dataclass(frozen=True, kw_only=True)
class RoiOptimalSettings(CenteredSettings):
    """Settings of ROI-optimal images; `roi` says which ROIs, each by an expression, by default all of the subject.

    Parameters
    ----------
    within : str or sequence of str, optional
        Voxels that the system is fitted to; by default all.
    system, options, models
        As for :class:`~neurorecon.analyses.design.ReconstructSettings`.
    method : {"pattern", "stimuli", "gradient"}
        What is decoded or optimized.
    targets : sequence of str, optional
        Targets of the system to generate from; the others are left to the generator. By default all.
    factor : float
        Length of the difference from the mean target, in lengths of a typical training target.
    share : float
        Of the training stimuli, for the method ``stimuli``.
    relative : bool
        Rank training stimuli by the response of the ROI minus that of all other voxels, not by the response itself.
    mean_of : {"true", "decoded"}
        Whether the method ``stimuli`` averages the targets of the stimuli, or decodes their mean response.
    steps : int
        Of the ascent.
    bands : sequence of str
        Targets of the encoding model.
    judge : str, optional
        A registered metric whose network names categories; by default ``"probe"`` for drawn scenes, else none.
    random_sets : int
        Random sets of as many voxels outside of each ROI: the null of its verdicts.
    seeds : int
        Images of each ROI.
    """

    within: str | Sequence[str] | None = None
    system: str = "brain-diffuser"
    options: Mapping[str, Any] = field(default_factory=dict)
    models: str | None = None
    method: Literal["pattern", "stimuli", "gradient"] = "pattern"
    targets: Sequence[str] | None = None
    factor: float = FACTOR
    share: float = 0.05
    relative: bool = False
    mean_of: Literal["true", "decoded"] = "true"
    steps: int = STEPS
    bands: Sequence[str] = BANDS
    judge: str | None = None
    random_sets: int = 0
    seeds: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method not in METHODS:
            raise UnknownNameError("method", self.method, METHODS)
        if self.mean_of not in ("true", "decoded"):
            raise UnknownNameError("mean_of", self.mean_of, ("true", "decoded"))
        self._require("factor", 0 < self.factor < np.inf, "a number above 0", str(FACTOR))
        self._require("share", 0 < self.share < 1, "above 0 and below 1", "0.05")
        self._require("seeds", self.seeds >= 1, "a number of 1 or more", "8")
        self._require("steps", self.steps >= 1, "a number of 1 or more", str(STEPS))
        self._require("random_sets", self.random_sets >= 0, "0 or more", "19")
        if self.random_sets and self.method == "gradient":
            raise InputError(
                "an ascent takes too long for random sets of voxels",
                given=f"random_sets={self.random_sets}, method={self.method!r}",
                expected="the method pattern or stimuli",
                todo="leave random sets out, or choose another method",
            )

    @property
    def fit(self) -> ReconstructSettings:
        """How the system is loaded and fitted."""
        return ReconstructSettings(
            system=self.system, options=self.options, models=self.models, roi=self.within, task=self.task,
            center=self.center, scale=self.scale, seed=self.seed, seeds=self.seeds, device=self.device,
        )  # fmt: skip


def optimal_targets(
    job: Job,
    train: Recordings,
    standardized: Standardized,
    masks: Mapping[str, np.ndarray],
    settings: RoiOptimalSettings,
    published: bool,
    folder: str | Path | None,
    reuse: str | Path | None,
) -> dict[str, Decoded]:
    """Return the optimal targets of each ROI, one stimulus each."""
    import xarray

    top: dict[str, np.ndarray] = {}
    if settings.method == "stimuli":
        count = max(1, round(settings.share * len(standardized.values)))
        for name, mask in masks.items():
            drive = standardized.values[:, mask].mean(axis=1)
            drive = drive - standardized.values[:, ~mask].mean(axis=1) if settings.relative else drive
            top[name] = np.sort(np.argsort(-drive, kind="stable")[:count])
    true = settings.method == "stimuli" and settings.mean_of == "true"
    rows = {_REST: np.zeros(len(train.voxels))}
    if settings.method == "stimuli" and not true:
        # For linear decoders, what is decoded from a mean response is the mean of what is decoded.
        rows |= {name: standardized.values[chosen].mean(axis=0) for name, chosen in top.items()}
    elif not true:
        rows |= {name: mask.astype(np.float64) for name, mask in masks.items()}
    patterns = xarray.DataArray(
        np.stack(list(rows.values())), dims=("stimulus", "voxel"),
        coords={"stimulus": ("stimulus", list(rows)), "voxel": ("voxel", train.voxels)},
    )  # fmt: skip
    system = job.system
    alone = any(getattr(spec.decoder, "renorm", None) == "test" for spec in system.targets.values())
    save, load = (None if place is None else Path(place) for place in (folder, reuse))
    decoded = job.decode(patterns, train, alone=alone, folder=save, reuse=load, standardized=True)
    specs = system.targets
    found: dict[str, dict[str, Any]] = {name: {} for name in masks}
    for target in decoded:
        mean, deviation = system.training_[target]
        rest = decoded[target].values[0]
        if true:
            values = standardized.train.target(specs[target].source)
            differences = np.stack([np.asarray(values[chosen].mean(values.dims[0])) - mean for chosen in top.values()])
        else:
            differences = decoded[target].values[1:] - rest
        typical = float(np.linalg.norm(deviation))
        lengths = np.sqrt((differences.reshape(len(masks), -1) ** 2).sum(axis=1))
        informed = lengths > 1e-6 * typical
        lengths = np.where(informed, lengths, 1).reshape(-1, *[1] * (differences.ndim - 1))
        if published:
            optimal = released(differences / lengths, rest, mean, deviation, PUBLISHED[target])
        else:
            optimal = mean + settings.factor * typical * differences / lengths
        for name, value, told in zip(masks, optimal, informed, strict=True):
            if told:
                found[name][target] = (
                    decoded[target][:1].copy(data=value[None].astype(np.float32)).assign_coords(stimulus=[name])
                )
    for name, arrays in found.items():
        missing = [target for target, spec in specs.items() if spec.required and target not in arrays]
        if missing or not arrays:
            raise InputError(
                f"no decoder reads the voxels of the ROI {name!r}" if not arrays else
                f"the decoder of {missing[0]!r}, which the system needs, reads no voxel of the ROI {name!r}",
                given=f"decoders of {', '.join(f'{target} (ROI {spec.roi})' for target, spec in specs.items())}",
                expected="voxels in both",
                todo="choose another ROI, or decoders of all voxels (--set 'rois={}')",
            )  # fmt: skip
    return {name: Decoded(arrays, [name], decoded.training, decoded.reliability) for name, arrays in found.items()}


def released(
    directions: np.ndarray, rest: np.ndarray, mean: np.ndarray, deviation: np.ndarray, lengths: tuple[float, ...]
) -> np.ndarray:
    """Return the targets of ROIs as the released code of Brain-Diffuser computes them.

    Parameters
    ----------
    directions : array, shape (roi, ...)
        W m of each ROI, of length 1.
    rest : array, shape (...)
        The intercept.
    mean, deviation : array, shape (...)
        Of the target over training samples.
    lengths : tuple of float
        The constants; with two of them, targets are standardized across ROIs.

    Returns
    -------
    array, shape (roi, ...)
    """
    found = lengths[0] * directions + rest
    if len(lengths) == 1:
        return np.asarray(found)
    spread = found.std(axis=0)
    found = (found - found.mean(axis=0)) / np.where(spread > 0, spread, 1) * deviation + mean
    norms = np.sqrt((found.reshape(len(found), -1) ** 2).sum(axis=1))
    return np.asarray(lengths[1] * found / norms.reshape(-1, *[1] * (found.ndim - 1)))


def named_targets(decoded: Decoded, targets: Sequence[str] | None) -> Decoded:
    """Return some of the targets."""
    if targets is None:
        return decoded
    missing = [name for name in targets if name not in decoded]
    if missing:
        raise InputError(
            f"the decoder of {missing[0]!r} reads no voxel of the ROI {str(decoded.stimuli[0])!r}",
            given=f"targets {', '.join(targets)}",
            expected=f"some of: {', '.join(decoded)}",
            todo="name other targets",
        )
    return decoded.drop(*(name for name in decoded if name not in targets))


def ascend(
    system: DiffusionSystem,
    model: ResponseModel,
    decoded: Decoded,
    train: Recordings,
    settings: RoiOptimalSettings,
    compute: Compute,
) -> Decoded:
    """Return targets of an ROI after steps up the gradient of the response that an encoding model predicts.

    Steps are of the same length; after each, the difference from the mean target is brought back to its length. Each
    step has noise of its own, so that what is found does not belong to the noise of one image. Targets that enter the
    generator as they are take part (tokens and latents, not those that another network turns into an image first).
    Gradients are multiplied by the covariance of training targets: a step goes where targets of images go, and not to
    what only fools the encoding model.

    Parameters
    ----------
    system : DiffusionSystem
        Fitted.
    model : ResponseModel
        On CLIP's image embedding alone.
    decoded : Decoded
        Where the ascent starts; one stimulus, called as the ROI.
    train : Recordings
        The training samples, of which some give the covariance of targets.
    settings : RoiOptimalSettings
        With the number of steps.
    compute : Compute
        With a folder, what was found is kept there.
    """
    import torch
    from tqdm import tqdm

    roi, conditions = str(decoded.stimuli[0]), system.conditions(decoded, settings.seed)
    used = {name: array for name, array in conditions.items() if name in ("text", "image", "latents", "init")}
    free = {
        condition: name
        for condition, array in used.items()
        for name in decoded
        if condition != "init" and np.shares_memory(array, decoded[name].values)
    }
    if not free:
        raise InputError(
            "none of these targets enters the generator as it is, so there is no gradient to climb",
            given=f"{', '.join(decoded)} of the system {system.name!r}",
            expected="tokens or latents, e.g. clip_text",
            todo="name other targets, or choose another method",
        )
    inputs = {
        "ascended by": about_estimator(system), "networks": networks_of(system), "roi": roi, "steps": settings.steps,
        "seed": settings.seed, "model": block_digest(model.decoder.coef_),
        "decoded": {name: block_digest(array.values) for name, array in decoded.items()},
    }  # fmt: skip
    results = Results() if compute.folder is None else ResultsFolder.of(inputs, compute.folder)
    if not results.has("ascended"):
        generator = system.make_generator(decoded)
        device, bar = generator.torch_device, tqdm(
            range(settings.steps), desc=f"ascent of {roi}", unit="step", disable=not compute.progress, leave=False
        )  # fmt: skip
        with compute.limited(), torch.inference_mode(False), torch.enable_grad():
            given = {name: torch.from_numpy(np.array(array)).to(device) for name, array in used.items()}
            means = {name: torch.from_numpy(system.training_[free[name]][0]).to(device) for name in free}
            seen = {name: torch.from_numpy(_some(train, system.targets[free[name]].source)).to(device) for name in free}
            seen = {name: (values - means[name]).flatten(1) for name, values in seen.items()}
            lengths = {name: torch.linalg.vector_norm(given[name] - means[name]) for name in free}
            for step in bar:
                leaves = {name: given[name].detach().requires_grad_() for name in free}
                noise = seed_of(settings.seed, f"ascent {step}")
                latents = generator.sample([roi], {**given, **leaves}, noise, checkpoint=True)
                response = model.of_tensors(generator.decode_latents(latents), roi).sum()
                for name, gradient in zip(free, torch.autograd.grad(response, list(leaves.values())), strict=True):
                    uphill = ((seen[name] @ gradient.flatten()) @ seen[name]).reshape(gradient.shape)
                    size = torch.linalg.vector_norm(uphill).clamp(min=1e-20)
                    moved = given[name] - means[name] + STEP * lengths[name] * uphill / size
                    given[name] = means[name] + moved * lengths[name] / torch.linalg.vector_norm(moved)
        results.prepare()
        results.put("ascended", {free[name]: given[name].cpu().numpy() for name in free})
    return decoded.with_(**results.get("ascended"))


def _some(train: Recordings, source: str) -> np.ndarray:
    """Return a target of evenly spaced training samples, (sample, ...), float32."""
    rows = np.unique(np.linspace(0, len(train.table) - 1, MOST_SAMPLES).round().astype(int))
    return np.asarray(train.take(rows).target(source).values, dtype=np.float32)
