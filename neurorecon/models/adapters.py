"""Low-rank adapters of diffusion networks (LoRA): their files, what they belong to, and merging them into weights.

An adapter changes the weights W of some layers of a UNet to W + alpha / rank * B A, where B and A are narrow (Hu et
al., 2022, arXiv 2106.09685). :func:`neurorecon.finetune` trains it. It is a folder as the package peft writes it, so
that peft and diffusers load it too, but generating with it needs neither: the change is added to the weights when the
network is loaded. One file holds everything that changes images, so its sha256 identifies the adapter:
``adapter_model.safetensors``, in whose header lie rank, alpha, and the sha256 of the weights that it was trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurorecon import hub
from neurorecon.errors import InputError, MissingFileError
from neurorecon.io import tensors
from neurorecon.io.files import damaged, write_json
from neurorecon.models.load import WeightsSource

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Version of the file format.
FORMAT = 1

#: Names of the files, and what names of layers begin with, in peft.
_WEIGHTS, _CONFIG, _PREFIX = "adapter_model.safetensors", "adapter_config.json", "base_model.model."

_AGAIN = "fine-tune again: neurorecon finetune"


@dataclass(frozen=True)
class Adapter:
    """An adapter on this machine.

    Parameters
    ----------
    source : WeightsSource
        Its file, sha256 and license.
    network : {"text-diffusion", "dual-diffusion"}
        Role of the network that it changes.
    base_name : str
        Name of the weights that it was trained on.
    base_sha256 : tuple of str
        Their sha256; of a network that is stored in two folders, both.
    rank : int
    alpha : float
    trained_on : mapping
        Store, split column and settings of the training, as :func:`write_adapter` takes them.
    """

    source: WeightsSource
    network: str
    base_name: str
    base_sha256: tuple[str, ...]
    rank: int
    alpha: float
    trained_on: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def require_base(self, found: WeightsSource, sha256: Sequence[str]) -> None:
        """Refuse other weights than those that the adapter was trained on.

        Parameters
        ----------
        found : WeightsSource
            The weights to be changed.
        sha256 : sequence of str
            As `base_sha256`.
        """
        if self.network == found.role and self.base_sha256 == tuple(sha256):
            return
        raise InputError(
            "this adapter was trained on other weights",
            given=f"{found.name} ({found.role}, {_short(sha256)})",
            expected=f"{self.base_name} ({self.network}, {_short(self.base_sha256)}), for {self.source.folder}",
            todo="choose the models= that it was trained on, or fine-tune these: neurorecon finetune",
        )

    def merge(self, unet: nn.Module) -> None:
        """Add the change to the weights of a UNet, in place.

        Parameters
        ----------
        unet : Module
            In full precision; its layers have the names that they had in training.
        """
        import torch

        file = self.source.folder / _WEIGHTS
        state, about = tensors.load(file, framework="torch", todo=_AGAIN)
        if about["digest"] != _digest(state):
            raise damaged(file, ValueError("its digest does not match"), _AGAIN)
        layers = dict(unet.named_modules())
        for key in [name for name in state if name.endswith(".lora_A.weight")]:
            name = key.removesuffix(".lora_A.weight")
            down, up = state[key], state[f"{name}.lora_B.weight"]
            # A convolution is changed by one of the same size to `rank` channels, followed by one of 1 x 1.
            change = self.alpha / self.rank * (up.flatten(1) @ down.flatten(1))
            layer: Any = layers.get(name.removeprefix(_PREFIX))
            weight = getattr(layer, "weight", None)
            if weight is None or weight.numel() != change.numel() or len(weight) != len(change):
                raise InputError(
                    "this adapter does not fit the network",
                    given=f"{name.removeprefix(_PREFIX)} {tuple(change.shape)} in {self.source.folder}",
                    expected="absent" if weight is None else tuple(weight.shape),
                    todo=_AGAIN,
                )
            # A new tensor, because weights of several networks may share the old one.
            layer.weight = torch.nn.Parameter(weight + change.reshape(weight.shape).to(weight), requires_grad=False)


def read_adapter(folder: str | Path) -> Adapter:
    """Find an adapter and what it belongs to, without loading it.

    Parameters
    ----------
    folder : path
        Its folder, or the folder of results of ``neurorecon finetune`` that holds it.

    Raises
    ------
    MissingFileError
        If there is none.
    InputError
        If the file is damaged or was not written by neurorecon.
    """
    place = Path(folder)
    files = [place / _WEIGHTS, *sorted(place.glob(f"*_adapter/{_WEIGHTS}"))]
    files = [file for file in files if file.is_file()]
    if len(files) != 1:
        kind = InputError if files else MissingFileError
        raise kind(
            "this folder holds several adapters" if files else "there is no adapter here",
            given=f"{place}" + (f" with {', '.join(file.parent.name for file in files)}" if files else ""),
            expected=f"a folder with {_WEIGHTS}, as neurorecon finetune writes it",
            todo=f"name one: {files[0].parent}" if files else _AGAIN,
        )
    about = tensors.read_description(files[0], _AGAIN)
    try:
        version, network, base = int(about["format"]), str(about["network"]), about["base"]
        name, sha256, terms = str(base["name"]), tuple(map(str, base["sha256"])), str(base["license"])
        rank, alpha, _ = int(about["rank"]), float(about["alpha"]), str(about["digest"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            "this adapter does not say which weights it belongs to",
            given=f"{files[0]} ({type(error).__name__}: {error})",
            expected="an adapter that neurorecon finetune wrote",
            todo=_AGAIN,
        ) from error
    if version > FORMAT:
        raise InputError(
            "this adapter was written by a newer version of neurorecon",
            given=f"format {version}",
            expected=f"format {FORMAT} or older",
            todo="update neurorecon",
        )
    found = WeightsSource(
        "adapter", files[0].parent, f"adapter of {name}", hub.fingerprint(files[0]), terms,
        "Hu et al. 2022, LoRA: low-rank adaptation of large language models",
    )  # fmt: skip
    return Adapter(found, network, name, sha256, rank, alpha, dict(about.get("trained_on", {})))


def write_adapter(
    folder: str | Path,
    state: Mapping[str, Tensor],
    config: Mapping[str, Any],
    base: WeightsSource,
    sha256: Sequence[str],
    trained_on: Mapping[str, Any],
) -> None:
    """Write an adapter that :func:`read_adapter` and peft read.

    Parameters
    ----------
    folder : path
    state : mapping of str to Tensor
        ``LAYER.lora_A.weight`` and ``LAYER.lora_B.weight`` by the names of the layers in the UNet.
    config : mapping
        peft's configuration, JSON types.
    base : WeightsSource
        The weights that were trained on.
    sha256 : sequence of str
        As in :class:`Adapter`.
    trained_on : mapping
        What it was trained on and how, JSON types; goes into the header of the file.
    """
    place = Path(folder)
    arrays = {f"{_PREFIX}{name}": value.detach().cpu() for name, value in state.items()}
    about = {
        "format": FORMAT,
        "digest": _digest(arrays),
        "network": base.role,
        "base": {"name": base.name, "sha256": list(sha256), "license": base.license},
        "rank": config["r"],
        "alpha": config["lora_alpha"],
        "trained_on": dict(trained_on),
    }
    # The digest lies in the description, because safetensors writes several entries of a header in random order, and
    # the same adapter has to have the same sha256.
    tensors.save(place / _WEIGHTS, arrays, about, digest=False)
    write_json(place / _CONFIG, config)


def _digest(state: Mapping[str, Tensor]) -> str:
    return tensors.combine({name: tensors.block_digest(value.numpy()) for name, value in state.items()})


def _short(sha256: Sequence[str]) -> str:
    return " + ".join(one[:8] for one in sha256)
