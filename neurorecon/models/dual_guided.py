"""The dual-guided UNet: one denoiser that listens to a text and to an image at once (Versatile Diffusion's role).

A latent diffusion UNet alternates ResNets with transformers, and only the transformers see the condition. Here
each of them is a pair that shares the ResNets (see :mod:`neurorecon.models.dual_transformer`): the UNet is
text-conditioned, image-conditioned, or both in any proportion.

A training step for the image branch of a UNet that was trained on text; half of the samples see the image alone,
the others the mix of Brain-Diffuser::

    dual = DualGuidedUNet.from_text_unet(unet, image_width=128)
    dual.train_image_branch_only()
    optimizer = torch.optim.AdamW(dual.image_branch_parameters(), lr=1e-4)
    text_ratio = torch.where(torch.rand(batch) < 0.5, 0.0, 0.4)
    loss = (dual(noisy, timestep, text, image, text_ratio) - target).square().mean()

Where the ResNets are trained too, samples with a ratio of 1 keep the text branch in place. (With all but the image
branch frozen they have nothing to train.)
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from neurorecon.errors import InputError
from neurorecon.models.dual_guided_files import check_fit, read_config, read_unet, read_weights, write_weights
from neurorecon.models.dual_transformer import DualTransformer, guide
from neurorecon.models.zoo.files import load_state

Branch = Literal["text", "image"]

#: Name of the map of text contexts beside the weights of the image branch.
_ADAPTER = "text_adapter.weight"

#: Weights of a transformer whose shapes depend on the width of the context.
READS_THE_CONTEXT = ("attn2.to_k.weight", "attn2.to_v.weight")


class DualGuidedUNet(nn.Module):
    """Denoise latents under a text context, an image context, or any mix of the two.

    Parameters
    ----------
    unet : UNet2DConditionModel
        Gives the ResNets and the transformers of `branch`. Its modules are taken over, not copied: use the
        constructors :meth:`from_text_unet`, :meth:`from_published` and :meth:`load` rather than this one.
    others : mapping of str to Transformer2DModel
        Transformers of the other branch by their place in the UNet (``"mid_block.attentions.0"``).
    branch : {"text", "image"}
        Which context the transformers in `unet` listen to.

    Attributes
    ----------
    unet : UNet2DConditionModel
        diffusers' UNet with a :class:`DualTransformer` in every transformer's place. Attention processors and
        gradient checkpointing are set on it (``dual.unet.enable_gradient_checkpointing()``).
    text_width, image_width : int
        Channels of the two contexts.
    text_adapter : torch.nn.Linear or None
        Maps the text contexts that are given to those that the text transformers were trained with; see
        :meth:`adapt_text`.
    """

    def __init__(
        self, unet: UNet2DConditionModel, others: Mapping[str, Transformer2DModel], branch: Branch = "text"
    ) -> None:
        super().__init__()
        _check_plain(unet)
        own = _transformers(unet)
        if own.keys() != others.keys():
            raise InputError(
                "the two UNets have their transformers in different places",
                given=f"{', '.join(sorted(others))}",
                expected=f"{', '.join(sorted(own))}",
            )
        for place, transformer in own.items():
            image, text = (others[place], transformer) if branch == "text" else (transformer, others[place])
            _replace(unet, place, DualTransformer(image, text))
        self.unet = unet
        self.text_width = _context_width(self._branch("text"))
        self.image_width = _context_width(self._branch("image"))
        self.text_adapter: nn.Linear | None = None

    @classmethod
    def from_text_unet(
        cls,
        unet: UNet2DConditionModel,
        image_width: int | None = None,
        *,
        zero_output: bool = False,
        share: bool = False,
    ) -> DualGuidedUNet:
        """Add an untrained image branch to a text-conditioned UNet.

        The image transformers start as copies of the text transformers. Where the contexts differ in width, the
        projections of the context (keys and values) cannot be copied and are drawn at random (torch's global seed).

        Parameters
        ----------
        unet : UNet2DConditionModel
            The text-conditioned UNet; it stays usable.
        image_width : int, optional
            Channels of the image context; by default as many as of the text context.
        zero_output : bool
            Start the image transformers as the identity: their last projections are zero.
        share : bool
            Share the weights with `unet` rather than copy them: training, casting or moving one does so to both.

        Returns
        -------
        DualGuidedUNet
        """
        _check_plain(unet)
        own = _shared_copy(unet) if share else copy.deepcopy(unet)
        image = {
            place: _image_transformer(transformer, image_width, zero_output)
            for place, transformer in _transformers(own).items()
        }
        return cls(own, image, branch="text")

    @classmethod
    def from_published(cls, folder: str | Path) -> DualGuidedUNet:
        """Load Versatile Diffusion from a local copy of its diffusers folder (``shi-labs/versatile-diffusion``).

        `image_unet` gives ResNets and image transformers. Of `text_unet`, made for writing text, only the
        transformers are read: its other weights denoise text, not pictures.

        Parameters
        ----------
        folder : str or Path
            Holds ``image_unet/`` and ``text_unet/``, each with config.json and weights (safetensors, or .bin).

        Returns
        -------
        DualGuidedUNet
            In float32, in evaluation mode.
        """
        folder = Path(folder)
        unet = read_unet(folder / "image_unet")
        text_width = read_config(folder / "text_unet")["cross_attention_dim"]
        text = {place: _with_width(transformer, text_width) for place, transformer in _transformers(unet).items()}
        weights = read_weights(folder / "text_unet")
        dual = cls(unet, text, branch="image")
        dual._load_branch("text", {key: tensor for key, tensor in weights.items() if ".attentions." in key})
        return dual.eval()

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        text: Tensor | None = None,
        image: Tensor | None = None,
        text_ratio: float | Tensor | None = None,
    ) -> Tensor:
        """Predict what the UNet was trained to predict (noise, velocity or flow).

        Parameters
        ----------
        sample : Tensor, shape (batch, channel, y, x)
            Noisy latents.
        timestep : Tensor, shape (batch,) or (), or float
            Diffusion step.
        text, image : Tensor, shape (batch, token, channel), optional
            The contexts. One may be left out; numbers of tokens may differ.
        text_ratio : float or Tensor, shape (batch,), optional
            Share of the text in [0, 1]; 1 is the text-conditioned UNet, 0 the image-conditioned one, and neither
            computes the other branch. A tensor gives each sample its own ratio, and each branch is computed for
            the samples that listen to it only (keep the tensor on the CPU to spare a wait for the GPU). By
            default the context that is given, or .4 with both.

        Returns
        -------
        Tensor, shape (batch, channel, y, x)
        """
        guidance = guide(sample, text, image, text_ratio, widths=(self.text_width, self.image_width))
        if guidance.text is not None and self.text_adapter is not None:
            adapted = replace(guidance.text, context=self.text_adapter(guidance.text.context))
            guidance = replace(guidance, text=adapted)
        return self.unet(sample, timestep, guidance, return_dict=False)[0]

    def _branch(self, name: Branch) -> dict[str, Transformer2DModel]:
        return {place: getattr(module, name) for place, module in _duals(self.unet).items()}

    def _load_branch(self, name: Branch, state: Mapping[str, Tensor]) -> None:
        branch = self._branch(name)
        check_fit(_flat_state(branch), state, f"the {name} branch of this UNet")
        for place, module in branch.items():
            module.load_state_dict({key: state[f"{place}.{key}"] for key in module.state_dict()})

    def adapt_text(self, weight: Tensor) -> None:
        """Let the text branch listen to another description of texts that is a linear map away.

        Stable Diffusion is conditioned on the hidden states of CLIP's text tower, Versatile Diffusion on their
        projection into the space that CLIP shares with pictures. A text branch that was trained with the one takes
        the other through this map.

        Parameters
        ----------
        weight : Tensor, shape (channel, channel given)
            Both descriptions have `text_width` channels.
        """
        width = self.text_width
        if tuple(weight.shape) != (width, width):
            raise InputError(
                "the map of text contexts does not fit the text transformers",
                given=tuple(weight.shape),
                expected=(width, width),
            )
        own = next(self.parameters())
        adapter = nn.Linear(width, width, bias=False, device=own.device, dtype=own.dtype)
        with torch.no_grad():
            adapter.weight.copy_(weight)
        self.text_adapter = adapter.requires_grad_(False)

    def image_branch_state_dict(self) -> dict[str, Tensor]:
        """Weights of the image transformers alone, named as in a plain `UNet2DConditionModel`."""
        return _flat_state(self._branch("image"))

    def load_image_branch(self, state: Mapping[str, Tensor]) -> None:
        """Load what :meth:`image_branch_state_dict` gave; the weights take this network's precision and device."""
        self._load_branch("image", state)

    def image_branch_parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of the image transformers, for an optimizer."""
        for module in self._branch("image").values():
            yield from module.parameters()

    def train_image_branch_only(self) -> None:
        """Freeze all weights but those of the image transformers."""
        self.requires_grad_(False)
        for parameter in self.image_branch_parameters():
            parameter.requires_grad_(True)

    def plain_unet(self, branch: Branch) -> UNet2DConditionModel:
        """One branch as a plain diffusers UNet that shares its weights with this network."""
        unet = _shared_copy(self.unet)
        for place, dual in _duals(unet).items():
            _replace(unet, place, getattr(dual, branch))
        width = self.text_width if branch == "text" else self.image_width
        unet.register_to_config(cross_attention_dim=width)
        return unet

    def save(self, folder: str | Path, text_unet: str | None = None, dtype: torch.dtype | None = None) -> None:
        """Write the network as a text-conditioned UNet and, beside it, the image branch.

        Parameters
        ----------
        folder : str or Path
            Gets ``config.json`` and ``model.safetensors``.
        text_unet : str, optional
            Where the text-conditioned UNet already lies (a diffusers folder), relative to `folder`, so that it is
            not written twice (``"../text_unet"``). By default it is written to ``folder/text_unet``.
        dtype : torch.dtype, optional
            Precision of the image branch on disk, e.g. ``torch.float16``; by default as in memory.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if text_unet is None:
            text_unet = "text_unet"
            self.plain_unet("text").save_pretrained(str(folder / text_unet))
        state = self.image_branch_state_dict()
        if self.text_adapter is not None:
            state[_ADAPTER] = self.text_adapter.weight
        write_weights(folder / "model.safetensors", state, dtype)
        config = {"network": type(self).__name__, "text_unet": text_unet, "image_width": self.image_width}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path, text_unet: UNet2DConditionModel | None = None) -> DualGuidedUNet:
        """Read what :meth:`save` wrote.

        Parameters
        ----------
        folder : str or Path
            A folder that :meth:`save` wrote.
        text_unet : UNet2DConditionModel, optional
            The text-conditioned UNet if it is already in memory: weights are shared with it. By default it is read
            from where the folder's config says.

        Returns
        -------
        DualGuidedUNet
            In the precision of the text-conditioned UNet, in evaluation mode.
        """
        folder = Path(folder)
        config = read_config(folder)
        if config.get("network") != cls.__name__:
            raise InputError("this is no folder of a dual-guided UNet", given=folder, expected="one that save() wrote")
        if text_unet is None:
            text_unet = read_unet((folder / config["text_unet"]).resolve())
        dual = cls.from_text_unet(text_unet, config["image_width"], share=True)
        state = dict(load_state(folder / "model.safetensors"))
        adapter = state.pop(_ADAPTER, None)
        dual.load_image_branch(state)
        if adapter is not None:
            dual.adapt_text(adapter)
        return dual.eval()


def _transformers(unet: nn.Module) -> dict[str, Transformer2DModel]:
    return {place: module for place, module in unet.named_modules() if isinstance(module, Transformer2DModel)}


def _duals(unet: nn.Module) -> dict[str, DualTransformer]:
    return {place: module for place, module in unet.named_modules() if isinstance(module, DualTransformer)}


def _replace(unet: nn.Module, place: str, module: nn.Module) -> None:
    parent, _, name = place.rpartition(".")
    setattr(unet.get_submodule(parent), name, module)


def _flat_state(branch: Mapping[str, Transformer2DModel]) -> dict[str, Tensor]:
    return {f"{place}.{key}": tensor for place, module in branch.items() for key, tensor in module.state_dict().items()}


def _shared_copy(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The same modules once more, over the same weights."""
    tensors = [*unet.parameters(), *unet.buffers()]
    return copy.deepcopy(unet, {id(tensor): tensor for tensor in tensors})


def _with_width(transformer: Transformer2DModel, width: int) -> Transformer2DModel:
    """A transformer of the same shape for contexts of another width, with weights of its own."""
    if transformer.config["cross_attention_dim"] == width:
        return copy.deepcopy(transformer)
    # Not `from_config`: it takes arguments that diffusers' blocks gave by position, the heads, for defaults.
    config = {name: value for name, value in transformer.config.items() if not name.startswith("_")}
    wider = Transformer2DModel(**{**config, "cross_attention_dim": width})
    # torch's own `to`: diffusers' warns about layers to be kept in float32, and there are none.
    nn.Module.to(wider, device=transformer.device, dtype=transformer.dtype)
    new = {key: tensor for key, tensor in wider.state_dict().items() if key.endswith(READS_THE_CONTEXT)}
    wider.load_state_dict({**transformer.state_dict(), **new})
    return wider


def _image_transformer(transformer: Transformer2DModel, width: int | None, zero_output: bool) -> Transformer2DModel:
    image = _with_width(transformer, transformer.config["cross_attention_dim"] if width is None else width)
    if zero_output:
        nn.init.zeros_(image.proj_out.weight)
        nn.init.zeros_(image.proj_out.bias)
    return image


def _context_width(branch: Mapping[str, Transformer2DModel]) -> int:
    widths = {module.config["cross_attention_dim"] for module in branch.values()}
    if len(widths) != 1:
        raise InputError(
            "the transformers of this UNet expect contexts of different widths",
            given=f"cross_attention_dim {sorted(widths, key=str)}",
            expected="one width",
        )
    return int(widths.pop())


def _check_plain(unet: UNet2DConditionModel) -> None:
    """Refuse UNets that read the condition in other places than their transformers."""
    if not isinstance(unet, UNet2DConditionModel):
        raise InputError("this is no UNet2DConditionModel of diffusers", given=type(unet).__name__)
    needs = {
        "encoder_hid_dim_type": None,
        "addition_embed_type": None,
        "dual_cross_attention": False,
    }
    other = {name: unet.config[name] for name, plain in needs.items() if unet.config[name] != plain}
    if other or _duals(unet) or not _transformers(unet):
        raise InputError(
            "this UNet reads its condition in other places than in plain transformers",
            given=", ".join(f"{name}={value!r}" for name, value in other.items()) or "no plain transformers",
            expected="blocks with cross-attention, as in Stable Diffusion v1 and Versatile Diffusion",
        )
