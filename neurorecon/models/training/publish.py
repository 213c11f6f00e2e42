"""From a checkpoint to the files that neurorecon ships: weights in half precision, and their configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from neurorecon.models.dual_guided import DualGuidedUNet
from neurorecon.models.probe import Probe
from neurorecon.models.tokenizer import WordTokenizer
from neurorecon.models.training import autoencoder, clip, diffusion
from neurorecon.models.vdvae import VDVAE
from neurorecon.models.zoo import record_bundled

#: Folders of the shipped networks, below ``neurorecon/models/bundled``.
FOLDERS = {
    "probe": ("probe",),
    "clip": ("clip",),
    "autoencoder": ("autoencoder",),
    "vdvae": ("vdvae",),
    "gist": ("vdvae",),
    "details": ("vdvae",),
    "diffusion": ("text_diffusion", "dual_diffusion"),
}


def publish_probe(network: Probe, home: Path) -> None:
    """Write the probe."""
    network.half().save(home / "probe")
    record_bundled(home / "probe")


def publish_clip(network: nn.Module, tokenizer: WordTokenizer, home: Path) -> None:
    """Write CLIP and its vocabulary."""
    folder = home / "clip"
    preprocessing = {"size": 64, "mean": clip.MEAN, "std": clip.STD}
    _write_json(folder / "config.json", {**clip.config(tokenizer.vocab_size), "preprocessing": preprocessing})
    (folder / "vocabulary.txt").write_text("\n".join(tokenizer.words) + "\n", encoding="utf-8")
    _write_weights(folder / "model.safetensors", network)
    record_bundled(folder)


def publish_autoencoder(network: Any, pixels: np.ndarray, home: Path) -> None:
    """Write the autoencoder, with the factor that brings the latents of these scenes to unit scale."""
    network.register_to_config(scaling_factor=1.0)
    latents = diffusion.encode(network, pixels, "cpu", progress=False).float()
    network.register_to_config(scaling_factor=round(float(1.0 / latents.std()), 4))
    folder = home / "autoencoder"
    config = {key: value for key, value in network.config.items() if not key.startswith("_")}
    wanted = {key: config[key] for key in (*autoencoder.CONFIG, "scaling_factor")}
    _write_json(folder / "config.json", {"_class_name": "AutoencoderKL", **wanted})
    _write_weights(folder / "diffusion_pytorch_model.safetensors", network)
    record_bundled(folder)


def publish_vdvae(network: VDVAE, home: Path) -> None:
    """Write the VDVAE."""
    folder = home / "vdvae"
    _write_json(folder / "config.json", network.config.to_dict())
    _write_weights(folder / "model.safetensors", network)
    record_bundled(folder)


def publish_diffusion(dual: DualGuidedUNet, text_adapter: Tensor, home: Path) -> None:
    """Write the text-conditioned UNet, the image branch that makes it the dual-guided one, and the map of texts."""
    folder = home / "text_diffusion"
    unet = dual.plain_unet("text")
    _write_json(folder / "config.json", {"_class_name": "UNet2DConditionModel", **diffusion.CONFIG})
    _write_json(folder / "scheduler_config.json", {"_class_name": "DDIMScheduler", **diffusion.SCHEDULE})
    _write_weights(folder / "diffusion_pytorch_model.safetensors", unet)
    record_bundled(folder)
    dual.adapt_text(text_adapter)
    dual.save(home / "dual_diffusion", text_unet="../text_diffusion", dtype=torch.float16)
    record_bundled(home / "dual_diffusion")


def _write_weights(file: Path, network: nn.Module) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    save_file({name: _half(tensor) for name, tensor in network.state_dict().items()}, partial, {"format": "pt"})
    partial.replace(file)


def _half(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.half() if tensor.is_floating_point() else tensor


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
