"""Brain-optimized inference, for any system of images: what is generated is judged by the measured response.

A system decodes targets and generates one image from them; what the response says beyond these targets is lost. Here
an encoding model (:mod:`neurorecon.systems.likelihood`), fitted to the same training samples, says how likely the
response is given each of several images (Kneeland et al., 2023, arXiv 2312.07705), and

- the likeliest of them is returned (``best_of``), or
- the latents of the likeliest are averaged, and the mean is rendered again at lower strength (``average``, ``again``),
- images take a closed-form step toward the response before they are encoded (``step``),
- or the likelihood pulls the image that each step of the sampler predicts (``gradient``).

The response is one more entry of what is decoded, ``decoded["responses"]``, so analyses exchange or drop it as they do
with targets. Without it, nothing is refined: the images are those of the system itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.models.load import seed_of
from neurorecon.systems.base import System, TargetSpec, load_system
from neurorecon.systems.decoded import RESPONSES, Decoded, as_images
from neurorecon.systems.generation import PART
from neurorecon.systems.likelihood import EncodingModel

if TYPE_CHECKING:
    import xarray

    from neurorecon.decoders.samples import Recordings
    from neurorecon.store.store import Store


class Refined(System):
    """Any system of images, refined by the likelihood of the measured response.

    Parameters
    ----------
    system : str
        A system of images, by its registered name.
    options : mapping, optional
        Its parameters.
    models : {"bundled", "published"} or path, optional
        Its networks; by default its own default.
    best_of : int
        How many images of each stimulus are compared in each round.
    strengths : tuple of float, optional
        Strengths at which these are generated, in turn; by default that of the system. For systems with diffusion, like
        all that follows.
    average : int
        Average the latents of this many likeliest images, and render the mean again; 0: return the likeliest.
    again : tuple of float
        Strengths at which the mean is rendered. Each but the last makes `best_of` new images, whose likeliest are
        averaged again.
    step : float
        Before images are encoded for the average, a closed-form step toward the response; see
        :meth:`~neurorecon.systems.likelihood.EncodingModel.step`.
    gradient : float
        How far the likelihood pulls the image that a step of the sampler predicts, as the root mean square over its
        latents, times the noise that is left: so the pull ends with the noise.
    rank : {"likelihood", "random"}
        ``"random"`` takes images at random: a control for what the choice is worth.
    device : str, optional
        Where the system computes.
    """

    name: ClassVar[str] = "refined"
    carries_responses: ClassVar[bool] = True

    def __init__(
        self,
        system: str = "brain-diffuser",
        *,
        options: Mapping[str, Any] | None = None,
        models: str | Path | None = None,
        best_of: int = 8,
        strengths: tuple[float, ...] | None = None,
        average: int = 0,
        again: tuple[float, ...] = (0.5,),
        step: float = 0.0,
        gradient: float = 0.0,
        rank: Literal["likelihood", "random"] = "likelihood",
        device: str | None = None,
    ) -> None:
        self.system = system
        self.options = options
        self.models = models
        self.best_of = best_of
        self.strengths = strengths
        self.average = average
        self.again = again
        self.step = step
        self.gradient = gradient
        self.rank = rank
        self.device = device

    # -- the system that is refined -----------------------------------------------------------------------------------

    @property
    def base(self) -> Any:
        """The system that is refined, with what was fitted, as far as it was."""
        given = {"models": self.models, "device": self.device}
        known = inspect.signature(type(load_system(self.system))).parameters
        given = {name: value for name, value in given.items() if value is not None and name in known}
        found = load_system(self.system, **{**given, **(self.options or {})})
        if "image" not in found.kinds or found.carries_responses:
            raise InputError(
                "this system cannot be refined",
                given=f"system={self.system!r}",
                expected="a system of images that is not refined itself",
                todo="use e.g. brain-diffuser, mind-diffuser or takagi",
            )
        vars(found).update({name: value for name, value in vars(self).items() if name.endswith("_")})
        return found

    @property
    def targets(self) -> Mapping[str, TargetSpec]:
        """The targets of the system."""
        found: Mapping[str, TargetSpec] = self.base.targets
        return found

    @property
    def network_roles(self) -> tuple[str, ...]:
        """The roles of the networks of the system."""
        found: tuple[str, ...] = self.base.network_roles
        return found

    @property
    def trains_on(self) -> Literal["stimuli", "samples"]:  # type: ignore[override]
        """Whether repeats are averaged for training: as the system does."""
        found: Literal["stimuli", "samples"] = self.base.trains_on
        return found

    @property
    def first_stage(self) -> str:
        """The target of the first stage of the system, if it has two."""
        found: str = self.base.first_stage
        return found

    @property
    def adapter(self) -> str | None:
        """The adapter that the system generates with, if there is one."""
        found: str | None = getattr(self.base, "adapter", None)
        return found

    def with_settings(self, kind: Any, **more: Any) -> Any:
        """Return a generator with the settings of the system."""
        return self.base.with_settings(kind, **more)

    def with_targets(self, store: Store, models: str | Path | None = None, progress: bool = True) -> Store:
        """Return the store with all targets of the system; parameters are those of :meth:`System.with_targets`."""
        found: Store = self.base.with_targets(store, models, progress)
        return found

    def _responses(self, responses: Any, standardized: bool = False) -> tuple[np.ndarray, np.ndarray]:
        found: tuple[np.ndarray, np.ndarray] = self.base._responses(responses, standardized)
        return found

    # -- what is refined ----------------------------------------------------------------------------------------------

    def learn(self, recordings: Recordings) -> dict[str, np.ndarray]:
        """Return what the system learns from the training samples, and the encoding model."""
        stimuli = recordings.averaged()
        model = EncodingModel.fit((stimuli.responses - self.mean_) / self.scale_, stimuli)
        return {**self.base.learn(recordings), **model.arrays()}

    def stages(self, decoded: Decoded, *, seed: int = 0) -> dict[str, xarray.DataArray]:
        """Return the stages of the system, and what it generates unrefined."""
        base, rest = self.base, decoded.drop(*({RESPONSES} & set(decoded)))
        return {**base.stages(rest, seed=seed), "unrefined": base.generate(rest, seed=seed)}

    def generate(self, decoded: Decoded, *, seed: int = 0) -> xarray.DataArray:
        """Generate several images of each stimulus, and refine them by the response; without it, as the system does.

        Parameters and result are those of :meth:`System.generate`.
        """
        self._check()
        base, rest = self.base, decoded.drop(*({RESPONSES} & set(decoded)))
        if RESPONSES not in decoded:
            unrefined: xarray.DataArray = base.generate(rest, seed=seed)
            return unrefined
        model = EncodingModel.of_arrays(self.learned_)
        evidence = model.evidence(decoded[RESPONSES].values)
        rows = [np.arange(start, min(start + PART, len(evidence))) for start in range(0, len(evidence), PART)]
        found = [self._refined(base, model, rest.take(part), evidence[part], seed) for part in rows]
        return as_images(np.concatenate(found), decoded.stimuli)

    def _refined(self, base: Any, model: EncodingModel, decoded: Decoded, evidence: np.ndarray, seed: int) -> Any:
        """Return the refined images of some stimuli, (stimulus, y, x, rgb)."""
        stimuli, options, start = decoded.stimuli.tolist(), dict[str, Any](), None
        if self.gradient:
            options["toward"] = model.losses(dict(zip(stimuli, evidence, strict=True))), self.gradient
        for number, strengths in enumerate([self.strengths, *((strength,) for strength in self.again[:-1])]):
            seeds = [
                seed_of(seed, f"candidate {number} {one}") if number + one else seed for one in range(self.best_of)
            ]
            pool = np.stack(list(base.samples(decoded, seeds, strengths=strengths, start=start, **options)))
            if self.rank == "random":
                scores = [np.random.default_rng([seed_of(seed, name), number]).random(len(pool)) for name in stimuli]
                order = np.argsort(-np.stack(scores, axis=1), axis=0)
            else:
                order = np.argsort([-model.log_likelihood(images, evidence) for images in pool], axis=0, kind="stable")
            likeliest = np.take_along_axis(pool, order[: max(1, self.average), :, None, None, None], axis=0)
            if not self.average:
                return likeliest[0]
            stepped = [model.step(images, evidence, self.step) for images in likeliest]
            start = np.mean([base.encode(images) for images in stepped], axis=0)
        return next(base.samples(decoded, [seed], strengths=self.again[-1:], start=start, **options))

    def _check(self) -> None:
        if self.rank not in ("likelihood", "random"):
            raise UnknownNameError("ranking", self.rank, ("likelihood", "random"))
        whole = self.best_of >= 1 and 0 <= self.average <= self.best_of
        if not whole or self.step < 0 or self.gradient < 0 or (self.average and not self.again):
            raise InputError(
                "these images cannot be refined",
                given=f"best_of={self.best_of!r}, average={self.average!r}, again={self.again!r}, "
                f"step={self.step!r}, gradient={self.gradient!r}",
                expected="best_of of 1 or more, average from 0 to best_of, a strength in again, no negative numbers",
                todo="choose other values",
            )


def refine(system: str | System, **settings: Any) -> Refined:
    """Return a system whose images are refined by the likelihood of the measured response.

    Parameters
    ----------
    system : str or System
        A registered name, or a system that is not fitted yet.
    **settings
        Of :class:`Refined`, e.g. ``best_of=8`` or ``average=4``.

    Returns
    -------
    Refined
        Not fitted.

    Raises
    ------
    InputError
        If the system is fitted already: the encoding model needs the training samples.
    UnknownNameError
        If a name does not exist.

    Examples
    --------
    >>> import neurorecon as nr
    >>> nr.refine("takagi", best_of=4).targets.keys()
    dict_keys(['vqvae', 'clip_text_sd'])
    """
    known = [name for name in inspect.signature(Refined).parameters if name not in ("system", "options")]
    for name in settings:
        if name not in known:
            raise UnknownNameError("setting of a refinement:", name, known)
    if isinstance(system, str):
        return Refined(system, **settings)
    if hasattr(system, "decoders_"):
        raise InputError(
            "a fitted system cannot be refined: the encoding model is fitted to the same training samples",
            given=f"a fitted {type(system).__name__}",
            expected="a system that is not fitted",
            todo="refine(sklearn.base.clone(system), ...), and fit that",
        )
    usual = type(system)().get_params(deep=False)
    options = {name: value for name, value in system.get_params(deep=False).items() if value is not usual[name]}
    return Refined(system.name, options=options, **settings)
