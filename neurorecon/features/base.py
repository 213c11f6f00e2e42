"""Base classes of extractors, which turn stimuli into targets with or without a pretrained network.

An extractor knows nothing about stores. It receives small batches, so its memory does not depend on the number of
stimuli. Labs add their own extractors with the entry-point group ``neurorecon.features``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.images import pixels
from neurorecon.models.load import WeightsSource
from neurorecon.parallel import choose_device

if TYPE_CHECKING:
    from torch import Tensor


#: What a target is computed from.
Needs = Literal["images", "frames", "captions", "categories", "table"]

#: Default number of stimuli in a batch.
BATCH = 128


@dataclass(frozen=True)
class StimulusBatch:
    """A batch of stimuli, the input of an extractor.

    Parameters
    ----------
    table : DataFrame
        One row per stimulus, with columns ``id``, ``kind``, ``category`` and ``captions`` (list of str).
    labels : DataFrame or None
        Numeric labels of the data set, one row per stimulus.
    images : array or None
        uint8, shape (stimulus, y, x, rgb). None unless the extractor needs images.
    frames : array or None
        uint8, shape (stimulus, frame, y, x, rgb). None unless the extractor needs frames.
    frames_per_second : float or None
        Frame rate of the videos.
    """

    table: pd.DataFrame
    labels: pd.DataFrame | None = None
    images: np.ndarray | None = None
    frames: np.ndarray | None = None
    frames_per_second: float | None = None


class Extractor(ABC):
    """Base class of extractors, which compute a target from stimuli.

    A subclass takes its settings as keyword arguments of the constructor, with defaults; users pass them by name
    (``nr.extract(store, ["vdvae"], groups=15)``). Extractors must be picklable, because other processes may compute
    with them.

    Parameters
    ----------
    categories : list of str, optional
        All categories of the store, sorted, so that every batch is encoded in the same way.
    """

    #: Name of the target in the store.
    name: ClassVar[str]
    #: What a batch has to contain. ``"frames"`` restricts the target to videos, ``"captions"`` to captioned stimuli.
    needs: ClassVar[Needs]
    #: Increment it whenever the numbers change. It is stored with the target, so that old and new values never mix.
    version: ClassVar[int] = 1
    #: Role of the network that computes it, as ``neurorecon weights list`` shows it; None without one.
    role: ClassVar[str | None] = None
    #: Names of the axes after the stimulus, e.g. ``("token", "channel")``; None for the defaults of `usual_dims`.
    dims: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, categories: list[str] | None = None) -> None:
        self.categories = categories or []

    @abstractmethod
    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, feature) or (stimulus, ..., feature)."""

    @abstractmethod
    def made_by(self) -> dict[str, Any]:
        """Return how the target is computed: model, weights, layer, preprocessing, source (JSON types).

        Include everything that changes a number. Purely descriptive information belongs in :meth:`layout`.
        """

    @property
    def batch(self) -> int:
        """Number of stimuli in a batch."""
        return BATCH

    def layout(self) -> dict[str, Any]:
        """Return further attributes to store with the target, e.g. where concatenated layers begin (JSON types)."""
        return {}

    def feature_names(self, batch: StimulusBatch) -> list[str] | None:
        """Return a name for each feature, or None."""
        return None

    def whole(self) -> Extractor | None:
        """Return the extractor of a target that contains this one, or None.

        If the store already has that target, made with the same weights, this one is sliced from it instead of being
        computed.
        """
        return None

    def cut(self, values: np.ndarray) -> np.ndarray:
        """Slice this target from that of :meth:`whole`, both of shape (stimulus, ...)."""
        raise NotImplementedError(f"{type(self).__name__} is not part of another target")

    def meet(self, later: Sequence[Extractor]) -> None:
        """Receive the extractors that this process runs afterwards, so that intermediate results can be shared."""
        return

    def prepare(self, batch: StimulusBatch) -> Any:
        """Prepare a batch in another thread, while :meth:`compute` processes the previous one."""
        return batch

    def compute(self, prepared: Any) -> np.ndarray:
        """Return the target of a batch prepared by :meth:`prepare`."""
        return self(prepared)

    def transform(
        self, stimuli: Any, *, batch: int | None = None, frames_per_second: float | None = None
    ) -> np.ndarray:
        """Compute the target of stimuli that are not in a store.

        Parameters
        ----------
        stimuli : array or sequence
            Depends on what the target needs. Images: an array (stimulus, y, x, rgb), uint8 or float from 0 to 1, or a
            sequence of such arrays or PIL images. Videos: an array (stimulus, frame, y, x, rgb) or a sequence of
            videos. Captions: a sequence of strings, or of lists of strings. Categories: a sequence of names.
        batch : int, optional
            Number of stimuli in a batch.
        frames_per_second : float, optional
            Frame rate of videos; some targets require it.

        Returns
        -------
        array, float32, shape (stimulus, ...)

        Raises
        ------
        InputError
            If there are no stimuli, or they are not of the kind that the target needs.
        """
        if not hasattr(stimuli, "__len__") or isinstance(stimuli, str) or not len(stimuli):
            raise InputError(
                f"the target {self.name!r} needs a sequence of stimuli",
                given=repr(stimuli)[:60],
                expected="one or more stimuli along the first axis",
                todo="wrap a single stimulus in a list",
            )
        parts = _batches(stimuli, self.needs, batch or self.batch, frames_per_second)
        return np.concatenate([np.asarray(self.compute(self.prepare(part)), dtype=np.float32) for part in parts])


def dims_of(extractor: Extractor, axes: int) -> list[str]:
    """Return the names of the axes after the stimulus, given their number."""
    if extractor.dims is not None:
        return list(extractor.dims)
    return usual_dims(axes)


def usual_dims(axes: int) -> list[str]:
    """Return the default names of the axes after the stimulus, given their number."""
    names = {
        1: ["feature"],
        2: ["token", "channel"],
        3: ["channel", "y", "x"],
        4: ["frame", "channel", "y", "x"],
    }
    return names.get(axes, [f"axis{axis}" for axis in range(axes)])


def _batches(stimuli: Any, needs: Needs, size: int, rate: float | None) -> Iterator[StimulusBatch]:
    """Split stimuli into batches; batches of one if images differ in size."""
    if needs in ("images", "frames"):
        stimuli = [_video(one) if needs == "frames" else pixels(one) for one in stimuli]
        if len({one.shape for one in stimuli}) > 1:
            size = 1
    for start in range(0, len(stimuli), size):
        part = list(stimuli[start : start + size])
        yield _batch(part, needs, start, rate)


def _video(video: Any) -> np.ndarray:
    return pixels(video) if isinstance(video, np.ndarray) else np.stack([pixels(frame) for frame in video])


def _batch(part: list[Any], needs: Needs, start: int, rate: float | None) -> StimulusBatch:
    captions: list[list[str]] = [[] for _ in part]
    categories = [""] * len(part)
    if needs == "captions":
        captions = [[one] if isinstance(one, str) else list(one) for one in part]
    elif needs in ("categories", "table"):
        categories = [str(one) for one in part]
    table = pd.DataFrame(
        {
            "id": [str(start + number) for number in range(len(part))],
            "kind": "video" if needs == "frames" else "image",
            "category": categories,
            "captions": captions,
        }
    )
    return StimulusBatch(
        table,
        images=np.stack(part) if needs == "images" else None,
        frames=np.stack(part) if needs == "frames" else None,
        frames_per_second=rate,
    )


#: Precisions in which a network can compute. Targets are always stored in float32.
PRECISIONS = ("float32", "bfloat16", "float16", "auto")

#: Maximum number of pixels in a batch; bounds the memory for images of any size.
_PIXELS = 2**21

#: Minimum and maximum number of images in a batch.
_FEWEST, _MOST = 4, 64


class NetworkExtractor(Extractor):
    """Base class of extractors with a pretrained network.

    The network is loaded with the first batch. Describing the target only locates its weights, so a target that is
    already in the store never loads the network.

    Parameters
    ----------
    categories : list of str, optional
        Categories of the store.
    models : {"bundled", "published"} or path
        Which weights to use: the small ones that ship with neurorecon, those of the papers, or those in a folder.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``; by default a GPU if there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}
        Precision of the network (torch's autocast). ``"auto"`` means bfloat16 on GPUs that support it and float32
        elsewhere. It is stored with the target, so that precisions never mix.
    """

    def __init__(
        self,
        categories: list[str] | None = None,
        *,
        models: str | Path = "bundled",
        device: str | None = None,
        precision: str = "float32",
    ) -> None:
        super().__init__(categories)
        if precision not in PRECISIONS:
            raise UnknownNameError("precision", precision, PRECISIONS)
        self.models = str(models)
        self.device = device
        self._precision = precision

    # -- defined by subclasses --------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def source(self) -> WeightsSource:
        """The weights: location, sha256 and license."""

    @abstractmethod
    def load(self, device: str) -> Any:
        """Load the network on a device."""

    @abstractmethod
    def prepare(self, batch: StimulusBatch) -> Any:
        """Turn a batch into the input of :meth:`forward`, on the CPU and without the network."""

    @abstractmethod
    def forward(self, prepared: Any, device: str) -> Tensor:
        """Run the network and return one row per stimulus. Called without gradients and under autocast."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Return model, layer, preprocessing, source and settings; :meth:`made_by` adds weights and precision."""

    # -- shared -----------------------------------------------------------------------------------------------------

    @cached_property
    def network(self) -> Any:
        """The network, loaded on first access."""
        return self.load(self.torch_device)

    @cached_property
    def torch_device(self) -> str:
        """The device on which the network runs."""
        return choose_device(self.device)

    @cached_property
    def precision(self) -> str:
        """Precision of the network, with ``"auto"`` resolved."""
        if self._precision != "auto":
            return self._precision
        import torch

        cuda = choose_device(self.device).startswith("cuda")
        return "bfloat16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"

    def made_by(self) -> dict[str, Any]:
        """Return how the target is computed, including the weights' sha256 and the precision."""
        return {**self.description(), **self.source.record(), "precision": self.precision, "dtype": "float32"}

    def compute(self, prepared: Any) -> np.ndarray:
        """Return the target of a prepared batch, float32, shape (stimulus, ...)."""
        import torch

        network = self.network  # load outside of inference mode, so that the weights are ordinary tensors
        assert network is not None
        try:
            with _computing(self.torch_device, self.precision):
                values = self.forward(prepared, self.torch_device)
            return values.float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"out of memory while computing the target {self.name!r}",
                given=f"{self.torch_device}: {str(error).splitlines()[0]}",
                expected="a batch that fits in the memory of the device",
                todo="use a smaller batch, e.g. --batch 4",
            ) from error

    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, ...)."""
        return self.compute(self.prepare(batch))

    def __getstate__(self) -> dict[str, Any]:
        """Drop cached properties: another process locates its own weights and loads its own network."""
        kept = ("precision",)  # all processes share the resolved "auto"
        return {
            key: value
            for key, value in self.__dict__.items()
            if key in kept or not isinstance(getattr(type(self), key, None), cached_property)
        }


def images_at_a_time(size: int, frames: int = 1) -> int:
    """Return the batch size for stimuli of `frames` images with `size` pixels per side.

    It is the same on every device, because the last bits of a result may depend on the batch.
    """
    images = min(_MOST, max(_FEWEST, _PIXELS // size**2))
    return max(1, 2 ** (images.bit_length() - 1) // frames)


@contextmanager
def _computing(device: str, precision: str) -> Iterator[None]:
    """Compute without gradients in the given precision; restore torch's settings afterwards."""
    import torch

    kind = torch.device(device).type
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if kind == "cuda":
            # By default torch rounds the inputs of float32 convolutions to 10 bits (TF32).
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
        mixed = precision != "float32"
        stack.enter_context(torch.autocast(kind, getattr(torch, precision) if mixed else None, enabled=mixed))
        yield
