"""Find weights by role and load networks: autoencoders and VDVAE (for CLIP see :mod:`neurorecon.models.clip`).

How a folder is read depends on its contents, not on its origin: published weights, bundled weights and a user's own
are loaded in the same way. Loading does not change the state of torch's random number generator.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon import hub
from neurorecon.errors import InputError, MissingFileError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neurorecon.models.vdvae import VDVAE
    from neurorecon.models.vdvae_config import VDVAEConfig

#: Entries of old checkpoints that are not weights.
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "position_ids")

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".th")

_AUTOENCODERS = ("AutoencoderKL", "VQModel", "AutoencoderTiny")


@dataclass(frozen=True)
class WeightsSource:
    """Weights on this machine, with their role and provenance.

    Parameters
    ----------
    role : str
        What they are used for, e.g. ``"clip"``.
    folder : path
        Folder with the files.
    name : str
        Name in the catalog, or the name of the folder for a user's own weights.
    sha256 : str
        Fingerprint of the weights, independent of their name.
    license : str
        Terms of use.
    paper : str
        Citation.
    origin : {"bundled", "published", "own"}
        Whose they are. Bundled ones know drawn scenes only.
    """

    role: str
    folder: Path
    name: str
    sha256: str
    license: str
    paper: str
    origin: str = "own"

    def record(self) -> dict[str, str]:
        """Return the attributes that are stored with everything computed from these weights."""
        return {
            "weights": self.name,
            "weights_sha256": self.sha256,
            "weights_origin": self.origin,
            "licence": self.license,
        }


def source(role: str, models: str | Path = "bundled") -> WeightsSource:
    """Find the weights for a role.

    Parameters
    ----------
    role : str
        E.g. ``"clip"``, ``"clip-b32"``, ``"text-encoder"``, ``"autoencoder"`` or ``"vdvae"``.
    models : {"bundled", "published"} or path
        Which weights: those that ship with neurorecon, those of the papers, or those in a folder.

    Returns
    -------
    WeightsSource

    Raises
    ------
    UnknownNameError
        If the role is unknown.
    InputError
        If the role has no weights of this origin.
    MissingFileError
        If the weights are not on this machine; the message gives the command that downloads them.
    """
    weights, folder = hub.locate_role(role, models)
    sha256 = hub.fingerprint(folder, weights)
    if weights is None:
        # A folder may hold a copy of the bundled weights, and what they know does not depend on where they lie.
        known = {file.sha256 for item in hub.items("weights") if item.origin == "bundled" for file in item.files}
        origin = "bundled" if sha256 in known else "own"
        return WeightsSource(role, folder, folder.name, sha256, "not stated (own weights)", "own weights", origin)
    return WeightsSource(role, folder, weights.name, sha256, weights.license, weights.citation, weights.origin)


# -- autoencoders -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AutoencoderSettings:
    """Configuration of an autoencoder, available without loading it.

    Parameters
    ----------
    source : WeightsSource
        The weights.
    kind : str
        Name of the class in diffusers.
    config : dict
        Contents of its ``config.json``.
    """

    source: WeightsSource
    kind: str
    config: dict[str, Any]

    @property
    def scaling_factor(self) -> float:
        """Factor of the latents: that of the configuration, else 0.18215 (Stable Diffusion v1) or 1 (other kinds)."""
        default = 0.18215 if self.kind in ("AutoencoderKL", "VQModel") else 1.0
        return float(self.config.get("scaling_factor", default))

    @property
    def size(self) -> int | None:
        """Size of the training images in pixels per side; None if unknown."""
        size = self.config.get("sample_size")
        return None if size is None else int(size[0] if isinstance(size, Sequence) else size)

    def load(self, device: str = "cpu") -> nn.Module:
        """Load the network (a diffusers model) in float32 and evaluation mode, without gradients.

        Parameters
        ----------
        device : str

        Raises
        ------
        InputError
            If the weights do not match the configuration.
        """
        import torch

        folder = str(hub.part(self.source.folder, "vae"))
        settings = {"local_files_only": True, "output_loading_info": True, "torch_dtype": torch.float32}
        try:
            with same_random_numbers():
                network, report = _autoencoder_class(self.kind).from_pretrained(folder, **settings)
        except (ValueError, RuntimeError, OSError) as error:  # what diffusers raises if weights do not match
            raise _other_network(self.source, str(error).strip().splitlines()[0]) from error
        _expect_all_loaded(report, self.source)
        return network.eval().requires_grad_(False).to(device)


def autoencoder_settings(models: str | Path = "bundled") -> AutoencoderSettings:
    """Return the configuration of the autoencoder, without loading it.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        A folder must contain a network as saved by diffusers: ``config.json`` and weights.

    Returns
    -------
    AutoencoderSettings

    Raises
    ------
    MissingFileError
        If the weights or their ``config.json`` are missing.
    InputError
        If the network is not a supported autoencoder.
    """
    found = source("autoencoder", models)
    path = hub.part(found.folder, "vae") / "config.json"
    if not path.is_file():
        raise MissingFileError(
            "the autoencoder has no config.json",
            given=str(found.folder),
            expected="config.json beside the weights, as saved by diffusers",
            todo="save the network with save_pretrained, or choose other weights with --models",
        )
    config = read_json(path)
    kind = str(config.get("_class_name", "AutoencoderKL"))
    if kind not in _AUTOENCODERS:
        raise InputError(
            "unsupported type of autoencoder",
            given=f"{kind} in {path}",
            expected=f"one of: {', '.join(_AUTOENCODERS)}",
            todo="write an extractor for it (docs/extending.md), or choose other weights with --models",
        )
    return AutoencoderSettings(found, kind, config)


def _autoencoder_class(kind: str) -> Any:
    if kind == "AutoencoderKL":
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL as found
    elif kind == "VQModel":
        from diffusers.models.autoencoders.vq_model import VQModel as found
    else:
        from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny as found
    return found


def _expect_all_loaded(report: Mapping[str, Any], found: WeightsSource) -> None:
    wrong = {key: list(report.get(key, [])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        given = "; ".join(f"{key.replace('_', ' ')}: {names[:3]}" for key, names in wrong.items() if names)
        raise _other_network(found, given)


# -- networks of transformers -------------------------------------------------------------------------------------


def load_transformers(found: WeightsSource, kind: str, device: str = "cpu", **settings: Any) -> Any:
    """Load a network of transformers in float32 and evaluation mode, without gradients.

    Parameters
    ----------
    found : WeightsSource
        A folder as saved by transformers. Old names of tensors are translated by transformers itself.
    kind : str
        Name of the class, e.g. ``"VideoMAEForVideoClassification"``.
    device : str
    **settings
        Replace those of its ``config.json``.

    Raises
    ------
    InputError
        If the weights do not match the configuration.
    """
    import torch
    import transformers
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        with same_random_numbers():
            network, report = getattr(transformers, kind).from_pretrained(
                str(found.folder), local_files_only=True, output_loading_info=True, dtype=torch.float32, **settings
            )
    except (ValueError, RuntimeError, OSError) as error:  # what transformers raises if weights do not match
        raise _other_network(found, str(error).strip().splitlines()[0]) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    _expect_all_loaded(report, found)
    return network.eval().requires_grad_(False).to(device)


# -- VDVAE --------------------------------------------------------------------------------------------------------


def load_vdvae(models: str | Path = "bundled", device: str = "cpu") -> tuple[VDVAE, WeightsSource]:
    """Load the VDVAE in float32 and evaluation mode, without gradients.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        A folder must contain weights and ``config.json``; without it, the published imagenet64 network is assumed.
    device : str

    Returns
    -------
    network : VDVAE
    source : WeightsSource

    Raises
    ------
    MissingFileError
        If the weights are not on this machine.
    InputError
        If the weights do not match the configuration.
    """
    found = source("vdvae", models)
    return load_vdvae_of(found, device), found


def load_vdvae_of(found: WeightsSource, device: str = "cpu") -> VDVAE:
    """Load the VDVAE from weights that were already located."""
    from neurorecon.models import vdvae

    with same_random_numbers():
        network = vdvae.load_vdvae(weights_in(found.folder), vdvae_config(found), device=device)
    return network.requires_grad_(False)


def vdvae_config(found: WeightsSource) -> VDVAEConfig:
    """Return the configuration of a VDVAE: ``config.json`` beside its weights, else that of the published network."""
    from neurorecon.models.vdvae_config import IMAGENET64, VDVAEConfig  # does not import torch

    config = found.folder / "config.json"
    return VDVAEConfig.from_dict(read_json(config)) if config.is_file() else IMAGENET64


# -- shared -------------------------------------------------------------------------------------------------------


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Restore torch's random state afterwards, because networks draw random weights before loading trained ones."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


def noise_like(shape: tuple[int, ...], seed: int, stimulus: str) -> np.ndarray:
    """Return standard normal noise, float32, that depends only on the seed and the stimulus, not on the batch."""
    return np.random.default_rng(seed_of(seed, stimulus)).standard_normal(shape, dtype=np.float32)


def seed_of(seed: int, stimulus: str) -> int:
    """Return a 63-bit seed for one stimulus."""
    digest = blake2b(f"{seed}:{stimulus}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def weights_in(folder: Path) -> Path:
    """Return the only weight file in a folder, preferring safetensors if there are several formats."""
    for suffix in _SUFFIXES:
        found = sorted(folder.glob(f"*{suffix}"))
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                "the folder contains several weight files",
                given=f"{folder}: {', '.join(path.name for path in found)}",
                expected="one weight file",
                todo="keep each network in its own folder",
            )
    raise MissingFileError(
        "the folder contains no weights", given=str(folder), expected=f"a file that ends in {', '.join(_SUFFIXES)}"
    )


def fill(network: nn.Module, state: Mapping[str, Tensor], found: WeightsSource) -> None:
    """Load weights into a network; names and shapes must match exactly, except for buffers of old checkpoints."""
    weights = {name: value for name, value in state.items() if name.rpartition(".")[2] not in _NO_WEIGHTS}
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    expected = {name: shape for name, shape in expected.items() if name.rpartition(".")[2] not in _NO_WEIGHTS}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = [name for name in sorted(expected | given) if expected.get(name) != given.get(name)]
    if wrong:
        name = wrong[0]
        raise _other_network(found, f"{name}: {given.get(name, 'absent')}, expected {expected.get(name, 'absent')}")
    network.load_state_dict(weights, strict=False)


def _other_network(found: WeightsSource, given: str) -> InputError:
    return InputError(
        f"the weights {found.name!r} do not match their configuration",
        given=f"{found.folder}: {given}",
        expected="weights and configuration of the same network",
        todo="download both again, or correct the configuration",
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a configuration file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("cannot read the configuration", given=f"{path} ({error})", expected="JSON") from error
    if not isinstance(found, dict):
        raise InputError(
            "cannot read the configuration", given=f"{path}: {type(found).__name__}", expected="a JSON object"
        )
    return found
