"""Weights of UNets on disk: diffusers' folders and single safetensors files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor

from neurorecon.errors import InputError, MissingFileError
from neurorecon.models.zoo.files import load_state

#: Weights in a diffusers folder, safest first; large networks are split into several safetensors.
WEIGHT_NAMES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model-*-of-*.safetensors",
    "diffusion_pytorch_model.bin",
)


def read_unet(folder: Path) -> UNet2DConditionModel:
    """Read a UNet from a diffusers folder on this disk.

    Parameters
    ----------
    folder : Path
        Holds config.json and weights in any precision.

    Returns
    -------
    UNet2DConditionModel
        In float32, in evaluation mode.
    """
    config = read_config(folder)
    with torch.device("meta"):  # no time is spent on drawing weights that are replaced at once
        unet = UNet2DConditionModel.from_config(config)
    state = {key: tensor.float() for key, tensor in read_weights(folder).items()}
    check_fit(unet.state_dict(), state, f"the UNet of {folder}")
    unet.load_state_dict(state, assign=True)
    return unet.eval()


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config.json of a folder."""
    if not (folder / "config.json").is_file():
        raise MissingFileError("this folder holds no network", given=folder, expected="config.json and weights in it")
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a diffusers folder without building their network."""
    for name in WEIGHT_NAMES:
        files = sorted(folder.glob(name))
        if files:
            return {key: tensor for file in files for key, tensor in load_state(file).items()}
    raise MissingFileError(
        "this diffusers folder has no weights", given=folder, expected=f"one of: {', '.join(WEIGHT_NAMES)}"
    )


def write_weights(file: Path, state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Write weights as safetensors, in another precision if asked for."""
    save_file({key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in state.items()}, file)


def check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that a network cannot take.

    Parameters
    ----------
    own : mapping of str to Tensor
        The network's weights; only names and shapes matter.
    state : mapping of str to Tensor
        The weights to be loaded.
    what : str
        What the network is, for the message.

    Raises
    ------
    InputError
        A tensor is missing, unknown or of another shape.
    """
    for problem, names in (
        ("missing", sorted(own.keys() - state.keys())),
        ("unknown", sorted(state.keys() - own.keys())),
        ("of another shape", [key for key in own if key in state and own[key].shape != state[key].shape]),
    ):
        if names:
            raise InputError(
                f"these weights do not fit {what}",
                given=f"{len(names)} tensors {problem}; the first is {names[0]}",
                expected=f"{len(own)} tensors, among them {next(iter(own))} {tuple(next(iter(own.values())).shape)}",
            )
