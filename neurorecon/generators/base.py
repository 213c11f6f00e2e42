"""What all generators share: conditions of each stimulus go in, one image or video of each stimulus comes out.

A generator knows nothing about brains. A system hands it what was decoded, or what an analysis put in its place.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.models.load import WeightsSource
from neurorecon.parallel import choose_device

if TYPE_CHECKING:
    from torch import Tensor

#: Precisions in which networks can generate.
DTYPES = ("float32", "bfloat16", "float16")


class Generator(BaseEstimator):
    """Generate one image for each stimulus from conditions, all of which are optional unless `required` names them.

    As in scikit-learn, ``__init__`` stores its parameters as given, under their names. Networks are loaded when they
    are needed, and shared between generators with the same weights.

    Attributes
    ----------
    name : str
        Name in the registry.
    required : tuple of str
        Conditions without which nothing can be generated.
    device : str, optional
        E.g. ``"cpu"`` or ``"cuda"``; by default a GPU if there is one.
    dtype : {"float32", "bfloat16", "float16"}
        Precision of the networks that generate.
    batch_size : int, optional
        Number of images generated at a time; by default what fits into memory for their size.
    """

    name: ClassVar[str] = ""
    required: ClassVar[tuple[str, ...]] = ()

    device: str | None
    dtype: str
    batch_size: int | None

    # -- what subclasses define --------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def conditions(self) -> Mapping[str, tuple[int | None, ...]]:
        """Shape of each condition of one stimulus; None where any size is accepted."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, ...]:
        """Shape (y, x, rgb) of the images, or (frame, y, x, rgb) of videos."""

    @property
    @abstractmethod
    def weights(self) -> tuple[WeightsSource, ...]:
        """The weights of all networks: location, sha256 and license."""

    @abstractmethod
    def make(self, stimuli: Sequence[str], conditions: Mapping[str, Tensor], seed: int) -> Tensor:
        """Generate one batch, in inference mode.

        Parameters
        ----------
        stimuli : sequence of str
            Ids; with the seed, they determine the noise of each image.
        conditions : mapping of str to Tensor, shape (stimulus, ...)
            Float32, on the device. Conditions that were not given are not there.
        seed : int

        Returns
        -------
        Tensor, shape (stimulus, [frame,] rgb, y, x)
            0 is black, 1 white; values outside are clipped.
        """

    # -- what all generators share ------------------------------------------------------------------------------------

    def generate(
        self,
        stimuli: Sequence[str],
        conditions: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        progress: bool = False,
    ) -> np.ndarray:
        """Generate one image for each stimulus.

        Parameters
        ----------
        stimuli : sequence of str
            Ids. The noise of an image depends on `seed` and its id alone, not on the batch or on other stimuli.
        conditions : mapping of str to array, shape (stimulus, ...), optional
            Some of :attr:`conditions`. What is missing is generated unconditionally.
        seed : int
        progress : bool
            Show a progress bar.

        Returns
        -------
        array, shape (stimulus, [frame,] y, x, rgb), float32 in [0, 1]

        Raises
        ------
        InputError
            If a condition is unknown, missing, not finite or has the wrong shape, or memory does not suffice.
        """
        import torch
        from tqdm import tqdm

        if self.dtype not in DTYPES:
            raise UnknownNameError("precision", self.dtype, DTYPES)
        ids = [str(stimulus) for stimulus in stimuli]
        arrays = self._checked(ids, conditions or {})
        images = np.empty((len(ids), *self.image_shape), dtype=np.float32)
        step = self.batch_size or self._default_batch()
        with tqdm(total=len(ids), desc=self.name, unit="image", disable=not progress, leave=False) as bar:
            for start in range(0, len(ids), step):
                rows = slice(start, min(start + step, len(ids)))
                given = {
                    name: torch.from_numpy(np.array(array[rows], dtype=np.float32)).to(self.torch_device)
                    for name, array in arrays.items()
                }
                try:
                    with torch.inference_mode():
                        made = self.make(ids[rows], given, seed)
                except torch.OutOfMemoryError as error:
                    raise InputError(
                        "out of memory while generating images",
                        given=f"{self.torch_device}, {len(ids[rows])} images at a time",
                        expected="a batch that fits into the memory of the device",
                        todo="use a smaller batch, e.g. batch_size=1, or dtype='bfloat16'",
                    ) from error
                images[rows] = made.float().clamp(0, 1).movedim(-3, -1).cpu().numpy()
                bar.update(len(ids[rows]))
        return images

    @property
    def torch_device(self) -> str:
        """Name of the device."""
        return choose_device(self.device)

    def record(self) -> list[dict[str, str]]:
        """Return name, sha256, origin and license of all weights."""
        return [found.record() for found in self.weights]

    def _default_batch(self) -> int:
        """Return 32 images of 64 pixels, and fewer that are larger; the same on every device."""
        return max(1, min(32, 2**20 // int(np.prod(self.image_shape[:-1])) // 8))

    def _checked(self, stimuli: Sequence[str], conditions: Mapping[str, Any]) -> dict[str, np.ndarray]:
        shapes, found = self.conditions, {}
        for name, values in conditions.items():
            if name not in shapes:
                raise UnknownNameError(f"condition of the generator {self.name!r}:", name, tuple(shapes))
            array = np.asarray(values)
            expected = (len(stimuli), *shapes[name])
            fits = array.ndim == len(expected) and all(
                size is None or size == given for size, given in zip(expected, array.shape, strict=True)
            )
            if not fits:
                raise InputError(
                    f"the condition {name!r} of the generator {self.name!r} has the wrong shape",
                    given=f"shape {array.shape}",
                    expected=str(tuple("any" if size is None else size for size in expected)),
                    todo="give one row for each stimulus, from targets of the same weights as the generator",
                )
            if not np.isfinite(array).all():
                raise InputError(
                    f"the condition {name!r} is not finite",
                    given=f"{int((~np.isfinite(array)).sum())} values that are NaN or infinite",
                    expected="finite numbers",
                    todo="leave these stimuli out",
                )
            found[name] = array
        for name in self.required:
            if name not in found:
                raise InputError(
                    f"the generator {self.name!r} needs the condition {name!r}",
                    given=f"conditions: {', '.join(found) or 'none'}",
                    expected=name,
                    todo="decode it, or use another generator",
                )
        return found


def load_generator(name: str, **parameters: Any) -> Generator:
    """Return a generator by its registered name.

    Parameters
    ----------
    name : str
        E.g. ``"vdvae"`` or ``"latent-diffusion"``.
    **parameters
        Of the generator, e.g. ``models=``, ``guidance=`` or ``device=``.

    Raises
    ------
    UnknownNameError
        If there is no such generator or parameter.
    """
    import inspect

    from neurorecon.registry import GENERATORS

    kind = GENERATORS.load(name)
    known = list(inspect.signature(kind).parameters)
    for parameter in parameters:
        if parameter not in known:
            raise UnknownNameError(f"parameter of the generator {name!r}:", parameter, known)
    found: Generator = kind(**parameters)
    return found
