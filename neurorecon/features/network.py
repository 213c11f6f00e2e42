"""What all targets from pretrained networks share: whose weights, which device, which precision."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.base import Extractor, StimulusBatch
from neurorecon.models.load import Source, network_device

if TYPE_CHECKING:
    from torch import Tensor

#: Precisions that a network may compute in. Targets are stored in float32 whichever it is.
PRECISIONS = ("float32", "bfloat16", "float16", "auto")

#: Pixels of all pictures of a batch; bounds the memory whatever the size of the pictures.
_PIXELS = 2**21

#: Fewest and most pictures in a batch.
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
        return self.load(self.place)

    @cached_property
    def place(self) -> str:
        """The device that computes."""
        return network_device(self.device)

    @cached_property
    def precision(self) -> str:
        """What the network computes in; ``"auto"`` is decided here."""
        if self._precision != "auto":
            return self._precision
        import torch

        cuda = network_device(self.device).startswith("cuda")
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
            with _computing(self.place, self.precision):
                values = self.forward(prepared, self.place)
            return values.float().cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"the device has too little memory for this batch of the target {self.name!r}",
                given=f"{self.place}: {str(error).splitlines()[0]}",
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


def pictures_at_a_time(size: int, frames: int = 1) -> int:
    """Return how many stimuli of `frames` pictures with `size` pixels on each side make a batch.

    The same on every device: the last bits of a result may depend on the batch.
    """
    pictures = min(_MOST, max(_FEWEST, _PIXELS // size**2))
    return max(1, 2 ** (pictures.bit_length() - 1) // frames)


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
