"""From weights to networks that compute: which weights play a role, autoencoders, VDVAE (CLIP: see load_clip).

What a folder holds decides how it is read, never where it came from: published weights, the bundled ones and a
user's own go the same way. Loading leaves the random numbers of the caller as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurorecon import hub
from neurorecon.errors import InputError, MissingFileError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from neurorecon.models.vdvae import VDVAE
    from neurorecon.models.vdvae_config import VDVAEConfig

#: Entries of old checkpoints that are no weights.
_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "position_ids")

_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".th")

_AUTOENCODERS = ("AutoencoderKL", "VQModel", "AutoencoderTiny")


@dataclass(frozen=True)
class Source:
    """Weights on this machine that play a role, and what is known of them.

    Parameters
    ----------
    role : str
        What they are used as, e.g. ``"clip"``.
    folder : path
        Holds the files.
    name : str
        Name in the catalog; of a user's own weights the name of their folder.
    sha256 : str
        Says which weights these are, whatever they are called.
    license : str
        Terms of use.
    paper : str
        Who published them.
    """

    role: str
    folder: Path
    name: str
    sha256: str
    license: str
    paper: str

    def record(self) -> dict[str, str]:
        """Return what is stored with all that these weights make."""
        return {"weights": self.name, "weights_sha256": self.sha256, "licence": self.license}


def source(role: str, models: str | Path = "bundled") -> Source:
    """Find the weights that play a role.

    Parameters
    ----------
    role : str
        E.g. ``"clip"``, ``"clip-b32"``, ``"text-encoder"``, ``"autoencoder"``, ``"vdvae"``.
    models : {"bundled", "published"} or path
        Whose weights: those that come with neurorecon, those of the papers, or those in a folder.

    Raises
    ------
    MissingFileError
        Where they are not on this machine; the message holds the command that fetches them.
    """
    weights, folder = hub.locate_role(role, models)
    sha256 = hub.fingerprint(folder, weights)
    if weights is None:
        return Source(role, folder, folder.name, sha256, "not stated (own weights)", "own weights")
    return Source(role, folder, weights.name, sha256, weights.license, weights.citation)


# -- autoencoders -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AutoencoderSettings:
    """What is known of an autoencoder before it is loaded.

    Parameters
    ----------
    source : Source
    kind : str
        Name of diffusers' class.
    config : dict
        Its configuration.
    """

    source: Source
    kind: str
    config: dict[str, Any]

    @property
    def scaling_factor(self) -> float:
        """What latents are multiplied by (.18215 for Stable Diffusion v1-4); 1 where the configuration says nothing."""
        default = 0.18215 if self.kind in ("AutoencoderKL", "VQModel") else 1.0
        return float(self.config.get("scaling_factor", default))

    @property
    def size(self) -> int | None:
        """Pixels on each side of the images that it was trained on, where it says so."""
        size = self.config.get("sample_size")
        return None if size is None else int(size[0] if isinstance(size, Sequence) else size)

    def load(self, device: str = "cpu") -> nn.Module:
        """Return the network of diffusers, in float32, ready to compute."""
        import torch

        folder = str(hub.part(self.source.folder, "vae"))
        settings = {"local_files_only": True, "output_loading_info": True, "torch_dtype": torch.float32}
        try:
            with same_random_numbers():
                network, report = _autoencoder_class(self.kind).from_pretrained(folder, **settings)
        except (ValueError, RuntimeError, OSError) as error:  # diffusers' ways to say that weights do not fit
            raise _other_network(self.source, str(error).strip().splitlines()[0]) from error
        _expect_all_loaded(report, self.source)
        return network.eval().requires_grad_(False).to(device)


def autoencoder_settings(models: str | Path = "bundled") -> AutoencoderSettings:
    """Return what is known of the autoencoder, without loading it.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        A folder holds a network as diffusers saves it: ``config.json`` and weights.
    """
    found = source("autoencoder", models)
    path = hub.part(found.folder, "vae") / "config.json"
    if not path.is_file():
        raise MissingFileError(
            "the autoencoder has no configuration",
            given=str(found.folder),
            expected="config.json beside its weights, as diffusers saves both",
            todo="save it with save_pretrained, or take other weights with --models",
        )
    config = read_json(path)
    kind = str(config.get("_class_name", "AutoencoderKL"))
    if kind not in _AUTOENCODERS:
        raise InputError(
            "this is no autoencoder that can be loaded",
            given=f"{kind} in {path}",
            expected=f"one of: {', '.join(_AUTOENCODERS)}",
            todo="write an extractor for it (docs/extending.md), or take other weights with --models",
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


def _expect_all_loaded(report: Mapping[str, Any], found: Source) -> None:
    wrong = {key: list(report.get(key, [])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(wrong.values()):
        given = "; ".join(f"{key.replace('_', ' ')}: {names[:3]}" for key, names in wrong.items() if names)
        raise _other_network(found, given)


# -- VDVAE --------------------------------------------------------------------------------------------------------


def load_vdvae(models: str | Path = "bundled", device: str = "cpu") -> tuple[VDVAE, Source]:
    """Return the VDVAE, in float32, ready to compute, and where it came from.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        A folder holds weights and ``config.json``; without one they are taken for the published imagenet64 network.
    device : str
    """
    found = source("vdvae", models)
    return load_vdvae_of(found, device), found


def load_vdvae_of(found: Source, device: str = "cpu") -> VDVAE:
    """Return the VDVAE from weights that were found already."""
    from neurorecon.models import vdvae

    with same_random_numbers():
        network = vdvae.load_vdvae(weights_in(found.folder), vdvae_config(found), device=device)
    return network.requires_grad_(False)


def vdvae_config(found: Source) -> VDVAEConfig:
    """Return the sizes of the VDVAE: those of the file beside its weights, or else of the published network."""
    from neurorecon.models.vdvae_config import IMAGENET64, VDVAEConfig  # without torch: commands start sooner

    config = found.folder / "config.json"
    return VDVAEConfig.from_dict(read_json(config)) if config.is_file() else IMAGENET64


# -- what they share ----------------------------------------------------------------------------------------------


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Give networks that start from random weights a generator of their own, and the caller's back."""
    import torch

    with torch.random.fork_rng(devices=[]):
        yield


def weights_in(folder: Path) -> Path:
    """Return the one file of weights in a folder; safetensors where there are several kinds."""
    for suffix in _SUFFIXES:
        found = sorted(folder.glob(f"*{suffix}"))
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                "this folder holds several files of weights",
                given=f"{folder}: {', '.join(path.name for path in found)}",
                expected="one",
                todo="keep each network in a folder of its own",
            )
    raise MissingFileError(
        "this folder holds no weights", given=str(folder), expected=f"a file that ends in {', '.join(_SUFFIXES)}"
    )


def fill(network: nn.Module, state: Mapping[str, Tensor], found: Source) -> None:
    """Put weights into a network; every one has to have its place."""
    weights = {name: value for name, value in state.items() if name.rpartition(".")[2] not in _NO_WEIGHTS}
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    expected = {name: shape for name, shape in expected.items() if name.rpartition(".")[2] not in _NO_WEIGHTS}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = [name for name in sorted(expected | given) if expected.get(name) != given.get(name)]
    if wrong:
        name = wrong[0]
        raise _other_network(found, f"{name}: {given.get(name, 'absent')}, expected {expected.get(name, 'absent')}")
    network.load_state_dict(weights, strict=False)


def _other_network(found: Source, given: str) -> InputError:
    return InputError(
        f"the weights {found.name!r} are those of another network than their configuration says",
        given=f"{found.folder}: {given}",
        expected="weights and configuration of one network",
        todo="fetch both again, or correct the configuration",
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read a configuration: names and values."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("a configuration cannot be read", given=f"{path} ({error})", expected="JSON") from error
    if not isinstance(found, dict):
        raise InputError("a configuration cannot be read", given=f"{path}: {type(found).__name__}", expected="names")
    return found
