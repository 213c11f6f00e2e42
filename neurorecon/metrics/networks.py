"""Metrics on features of networks: identification, distances, and what the category probe sees.

The networks of the papers' tables (AlexNet, Inception v3, EfficientNet B1, SwAV, CLIP) read images as Brain-Diffuser's
evaluation does: 224 pixels, bilinear. With bundled weights, the probe and the small CLIP stand in for them; the record
of a score names the weights.

A metric names a network and one of its layers; the network turns images of any size into features, each image once,
however many metrics, permutations and reconstructions it occurs in. Similarity, ties and undefined values are those of
:mod:`neurorecon.metrics.identification`. A metric on another network takes one class with three methods.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np

from neurorecon.errors import InputError
from neurorecon.hub.local import SUFFIXES
from neurorecon.io.tensors import load_state
from neurorecon.metrics.base import Metric
from neurorecon.metrics.identification import TWO_WAY, identification, similarity_matrix
from neurorecon.metrics.image import as_unit_float, pixcorr
from neurorecon.models.clip import ClipSettings, clip_settings
from neurorecon.models.load import WeightsSource, same_random_numbers, source
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
_OPEN: WeakValueDictionary[tuple[Any, ...], ImageNetwork] = WeakValueDictionary()


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

    def for_store(self, store: Store) -> ImageNetwork:
        """Return the network that judges the stimuli of a store: itself, unless it needs to know what there is."""
        self.check(store)
        return self

    @cached_property
    def network(self) -> Any:
        """The loaded network."""
        return self.load(choose_device(self.device))

    @property
    def options(self) -> dict[str, Any]:
        """Further arguments of the class, hashable."""
        return {}

    def on(self, models: str | Path = "bundled", device: str = "cpu", progress: bool = False) -> ImageNetwork:
        """Return this kind of network with other weights or on another device; metrics share what is in use."""
        key = type(self), str(models), device, *self.options.values()
        found = _OPEN.get(key)
        if found is None:
            found = _OPEN[key] = type(self)(models, device, **self.options)
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

    def texts(self, sentences: Sequence[str]) -> np.ndarray:
        """Return the embeddings of sentences in the space of the images, each of norm 1; each sentence is read once.

        Parameters
        ----------
        sentences : sequence of str
            Longer ones than the network reads are cut off.

        Returns
        -------
        array, float64, shape (sentence, feature)
        """
        import torch

        network, device = self.network, choose_device(self.device)
        new = sorted(set(sentences) - set(self._sentences))
        for start in range(0, len(new), _MOST):
            part = new[start : start + _MOST]
            with torch.inference_mode():
                values = network.encode_text(self.settings.tokenizer()(part).to(device)).double().cpu().numpy()
            self._sentences |= dict(zip(part, values / np.linalg.norm(values, axis=1, keepdims=True), strict=True))
        return np.stack([self._sentences[sentence] for sentence in sentences])

    @cached_property
    def _sentences(self) -> dict[str, np.ndarray]:
        return {}


class CategoryProbe(ImageNetwork):
    """The bundled probe: features of three depths, and the category and the kind of the main object that it sees.

    There are no published weights of it, so `models` has no effect.
    """

    layers: ClassVar[tuple[str, ...]] = ("early", "middle", "pooled", "category", "kind")

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
        """Return maps of two stages, (image, channel, y, x), pooled features, (image, feature), category and kind."""
        early, middle, pooled = self.network.depths(prepared)
        named = {"category": self.network.categories(pooled), "kind": self.network.kinds(pooled)}
        return {"early": early, "middle": middle, "pooled": pooled, **named}

    def judges(self, store: Store) -> bool:
        """Return whether the stimuli of a store are drawn scenes of the probe's categories."""
        return store.simulated and not self._unknown(store)

    def _unknown(self, store: Store) -> list[str]:
        """Return the categories of a store that the probe was not trained on."""
        return sorted(set(store.stimuli["category"].astype(str)) - set(self.network.config.categories))

    def check(self, store: Store) -> None:
        """Refuse stimuli that are no drawn scenes of the probe's categories."""
        if self.judges(store):
            return
        known, strange = sorted(set(self.network.config.categories)), self._unknown(store)
        given = f"categories {', '.join(map(repr, strange[:5]))}" if strange else "measured data"
        raise InputError(
            "the category probe judges drawn scenes only, and these stimuli are others",
            given=f"{store.name}: {given}",
            expected=f"drawn scenes, of the categories {', '.join(known)}",
            todo="leave out probe and two_way_probe; two_way_clip judges photographs, with --models published",
        )


class Judge(ImageNetwork):
    """A network of torchvision that was trained on photographs, as papers use it to judge reconstructions.

    Subclasses name the role of the weights, the architecture, and which module each layer is the output of. With
    bundled weights, the probe takes its place, whose layers have the same names.
    """

    role: ClassVar[str]
    architecture: ClassVar[str]
    arguments: ClassVar[Mapping[str, Any]] = {}
    nodes: ClassVar[Mapping[str, str]]

    @cached_property
    def source(self) -> WeightsSource:
        """The weights."""
        return source(self.role, self.models)

    @property
    def preprocessing(self) -> Preprocessing:
        """Both sides to 224 pixels, bilinear, as in Brain-Diffuser's evaluation; ImageNet's mean and deviation."""
        return Preprocessing(224, "bilinear", "squeeze", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

    def on(self, models: str | Path = "bundled", device: str = "cpu", progress: bool = False) -> ImageNetwork:
        """Return this kind of network with other weights, or the probe if these are the bundled ones."""
        if source(self.role, models).origin == "bundled":
            return CategoryProbe().on("bundled", device, progress)
        return super().on(models, device, progress)

    def load(self, device: str) -> Any:
        """Load the network, cut off behind the last layer that is read."""
        import torchvision
        from torchvision.models.feature_extraction import create_feature_extractor

        files = [file for file in sorted(self.source.folder.iterdir()) if file.suffix in SUFFIXES]
        if len(files) != 1:
            raise InputError(
                f"it is not clear which file holds the weights of {self.architecture}",
                given=", ".join(file.name for file in files) or f"nothing in {self.source.folder}",
                expected="one PyTorch or safetensors file",
                todo="leave one file there",
            )
        with same_random_numbers():
            network = getattr(torchvision.models, self.architecture)(weights=None, **self.arguments)
        state = {name.removeprefix("module."): value for name, value in load_state(files[0]).items()}
        wanted = network.state_dict()
        wrong = [name for name, value in wanted.items() if name in state and state[name].shape != value.shape]
        wrong += [name for name in wanted if name not in state and not name.startswith(("fc.", "num_batches"))]
        if wrong:
            raise InputError(
                f"these weights are not those of {self.architecture}",
                given=f"{files[0]}: {len(wrong)} tensors are missing or have another shape, e.g. {wrong[0]}",
                expected=f"the weights of torchvision's {self.architecture}",
                todo="download them again: neurorecon weights download",
            )
        network.load_state_dict({name: value for name, value in state.items() if name in wanted}, strict=False)
        network.eval().requires_grad_(False)
        nodes = {node: layer for layer, node in self.nodes.items()}
        return create_feature_extractor(network, nodes, suppress_diff_warning=True).eval().to(device)

    def read(self, prepared: np.ndarray) -> dict[str, Tensor]:
        """Return each layer, (image, channel, y, x) or (image, feature)."""
        found: dict[str, Tensor] = self.network(self.preprocessing.normalize(prepared, choose_device(self.device)))
        return {name: values.flatten(1) if values.shape[-2:] == (1, 1) else values for name, values in found.items()}


class AlexNet(Judge):
    """AlexNet after its second and its fifth convolution (and ReLU)."""

    layers: ClassVar[tuple[str, ...]] = ("early", "middle")
    role: ClassVar[str] = "alexnet"
    architecture: ClassVar[str] = "alexnet"
    nodes: ClassVar[Mapping[str, str]] = {"early": "features.4", "middle": "features.11"}


class InceptionV3(Judge):
    """Inception v3 after its average pooling."""

    layers: ClassVar[tuple[str, ...]] = ("pooled",)
    role: ClassVar[str] = "inception"
    architecture: ClassVar[str] = "inception_v3"
    arguments: ClassVar[Mapping[str, Any]] = {"transform_input": True, "aux_logits": True, "init_weights": False}
    nodes: ClassVar[Mapping[str, str]] = {"pooled": "avgpool"}


class EfficientNetB1(Judge):
    """EfficientNet B1 after its average pooling."""

    layers: ClassVar[tuple[str, ...]] = ("pooled",)
    role: ClassVar[str] = "efficientnet"
    architecture: ClassVar[str] = "efficientnet_b1"
    nodes: ClassVar[Mapping[str, str]] = {"pooled": "avgpool"}


class SwavResNet50(Judge):
    """ResNet-50 trained by SwAV, after its average pooling."""

    layers: ClassVar[tuple[str, ...]] = ("pooled",)
    role: ClassVar[str] = "swav"
    architecture: ClassVar[str] = "resnet50"
    nodes: ClassVar[Mapping[str, str]] = {"pooled": "avgpool"}


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


def feature_distance(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Return 1 minus the correlation of the features of each stimulus and its reconstruction, (stimulus,).

    Lower is better; NaN where features are constant.
    """
    return 1.0 - pixcorr(seen, reconstructed)


#: Networks that identification runs on, and their layers, by the name that they have in names of metrics.
JUDGES: dict[str, tuple[ImageNetwork, str]] = {
    "clip": (ClipEmbedding(), "embedding"),
    "probe": (CategoryProbe(), "pooled"),
    "alexnet2": (AlexNet(), "early"),
    "alexnet5": (AlexNet(), "middle"),
    "inception": (InceptionV3(), "pooled"),
    "effnet": (EfficientNetB1(), "pooled"),
    "swav": (SwavResNet50(), "pooled"),
}


def named_identification(name: str, judges: Mapping[str, tuple[ImageNetwork, str]] | None = None) -> Metric | None:
    """Return the identification that a name says, or None if it is no such name.

    A name has up to three parts: what is asked (``two_way``, ``two_way_half_ties``, ``50_way``, ``top5_of_100``, and
    ``top10_of_all``, whose pool are all stimuli); the network whose features are compared (``_clip`` etc., a key of
    :data:`JUDGES`; without it, pixels are); and ``_among_reconstructions``, if the candidates are the reconstructions,
    given what was seen, and not the other way round. So ``top10_of_1200_clip`` and
    ``50_way_alexnet5_among_reconstructions`` are metrics.

    Parameters
    ----------
    name : str
    judges : mapping of str to (ImageNetwork, str), optional
        Networks and their layers, by default :data:`JUDGES`.

    Returns
    -------
    Metric or None

    Raises
    ------
    InputError
        If the numbers make no sense.
    """
    judges = JUDGES if judges is None else judges
    said = re.fullmatch(
        r"(?:two_way(?P<ties>_half_ties)?|(?P<way>\d+)_way|top(?P<k>\d+)_of_(?P<n>\d+|all))"
        rf"(?:_(?P<judge>{'|'.join(judges)}))?(?P<among>_among_reconstructions)?",
        name,
    )
    if said is None:
        return None
    n = said["way"] or said["n"]
    metric = identification(
        int(said["k"] or 1),
        "all" if n == "all" else int(n) if n else None,
        half_ties=said["ties"] is not None,
        among="reconstructions" if said["among"] else "seen",
    )
    if not said["judge"]:
        return metric
    network, layer = judges[said["judge"]]
    return replace(metric, network=network, layer=layer)


def _on(judge: str, metric: Metric) -> Metric:
    network, layer = JUDGES[judge]
    return replace(metric, network=network, layer=layer)


_DISTANCE = Metric(
    feature_distance,
    lambda seen, reconstructed: 1.0 - similarity_matrix(seen, reconstructed),
    higher_is_better=False,
)

#: Registered in :data:`neurorecon.registry.METRICS`.
TWO_WAY_CLIP, TWO_WAY_PROBE = _on("clip", TWO_WAY), _on("probe", TWO_WAY)
TWO_WAY_ALEXNET2, TWO_WAY_ALEXNET5 = _on("alexnet2", TWO_WAY), _on("alexnet5", TWO_WAY)
TWO_WAY_INCEPTION = _on("inception", TWO_WAY)
CLIP_SIMILARITY = _on("clip", Metric(cosine, partial(similarity_matrix, similarity="cosine")))
EFFNET_DISTANCE, SWAV_DISTANCE = _on("effnet", _DISTANCE), _on("swav", _DISTANCE)
PROBE = Metric(verdicts, chance=0.125, needs=("categories",), network=CategoryProbe(), layer="category")
