"""What turns stimuli into a target: extractors with and without a pretrained network.

An extractor knows nothing of stores. It is handed small batches, so its memory does not depend on how many
stimuli there are. Labs add their own with the entry-point group ``neurorecon.features``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pandas as pd

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.images import pixels
from neurorecon.models.load import Source
from neurorecon.parallel import choose_device

if TYPE_CHECKING:
    from torch import Tensor


#: What a target is computed from.
Needs = Literal["images", "frames", "captions", "categories", "table"]

#: Stimuli handed to an extractor at a time, where it does not say otherwise.
BATCH = 128


@dataclass(frozen=True)
class StimulusBatch:
    """A few stimuli, as an extractor sees them.

    Parameters
    ----------
    table : DataFrame
        One row a stimulus, with ``id``, ``kind``, ``category`` and ``captions`` (list of str).
    labels : DataFrame or None
        Numeric labels of the data set, one row a stimulus.
    images : array or None
        uint8, shape (stimulus, y, x, rgb). None where the extractor did not ask for them.
    frames : array or None
        uint8, shape (stimulus, frame, y, x, rgb). None where the extractor did not ask for them.
    frames_per_second : float or None
        Frame rate of the films.
    """

    table: pd.DataFrame
    labels: pd.DataFrame | None = None
    images: np.ndarray | None = None
    frames: np.ndarray | None = None
    frames_per_second: float | None = None


class Extractor(ABC):
    """Base class of the targets that neurorecon can compute.

    A subclass that needs settings takes them as keyword arguments of its constructor, with defaults; a user gives them
    by name (``nr.extract(store, ["vdvae"], groups=15)``). It is pickled where other processes compute with it.

    Parameters
    ----------
    categories : list of str, optional
        All categories of the store, sorted, so that a batch is coded like the whole.
    """

    #: Name of the target in the store.
    name: ClassVar[str]
    #: What a batch has to hold. ``"frames"`` restricts the target to videos, ``"captions"`` to stimuli that have some.
    needs: ClassVar[Needs]
    #: Raised whenever the numbers change; stored with the array, so that old values are never mixed with new ones.
    version: ClassVar[int] = 1
    #: Names of the axes behind the stimulus, e.g. ``("token", "channel")``; None for the usual ones.
    dims: ClassVar[tuple[str, ...] | None] = None

    def __init__(self, categories: list[str] | None = None) -> None:
        self.categories = categories or []

    @abstractmethod
    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, feature) or (stimulus, ..., feature)."""

    @abstractmethod
    def made_by(self) -> dict[str, Any]:
        """Return how the numbers come about: model, weights, layer, preprocessing, source (JSON types).

        Whatever changes a number belongs in here; what only describes goes into :meth:`layout`.
        """

    @property
    def batch(self) -> int:
        """Stimuli at a time."""
        return BATCH

    def layout(self) -> dict[str, Any]:
        """Return what else is stored with the array, e.g. where the layers begin that it joins (JSON types)."""
        return {}

    def feature_names(self, batch: StimulusBatch) -> list[str] | None:
        """Return a name for each feature, or None."""
        return None

    def whole(self) -> Extractor | None:
        """Return a target that holds all numbers of this one, or None.

        Where the store has it, made with the same weights, this one is cut out of it and not computed again.
        """
        return None

    def cut(self, values: np.ndarray) -> np.ndarray:
        """Return this target, given that of :meth:`whole` for the same stimuli, shape (stimulus, ...)."""
        raise NotImplementedError(f"{type(self).__name__} is no part of another target")

    def meet(self, later: Sequence[Extractor]) -> None:
        """Learn which targets this process computes afterwards, to hand them what they can use too."""
        return

    def prepare(self, batch: StimulusBatch) -> Any:
        """Do what can be done ahead, in another thread, while :meth:`compute` is busy with the batch before."""
        return batch

    def compute(self, prepared: Any) -> np.ndarray:
        """Return the target of a batch that went through :meth:`prepare`."""
        return self(prepared)

    def transform(
        self, stimuli: Any, *, batch: int | None = None, frames_per_second: float | None = None
    ) -> np.ndarray:
        """Return the target of stimuli that are in no store.

        Parameters
        ----------
        stimuli : array or sequence
            By what the target needs: images as an array (stimulus, y, x, rgb), uint8 or float from 0 to 1, or a
            sequence of such arrays or PIL images; videos as an array (stimulus, frame, y, x, rgb) or a sequence of
            videos; captions as a sequence of strings, or of lists of them; categories as a sequence of names.
        batch : int, optional
            Stimuli at a time.
        frames_per_second : float, optional
            Of videos; some targets need it.

        Returns
        -------
        array, float32, shape (stimulus, ...)

        Raises
        ------
        InputError
            Where there are no stimuli, or they are not of the kind that the target needs.
        """
        if not hasattr(stimuli, "__len__") or isinstance(stimuli, str) or not len(stimuli):
            raise InputError(
                f"the target {self.name!r} is computed from a sequence of stimuli",
                given=repr(stimuli)[:60],
                expected="one stimulus or more, along the first axis",
                todo="put a single one into a list",
            )
        parts = _batches(stimuli, self.needs, batch or self.batch, frames_per_second)
        return np.concatenate([np.asarray(self.compute(self.prepare(part)), dtype=np.float32) for part in parts])


def dims_of(extractor: Extractor, axes: int) -> list[str]:
    """Return the names of the axes behind the stimulus."""
    if extractor.dims is not None:
        return list(extractor.dims)
    return usual_dims(axes)


def usual_dims(axes: int) -> list[str]:
    """Name the axes behind the stimulus of an array that says nothing else."""
    names = {
        1: ["feature"],
        2: ["token", "channel"],
        3: ["channel", "y", "x"],
        4: ["frame", "channel", "y", "x"],
    }
    return names.get(axes, [f"axis{axis}" for axis in range(axes)])


def _batches(stimuli: Any, needs: Needs, size: int, rate: float | None) -> Iterator[StimulusBatch]:
    """Split stimuli into batches; those whose images differ in size go one by one."""
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
            "kind": "film" if needs == "frames" else "image",
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


#: Precisions that a network may compute in. Targets are stored in float32 whichever it is.
PRECISIONS = ("float32", "bfloat16", "float16", "auto")

#: Pixels of all images of a batch; bounds the memory whatever the size of the images.
_PIXELS = 2**21

#: Fewest and most images in a batch.
_FEWEST, _MOST = 4, 64


class NetworkExtractor(Extractor):
    """Base class of targets that a pretrained network computes.

    The network is loaded when the first batch comes, on the device that computes. Its weights are only looked for when
    the target is described, so a target that is there already costs nothing.

    Parameters
    ----------
    categories : list of str, optional
        Categories of the store.
    models : {"bundled", "published"} or path
        Whose weights: the small ones that come with neurorecon, those of the papers, or those in a folder.
    device : str, optional
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; by default the graphics card where there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}
        What the network computes in (torch's autocast). ``"auto"`` follows the device: bfloat16 on graphics cards that
        have it, float32 elsewhere. It is stored with the target and never mixed.
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

    # -- what subclasses say ----------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def source(self) -> Source:
        """Where the weights come from."""

    @abstractmethod
    def load(self, device: str) -> Any:
        """Return the network on a device."""

    @abstractmethod
    def prepare(self, batch: StimulusBatch) -> Any:
        """Turn a batch into what :meth:`forward` takes, on the CPU, without the network."""

    @abstractmethod
    def forward(self, prepared: Any, device: str) -> Tensor:
        """Run the network: one row a stimulus. Called without gradients, under autocast."""

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Return model, layer, preprocessing, source and settings; weights and precision are added."""

    # -- what they share --------------------------------------------------------------------------------------------

    @cached_property
    def network(self) -> Any:
        """The network, loaded when it is first asked for."""
        return self.load(self.torch_device)

    @cached_property
    def torch_device(self) -> str:
        """The device that computes."""
        return choose_device(self.device)

    @cached_property
    def precision(self) -> str:
        """What the network computes in; ``"auto"`` is decided here."""
        if self._precision != "auto":
            return self._precision
        import torch

        cuda = choose_device(self.device).startswith("cuda")
        return "bfloat16" if cuda and torch.cuda.is_bf16_supported(including_emulation=False) else "float32"

    def made_by(self) -> dict[str, Any]:
        """Return how the numbers come about, with the weights' sha256 and the precision."""
        return {**self.description(), **self.source.record(), "precision": self.precision, "dtype": "float32"}

    def compute(self, prepared: Any) -> np.ndarray:
        """Return the target of a prepared batch, float32, shape (stimulus, ...)."""
        import torch

        network = self.network  # loaded outside of inference mode, so that its weights are ordinary tensors
        assert network is not None
        try:
            with _computing(self.torch_device, self.precision):
                values = self.forward(prepared, self.torch_device)
            return values.float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the device has too little memory for this batch of the target {self.name!r}",
                given=f"{self.torch_device}: {str(error).splitlines()[0]}",
                expected="batches that fit",
                todo="take fewer stimuli at a time, e.g. --batch 4",
            ) from error

    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, ...)."""
        return self.compute(self.prepare(batch))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what was looked up: another process finds its own weights and loads its own network."""
        kept = ("precision",)  # "auto" was decided for all processes
        return {
            key: value
            for key, value in self.__dict__.items()
            if key in kept or not isinstance(getattr(type(self), key, None), cached_property)
        }


def images_at_a_time(size: int, frames: int = 1) -> int:
    """Return how many stimuli of `frames` images with `size` pixels on each side make a batch.

    The same on every device: the last bits of a result may depend on the batch.
    """
    images = min(_MOST, max(_FEWEST, _PIXELS // size**2))
    return max(1, 2 ** (images.bit_length() - 1) // frames)


def noise_like(shape: tuple[int, ...], seed: int, stimulus: str) -> np.ndarray:
    """Return standard normal noise, float32, the same for a seed and a stimulus whatever batch it is in."""
    return np.random.default_rng(seed_of(seed, stimulus)).standard_normal(shape, dtype=np.float32)


def seed_of(seed: int, stimulus: str) -> int:
    """Return a seed of 63 bits for one stimulus."""
    digest = blake2b(f"{seed}:{stimulus}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def _computing(device: str, precision: str) -> Iterator[None]:
    """No gradients, the precision that was asked for, and nothing left behind."""
    import torch

    kind = torch.device(device).type
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if kind == "cuda":
            # By default torch rounds the inputs of convolutions to 10 bits (TF32) and calls it float32.
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
        mixed = precision != "float32"
        stack.enter_context(torch.autocast(kind, getattr(torch, precision) if mixed else None, enabled=mixed))
        yield
