"""Brain-optimized inference, for any system of images: what is generated is judged by the measured response.

A system decodes targets and generates one image from them; what the response says beyond these targets is lost. Here
an encoding model (:mod:`neurorecon.systems.likelihood`), fitted to the same training samples, says how likely the
response is given each of several images (Kneeland et al., 2023, arXiv 2312.07705), and

- the likeliest of them is returned (``best_of``), or
- the latents of the likeliest are averaged, and the mean is rendered again at lower strength (``average``, ``again``),
- images take a closed-form step toward the response before they are encoded (``step``),
- the likelihood pulls the image that each step of the sampler predicts (``gradient``),
- or what was decoded does, while the mean is rendered (``pull``).

The response is one more entry of what is decoded, ``decoded["responses"]``, so analyses exchange or drop it as they do
with targets. Without it, nothing is refined: the images are those of the system itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.models.load import seed_of
from neurorecon.registry import SYSTEMS
from neurorecon.systems.base import System, TargetSpec, load_system
from neurorecon.systems.brain_diffuser import BrainDiffuser
from neurorecon.systems.decoded import RESPONSES, Decoded, as_images
from neurorecon.systems.generation import PART
from neurorecon.systems.likelihood import EncodingModel

if TYPE_CHECKING:
    import xarray

    from neurorecon.decoders.samples import Recordings
    from neurorecon.store.store import Store


class Refined(System):
    """Any system of images, refined by the likelihood of the measured response.

    Parameters that are None are those of :attr:`defaults`.

    Parameters
    ----------
    system : str, optional
        A system of images, by its registered name.
    options : mapping, optional
        Its parameters.
    models : {"bundled", "published"} or path
        Its networks.
    best_of : int, optional
        How many images of each stimulus are compared in each round.
    strengths : sequence of float, optional
        Strengths at which these are generated, in turn; those of the system if there are none. Only for systems with
        diffusion, like all that follows.
    average : int, optional
        Average the latents of this many likeliest images, and render the mean again; 0: return the likeliest.
    again : sequence of float, optional
        Strengths at which the mean is rendered. Each but the last makes `best_of` new images, whose likeliest are
        averaged again.
    step : float, optional
        Before images are encoded for the average, a closed-form step toward the response; see
        :meth:`~neurorecon.systems.likelihood.EncodingModel.step`.
    gradient : float, optional
        How far the likelihood pulls the image that a step of the sampler predicts, as the root mean square over its
        latents, times the noise that is left: so the pull ends with the noise.
    pull : float, optional
        How far the decoded vision tokens of CLIP pull the image while the mean is rendered at last, in the units of
        `gradient` and in its place: an average is a blur, in which CLIP sees less. Only with an `average`, and for
        systems that decode ``clip_vision``.
    rank : {"likelihood", "random"}, optional
        ``"random"`` takes images at random: a control for what the choice is worth.
    rois : mapping of str to str or tuple of str, optional
        Voxels of the decoder of each target, as the parameter of the system; ``{}``: all that are read.
    device : str, optional
        Where the system computes.

    Attributes
    ----------
    defaults : dict
        What parameters that are None stand for.
    bundled : dict
        Options that are added for the bundled networks.
    """

    name: ClassVar[str] = "refined"
    networks: ClassVar[tuple[str, ...]] = BrainDiffuser.networks  # of the default system; all have network_roles
    carries_responses: ClassVar[bool] = True
    defaults: ClassVar[Mapping[str, Any]] = {
        "system": "brain-diffuser",
        "options": {},
        "best_of": 8,
        "strengths": (),
        "average": 0,
        "again": (0.3,),
        "step": 0.0,
        "gradient": 0.0,
        "pull": 0.0,
        "rank": "likelihood",
    }
    bundled: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        system: str | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        models: str | Path = "bundled",
        best_of: int | None = None,
        strengths: Sequence[float] | None = None,
        average: int | None = None,
        again: Sequence[float] | None = None,
        step: float | None = None,
        gradient: float | None = None,
        pull: float | None = None,
        rank: Literal["likelihood", "random"] | None = None,
        rois: Mapping[str, str | tuple[str, ...]] | None = None,
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
        self.pull = pull
        self.rank = rank
        self.rois = rois
        self.device = device

    @property
    def settings(self) -> dict[str, Any]:
        """The parameters, with the defaults for those that are None; options of the system are added to its own."""
        found = {name: usual if getattr(self, name) is None else getattr(self, name)
                 for name, usual in self.defaults.items()}  # fmt: skip
        own: dict[str, Any] = {}
        if found["system"] == self.defaults["system"]:
            own = {**self.defaults["options"], **(self.bundled if self.models == "bundled" else {})}
        found["options"] = {**own, **(self.options or {})}
        if self.rois is not None:
            found["options"] = {**found["options"], "rois": self.rois}
        return found

    # -- the system that is refined -----------------------------------------------------------------------------------

    @property
    def base(self) -> Any:
        """The system that is refined, with what was fitted, as far as it was."""
        chosen = self.settings
        known = inspect.signature(SYSTEMS.load(chosen["system"])).parameters
        own = {"models": self.models, "device": self.device}
        own = {name: value for name, value in own.items() if value is not None and name in known}
        found = load_system(chosen["system"], **{**chosen["options"], **own})
        if "image" not in found.kinds or found.carries_responses:
            raise InputError(
                "this system cannot be refined",
                given=f"system={chosen['system']!r}",
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
        chosen = self._checked()
        base, rest = self.base, decoded.drop(*({RESPONSES} & set(decoded)))
        if RESPONSES not in decoded:
            unrefined: xarray.DataArray = base.generate(rest, seed=seed)
            return unrefined
        model = EncodingModel.of_arrays(self.learned_)
        evidence = model.evidence(decoded[RESPONSES].values)
        rows = [np.arange(start, min(start + PART, len(evidence))) for start in range(0, len(evidence), PART)]
        found = [_refined(base, model, rest.take(part), evidence[part], seed, **chosen) for part in rows]
        return as_images(np.concatenate(found), decoded.stimuli)

    def _checked(self) -> dict[str, Any]:
        """Return the settings of the refinement, or refuse them."""
        found = {name: value for name, value in self.settings.items() if name not in ("system", "options")}
        if found["rank"] not in ("likelihood", "random"):
            raise UnknownNameError("ranking", found["rank"], ("likelihood", "random"))
        numbers = found["best_of"] >= 1 and 0 <= found["average"] <= found["best_of"]
        least = min(found[name] for name in ("step", "gradient", "pull"))
        if not numbers or least < 0 or (found["average"] and not found["again"]):
            raise InputError(
                "images cannot be refined with these settings",
                given=", ".join(f"{name}={value!r}" for name, value in found.items()),
                expected="best_of of 1 or more, average from 0 to best_of, a strength in again, no negative numbers",
                todo="choose other values",
            )
        if self.pull and not self.base.pulls:
            raise InputError(
                "this system decodes nothing that could pull images",
                given=f"pull={self.pull!r}, system={self.base.name!r}",
                expected="a system that decodes clip_vision, and generates by the network that takes it",
                todo="leave pull out, or refine brain-diffuser",
            )
        if self.pull and not found["average"]:
            raise InputError(
                "without an average, nothing is rendered again that could be pulled",
                given=f"pull={self.pull!r}, average={found['average']!r}",
                expected="an average of 1 or more",
                todo="choose average=, or leave pull out",
            )
        return found


def _refined(
    base: Any,
    model: EncodingModel,
    decoded: Decoded,
    evidence: np.ndarray,
    seed: int,
    *,
    best_of: int,
    strengths: Sequence[float],
    average: int,
    again: Sequence[float],
    step: float,
    gradient: float,
    pull: float,
    rank: str,
) -> np.ndarray:
    """Return the refined images of some stimuli, (stimulus, y, x, rgb); parameters are those of :class:`Refined`."""
    stimuli, options, start = decoded.stimuli.tolist(), dict[str, Any](), None
    if gradient:
        options["toward"] = model.losses(dict(zip(stimuli, evidence, strict=True))), gradient
    for number, chosen in enumerate([strengths or None, *((strength,) for strength in again[:-1])]):
        seeds = [seed_of(seed, f"image {one} of round {number}") for one in range(best_of)]
        if number == 0:
            seeds[0] = seed  # the image that is not refined is one of them
        pool = np.stack(list(base.variants(decoded, seeds, strengths=chosen, start=start, **options)))
        if rank == "random":
            scores = [np.random.default_rng([seed_of(seed, name), number]).random(best_of) for name in stimuli]
            order = np.argsort(np.stack(scores, axis=1), axis=0)
        else:
            order = np.argsort([-model.log_likelihood(images, evidence) for images in pool], axis=0, kind="stable")
        likeliest = np.take_along_axis(pool, order[: max(1, average), :, None, None, None], axis=0)
        if not average:
            return np.asarray(likeliest[0])
        start = np.mean([base.encode(model.step(images, evidence, step)) for images in likeliest], axis=0)
    if pull and base.pulls and (losses := base.own_losses(decoded)) is not None:
        options["toward"] = losses, pull
    last: np.ndarray = next(base.variants(decoded, [seed], strengths=again[-1:], start=start, **options))
    return last


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
    own = {name: options.pop(name) for name in ("models", "device") if name in options}
    return Refined(system.name, options=options, **{**own, **settings})


class Neurorecon(Refined):
    """neurorecon's own system: brain-diffuser whose images are refined by the likelihood of the measured response.

    Latents are decoded from lower visual cortex alone, and text has more weight. The likeliest of several images are
    averaged after a step toward the response, and the mean is rendered again, pulled toward the decoded vision tokens.
    ``docs/systems/neurorecon.md`` tells how the settings were chosen on
    training images. They belong to the bundled networks; for others, they are a start.

    Parameters
    ----------
    system, options, models, best_of, strengths, average, again, step, gradient, pull, rank, rois, device : optional
        As in :class:`Refined`, with other defaults.
    """

    name: ClassVar[str] = "neurorecon"
    defaults: ClassVar[Mapping[str, Any]] = {
        **Refined.defaults,
        "options": {"text_ratio": 0.8, "rois": {"vdvae": "LVC"}},
        "best_of": 5,
        "strengths": (0.55, 0.75),
        "average": 3,
        "again": (0.17,),
        "step": 0.2,
        "pull": 0.15,
    }
    bundled: ClassVar[Mapping[str, Any]] = {"steps": 8}
