"""Weights of UNets on disk: diffusers' folders and single safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from neurorecon.errors import MissingFileError

#: Names of weights in a diffusers folder, safest first; large networks are split into several safetensors.
WEIGHT_NAMES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model-*-of-*.safetensors",
    "diffusion_pytorch_model.bin",
)


def read_unet(folder: Path) -> UNet2DConditionModel:
    """Read a UNet from a diffusers folder on this disk, in float32 and evaluation mode.

    Parameters
    ----------
    folder : Path
        Holds config.json and weights.

    Returns
    -------
    UNet2DConditionModel
    """
    _weight_files(folder)
    return UNet2DConditionModel.from_pretrained(str(folder), local_files_only=True)


def read_tensors(path: Path, containing: str = "") -> dict[str, Tensor]:
    """Read weights, or some of them, without building their network.

    Parameters
    ----------
    path : Path
        A safetensors file, or a diffusers folder.
    containing : str
        Only tensors with this in their names are read.

    Returns
    -------
    dict of str to Tensor
    """
    tensors: dict[str, Tensor] = {}
    for file in _weight_files(path) if path.is_dir() else [path]:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                names = [key for key in opened.keys() if containing in key]  # noqa: SIM118  # iterates no other way
                tensors.update({key: opened.get_tensor(key) for key in names})
        else:
            # Mapped, so that the part that nobody asked for is never in memory.
            state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
            tensors.update({key: tensor for key, tensor in state.items() if containing in key})
    return tensors


def write_tensors(file: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Write weights as safetensors.

    Parameters
    ----------
    file : Path
        Where to.
    tensors : mapping of str to Tensor
        The weights.
    dtype : torch.dtype, optional
        Precision on disk; by default as in memory.
    """
    save_file({key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in tensors.items()}, file)


def _weight_files(folder: Path) -> list[Path]:
    for name in WEIGHT_NAMES:
        files = sorted(folder.glob(name))
        if files:
            return files
    raise MissingFileError(
        "this diffusers folder has no weights", given=folder, expected=f"one of: {', '.join(WEIGHT_NAMES)}"
    )
