"""Parameters of neural decoders: what can be used, and what says that two training runs are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neurorecon.errors import InputError, UnknownNameError

if TYPE_CHECKING:
    import torch

    from neurorecon.decoders.neural.decoder import NeuralDecoder

_PRECISIONS = ("auto", "float32", "float64", "bf16", "fp16")

#: Parameters that change no number.
_WITHOUT_EFFECT = ("checkpoint_every", "progress")


def check_settings(decoder: NeuralDecoder) -> None:
    """Raise where a parameter cannot be used; optimizers and schedules are checked where they are made.

    Raises
    ------
    InputError
        It names the parameter.
    """
    for name in ("max_epochs", "batch_size", "patience", "checkpoint_every", "shuffle_window"):
        value = getattr(decoder, name)
        optional = name in ("patience", "shuffle_window") and value is None
        if not optional and (not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1):
            raise InputError(f"{name} is a number of things", given=repr(value), expected="an integer from 1 on")
    seed = decoder.random_state
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise InputError("random_state is the seed", given=repr(seed), expected="an integer from 0 to 2**32 - 1")
    for name in ("learning_rate", "weight_decay", "momentum", "tolerance", "clip_norm"):
        value = getattr(decoder, name)
        positive = name in ("learning_rate", "clip_norm")
        usable = isinstance(value, int | float | np.number) and np.isfinite(value) and value >= 0
        if not (name == "clip_norm" and value is None) and (not usable or (positive and value == 0)):
            expected = "a finite number above 0" if positive else "a finite number, 0 or more"
            raise InputError(f"this {name} cannot be used", given=repr(value), expected=expected)


def device_and_precision(device: str, precision: str) -> tuple[str, str]:
    """Return the device to compute on, and "float32", "float64", "bf16" or "fp16".

    Raises
    ------
    InputError
        Where this machine has no such device, or the device not this precision.
    """
    import torch

    from neurorecon.models.load import network_device

    place = network_device(None if device == "auto" else device)
    if precision not in _PRECISIONS:
        raise UnknownNameError("precision", precision, _PRECISIONS)
    kind = place.partition(":")[0]
    if precision == "auto":
        return place, "bf16" if kind == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    missing = {"cpu": ("fp16",), "mps": ("float64",)}.get(kind, ())
    if precision in missing:
        raise InputError(
            "this device cannot train in this precision",
            given=f"device={device!r}, precision={precision!r}",
            expected=f"one of: {', '.join(name for name in _PRECISIONS if name not in missing)}",
        )
    return place, precision


def identity_of(decoder: NeuralDecoder, digests: Mapping[str, str], held_out: NDArray[np.int64]) -> dict[str, Any]:
    """Return what the numbers of a training run follow from, in JSON types.

    Parameters
    ----------
    decoder : NeuralDecoder
        Its class and parameters.
    digests : dict of str to str
        Of inputs and targets.
    held_out : array of int
        Samples that are validated on.
    """
    parameters = {name: _said(value) for name, value in decoder.get_params().items() if name not in _WITHOUT_EFFECT}
    return {
        "class": type(decoder).__name__,
        **parameters,
        **{f"digest of {name}": digest for name, digest in digests.items()},
        "validation samples": hashlib.sha256(held_out.astype("<i8").tobytes()).hexdigest(),
    }


def _said(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return {str(name): _said(item) for name, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_said(item) for item in value]
    raise InputError(
        "a decoder with this parameter cannot keep checkpoints",
        given=f"a parameter of type {type(value).__name__}",
        expected="numbers, strings, arrays, lists and dicts of them",
        todo="name the thing by a string in your decoder, or train without checkpoint",
    )


def torch_dtype(precision: str) -> torch.dtype:
    """Return the type of weights and losses: layers alone may be computed in half precision."""
    import torch

    return torch.float64 if precision == "float64" else torch.float32
