"""Metrics of videos: frames, motion, and what networks see in them.

Published numbers depend on details of the authors' code, so each variant has a name of its own. Mind-Animator's code
(Lu et al. 2024, arXiv 2405.03280) reads RGB frames and converts them as if they were BGR, which exchanges red and blue
in the gray values behind its optical flow and in its hues: ``epe`` and ``hue_cosine`` are what it computes,
``epe_rgb`` and ``hue_cosine_rgb`` have the channels in order. Its n-way classification draws classes at random, a
hundred times; here the mean over all draws is computed exactly, as identification does.

Flows are in pixels of the size that is compared (published: 512 pixels a side). They are computed clip by clip, because
those of a test set do not fit into memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from neurorecon.errors import InputError
from neurorecon.io.tensors import load_state
from neurorecon.metrics.base import Metric, mean_of_defined
from neurorecon.metrics.identification import TWO_WAY, by_rivals, identification, similarity_matrix
from neurorecon.metrics.image import as_unit_float, check_pair, resized, ssim_rgb7
from neurorecon.metrics.networks import CategoryProbe, ClipEmbedding, ImageNetwork, cosine, named_identification
from neurorecon.models.clip import ClipSettings, clip_settings_of
from neurorecon.models.load import WeightsSource, fill, load_transformers, same_random_numbers, source, weights_in
from neurorecon.models.preprocessing import Preprocessing
from neurorecon.parallel import choose_device

if TYPE_CHECKING:
    from torch import Tensor

Channels = Literal["rgb", "bgr"]

#: Settings of Farneback's flow as published: scale of the pyramid, levels, window, iterations, poly_n, poly_sigma.
FARNEBACK = (0.5, 3, 15, 3, 5, 1.2)

#: Displacement (pixels) below which a pixel has no direction.
STILL = 0.01

#: Similarity of ViFi-CLIP that a reconstruction has to exceed for its CLIP-PCC to count, as published.
GATE = 0.6

#: Mean and standard deviation of ImageNet's colors.
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

#: Bytes of flows that are held at a time while pairs are compared.
_FLOW_BYTES = 2**29


# -- frames -----------------------------------------------------------------------------------------------------------


def ssim_frames(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Return the mean over frames of :func:`~neurorecon.metrics.image.ssim_rgb7`, as in Mind-Animator.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, frame, y, x, rgb)
        uint8 or float in [0, 1]; 7 pixels or more on each side.

    Returns
    -------
    array, shape (stimulus,)
    """
    return np.array([ssim_rgb7(one, other).mean() for one, other in _clips(seen, reconstructed)])


def psnr_frames(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Return the mean over frames of the peak signal-to-noise ratio (dB, range 255), as in Mind-Animator.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, frame, y, x, rgb)
        uint8 or float in [0, 1].

    Returns
    -------
    array, shape (stimulus,)
        A frame that is reconstructed without error counts 100 dB, as published.
    """
    found = []
    for one, other in _clips(seen, reconstructed):
        errors = np.mean((255 * (as_unit_float(one) - as_unit_float(other))) ** 2, axis=(1, 2, 3))
        exact = errors < 1e-10
        found.append(np.where(exact, 100.0, -10 * np.log10(np.where(exact, 1.0, errors) / 255**2)).mean())
    return np.array(found)


def hue_cosine(seen: np.ndarray, reconstructed: np.ndarray, channels: Channels = "bgr") -> np.ndarray:
    """Return the mean over frames of the cosine of all hues ("Hue-PCC").

    It is no correlation: hues are not centered, and their circle is cut open at red, so unrelated videos score .5 to
    .8. It is what Mind-Animator publishes.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, frame, y, x, rgb)
        uint8 or float in [0, 1].
    channels : {"bgr", "rgb"}
        ``"bgr"``: red and blue are exchanged first, as in the published code.

    Returns
    -------
    array, shape (stimulus,)
        Frames without any hue above 0 (gray ones) are left out; NaN where all are.
    """
    import cv2

    code = cv2.COLOR_BGR2HSV if channels == "bgr" else cv2.COLOR_RGB2HSV
    found = []
    for clip in _clips(seen, reconstructed):
        hues = [[cv2.cvtColor(frame, code)[..., 0].ravel() for frame in _bytes(video)] for video in clip]
        found.append(mean_of_defined(cosine(*map(np.stack, hues))))
    return np.array(found)


def _clips(seen: np.ndarray, reconstructed: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of videos (frame, y, x, rgb); refuse what is none."""
    yield from zip(*(check_videos(one) for one in check_pair(seen, reconstructed)), strict=True)


def check_videos(videos: np.ndarray) -> np.ndarray:
    """Return an array of videos; refuse one that holds none.

    Raises
    ------
    InputError
        If its shape is not (stimulus, frame, y, x, rgb).
    """
    if videos.ndim != 5 or videos.shape[-1] != 3 or not videos.size:
        raise InputError(
            "metrics of videos compare videos",
            given=f"an array of shape {videos.shape}",
            expected="(stimulus, frame, y, x, rgb)",
            todo="choose a metric of images, or add the axis of frames",
        )
    return videos


def _bytes(video: np.ndarray) -> np.ndarray:
    """Return images as uint8, for OpenCV."""
    if video.dtype == np.uint8:
        return np.ascontiguousarray(video)
    return np.rint(255 * np.clip(as_unit_float(video), 0.0, 1.0)).astype(np.uint8)


# -- motion -----------------------------------------------------------------------------------------------------------


def farneback(video: np.ndarray, channels: Channels = "rgb") -> np.ndarray:
    """Return the optical flow from each frame to the next by Farneback's method, as OpenCV computes it.

    Parameters
    ----------
    video : array, shape (frame, y, x, rgb)
        uint8 or float in [0, 1]; two frames or more.
    channels : {"rgb", "bgr"}
        ``"bgr"``: red and blue are exchanged before gray values are computed, as in the published code.

    Returns
    -------
    array, float32, shape (pair, y, x, 2)
        Rightward and downward displacement in pixels.

    Raises
    ------
    InputError
        If there is one frame only.

    References
    ----------
    Farneback (2003). Two-frame motion estimation based on polynomial expansion. SCIA.
    """
    import cv2

    _check_frames(video)
    code = cv2.COLOR_BGR2GRAY if channels == "bgr" else cv2.COLOR_RGB2GRAY
    gray = [cv2.cvtColor(frame, code) for frame in _bytes(video)]
    flows = []
    for one, other in pairwise(gray):
        start = np.zeros((*one.shape, 2), dtype=np.float32)  # not used without a flag
        flows.append(cv2.calcOpticalFlowFarneback(one, other, start, *FARNEBACK, flags=0))
    return np.stack(flows)


def _check_frames(video: np.ndarray) -> None:
    if len(video) < 2:
        raise InputError(
            "motion needs two frames",
            given="videos of one frame",
            expected="two frames or more",
            todo="leave metrics of motion out",
        )


class Raft(ImageNetwork):
    """RAFT, a network that estimates optical flow; with bundled weights, Farneback's method takes its place.

    Frames enter with the next multiple of 8 pixels a side, 128 at least; flow is returned in pixels of the frames that
    were given, on the grid of the network.

    References
    ----------
    Teed & Deng (2020). RAFT: recurrent all-pairs field transforms for optical flow. ECCV.
    """

    layers: ClassVar[tuple[str, ...]] = ("videos",)

    @cached_property
    def source(self) -> WeightsSource:
        """The weights."""
        return source("raft", self.models)

    @property
    def preprocessing(self) -> Preprocessing:
        """At least 128 pixels a side; values from -1 to 1."""
        return Preprocessing(128, "bicubic", "squeeze", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def record(self) -> dict[str, str]:
        """Return what identifies the weights, or Farneback's method."""
        if self.models != "bundled":
            return super().record()
        import cv2

        return {"model": "Farneback's optical flow, OpenCV", "extractor_version": cv2.__version__}

    def features(self, images: np.ndarray, layer: str) -> np.ndarray:
        """Return the videos: their flow is computed one by one."""
        return check_videos(images)

    def read(self, prepared: np.ndarray) -> dict[str, Any]:
        """Return the flow of a video whose frames were prepared, (pair, y, x, xy)."""
        import torch

        values = self.preprocessing.normalize(prepared, choose_device(self.device))
        with torch.inference_mode():  # one pair at a time, so that the number of frames changes no bit
            pairs = zip(values[:-1, None], values[1:, None], strict=True)
            return {"videos": torch.cat([self.network(*pair)[-1] for pair in pairs]).permute(0, 2, 3, 1)}

    def load(self, device: str) -> Any:
        """Load torchvision's network."""
        from torchvision.models.optical_flow import raft_large

        with same_random_numbers():
            network = raft_large(weights=None, progress=False)
        fill(network, load_state(weights_in(self.source.folder)), self.source)
        return network.eval().requires_grad_(False).to(device)

    def flow(self, video: np.ndarray) -> np.ndarray:
        """Return the flow of a video (frame, y, x, rgb), shape (pair, y, x, 2), in its pixels."""
        if self.models == "bundled":
            return farneback(video)
        _check_frames(video)
        sides = [max(self.preprocessing.size, -(-side // 8) * 8) for side in video.shape[1:3]]
        flow = self.read(_bytes(resized(_bytes(video), (sides[0], sides[1]))))["videos"].cpu().numpy()
        return flow * np.array([video.shape[2] / sides[1], video.shape[1] / sides[0]], dtype=np.float32)


Flow = Callable[[np.ndarray], np.ndarray]


def epe(
    seen: np.ndarray, reconstructed: np.ndarray, channels: Channels = "bgr", network: Raft | None = None
) -> np.ndarray:
    """Return the end-point error: the mean distance of the flow of a stimulus and that of its reconstruction.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, frame, y, x, rgb)
        uint8 or float in [0, 1].
    channels : {"bgr", "rgb"}
        Of :func:`farneback`; ``"bgr"`` as published.
    network : Raft, optional
        What estimates the flow in place of :func:`farneback`.

    Returns
    -------
    array, shape (stimulus,)
        In pixels of the frames, averaged over pixels and pairs of frames; lower is better. A video that stands still
        has the mean speed of the stimulus.

    References
    ----------
    Lu et al. (2024), arXiv 2405.03280 (Mind-Animator).
    """
    flow = _flow(channels, network)
    return np.array([_distance(flow(one), flow(other)) for one, other in _clips(seen, reconstructed)])


def epe_matrix(
    seen: np.ndarray, reconstructed: np.ndarray, channels: Channels = "bgr", network: Raft | None = None
) -> np.ndarray:
    """Return :func:`epe` of every pair, shape (reconstruction, seen)."""
    return _flow_matrix(
        seen, reconstructed, _flow(channels, network), lambda one, many: [_distance(other, one) for other in many]
    )


def direction_agreement(
    seen: np.ndarray, reconstructed: np.ndarray, channels: Channels = "rgb", network: Raft | None = None
) -> np.ndarray:
    """Return whether a reconstruction moves where its stimulus moves: the mean cosine between the two flows.

    Pixels and pairs of frames are weighted by the product of both speeds, so that directions count where there is
    motion in both. The speeds themselves do not matter.

    Parameters and returns are those of :func:`epe`: from -1 (all motion reversed) to 1, 0 for unrelated motion; NaN
    where one of the videos stands still (less than :data:`STILL` pixels a frame).
    """
    flow = partial(_motion, _flow(channels, network))
    return np.array([_cosines(flow(one), [flow(other)])[0] for one, other in _clips(seen, reconstructed)])


def direction_matrix(
    seen: np.ndarray, reconstructed: np.ndarray, channels: Channels = "rgb", network: Raft | None = None
) -> np.ndarray:
    """Return :func:`direction_agreement` of every pair, shape (reconstruction, seen)."""
    return _flow_matrix(seen, reconstructed, partial(_motion, _flow(channels, network)), _cosines)


def _flow(channels: Channels, network: Raft | None) -> Flow:
    return partial(farneback, channels=channels) if network is None else network.flow


def _motion(flow: Flow, video: np.ndarray) -> np.ndarray:
    """Return the flow, 0 between equal frames, where Farneback's is up to .2 pixels at the border."""
    moves = (video[1:] != video[:-1]).any(axis=(1, 2, 3))
    return flow(video) * moves[:, None, None, None]


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    difference = one - other
    return float(np.hypot(difference[..., 0], difference[..., 1]).mean(dtype=np.float64))


def _cosines(one: np.ndarray, many: Sequence[np.ndarray]) -> list[float]:
    speed, found = _speed(one), []
    for other in many:
        weight = speed * _speed(other)
        total = weight.sum(dtype=np.float64)
        products = (one * other).sum(axis=-1)
        found.append(float(products[weight > 0].sum(dtype=np.float64) / total) if total > 0 else np.nan)
    return found


def _speed(flow: np.ndarray) -> np.ndarray:
    """Return the displacement of each pixel, 0 where it is too small to have a direction."""
    speed = np.hypot(flow[..., 0], flow[..., 1])
    return np.where(speed < STILL, 0, speed)


def _flow_matrix(
    seen: np.ndarray,
    reconstructed: np.ndarray,
    flow: Flow,
    compare: Callable[[np.ndarray, Sequence[np.ndarray]], list[float]],
) -> np.ndarray:
    """Return what `compare` says of a stimulus and several reconstructions, for all pairs, (reconstruction, seen)."""
    check_videos(reconstructed)
    one = flow(reconstructed[0])
    step = max(1, _FLOW_BYTES // one.nbytes)
    found = np.empty((len(reconstructed), len(seen)))
    for start in range(0, len(reconstructed), step):
        many = [flow(video) for video in reconstructed[start : start + step]]
        for column, video in enumerate(check_videos(seen)):
            found[start : start + step, column] = compare(flow(video), many)
    return found


# -- networks ---------------------------------------------------------------------------------------------------------


class OfFrames(ImageNetwork):
    """An image network that reads videos frame by frame."""

    def features(self, images: np.ndarray, layer: str) -> np.ndarray:
        """Return a layer's features of videos (stimulus, frame, y, x, rgb), shape (stimulus, frame, ...)."""
        videos = check_videos(images)
        found = super().features(videos.reshape(-1, *videos.shape[2:]), layer)
        return found.reshape(*videos.shape[:2], *found.shape[1:])


class FrameClip(OfFrames, ClipEmbedding):
    """CLIP's embedding of each frame, not normalized; the published network is ViT-B/32, as in Mind-Animator."""

    layers: ClassVar[tuple[str, ...]] = ("embedding", "video")
    role: ClassVar[str] = "clip-b32"

    @cached_property
    def settings(self) -> ClipSettings:
        """Configuration of the network."""
        return clip_settings_of(source(self.role, self.models))

    def features(self, images: np.ndarray, layer: str) -> np.ndarray:
        """Return the embedding of each frame, (stimulus, frame, feature), or its mean, (stimulus, feature)."""
        found = super().features(images, "embedding")
        return found.mean(axis=1, dtype=np.float64) if layer == "video" else found


class ViFiClip(FrameClip):
    """ViFi-CLIP: CLIP ViT-B/16, tuned on videos; the embedding of a video is the mean over its frames.

    Frames enter as in Mind-Animator's evaluation: 256 pixels, the middle 224 of them, ImageNet's mean and deviation.
    With bundled weights, the small CLIP takes its place, frame by frame as well.

    References
    ----------
    Rasheed et al. (2023). Fine-tuned CLIP models are efficient video learners. CVPR, arXiv 2212.03640.
    """

    role: ClassVar[str] = "vifi-clip"

    @property
    def tuned(self) -> bool:
        """Whether these are weights of ViFi-CLIP, and not the small CLIP that stands in."""
        return self.settings.source.origin != "bundled"

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """As in Mind-Animator's evaluation; of the small CLIP, as it is trained."""
        return Preprocessing(256, "bilinear", "squeeze", *_IMAGENET) if self.tuned else super().preprocessing

    def load(self, device: str) -> Any:
        """Load the network; of ViFi-CLIP's checkpoints, the image tower."""
        if not self.tuned:
            return super().load(device)
        from open_clip.model import CLIP

        with same_random_numbers():
            network = CLIP(**self.settings.network)
        state = load_state(weights_in(self.source.folder))
        prefix = "image_encoder."
        names = {name.removeprefix("module."): value for name, value in state.items()}
        tower = {name.removeprefix(prefix): value for name, value in names.items() if name.startswith(prefix)}
        fill(network.visual, tower, self.source)
        return network.eval().requires_grad_(False).to(device)

    def read(self, prepared: np.ndarray) -> dict[str, Tensor]:
        """Return the embedding, (image, feature)."""
        return super().read(prepared[:, 16:240, 16:240] if self.tuned else prepared)


class GatedClip(FrameClip):
    """CLIP ViT-B/32 of frames, with ViFi-CLIP of the same origin as the gate of :func:`clip_pcc_gated`."""

    layers: ClassVar[tuple[str, ...]] = ("videos",)

    @cached_property
    def frames(self) -> ImageNetwork:
        """The network that embeds frames, which other metrics share."""
        return FrameClip().on(self.models, self.device, self.progress)

    @cached_property
    def gate(self) -> ImageNetwork:
        """The network that compares videos."""
        return ViFiClip().on(self.models, self.device, self.progress)

    def record(self) -> dict[str, str]:
        """Return what identifies the weights, and those of the gate."""
        gate = self.gate.record()
        return {**super().record(), "gate": f"{gate['weights']} {gate['weights_sha256']}"}

    def features(self, images: np.ndarray, layer: str) -> np.ndarray:
        """Return the videos, which both networks read."""
        return check_videos(images)


class FrameProbe(OfFrames, CategoryProbe):
    """What the bundled probe takes the main object of each frame for: logits of its kinds."""

    layers: ClassVar[tuple[str, ...]] = ("logits", "video")

    def read(self, prepared: np.ndarray) -> dict[str, Any]:
        """Return the logits, (image, class)."""
        return {"logits": self.network.kind(self.network.depths(prepared)[-1])}

    def features(self, images: np.ndarray, layer: str) -> np.ndarray:
        """Return the logits of each frame, (stimulus, frame, class), or their mean, (stimulus, class)."""
        found = super().features(images, "logits")
        return found.mean(axis=1) if layer == "video" else found


class Classifier(OfFrames):
    """A classifier of photographs or of videos from transformers; with bundled weights, the probe takes its place."""

    role: ClassVar[str]
    architecture: ClassVar[str]

    @cached_property
    def source(self) -> WeightsSource:
        """The weights."""
        return source(self.role, self.models)

    def on(self, models: str | Path = "bundled", device: str = "cpu", progress: bool = False) -> ImageNetwork:
        """Return this kind of network with other weights, or the probe if these are the bundled ones."""
        if source(self.role, models).origin == "bundled":
            return FrameProbe().on("bundled", device, progress)
        return super().on(models, device, progress)

    def load(self, device: str) -> Any:
        """Load the network of transformers."""
        return load_transformers(self.source, self.architecture, device)


class ViTBase16(Classifier):
    """ViT-B/16, trained on ImageNet: logits of 1,000 classes for each frame, for 2-way-I."""

    layers: ClassVar[tuple[str, ...]] = ("logits",)
    role: ClassVar[str] = "vit-b16"
    architecture: ClassVar[str] = "ViTForImageClassification"

    @property
    def preprocessing(self) -> Preprocessing:
        """Both sides to 224 pixels, bilinear; -1 to 1."""
        return Preprocessing(224, "bilinear", "squeeze", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def read(self, prepared: np.ndarray) -> dict[str, Tensor]:
        """Return the logits, (image, class)."""
        values = self.preprocessing.normalize(prepared, choose_device(self.device))
        return {"logits": self.network(pixel_values=values).logits}


class VideoMae(Classifier):
    """VideoMAE, tuned on Kinetics-400: logits of 400 classes for each video, for 2-way-V.

    Frames enter with the shorter side at 224 pixels, the middle of them, ImageNet's mean and deviation. Positions are
    sines, so a video may have any even number of frames; the network is built anew for each.

    References
    ----------
    Tong et al. (2022). VideoMAE: masked autoencoders are data-efficient learners for self-supervised video
    pre-training. NeurIPS, arXiv 2203.12602.
    """

    layers: ClassVar[tuple[str, ...]] = ("video",)
    role: ClassVar[str] = "videomae"
    architecture: ClassVar[str] = "VideoMAEForVideoClassification"

    @property
    def preprocessing(self) -> Preprocessing:
        """Shorter side to 224 pixels, bilinear; ImageNet's mean and deviation."""
        return Preprocessing(224, "bilinear", "crop", *_IMAGENET)

    def read(self, prepared: np.ndarray) -> dict[str, Tensor]:
        """Return the logits of videos (video, frame, y, x, rgb), shape (video, class)."""
        number, tubelet = prepared.shape[1], self.network.config.tubelet_size
        if number % tubelet:
            raise InputError(
                "VideoMAE reads frames in groups",
                given=f"videos of {number} frames",
                expected=f"a multiple of {tubelet}",
                todo="leave out metrics on VideoMAE (two_way_v_...)",
            )
        device = choose_device(self.device)
        if number != self.network.config.num_frames:
            self.network = load_transformers(self.source, self.architecture, device, num_frames=number)
        frames = prepared.reshape(-1, *prepared.shape[2:])
        values = self.preprocessing.normalize(frames, device)
        return {"video": self.network(pixel_values=values.view(-1, number, *values.shape[1:])).logits}

    def features(self, images: np.ndarray, layer: str) -> np.ndarray:
        """Return the logits of videos, (stimulus, class)."""
        import torch

        found = []
        with torch.inference_mode():
            for video in check_videos(images):  # one at a time: those of 8 frames at 224 pixels fill a core
                prepared = self.preprocessing.prepare(_bytes(video))
                found.append(self.read(prepared[None])["video"][0].float().cpu().numpy())
        return np.stack(found)


# -- metrics on networks ----------------------------------------------------------------------------------------------


def n_way_class(seen: np.ndarray, reconstructed: np.ndarray, n: int = 2, top: int = 1) -> np.ndarray:
    """Return how often a classifier of the reconstruction prefers the stimulus's class to n - 1 others.

    The class of a stimulus is the one that the classifier gives it. A reconstruction wins if the classifier gives it
    this class with a higher probability than any of n - 1 other classes, drawn at random: the mean over all draws is
    computed exactly. With ``top=3``, the best of the three classes that suit the stimulus best has to win, as in the
    published code: chance is then 3 / (n + 2) and not 1 / n.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, [frame,] class)
        Logits; frames are averaged.
    n : int
        Number of classes to choose from, the right one included.
    top : int
        How many classes of the stimulus count as right.

    Returns
    -------
    array, shape (stimulus,)
        From 0 to 1. A tie counts as a loss.

    Raises
    ------
    InputError
        If there are fewer than n - 1 wrong classes.

    References
    ----------
    Chen et al. (2023), NeurIPS (Mind-Video); Lu et al. (2024), arXiv 2405.03280 (Mind-Animator).
    """
    rights = _best(seen, top)
    return np.array([_wins(rights[row][None], logits, n)[0] for row, logits in enumerate(reconstructed)])


def n_way_class_matrix(seen: np.ndarray, reconstructed: np.ndarray, n: int = 2, top: int = 1) -> np.ndarray:
    """Return :func:`n_way_class` of every pair, shape (reconstruction, seen)."""
    rights = _best(seen, top)
    return np.stack([_wins(rights, logits, n) for logits in reconstructed])


def _best(logits: np.ndarray, top: int) -> np.ndarray:
    """Return the best classes, shape (stimulus, [frame,] top)."""
    return np.argsort(logits, axis=-1, kind="stable")[..., -top:]


def _wins(rights: np.ndarray, logits: np.ndarray, n: int) -> np.ndarray:
    """Return the scores of a reconstruction, logits ([frame,] class), for stimuli, rights (stimulus, [frame,] top)."""
    frames = logits.reshape(-1, logits.shape[-1])
    rights = rights.reshape(len(rights), len(frames), -1)
    others = frames.shape[1] - rights.shape[-1]
    if n - 1 > others:
        raise InputError(
            "this classifier has too few classes",
            given=f"{n}-way, with {frames.shape[1]} classes, {rights.shape[-1]} of them right",
            expected=f"{others + 1}-way or less",
            todo="ask for fewer, or choose weights with more classes",
        )
    total = np.zeros(len(rights))
    for number, values in enumerate(frames):
        given = values[rights[:, number]]  # (stimulus, top)
        own = given.max(axis=1)
        lower = np.searchsorted(np.sort(values), own) - (given < own[:, None]).sum(axis=1)
        total += by_rivals(others, 1, n)[others - lower]
    return total / len(frames)


def clip_pcc(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Return how alike neighboring frames of a reconstruction are: the mean cosine of their CLIP embeddings.

    It says how smooth a video is and not whether it is the right one: it does not look at the stimulus, and a still
    image scores 1. Published numbers are gated (:func:`clip_pcc_gated`) in some papers and not in others, so they do
    not compare.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, frame, feature)
        Embeddings of frames; those of stimuli are not used.

    Returns
    -------
    array, shape (stimulus,)
        NaN for videos of one frame.
    """
    if reconstructed.shape[1] < 2:
        return np.full(len(reconstructed), np.nan)
    return np.array([cosine(one[:-1], one[1:]).mean() for one in reconstructed])


def clip_pcc_gated(seen: np.ndarray, reconstructed: np.ndarray, network: GatedClip) -> np.ndarray:
    """Return :func:`clip_pcc`, set to 0 where ViFi-CLIP sees no more than :data:`GATE` similarity to the stimulus.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, frame, y, x, rgb)
    network : GatedClip

    Returns
    -------
    array, shape (stimulus,)
    """
    frames = network.frames.features(reconstructed, "embedding")
    similar = cosine(*(network.gate.features(videos, "video") for videos in (seen, reconstructed)))
    return np.where(similar > GATE, clip_pcc(frames, frames), 0.0)


def clip_pcc_gated_matrix(seen: np.ndarray, reconstructed: np.ndarray, network: GatedClip) -> np.ndarray:
    """Return :func:`clip_pcc_gated` of every pair, shape (reconstruction, seen)."""
    frames = network.frames.features(reconstructed, "embedding")
    embedded, others = (network.gate.features(videos, "video") for videos in (seen, reconstructed))
    similar = similarity_matrix(embedded, others, similarity="cosine")
    return np.where(similar > GATE, clip_pcc(frames, frames)[:, None], 0.0)


#: Networks that identification of videos runs on, and their layers, by the name that they have in names of metrics.
JUDGES: dict[str, tuple[ImageNetwork, str]] = {
    "vifi": (ViFiClip(), "video"),
    "clip_frames": (FrameClip(), "embedding"),
}

_CLASSIFIERS: dict[str, tuple[ImageNetwork, str]] = {"i": (ViTBase16(), "logits"), "v": (VideoMae(), "video")}

_NAMED = re.compile(r"(?:two|(?P<n>\d+))_way_(?P<of>[iv])_top(?P<top>1|3_any)")


def classification(of: Literal["i", "v"], n: int = 2, top: int = 1) -> Metric:
    """Return the metric of n-way classification of frames (``"i"``) or of videos (``"v"``), see :func:`n_way_class`."""
    network, layer = _CLASSIFIERS[of]
    return Metric(
        partial(n_way_class, n=n, top=top),
        partial(n_way_class_matrix, n=n, top=top),
        chance=1 / n if top == 1 else 3 / (n + 2),
        of="video",
        network=network,
        layer=layer,
    )


def named_video_metric(name: str) -> Metric | None:
    """Return the metric of videos that a name says, or None if it is no such name.

    Either n-way classification: ``two_way_i_top1``, ``50_way_v_top3_any``, with ``i`` for a classifier of frames and
    ``v`` for one of videos, see :func:`n_way_class`. Or identification by the networks of :data:`JUDGES`, as
    :func:`~neurorecon.metrics.networks.named_identification` spells it: ``two_way_vifi``, ``top10_of_1200_vifi``.

    Parameters
    ----------
    name : str

    Returns
    -------
    Metric or None
    """
    said = _NAMED.fullmatch(name)
    if said is None:
        found = named_identification(name, JUDGES)
        return None if found is None else replace(found, of="video")
    n, top = int(said["n"] or 2), 3 if said["top"] == "3_any" else 1
    if n < 2:
        raise InputError(
            "a choice needs two classes",
            given=name,
            expected="two_way_i_top1, 50_way_v_top3_any ...",
            todo="correct it",
        )
    return classification("i" if said["of"] == "i" else "v", n, top)


#: Registered in :data:`neurorecon.registry.METRICS`.
SSIM_FRAMES = Metric(ssim_frames, of="video")
PSNR_FRAMES = Metric(psnr_frames, of="video")
HUE_COSINE = Metric(hue_cosine, of="video")
HUE_COSINE_RGB = Metric(partial(hue_cosine, channels="rgb"), of="video")
EPE = Metric(epe, epe_matrix, higher_is_better=False, of="video")
EPE_RGB = Metric(partial(epe, channels="rgb"), partial(epe_matrix, channels="rgb"), higher_is_better=False, of="video")
EPE_RAFT = replace(EPE, needs=("network",), network=Raft(), layer="videos")
DIRECTION_AGREEMENT = Metric(direction_agreement, direction_matrix, chance=0.0, of="video")
CLIP_PCC = Metric(
    clip_pcc,
    lambda seen, reconstructed: np.tile(clip_pcc(seen, reconstructed)[:, None], (1, len(seen))),
    of="video",
    network=FrameClip(),
    layer="embedding",
)
CLIP_PCC_GATED = Metric(
    clip_pcc_gated, clip_pcc_gated_matrix, of="video", needs=("network",), network=GatedClip(), layer="videos"
)
VIFI_CLIP = Metric(
    cosine, partial(similarity_matrix, similarity="cosine"), of="video", network=ViFiClip(), layer="video"
)
#: The pool are all stimuli that are evaluated: the small pool of Mind-Animator, which searches by decoded features.
RETRIEVAL_TOP10, RETRIEVAL_TOP100 = (
    replace(identification(k, "all"), of="video", network=ViFiClip(), layer="video") for k in (10, 100)
)
TWO_WAY_VIFI = replace(TWO_WAY, of="video", network=ViFiClip(), layer="video")
TWO_WAY_I_TOP1, TWO_WAY_I_TOP3_ANY = classification("i"), classification("i", top=3)
TWO_WAY_V_TOP1, TWO_WAY_V_TOP3_ANY = classification("v"), classification("v", top=3)
