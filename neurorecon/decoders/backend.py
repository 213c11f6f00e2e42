"""NumPy or torch behind one handful of functions, and himalaya's backend set only while it is used."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.errors import InputError

#: himalaya keeps its backend in a module global, so two threads must not use it at once.
_HIMALAYA_LOCK = threading.RLock()


class Backend:
    """Arrays on one device.

    Parameters
    ----------
    device : str
        ``"cpu"`` computes with NumPy; ``"torch"`` with torch on the processor; ``"cuda"`` or ``"cuda:1"``
        with torch on a graphics card.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = check_device(device)

    @property
    def is_numpy(self) -> bool:
        """Whether arrays are NumPy's."""
        return self.device == "cpu"

    def asarray(self, array: Any, dtype: str) -> Any:
        """Put an array on the device."""
        if self.is_numpy:
            return np.asarray(array, dtype=dtype)
        import torch

        if not isinstance(array, torch.Tensor):
            # A copy where the array cannot be written to: torch warns about those.
            array = np.asarray(array, dtype=dtype)
            array = torch.from_numpy(array if array.flags.writeable else array.copy())
        place = "cpu" if self.device == "torch" else self.device
        return array.to(device=place, dtype=getattr(torch, dtype))

    def to_numpy(self, array: Any) -> NDArray:
        """Bring an array back to NumPy."""
        return array if isinstance(array, np.ndarray) else array.cpu().numpy()

    def eigh(self, matrix: Any) -> tuple[Any, Any]:
        """Return eigenvalues, ascending, and eigenvectors of a symmetric matrix, which may be overwritten."""
        if self.is_numpy:
            from scipy.linalg import eigh

            return eigh(matrix, driver="evd", overwrite_a=True, check_finite=False)
        import torch

        return tuple(torch.linalg.eigh(matrix))


def check_device(device: str) -> str:
    """Return the device, or say why it cannot be used.

    Parameters
    ----------
    device : str
        ``"cpu"``, ``"torch"``, ``"cuda"`` or ``"cuda:<number>"``.

    Returns
    -------
    str
        The device.

    Raises
    ------
    InputError
        Where it is unknown or not there.
    """
    name = str(device)
    if name in ("cpu", "torch"):
        return name
    if name.split(":")[0] != "cuda":
        raise InputError(
            "regressions cannot run on this device",
            given=repr(name),
            expected="'cpu' (NumPy), 'torch' (torch on the processor), 'cuda' or 'cuda:<number>'",
            todo="other devices lack the double precision that the factorization needs" if name == "mps" else None,
        )
    import torch

    if not torch.cuda.is_available():
        raise InputError(
            "torch finds no graphics card",
            given=f"device={name!r}",
            expected="a CUDA device and a torch that was built for it",
            todo="use device='cpu', or check `python -c 'import torch; print(torch.cuda.is_available())'`",
        )
    return name


@contextmanager
def himalaya_backend(device: str = "cpu", threads: int | None = None) -> Iterator[Any]:
    """Set himalaya's backend, and set the one before it again at the end, whatever happens.

    On the processor this is himalaya's torch backend: its NumPy backend diagonalizes with a LAPACK routine
    that takes twice as long and multiplies stacks of matrices more slowly (banded ridge with 1,000 samples,
    2,500 targets and 10 mixtures on 2 cores: 35 s against 11 s).

    Parameters
    ----------
    device : str
        As for :class:`Backend`.
    threads : int, optional
        Threads that torch may take meanwhile. On small problems one is as quick as several, and several wait for
        each other where other programs compute too: seconds become a minute.

    Yields
    ------
    module
        himalaya's backend module.
    """
    from himalaya.backend import get_backend, set_backend

    name = "torch" if check_device(device) in ("cpu", "torch") else "torch_cuda"
    with _HIMALAYA_LOCK:
        before = get_backend()
        try:
            backend = set_backend(name)
            with _torch_threads(threads):
                yield backend
        finally:
            set_backend(before)


@contextmanager
def _torch_threads(threads: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
