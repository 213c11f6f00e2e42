"""The table of weights: names, files, sha256 where they are known, licenses, and which system needs which."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from neurorecon.errors import InputError, UnknownNameError

#: Folder of the weights that come with neurorecon.
BUNDLED = Path(__file__).parents[1] / "bundled"

#: Digests of the bundled files, beside their folders; written by :func:`neurorecon.models.zoo.record_bundled`.
BUNDLED_TABLE = "sha256.json"

#: Roles that another role's bundled network plays too: one small CLIP stands for all published CLIP networks.
PLAYED_BY = {"clip-b32": "clip", "text-encoder": "clip"}


@dataclass(frozen=True)
class WeightFile:
    """One file of a set of weights.

    Parameters
    ----------
    path : str
        Its name within the folder, with forward slashes.
    sha256 : str or None
        Digest of its bytes, None where it is not known.
    size : int or None
        Bytes, None where they are not known.
    """

    path: str
    sha256: str | None = None
    size: int | None = None


@dataclass(frozen=True)
class Weights:
    """A set of weights: the files that one network (or one pipeline) is read from.

    Parameters
    ----------
    name : str
        E.g. ``"clip-vit-l14"`` or ``"bundled-clip"``.
    role : str
        What the toolkit uses it as, e.g. ``"clip"``; a published and a bundled set share a role.
    origin : str
        ``"published"`` or ``"bundled"``.
    repository : str or None
        Repository on the Hugging Face hub, e.g. ``"CompVis/stable-diffusion-v1-4"``.
    files : tuple of WeightFile
        All that has to be there.
    licence, source : str
        Terms of use; the paper and where the files come from.
    systems : tuple of str
        The published systems that need it.
    note : str
        What else a user has to know.
    url : str or None
        Folder on the web, for files that are on no hub.
    subfolder : str or None
        Folder of the repository that holds the files.
    parameters : int or None
        Number of parameters, four bytes each.
    """

    name: str
    role: str
    origin: str
    repository: str | None
    files: tuple[WeightFile, ...]
    licence: str
    source: str
    systems: tuple[str, ...] = ()
    note: str = ""
    url: str | None = None
    subfolder: str | None = None
    parameters: int | None = None

    @property
    def size(self) -> int | None:
        """Bytes of all files; None where that of any is not known."""
        known = [file.size for file in self.files if file.size is not None]
        return sum(known) if len(known) == len(self.files) else None

    @property
    def about(self) -> int | None:
        """About how many bytes of disk they take; None where nobody knows."""
        return self.size or (None if self.parameters is None else 4 * self.parameters)

    @property
    def folder(self) -> str:
        """Name of its folder among the bundled ones, e.g. ``"text_diffusion"``."""
        return self.role.replace("-", "_")


_CLIP_PAPER = "Radford et al. 2021, Learning transferable visual models from natural language supervision"
_SD_PAPER = "Rombach et al. 2022, High-resolution image synthesis with latent diffusion models"
_SD_LICENCE = "CreativeML OpenRAIL-M"
_SD = "CompVis/stable-diffusion-v1-4"

_PUBLISHED = (
    Weights(
        name="clip-vit-l14",
        role="clip",
        origin="published",
        repository="timm/vit_large_patch14_clip_224.openai",
        files=(
            WeightFile(
                "open_clip_model.safetensors", "9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e"
            ),
        ),
        licence="MIT",
        source=f"{_CLIP_PAPER}; OpenAI's ViT-L/14 in open_clip's layout",
        systems=("brain-diffuser", "two-stage"),
        parameters=427_616_513,
        note="Quick-GELU: build it in open_clip as ViT-L-14-quickgelu. The same network is the encoder of Versatile "
        "Diffusion and the judge in the CLIP scores.",
    ),
    Weights(
        name="clip-vit-b32",
        role="clip-b32",
        origin="published",
        repository="timm/vit_base_patch32_clip_224.openai",
        files=(
            WeightFile(
                "open_clip_model.safetensors",
                "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
                605_143_284,
            ),
        ),
        licence="MIT",
        source=f"{_CLIP_PAPER}; OpenAI's ViT-B/32 in open_clip's layout",
        systems=("minddiffuser", "mind-animator"),
        parameters=151_277_313,
        note="Quick-GELU: build it in open_clip as ViT-B-32-quickgelu.",
    ),
    Weights(
        name="sd-v1-4-text-encoder",
        role="text-encoder",
        origin="published",
        repository=_SD,
        files=(
            WeightFile("text_encoder/config.json"),
            WeightFile("text_encoder/model.safetensors"),
            WeightFile("tokenizer/merges.txt"),
            WeightFile("tokenizer/special_tokens_map.json"),
            WeightFile("tokenizer/tokenizer_config.json"),
            WeightFile("tokenizer/vocab.json"),
        ),
        licence=_SD_LICENCE,
        source=_SD_PAPER,
        systems=("minddiffuser", "mind-animator"),
        parameters=123_060_480,
        note="transformers' CLIPTextModel in text_encoder/, CLIPTokenizer in tokenizer/.",
    ),
    Weights(
        name="sd-v1-4-autoencoder",
        role="autoencoder",
        origin="published",
        repository=_SD,
        subfolder="vae",
        files=(WeightFile("config.json"), WeightFile("diffusion_pytorch_model.safetensors")),
        licence=_SD_LICENCE,
        source=_SD_PAPER,
        systems=("minddiffuser", "mind-animator"),
        parameters=83_653_863,
        note="diffusers' AutoencoderKL; the papers call it VQ-VAE. Latents are multiplied by .18215.",
    ),
    Weights(
        name="sd-v1-4-unet",
        role="text-diffusion",
        origin="published",
        repository=_SD,
        files=(
            WeightFile("unet/config.json"),
            WeightFile("unet/diffusion_pytorch_model.safetensors"),
            WeightFile("scheduler/scheduler_config.json"),
        ),
        licence=_SD_LICENCE,
        source=_SD_PAPER,
        systems=("minddiffuser", "mind-animator"),
        parameters=859_520_964,
        note="diffusers' UNet2DConditionModel in unet/ and the noise schedule in scheduler/.",
    ),
    Weights(
        name="versatile-diffusion",
        role="dual-diffusion",
        origin="published",
        repository="shi-labs/versatile-diffusion",
        files=(
            WeightFile("image_unet/config.json"),
            WeightFile("image_unet/diffusion_pytorch_model.bin"),
            WeightFile("text_unet/config.json"),
            WeightFile("text_unet/diffusion_pytorch_model.bin"),
            WeightFile("vae/config.json"),
            WeightFile("vae/diffusion_pytorch_model.bin"),
            WeightFile("image_encoder/config.json"),
            WeightFile("image_encoder/pytorch_model.bin"),
            WeightFile("image_feature_extractor/preprocessor_config.json"),
            WeightFile("text_encoder/config.json"),
            WeightFile("text_encoder/pytorch_model.bin"),
            WeightFile("tokenizer/merges.txt"),
            WeightFile("tokenizer/special_tokens_map.json"),
            WeightFile("tokenizer/tokenizer_config.json"),
            WeightFile("tokenizer/vocab.json"),
            WeightFile("scheduler/scheduler_config.json"),
        ),
        licence="MIT",
        source="Xu et al. 2022, Versatile Diffusion: text, images and variations all in one diffusion model",
        systems=("brain-diffuser", "two-stage"),
        parameters=3_079_639_582,
        note="Two UNets, an autoencoder and two CLIP encoders, each in a folder of its own.",
    ),
    Weights(
        name="vdvae-imagenet64",
        role="vdvae",
        origin="published",
        repository=None,
        url="https://openaipublic.blob.core.windows.net/very-deep-vaes-assets/vdvae-assets-2",
        files=(WeightFile("imagenet64-iter-1600000-model-ema.th"),),
        licence="MIT",
        source="Child 2021, Very deep VAEs generalize autoregressive models and can outperform them on images",
        systems=("brain-diffuser", "two-stage"),
        parameters=125_000_000,
        note="The moving average of the weights (EMA).",
    ),
)

#: Role, files, what it is, which systems take it by default.
_BUNDLED = (
    ("clip", ("config.json", "model.safetensors"), "a small CLIP (open_clip's class)"),
    ("autoencoder", ("config.json", "diffusion_pytorch_model.safetensors"), "an autoencoder at 1/4 resolution"),
    ("vdvae", ("config.json", "model.safetensors"), "a small VDVAE"),
    ("text-diffusion", ("config.json", "diffusion_pytorch_model.safetensors"), "a text-conditioned latent diffusion"),
    ("dual-diffusion", ("config.json", "model.safetensors"), "a latent diffusion guided by image and text"),
    ("probe", ("config.json", "model.safetensors"), "names main object, color and position; judge of the others"),
)


def recorded(table: Path) -> dict[str, dict[str, WeightFile]]:
    """Return the bundled files by folder and name, as the table of digests has them."""
    if not table.is_file():
        return {}
    try:
        folders = json.loads(table.read_text(encoding="utf-8"))
        return {
            folder: {name: WeightFile(name, facts["sha256"], facts["size"]) for name, facts in files.items()}
            for folder, files in folders.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            "the table of the bundled weights cannot be read",
            given=f"{table} ({error})",
            expected="sha256 and size of each file, by folder",
            todo="install neurorecon anew, or delete it and record the folders again (zoo.record_bundled)",
        ) from error


def _bundled(role: str, names: tuple[str, ...], what: str) -> Weights:
    known = recorded(BUNDLED / BUNDLED_TABLE).get(role.replace("-", "_"), {})
    return Weights(
        name=f"bundled-{role}",
        role=role,
        origin="bundled",
        repository=None,
        files=tuple(known.values()) or tuple(map(WeightFile, names)),
        licence="BSD-3-Clause",
        source="neurorecon, trained on its own procedural scenes; see the README.md beside the file",
        systems=("all, by default",),
        note=f"64 px: {what}.",
    )


def bundled() -> dict[str, Weights]:
    """Return the bundled weights by name, with the digests that are recorded now."""
    return {weights.name: weights for weights in (_bundled(*entry) for entry in _BUNDLED)}


#: All weights by name.
ZOO: dict[str, Weights] = {weights.name: weights for weights in _PUBLISHED} | bundled()


def find(name: str) -> Weights:
    """Return a set of weights by its name.

    Raises
    ------
    UnknownNameError
        Where there is none of that name.
    """
    if name not in ZOO:
        raise UnknownNameError("set of weights", name, ZOO)
    return ZOO[name]


def roles() -> list[str]:
    """Return all roles in the order of the table."""
    return list(dict.fromkeys(weights.role for weights in ZOO.values()))


def for_role(role: str, models: str) -> Weights:
    """Return the weights that play a role.

    Parameters
    ----------
    role : str
        E.g. ``"clip"``.
    models : str
        ``"bundled"`` or ``"published"``.

    Raises
    ------
    UnknownNameError
        Where there is no such role or no such origin.
    InputError
        Where the role has no weights of this origin (the probe was never published).
    """
    if role not in roles():
        raise UnknownNameError("role of a network", role, roles())
    if models not in ("bundled", "published"):
        raise UnknownNameError("origin of weights", models, ("bundled", "published"))
    wanted = PLAYED_BY.get(role, role) if models == "bundled" else role
    for weights in ZOO.values():
        if weights.role == wanted and weights.origin == models:
            return weights
    raise InputError(
        f"there are no {models} weights for this role",
        given=role,
        expected=", ".join(sorted({weights.role for weights in ZOO.values() if weights.origin == models})),
        todo="use the bundled ones: --models bundled",
    )
