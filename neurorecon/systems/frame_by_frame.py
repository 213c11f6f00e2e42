"""Baselines of video systems: frames that know nothing of each other.

``linear-frames`` decodes the latents of all frames by ridge regression, and the autoencoder makes frames of them. It is
what linear decoding of Mind-Animator's targets reaches without networks for semantics and motion. ``frame-by-frame``
lets any system of images make each frame by itself: its decoder of the autoencoder's latents gets those of all frames;
its other targets describe the middle frame, or the whole clip, and are the same in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.errors import InputError
from neurorecon.systems.base import System, TargetSpec, load_system
from neurorecon.systems.decoded import Decoded, as_images
from neurorecon.systems.diffusion import ALPHAS, decode_frames

if TYPE_CHECKING:
    import xarray

    from neurorecon.decoders.samples import Recordings

#: The target of an image, and that of all frames that takes its place.
_IMAGE, _FRAMES = "vqvae", "vqvae_frames"


class LinearFrames(System):
    """Ridge regression from voxels to the latents of all frames of a video.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        Whose autoencoder.
    alphas : float or sequence of float
        Candidates; generalized cross-validation chooses one for all features.
    device : str, optional
        Of the autoencoder.
    batch_size : int, optional
        Frames decoded at a time.
    """

    name: ClassVar[str] = "linear-frames"
    kinds: ClassVar[tuple[Literal["image", "video"], ...]] = ("video",)
    networks: ClassVar[tuple[str, ...]] = ("autoencoder",)

    def __init__(
        self,
        models: str | Path = "bundled",
        *,
        alphas: float | Sequence[float] = ALPHAS,
        device: str | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.models = models
        self.alphas = alphas
        self.device = device
        self.batch_size = batch_size

    @property
    def targets(self) -> Mapping[str, TargetSpec]:
        """The latents of all frames."""
        decoder = RidgeDecoder(self.alphas, cv="gcv", alpha_per="all")
        return {_FRAMES: TargetSpec(_FRAMES, decoder, required=True)}

    def generate(self, decoded: Decoded, *, seed: int = 0) -> xarray.DataArray:
        """Return what the autoencoder makes of the decoded latents; parameters are those of :meth:`System.generate`."""
        return as_images(decode_frames(self, decoded[_FRAMES].values), decoded.stimuli)


class FrameByFrame(System):
    """Any system of images, which makes each frame of a video by itself.

    The noise of a stimulus is the same in all of its frames.

    Parameters
    ----------
    system : str
        A system of images, by its registered name.
    options : mapping, optional
        Its parameters.
    models : {"bundled", "published"} or path
        Its networks.
    frames : int
        Number of frames, of a system that decodes no latents of the autoencoder: they are all the same.
    device : str, optional
        Where it computes.
    """

    name: ClassVar[str] = "frame-by-frame"
    kinds: ClassVar[tuple[Literal["image", "video"], ...]] = ("video",)

    def __init__(
        self,
        system: str = "takagi",
        *,
        options: Mapping[str, Any] | None = None,
        models: str | Path = "bundled",
        frames: int = 8,
        device: str | None = None,
    ) -> None:
        self.system = system
        self.options = options
        self.models = models
        self.frames = frames
        self.device = device

    @property
    def image_system(self) -> Any:
        """The system of images, not fitted; it generates from what was decoded."""
        found = load_system(self.system, **{"models": self.models, "device": self.device, **(self.options or {})})
        if "image" not in found.kinds or "images" in found.sources:
            raise InputError(
                "this system makes no images of videos",
                given=f"system={self.system!r}",
                expected="a system of images that decodes targets which videos have, too",
                todo="use takagi, mind-diffuser, brain-diffuser or gru-two-stage",
            )
        return found

    @property
    def network_roles(self) -> tuple[str, ...]:
        """The roles of the networks of the system of images."""
        roles: tuple[str, ...] = self.image_system.network_roles
        return roles

    @property
    def targets(self) -> Mapping[str, TargetSpec]:
        """The targets of the system of images, with the latents of all frames in place of those of an image."""
        return {
            _FRAMES if name == _IMAGE else name: replace(spec, source=_FRAMES) if spec.source == _IMAGE else spec
            for name, spec in self.image_system.targets.items()
        }

    def learn(self, recordings: Recordings) -> dict[str, np.ndarray]:
        """Return what the system of images needs of the training samples."""
        found: dict[str, np.ndarray] = self.image_system.learn(recordings)
        return found

    def generate(self, decoded: Decoded, *, seed: int = 0) -> xarray.DataArray:
        """Generate each frame by itself; parameters and result are those of :meth:`System.generate`."""
        of_images = self.image_system
        of_images.learned_ = getattr(self, "learned_", {})
        if _FRAMES not in decoded:
            still = of_images.generate(decoded, seed=seed).values
            return as_images(np.repeat(still[:, None], self.frames, axis=1), decoded.stimuli)
        latents, rest = decoded[_FRAMES], decoded.drop(_FRAMES)
        found = [
            of_images.generate(rest.with_(**{_IMAGE: latents[:, number].rename(_IMAGE)}), seed=seed).values
            for number in range(latents.shape[1])
        ]
        return as_images(np.stack(found, axis=1), decoded.stimuli)
