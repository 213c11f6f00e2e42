"""Diffusion whose prompt is an image: an embedding of CLIP, which can be decoded, takes the place of a text.

- IP-Adapter (Ye et al., 2023, arXiv 2308.06721) adds cross-attention to an image embedding to Stable Diffusion 1.5 and
  to SDXL (Podell et al., 2023, arXiv 2307.01952), whose text conditions remain.
- Kandinsky 2.2 (Razzhigaev et al., 2023, arXiv 2310.03502) decodes an image embedding and nothing else.
- SDXL unCLIP of MindEye2 (Scotti et al., 2024, arXiv 2403.11207) decodes all patch tokens of an image.

Networks are classes of diffusers, as published; the sampling loop is that of
:mod:`~neurorecon.generators.latent_diffusion`, because the pipelines of diffusers count strength in steps, and those
with an IP-Adapter repeat its embeddings for each image of a batch, so that they are right for one image only. The
tests compare images with those of the pipelines, one at a time.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurorecon.errors import InputError
from neurorecon.generators.latent_diffusion import Denoise, LatentDiffusion, NetworkFiles
from neurorecon.models.load import (
    AutoencoderSettings,
    WeightsSource,
    load_transformers,
    noise_like,
    read_json,
    same_random_numbers,
    source,
    weights_in,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PromptedNetworks:
    """Loaded networks.

    Parameters
    ----------
    unet : UNet2DConditionModel
    autoencoder : Module
    empty : mapping of str to Tensor, shape (1, ...)
        Stands for each condition that is not given.
    nothing : mapping of str to Tensor, shape (1, ...)
        What guidance leads away from.
    dtype : torch.dtype
        Of the UNet.
    """

    unet: Any
    autoencoder: Any
    empty: Mapping[str, Tensor]
    nothing: Mapping[str, Tensor]
    dtype: Any


class ImagePromptDiffusion(LatentDiffusion):
    """Base class of diffusion with an image embedding as prompt.

    Attributes
    ----------
    role : str
        Of the weights of UNet, noise schedule and autoencoder, in the catalog.
    prompt_role : str
        Of the weights beside those: what takes the embedding, or made it.
    part : str
        Folder of the autoencoder.
    targets : dict of str to str
        The targets that are its conditions, by the name of the condition; systems decode them for `generator`.
    """

    role: ClassVar[str]
    prompt_role: ClassVar[str]
    part: ClassVar[str] = "vae"
    targets: ClassVar[Mapping[str, str]]
    prompts: ClassVar[tuple[str, ...]] = ("image",)
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {"strength": (0, 1), "eta": (0, 1), "guidance": (0, np.inf)}

    # -- what subclasses define --------------------------------------------------------------------------------------

    @abstractmethod
    def load(self) -> PromptedNetworks:
        """Load the networks, which nobody else holds."""

    @abstractmethod
    def predict(self, networks: PromptedNetworks, latents: Tensor, step: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Return what the UNet predicts, (image, channel, y, x), under one row of each condition for each image."""

    # -- what they share ----------------------------------------------------------------------------------------------

    @property
    def weights(self) -> tuple[WeightsSource, ...]:
        """The weights of both roles."""
        return source(self.role, self.models), source(self.prompt_role, self.models)

    @property
    def conditions(self) -> Mapping[str, tuple[int | None, ...]]:
        """Shapes of the conditions of one stimulus."""
        files = self._files
        return {"image": (files.image_width,), "init": (None, None, 3), "latents": files.latent_shape}

    @property
    def _files(self) -> NetworkFiles:
        found = source(self.role, self.models)
        return self._described(found, read_json(found.folder / "unet" / "config.json"), found)

    def _described(self, found: WeightsSource, unet: Mapping[str, Any], pipeline: WeightsSource) -> NetworkFiles:
        """Return what is known about a UNet, and about autoencoder and noise schedule in the folder of a pipeline."""
        autoencoder = read_json(pipeline.folder / self.part / "config.json")
        size = unet["sample_size"]
        height, across = (size, size) if isinstance(size, int) else size
        return NetworkFiles(
            dual=False,
            diffusion=found,
            base_sha256=(found.sha256,),
            autoencoder=AutoencoderSettings(
                replace(pipeline, folder=pipeline.folder / self.part), str(autoencoder["_class_name"]), autoencoder
            ),
            schedule=read_json(pipeline.folder / "scheduler" / "scheduler_config.json"),
            text_width=int(unet["cross_attention_dim"]),
            image_width=self._image_width(unet),
            latent_shape=(int(unet.get("in_channels", 4)), int(height), int(across)),
        )

    @abstractmethod
    def _image_width(self, unet: Mapping[str, Any]) -> int:
        """Return the number of values of an image embedding, without loading networks."""

    @property
    def loaded(self) -> Any:
        """The networks, which are shared between generators with the same weights, device and precision."""
        sha256 = tuple(found.sha256 for found in self.weights)
        kind: Any = type(self)
        return _shared_networks(kind, str(self.models), self.torch_device, self.dtype, sha256)

    def denoiser(self, conditions: Mapping[str, Tensor], images: int) -> Denoise:
        """Return the network with the conditions of a number of images; with guidance, it takes each image twice."""
        import torch

        networks = self.loaded
        guided = self.guidance != 1.0 and bool(conditions.keys() & self.prompts)
        given = {}
        for name, empty in networks.empty.items():
            own = conditions[name] if name in conditions else empty.expand(images, *empty.shape[1:])
            nothing = networks.nothing[name].expand(images, *empty.shape[1:])
            given[name] = (torch.cat([nothing, own]) if guided else own).to(networks.dtype)
        return lambda latents, step: self.predict(networks, latents.to(networks.dtype), step, given).float()

    def _ready(self, unet: Any) -> Any:
        """Return a UNet on the device, in the precision of this generator."""
        import torch

        unet = torch.nn.Module.to(unet, device=self.torch_device, dtype=getattr(torch, self.dtype))
        return unet.requires_grad_(False).eval()


@lru_cache(maxsize=1)
def _shared_networks(kind: Any, models: str, device: str, dtype: str, sha256: tuple[str, ...]) -> PromptedNetworks:
    """Load the networks of a class of generators, and keep the last ones; `sha256` tells changed weights apart."""
    import torch

    # Ordinary tensors also in inference mode: others need gradients.
    with torch.inference_mode(False), torch.no_grad(), same_random_numbers():
        networks: PromptedNetworks = kind(models, device=device, dtype=dtype).load()
        return networks


# -- IP-Adapter -------------------------------------------------------------------------------------------------------


class IPAdapter(ImagePromptDiffusion):
    """Generate images with Stable Diffusion 1.5 and its IP-Adapter, from an image embedding, a text, or both.

    Conditions of a stimulus, all of them optional:

    - ``image`` (channel,): the image embedding of the adapter's CLIP, ViT-H/14 (target ``ip_adapter_sd15``).
    - ``text`` (token, channel): hidden states of the text encoder, which the pipelines of diffusers call
      ``prompt_embeds`` (target ``clip_text_sd``: versions 1.4 and 1.5 have the same one). Without them, the text is
      the empty sentence.
    - ``init`` (y, x, rgb) or ``latents`` (channel, y, x): an image to start from, as in
      :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`.

    Parameters
    ----------
    models : "published" or path
        Which weights. A path holds the folders of the catalog, or folders named after the roles, with files as
        published.
    steps, guidance, strength, eta, scheduler
        As in :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`.
    image_scale : float
        Weight of the attention to the image; that of the attention to the text is 1. 0 ignores the image.
    device, dtype, batch_size
        As in :class:`~neurorecon.generators.base.Generator`. The autoencoder always computes in float32.

    References
    ----------
    Ye et al. (2023), arXiv 2308.06721 (IP-Adapter); Meng et al. (2022), arXiv 2108.01073 (starting from an image).
    """

    name: ClassVar[str] = "sd15-ip-adapter"
    role: ClassVar[str] = "sd15"
    prompt_role: ClassVar[str] = "ip-adapter-sd15"
    targets: ClassVar[Mapping[str, str]] = {"image": "ip_adapter_sd15", "text": "clip_text_sd"}
    prompts: ClassVar[tuple[str, ...]] = ("image", "text")
    ranges: ClassVar[Mapping[str, tuple[float, float]]] = {**ImagePromptDiffusion.ranges, "image_scale": (0, np.inf)}

    #: File of the adapter.
    file: ClassVar[str] = "ip-adapter_sd15.safetensors"

    def __init__(
        self,
        models: str | Path = "published",
        *,
        steps: int = 50,
        guidance: float = 7.5,
        strength: float = 0.75,
        eta: float = 0.0,
        image_scale: float = 1.0,
        scheduler: str = "DDIMScheduler",
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        self.models = models
        self.steps = steps
        self.guidance = guidance
        self.strength = strength
        self.eta = eta
        self.image_scale = image_scale
        self.scheduler = scheduler
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size

    @property
    def conditions(self) -> Mapping[str, tuple[int | None, ...]]:
        """Shapes of the conditions of one stimulus."""
        files = self._files
        encoder = read_json(files.diffusion.folder / "text_encoder" / "config.json")
        return {**super().conditions, "text": (int(encoder["max_position_embeddings"]), files.text_width)}

    def _image_width(self, unet: Mapping[str, Any]) -> int:
        shapes = self._adapter_shapes
        if _PROJECTION not in shapes:
            raise self._other_adapter(f"no tensor {_PROJECTION}")
        return shapes[_PROJECTION][1]

    @property
    def _adapter_file(self) -> Path:
        return source(self.prompt_role, self.models).folder / self.file

    @property
    def _adapter_shapes(self) -> dict[str, tuple[int, ...]]:
        from safetensors import safe_open

        with safe_open(self._adapter_file, framework="numpy") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    def load(self) -> PromptedNetworks:
        """Load the UNet with its adapter, the autoencoder, and the conditions of the empty sentence."""
        import torch

        from neurorecon.models.dual_guided import read_unet

        files = self._files
        unet = read_unet(files.diffusion.folder / "unet")
        self._add_adapter(unet)
        empty, nothing = self._no_text(files.diffusion)
        no_image = torch.zeros(1, files.image_width, device=self.torch_device)
        return PromptedNetworks(
            self._ready(unet),
            files.autoencoder.load(self.torch_device),
            {**empty, "image": no_image},
            {**nothing, "image": no_image},
            getattr(torch, self.dtype),
        )

    def _add_adapter(self, unet: Any) -> None:
        """Load the adapter into a UNet; its tensors have to be those that the UNet has places for."""
        from neurorecon.io.tensors import load_state

        found, width = self._adapter_shapes, unet.config.cross_attention_dim
        wanted = {
            _PROJECTION: (4 * width, self._image_width(unet.config)),
            "image_proj.proj.bias": (4 * width,),
            "image_proj.norm.weight": (width,),
            "image_proj.norm.bias": (width,),
        }
        crossing = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
        for number, name in enumerate(crossing):
            inner = unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            wanted |= {f"ip_adapter.{2 * number + 1}.to_{which}_ip.weight": (inner, width) for which in "kv"}
        wrong = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        if wrong:
            shape, expected = (shapes.get(wrong[0], "absent") for shapes in (found, wanted))
            raise self._other_adapter(f"{len(wrong)} tensors; {wrong[0]} is {shape}, expected {expected}")
        groups: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
        for name, tensor in load_state(self._adapter_file).items():
            group, _, rest = name.partition(".")
            groups[group][rest] = tensor.float()
        logger = logging.getLogger("diffusers.models.modeling_utils")
        level = logger.level
        logger.setLevel(logging.ERROR)  # it warns of modules to be kept in float32, and names none
        try:
            _adapted(unet).load_ip_adapter(groups, subfolder="", weight_name="", image_encoder_folder=None)
        finally:
            logger.setLevel(level)

    def _other_adapter(self, given: str) -> InputError:
        return InputError(
            "the IP-Adapter does not match the diffusion network",
            given=f"{self._adapter_file}: {given}",
            expected=f"the tensors of the published {self.file}",
            todo="take the adapter of this network; those with 'plus', 'full' or 'faceid' in their names take other "
            "conditions",
        )

    def _no_text(self, found: WeightsSource) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the conditions of the empty sentence, and what guidance leads away from."""
        tokens, encoder = self._text_encoder(found, "", "CLIPTextModel")
        empty = {"text": encoder(tokens).last_hidden_state}
        return empty, empty

    def _text_encoder(self, found: WeightsSource, suffix: str, kind: str) -> tuple[Tensor, Any]:
        """Return the tokens of the empty sentence and a text encoder."""
        from transformers.models.clip.tokenization_clip import CLIPTokenizer

        pairs = CLIPTokenizer.from_pretrained(str(found.folder / f"tokenizer{suffix}"), local_files_only=True)
        folder = found.folder / f"text_encoder{suffix}"
        encoder = load_transformers(replace(found, folder=folder), kind, self.torch_device)
        length = encoder.config.max_position_embeddings
        tokens = pairs([""], padding="max_length", max_length=length, return_tensors="pt")["input_ids"]
        return tokens.to(self.torch_device), encoder

    def predict(self, networks: PromptedNetworks, latents: Tensor, step: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Return what the UNet predicts, (image, channel, y, x)."""
        _adapted(networks.unet).set_ip_adapter_scale(self.image_scale)  # networks are shared, scales are not
        added = {"image_embeds": [given["image"][:, None]], **self._added(networks, latents, given)}
        predicted: Tensor = networks.unet(
            latents, step, encoder_hidden_states=given["text"], added_cond_kwargs=added, return_dict=False
        )[0]
        return predicted

    def _added(self, networks: PromptedNetworks, latents: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return further conditions of the UNet, by the names of diffusers."""
        return {}


class SdxlIPAdapter(IPAdapter):
    """Generate images with SDXL and its IP-Adapter, from an image embedding, a text, or both.

    Conditions and parameters are those of :class:`IPAdapter`, but

    - ``image`` (channel,) is the image embedding of OpenCLIP ViT-bigG/14 (target ``ip_adapter``),
    - ``text`` (token, channel) are the last hidden states but one of both text encoders, joined, and
    - ``pooled`` (channel,) is the text embedding of the second one (``pooled_prompt_embeds`` in diffusers).

    The network is told that images are neither scaled nor cropped.

    References
    ----------
    Podell et al. (2023), arXiv 2307.01952 (SDXL); Ye et al. (2023), arXiv 2308.06721 (IP-Adapter).
    """

    name: ClassVar[str] = "sdxl-ip-adapter"
    role: ClassVar[str] = "sdxl"
    prompt_role: ClassVar[str] = "ip-adapter-sdxl"
    targets: ClassVar[Mapping[str, str]] = {"image": "ip_adapter"}
    prompts: ClassVar[tuple[str, ...]] = ("image", "text", "pooled")
    file: ClassVar[str] = "ip-adapter_sdxl.safetensors"

    @property
    def conditions(self) -> Mapping[str, tuple[int | None, ...]]:
        """Shapes of the conditions of one stimulus."""
        second = read_json(self._files.diffusion.folder / "text_encoder_2" / "config.json")
        return {**super().conditions, "pooled": (int(second["projection_dim"]),)}

    def _no_text(self, found: WeightsSource) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the conditions of the empty sentence, and those of no text: zeros, as SDXL was trained."""
        import torch

        states = []
        for suffix, kind in (("", "CLIPTextModel"), ("_2", "CLIPTextModelWithProjection")):
            tokens, encoder = self._text_encoder(found, suffix, kind)
            output = encoder(tokens, output_hidden_states=True)
            states.append(output.hidden_states[-2])
        empty = {"text": torch.cat(states, dim=-1), "pooled": output.text_embeds}
        if read_json(found.folder / "model_index.json").get("force_zeros_for_empty_prompt", True):
            return empty, {name: torch.zeros_like(values) for name, values in empty.items()}
        return empty, empty

    def _added(self, networks: PromptedNetworks, latents: Tensor, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the text embedding, and the sizes of the original and the final image with a crop at 0, 0."""
        pixels = 2 ** (len(networks.autoencoder.config.block_out_channels) - 1)
        height, width = (pixels * side for side in latents.shape[-2:])
        sizes = latents.new_tensor([height, width, 0, 0, height, width])
        return {"text_embeds": given["pooled"], "time_ids": sizes.expand(len(latents), -1)}


#: The tensor of an IP-Adapter that turns an image embedding into four tokens.
_PROJECTION = "image_proj.proj.weight"


def _adapted(unet: Any) -> Any:
    """Return a UNet as those methods of diffusers want it that load an IP-Adapter and set its scale."""
    from diffusers.loaders import IPAdapterMixin

    holder = type("Adapted", (IPAdapterMixin,), {"unet_name": "unet"})()
    holder.unet = unet
    return holder


# -- Kandinsky 2.2 ----------------------------------------------------------------------------------------------------


class Kandinsky(ImagePromptDiffusion):
    """Generate images with the decoder of Kandinsky 2.2, from an image embedding.

    Conditions of a stimulus, all of them optional:

    - ``image`` (channel,): the image embedding of its CLIP, ViT-bigG/14 (target ``kandinsky_image``).
    - ``init`` (y, x, rgb): an image in [0, 1] to start from, of any size; or ``latents`` (channel, y, x): the same as
      encoded by its own autoencoder, before quantization (:meth:`encode`).

    Parameters
    ----------
    models : "published" or path
        Which weights. A path holds the folders of the catalog, or folders named after the roles, with files as
        published.
    steps, guidance, strength, eta, scheduler
        As in :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`. The default scheduler draws noise at
        each step, with the variance of the noise schedule; a variance that the network predicts is left out.
    device, dtype, batch_size
        As in :class:`~neurorecon.generators.base.Generator`. The autoencoder always computes in float32.

    References
    ----------
    Razzhigaev et al. (2023), arXiv 2310.03502; Zheng et al. (2022), arXiv 2209.09002 (MoVQ, the autoencoder).
    """

    name: ClassVar[str] = "kandinsky-2.2"
    role: ClassVar[str] = "kandinsky"
    prompt_role: ClassVar[str] = "kandinsky-encoder"
    part: ClassVar[str] = "movq"
    targets: ClassVar[Mapping[str, str]] = {"image": "kandinsky_image"}

    def __init__(
        self,
        models: str | Path = "published",
        *,
        steps: int = 50,
        guidance: float = 4.0,
        strength: float = 0.75,
        eta: float = 0.0,
        scheduler: str = "DDPMScheduler",
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        self.models = models
        self.steps = steps
        self.guidance = guidance
        self.strength = strength
        self.eta = eta
        self.scheduler = scheduler
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size

    @property
    def _files(self) -> NetworkFiles:
        found = super()._files
        # The published decoder was trained on latents without a factor, whatever the configuration says.
        autoencoder = replace(found.autoencoder, config={**found.autoencoder.config, "scaling_factor": 1.0})
        return replace(found, autoencoder=autoencoder, schedule={**found.schedule, "variance_type": "fixed_small"})

    def _image_width(self, unet: Mapping[str, Any]) -> int:
        return int(unet["encoder_hid_dim"])

    def load(self) -> PromptedNetworks:
        """Load the UNet, the autoencoder, and the embedding of no image: one of zeros, after normalization."""
        import torch

        from neurorecon.models.dual_guided import read_unet

        files = self._files
        encoder = load_transformers(self.weights[1], "CLIPVisionModelWithProjection", self.torch_device)
        size = encoder.config.image_size
        nothing = {"image": encoder(torch.zeros(1, 3, size, size, device=self.torch_device)).image_embeds}
        unet = self._ready(read_unet(files.diffusion.folder / "unet"))
        return PromptedNetworks(
            unet, files.autoencoder.load(self.torch_device), nothing, nothing, getattr(torch, self.dtype)
        )

    def predict(self, networks: PromptedNetworks, latents: Tensor, step: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Return the noise that the UNet predicts, (image, channel, y, x)."""
        predicted: Tensor = networks.unet(
            latents,
            step,
            encoder_hidden_states=None,
            added_cond_kwargs={"image_embeds": given["image"]},
            return_dict=False,
        )[0]
        return predicted[:, : latents.shape[1]]

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return the images of latents, (stimulus, rgb, y, x); differentiable outside of inference mode."""
        images: Tensor = self.loaded.autoencoder.decode(latents, force_not_quantize=True).sample
        return images / 2 + 0.5


# -- SDXL unCLIP ------------------------------------------------------------------------------------------------------

#: Configuration of the UNet of SDXL unCLIP: that of SDXL with wider contexts, and without the embedding of a text.
UNCLIP: dict[str, Any] = {
    "sample_size": 96,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (5, 10, 20),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 1664,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 1024,
}


class SdxlUnclip(ImagePromptDiffusion):
    """Generate images with SDXL unCLIP, the generator of MindEye2, from patch tokens.

    Conditions of a stimulus, all of them optional:

    - ``image`` (token, channel): the patch tokens of OpenCLIP ViT-bigG/14 (target ``clip_bigg``).
    - ``init`` (y, x, rgb) or ``latents`` (channel, y, x): an image to start from, as in
      :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`. MindEye2 starts from noise.

    The network never learned to go without tokens. As in the authors' code, guidance leads away from tokens that are
    normal noise; here they are the same for all images, so that images do not depend on their batch. Left out is what
    the authors' code does besides: noise with an offset of .04, and decoded images whose contrast is changed.

    Parameters
    ----------
    models : "published" or path
        Which weights: the authors' checkpoint, and SDXL, whose autoencoder and noise schedule it has. A path holds
        the folders of the catalog, or folders named after the roles. With a ``config.json`` beside the checkpoint,
        the UNet is the one of diffusers that it describes.
    steps, guidance, strength, eta, scheduler
        As in :class:`~neurorecon.generators.latent_diffusion.LatentDiffusion`; the authors take 38 steps.
    device, dtype, batch_size
        As in :class:`~neurorecon.generators.base.Generator`. The autoencoder always computes in float32.

    References
    ----------
    Scotti et al. (2024), arXiv 2403.11207 (MindEye2); Podell et al. (2023), arXiv 2307.01952 (SDXL).
    """

    name: ClassVar[str] = "sdxl-unclip"
    role: ClassVar[str] = "sdxl-unclip"
    prompt_role: ClassVar[str] = "sdxl"
    targets: ClassVar[Mapping[str, str]] = {"image": "clip_bigg"}

    def __init__(
        self,
        models: str | Path = "published",
        *,
        steps: int = 38,
        guidance: float = 5.0,
        strength: float = 0.75,
        eta: float = 0.0,
        scheduler: str = "DDIMScheduler",
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int | None = None,
    ) -> None:
        self.models = models
        self.steps = steps
        self.guidance = guidance
        self.strength = strength
        self.eta = eta
        self.scheduler = scheduler
        self.device = device
        self.dtype = dtype
        self.batch_size = batch_size

    @property
    def _files(self) -> NetworkFiles:
        found, sdxl = self.weights
        return self._described(found, self._config, sdxl)

    @property
    def _config(self) -> Mapping[str, Any]:
        path = self.weights[0].folder / "config.json"
        return read_json(path) if path.is_file() else UNCLIP

    @property
    def conditions(self) -> Mapping[str, tuple[int | None, ...]]:
        """Shapes of the conditions of one stimulus."""
        return {**super().conditions, "image": (_PATCHES, self._files.image_width)}

    def _image_width(self, unet: Mapping[str, Any]) -> int:
        return int(unet["cross_attention_dim"])

    def load(self) -> PromptedNetworks:
        """Load the UNet from the checkpoint, and the autoencoder of SDXL."""
        import torch
        from diffusers import UNet2DConditionModel

        from neurorecon.io.tensors import load_state
        from neurorecon.models.dual_guided import check_fit

        files, found = self._files, self.weights[0]
        with torch.device("meta"):  # do not initialize weights that are replaced at once
            unet = UNet2DConditionModel.from_config(dict(self._config))
        state = {name: tensor.float() for name, tensor in unclip_state(load_state(weights_in(found.folder))).items()}
        check_fit(unet.state_dict(), state, f"the UNet of {found.folder}")
        unet.load_state_dict(state, assign=True)
        tokens = noise_like((1, _PATCHES, files.image_width), 0, "no tokens")
        nothing = {"image": torch.from_numpy(tokens).to(self.torch_device)}
        return PromptedNetworks(
            self._ready(unet), files.autoencoder.load(self.torch_device), nothing, nothing, getattr(torch, self.dtype)
        )

    def predict(self, networks: PromptedNetworks, latents: Tensor, step: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        """Return the noise that the UNet predicts, (image, channel, y, x), for images that were not cropped."""
        pixels = 2 ** (len(networks.autoencoder.config.block_out_channels) - 1)
        sizes = latents.new_tensor([*(pixels * side for side in latents.shape[-2:]), 0, 0]).expand(len(latents), -1)
        added = {"text_embeds": latents.new_zeros(len(latents), 0), "time_ids": sizes}
        predicted: Tensor = networks.unet(
            latents, step, encoder_hidden_states=given["image"], added_cond_kwargs=added, return_dict=False
        )[0]
        return predicted


#: Number of patches that OpenCLIP ViT-bigG/14 sees.
_PATCHES = 256


def unclip_state(checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a UNet of SDXL's kind by the names of diffusers.

    Parameters
    ----------
    checkpoint : mapping of str to Tensor
        By the names of the authors' code (``sgm``); those that do not begin with ``model.diffusion_model.`` are left
        out. Three resolutions with two blocks each, transformers at the two lower ones.

    Returns
    -------
    dict of str to Tensor
    """
    found = {}
    for name, tensor in checkpoint.items():
        if not name.startswith("model.diffusion_model."):
            continue
        own = name.removeprefix("model.diffusion_model.")
        head, _, rest = own.partition("blocks.")
        if head in ("input_", "output_"):
            number, part, rest = rest.split(".", 2)
            level, block = divmod(int(number) - (head == "input_"), 3)
            place = f"{'down' if head == 'input_' else 'up'}_blocks.{level}"
            if number == "0" and head == "input_":
                own = f"conv_in.{rest}"
            elif rest.startswith("op."):
                own = f"{place}.downsamplers.0.conv.{rest.removeprefix('op.')}"
            elif rest.startswith("conv."):
                own = f"{place}.upsamplers.0.{rest}"
            else:
                own = f"{place}.{_KINDS[part]}.{block}.{rest}"
        elif own.startswith("middle_block."):
            _, part, rest = own.split(".", 2)
            own = f"mid_block.{_KINDS[str(int(part) % 2)]}.{int(part) // 2}.{rest}"
        elif own.startswith("out."):
            own = own.replace("out.0", "conv_norm_out").replace("out.2", "conv_out")
        for theirs, ours in _NAMES.items():
            own = own.replace(theirs, ours)
        found[own] = tensor
    return found


#: Parts of a block in the authors' code.
_KINDS = {"0": "resnets", "1": "attentions"}

#: Names of layers in the authors' code and in diffusers.
_NAMES = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
