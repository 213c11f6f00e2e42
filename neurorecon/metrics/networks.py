"""Metrics on features of networks: two-way identification, and what the category probe sees.

A metric names a network and one of its layers; the network turns images of any size into features, each image once,
however many metrics, permutations and reconstructions it occurs in. Similarity, ties and undefined values are those of
:mod:`neurorecon.metrics.identification`. A metric on another network takes one class with three methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np

from neurorecon.errors import InputError
from neurorecon.metrics.base import Metric
from neurorecon.metrics.identification import similarity_matrix, strict_share, two_way
from neurorecon.metrics.image import as_unit_float
from neurorecon.models.clip import ClipSettings, clip_settings
from neurorecon.models.load import WeightsSource, source
from neurorecon.models.preprocessing import Preprocessing
from neurorecon.parallel import choose_device

if TYPE_CHECKING:
    from torch import Tensor

    from neurorecon.models.probe import Probe
    from neurorecon.store.store import Store

#: Bytes of features that a network keeps, so that an image that comes again is not computed again.
KEPT_BYTES = 2**27

#: Pixels in a batch, and the most images in it.
_PIXELS, _MOST = 2**22, 128

#: Networks in use, so that metrics on the same weights and device share one.
_OPEN: WeakValueDictionary[tuple[type, str, str], ImageNetwork] = WeakValueDictionary()


class ImageNetwork(ABC):
    """A network that metrics read features of images from.

    Subclasses say where the weights are (`source`), how images are prepared (`preprocessing`), how the network is
    loaded (`load`) and what is read from it (`read`).

    Parameters
    ----------
    models : {"bundled", "published"} or path
        Which weights.
    device : str
        Where the network runs, e.g. ``"cpu"`` or ``"cuda"``.
    progress : bool
        Show a progress bar on stderr.

    Attributes
    ----------
    layers : tuple of str
        What can be read from the network in one pass.
    """

    layers: ClassVar[tuple[str, ...]]

    def __init__(self, models: str | Path = "bundled", device: str = "cpu", progress: bool = False) -> None:
        self.models = models
        self.device = device
        self.progress = progress
        self._kept: OrderedDict[bytes, dict[str, np.ndarray]] = OrderedDict()
        self._bytes = 0

    @property
    @abstractmethod
    def source(self) -> WeightsSource:
        """The weights: location, sha256 and license."""

    @property
    @abstractmethod
    def preprocessing(self) -> Preprocessing:
        """How images are resized and normalized."""

    @abstractmethod
    def load(self, device: str) -> Any:
        """Load the network on a device, in evaluation mode."""

    @abstractmethod
    def read(self, prepared: np.ndarray) -> dict[str, Any]:
        """Return each layer of a batch of prepared images (uint8), tensors or arrays of shape (image, ...)."""

    def check(self, store: Store) -> None:
        """Refuse a store whose stimuli the network cannot judge; by default none is refused."""
        return

    @cached_property
    def network(self) -> Any:
        """The loaded network."""
        return self.load(choose_device(self.device))

    def on(self, models: str | Path = "bundled", device: str = "cpu", progress: bool = False) -> ImageNetwork:
        """Return this kind of network with other weights or on another device; metrics share what is in use."""
        key = type(self), str(models), device
        found = _OPEN.get(key)
        if found is None:
            found = _OPEN[key] = type(self)(models, device)
        found.progress = progress
        return found

    def record(self) -> dict[str, str]:
        """Return what identifies the weights, as for targets: see :func:`neurorecon.provenance.weights_record`."""
        return self.source.record()

    def features(self, images: np.ndarray, layer: str) -> np.ndarray:
        """Return a layer's features of images, in the order given.

        Parameters
        ----------
        images : array, shape (image, y, x, rgb)
            uint8 or float in [0, 1], of any size; values outside are clipped.
        layer : str
            One of `layers`.

        Returns
        -------
        array, shape (image, ...)
        """
        import torch
        from tqdm import tqdm

        if images.ndim != 4 or images.shape[-1] != 3 or not len(images):
            raise InputError(
                "metrics on networks compare images",
                given=f"an array of shape {images.shape}",
                expected="(image, y, x, rgb)",
                todo="choose another metric",
            )
        assert self.network is not None  # loaded outside of inference mode, so that the weights are ordinary tensors
        step = max(1, min(_MOST, _PIXELS // self.preprocessing.size**2))
        found: list[np.ndarray] = []
        with (
            torch.inference_mode(),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            tqdm(total=len(images), desc=self.source.name, unit="image", disable=not self.progress, leave=False) as bar,
        ):
            for start in range(0, len(images), step):
                batch = images[start : start + step]
                found += [layers[layer] for layers in self._layers(batch)]
                bar.update(len(batch))
        return np.stack(found)

    def _layers(self, images: np.ndarray) -> list[dict[str, np.ndarray]]:
        """Return all layers of each image, from memory where the same image was computed before."""
        if images.dtype != np.uint8:
            images = np.clip(as_unit_float(images), 0.0, 1.0)
        prepared = self.preprocessing.prepare(images)
        keys = [blake2b(image.tobytes(), digest_size=16).digest() for image in prepared]
        found = {key: self._kept[key] for key in keys if key in self._kept}
        new = {key: row for row, key in enumerate(keys) if key not in found}
        if new:
            read = self.read(prepared[list(new.values())])
            arrays = {
                name: values if isinstance(values, np.ndarray) else values.float().cpu().numpy()
                for name, values in read.items()
            }
            for place, key in enumerate(new):
                found[key] = self._kept[key] = {name: values[place].copy() for name, values in arrays.items()}
                self._bytes += _size(found[key])
            while self._bytes > KEPT_BYTES:  # the oldest go first
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return [found[key] for key in keys]


class ClipEmbedding(ImageNetwork):
    """CLIP's image embedding, not normalized. The published network is ViT-L/14, as in Brain-Diffuser's evaluation."""

    layers: ClassVar[tuple[str, ...]] = ("embedding",)

    @cached_property
    def settings(self) -> ClipSettings:
        """Configuration of the network."""
        return clip_settings(self.models, "clip")

    @property
    def source(self) -> WeightsSource:
        """The weights."""
        return self.settings.source

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """OpenAI's preprocessing: bicubic, center crop."""
        return Preprocessing(self.settings.size, "bicubic", "crop", self.settings.mean, self.settings.std)

    def load(self, device: str) -> Any:
        """Load open_clip's network."""
        return self.settings.load(device)

    def read(self, prepared: np.ndarray) -> dict[str, Tensor]:
        """Return the embedding, (image, feature)."""
        return {
            "embedding": self.network.encode_image(self.preprocessing.normalize(prepared, choose_device(self.device)))
        }


class CategoryProbe(ImageNetwork):
    """The bundled probe: its pooled features, and the category of the main object that it sees.

    There are no published weights of it, so `models` has no effect.
    """

    layers: ClassVar[tuple[str, ...]] = ("pooled", "category")

    def __init__(self, models: str | Path = "bundled", device: str = "cpu", progress: bool = False) -> None:
        super().__init__("bundled", device, progress)

    @cached_property
    def source(self) -> WeightsSource:
        """The weights."""
        return source("probe", "bundled")

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Both sides to the size of its training images, bicubic; the network normalizes by itself."""
        return Preprocessing(self.network.config.size, "bicubic", "squeeze")

    def load(self, device: str) -> Probe:
        """Load the probe."""
        from neurorecon.models.probe import Probe

        return Probe.load(self.source.folder).to(device)

    def read(self, prepared: np.ndarray) -> dict[str, Any]:
        """Return the pooled features, (image, feature), and the name of the category, (image,)."""
        pooled = self.network.pooled(prepared)
        return {"pooled": pooled, "category": self.network.categories(pooled)}

    def check(self, store: Store) -> None:
        """Refuse stimuli that are no drawn scenes of the probe's categories."""
        known = sorted(set(self.network.config.categories))
        strange = sorted(set(store.stimuli["category"].astype(str)) - set(known))
        if store.simulated and not strange:
            return
        given = f"categories {', '.join(map(repr, strange[:5]))}" if strange else "measured data"
        raise InputError(
            "the category probe judges drawn scenes only, and these stimuli are others",
            given=f"{store.name}: {given}",
            expected=f"drawn scenes, of the categories {', '.join(known)}",
            todo="leave out probe and two_way_probe; two_way_clip judges photographs, with --models published",
        )


def verdicts(seen: np.ndarray, reconstructed: np.ndarray, categories: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return whether the category that a network sees in the reconstruction is that of the stimulus: 1 or 0.

    Parameters
    ----------
    seen : array, shape (stimulus,)
        What it sees in the stimuli; not used, because their categories are known.
    reconstructed : array of str, shape (stimulus,)
        What it sees in the reconstructions.
    categories : array of str, shape (stimulus,)
        Of the stimuli.
    """
    return (np.asarray(reconstructed) == np.asarray(categories).astype(str)).astype(np.float64)


def cosine(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Return the cosine of the features of each stimulus and of its reconstruction; NaN where one of them is 0.

    Parameters
    ----------
    seen, reconstructed : array, shape (stimulus, ...)
        Features, the same stimulus in each row.

    Returns
    -------
    array, shape (stimulus,)
    """
    one, other = (np.asarray(found, dtype=np.float64).reshape(len(found), -1) for found in (seen, reconstructed))
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / np.where(norms > 0, norms, np.nan)


def _size(layers: dict[str, np.ndarray]) -> int:
    return sum(values.nbytes for values in layers.values())


def _two_way_on(network: ImageNetwork, layer: str) -> Metric:
    """Return two-way identification on a layer."""
    return Metric(
        two_way, similarity_matrix, lambda matrix, order: strict_share(matrix[:, order]), chance=0.5,
        network=network, layer=layer,
    )  # fmt: skip


_CLIP, _PROBE = ClipEmbedding(), CategoryProbe()

#: Registered in :data:`neurorecon.registry.METRICS`.
TWO_WAY_CLIP = _two_way_on(_CLIP, "embedding")
CLIP_SIMILARITY = Metric(
    cosine,
    lambda seen, reconstructed: similarity_matrix(seen, reconstructed, "cosine"),
    network=_CLIP,
    layer="embedding",
)
TWO_WAY_PROBE = _two_way_on(_PROBE, "pooled")
PROBE = Metric(verdicts, chance=0.125, needs=("categories",), network=_PROBE, layer="category")
