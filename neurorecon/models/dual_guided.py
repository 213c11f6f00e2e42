"""The dual-guided diffusion UNet of Versatile Diffusion, conditioned on text and image at once.

A latent diffusion UNet alternates ResNets with transformers, and only the transformers see the condition. Here each
transformer is replaced by a pair, one for text and one for images, while the ResNets are shared, so the UNet is
text-conditioned, image-conditioned, or both in any proportion. The two transformers of a pair get the same features x,
and their outputs are averaged,

    r * text_transformer(x) + (1 - r) * image_transformer(x),

which equals x + r * (text_transformer(x) - x) + (1 - r) * (image_transformer(x) - x), the mixture of changes in
Versatile Diffusion (arXiv 2211.08332), where r is the text ratio. diffusers has such a module, but its own UNet cannot
call it as of 0.42 (the module does not accept the keyword `encoder_attention_mask`).

A training step for the image branch of a UNet that was trained on text, where half of the samples see only the image
and the others the mixture of Brain-Diffuser::

    dual = DualGuidedUNet.from_text_unet(unet, image_width=128)
    dual.train_image_branch_only()
    optimizer = torch.optim.AdamW(dual.image_branch_parameters(), lr=1e-4)
    text_ratio = torch.where(torch.rand(batch) < 0.5, 0.0, 0.4)
    loss = (dual(noisy, timestep, text, image, text_ratio) - target).square().mean()

If the ResNets are trained too, include samples with a ratio of 1 to preserve the text branch. (If only the image branch
is trained, such samples have no effect.)
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.tensors import load_state

Network = TypeVar("Network", bound=nn.Module)

#: Default text ratio with both contexts: Brain-Diffuser's .4 text, .6 vision (arXiv 2303.05334).
TEXT_RATIO = 0.4


@dataclass(frozen=True)
class Listeners:
    """The samples of a batch that are conditioned on one of the two contexts.

    Parameters
    ----------
    context : Tensor, shape (batch, token, channel)
        The context.
    weight : float or Tensor, shape (batch,)
        Weight of the context, from 0 to 1.
    rows : Tensor of int, shape (listener,), optional
        Indices of the samples; by default all.
    """

    context: Tensor
    weight: float | Tensor
    rows: Tensor | None = None


@dataclass(frozen=True)
class Guidance:
    """The conditioning of one forward pass.

    It is passed through diffusers' UNet in place of the tensor `encoder_hidden_states`, so that the network keeps no
    state between calls.

    Parameters
    ----------
    text, image : Listeners or None
        None if no sample is conditioned on that context. At least one is given.
    """

    text: Listeners | None
    image: Listeners | None


class DualTransformer(nn.Module):
    """A text and an image transformer that replace one `Transformer2DModel` of diffusers.

    Parameters
    ----------
    image, text : Transformer2DModel
        Transformers for the two contexts, with the same numbers of input and output channels.
    """

    def __init__(self, image: Transformer2DModel, text: Transformer2DModel) -> None:
        super().__init__()
        self.image = image
        self.text = text

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Guidance,
        timestep: Tensor | None = None,
        added_cond_kwargs: dict[str, Tensor] | None = None,
        class_labels: Tensor | None = None,
        cross_attention_kwargs: dict[str, Any] | None = None,
        attention_mask: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """Average the outputs of the two transformers, skipping a transformer that no sample uses.

        Parameters
        ----------
        hidden_states : Tensor, shape (batch, channel, y, x)
            Features from the preceding ResNet.
        encoder_hidden_states : Guidance
            Contexts and weights; diffusers' blocks determine the name of the parameter.
        timestep, added_cond_kwargs, class_labels, cross_attention_kwargs
            Passed on to both transformers.
        attention_mask, encoder_attention_mask : None
            Accepted because diffusers' blocks pass them, but not supported: one mask cannot apply to both contexts.
        return_dict : bool
            As in diffusers: return a `Transformer2DModelOutput`, or a tuple of one tensor.

        Returns
        -------
        Transformer2DModelOutput or tuple of Tensor, shape (batch, channel, y, x)

        Raises
        ------
        InputError
            If a mask is given.
        """
        if attention_mask is not None or encoder_attention_mask is not None:
            raise InputError(
                "the dual-guided UNet does not support attention masks",
                todo="remove the masked tokens from the context",
            )
        options = {
            "timestep": timestep,
            "added_cond_kwargs": added_cond_kwargs,
            "class_labels": class_labels,
            "cross_attention_kwargs": cross_attention_kwargs,
            "return_dict": False,
        }
        guidance = encoder_hidden_states
        pairs = ((self.text, guidance.text), (self.image, guidance.image))
        outputs = [_listen(network, hidden_states, by, options) for network, by in pairs if by is not None]
        mixed = outputs[0] if len(outputs) == 1 else outputs[0] + outputs[1]
        return Transformer2DModelOutput(sample=mixed) if return_dict else (mixed,)


def _listen(transformer: nn.Module, x: Tensor, listeners: Listeners, options: dict[str, Any]) -> Tensor:
    """Return the weighted output of a transformer for the samples conditioned on its context, zeros for the others."""
    weight, rows = listeners.weight, listeners.rows
    if rows is None:
        output = transformer(x, listeners.context, **options)[0]
        return output * _over_pixels(weight, output)
    output = transformer(x[rows], listeners.context[rows], **options)[0]
    output = output * _over_pixels(weight[rows] if isinstance(weight, Tensor) else weight, output)
    return output.new_zeros((len(x), *output.shape[1:])).index_copy(0, rows, output)


def _over_pixels(weight: float | Tensor, output: Tensor) -> float | Tensor:
    return weight.to(output.dtype).view(-1, 1, 1, 1) if isinstance(weight, Tensor) else weight


def guide(
    sample: Tensor,
    text: Tensor | None,
    image: Tensor | None,
    text_ratio: float | Tensor | None,
    widths: tuple[int, int],
) -> Guidance:
    """Check the contexts and the ratio, and determine the conditioning of each sample.

    Parameters
    ----------
    sample : Tensor, shape (batch, channel, y, x)
        The noisy latents.
    text, image : Tensor, shape (batch, token, channel), optional
        The contexts.
    text_ratio : float or Tensor, shape (batch,), optional
        Weight of the text; by default 1 or 0 if only one context is given, :data:`TEXT_RATIO` if both are.
    widths : tuple of int
        Numbers of channels that the text and the image transformers expect.

    Returns
    -------
    Guidance

    Raises
    ------
    InputError
        If a context is missing or has the wrong shape, or a ratio is not in [0, 1].
    """
    if text is None and image is None:
        raise InputError("the dual-guided UNet needs a context", given="none", expected="text, image or both")
    _check_context("text", text, len(sample), widths[0])
    _check_context("image", image, len(sample), widths[1])
    if text_ratio is None:
        text_ratio = TEXT_RATIO if text is not None and image is not None else float(text is not None)
    ratio = _check_ratio(text_ratio, len(sample))
    return Guidance(
        text=_listeners("text", text, ratio, sample.device),
        image=_listeners("image", image, 1 - ratio, sample.device),
    )


def _check_context(name: str, context: Tensor | None, batch: int, width: int) -> None:
    if context is not None and (context.ndim != 3 or context.shape[0] != batch or context.shape[2] != width):
        raise InputError(
            f"the {name} context has the wrong shape",
            given=f"shape {tuple(context.shape)}",
            expected=f"({batch}, token, {width}): (batch, token, channel)",
        )


def _check_ratio(ratio: float | Tensor, batch: int) -> float | Tensor:
    if isinstance(ratio, Tensor):
        if ratio.shape not in ((), (batch,)):
            raise InputError(
                "text_ratio has the wrong shape",
                given=f"shape {tuple(ratio.shape)}",
                expected=f"one number, or one for each sample: ({batch},)",
            )
        ratio = ratio if ratio.is_floating_point() else ratio.float()  # `1 - ratio` fails for booleans
        inside = bool(((ratio >= 0) & (ratio <= 1)).all())
        given: object = ratio.tolist()
    else:
        inside, given = 0 <= ratio <= 1, ratio
    if not inside:
        raise InputError("text_ratio is out of range", given=given, expected="from 0 (image only) to 1 (text only)")
    return ratio.expand(batch) if isinstance(ratio, Tensor) else float(ratio)


def _listeners(name: str, context: Tensor | None, weight: float | Tensor, device: torch.device) -> Listeners | None:
    """Find the samples that use a context, once for all transformers, because each lookup synchronizes with the GPU."""
    rows = None
    if isinstance(weight, Tensor):
        rows = weight.detach().nonzero()[:, 0]
        nobody, rows = len(rows) == 0, rows.to(device) if len(rows) < len(weight) else None
        weight = weight.to(device)
    else:
        nobody = weight == 0
    if nobody:
        return None
    if context is None:
        raise InputError(
            f"text_ratio requires the {name} context, but none was given",
            expected=f"{name}= of shape (batch, token, channel), or text_ratio={int(name == 'image')}",
        )
    return Listeners(context, weight, rows)


Branch = Literal["text", "image"]

#: Name of the text adapter's weight in the file of the image branch.
_ADAPTER = "text_adapter.weight"

#: Weights of a transformer whose shape depends on the width of the context.
READS_THE_CONTEXT = ("attn2.to_k.weight", "attn2.to_v.weight")


class DualGuidedUNet(nn.Module):
    """Denoise latents conditioned on a text context, an image context, or a mixture of the two.

    Use the constructors :meth:`from_text_unet`, :meth:`from_published` and :meth:`load` rather than this class.

    Parameters
    ----------
    unet : UNet2DConditionModel
        Provides the ResNets and the transformers of `branch`. Its modules are modified in place, not copied.
    others : mapping of str to Transformer2DModel
        Transformers of the other branch, by their name in the UNet (``"mid_block.attentions.0"``).
    branch : {"text", "image"}
        Context of the transformers in `unet`.

    Attributes
    ----------
    unet : UNet2DConditionModel
        diffusers' UNet with every transformer replaced by a :class:`DualTransformer`. Set attention processors and
        gradient checkpointing on it (``dual.unet.enable_gradient_checkpointing()``).
    text_width, image_width : int
        Numbers of channels of the two contexts.
    text_adapter : torch.nn.Linear or None
        Maps text contexts to those with which the text transformers were trained; see :meth:`adapt_text`.

    Raises
    ------
    InputError
        If the two branches do not match, or the UNet is not a plain `UNet2DConditionModel`.
    """

    def __init__(
        self, unet: UNet2DConditionModel, others: Mapping[str, Transformer2DModel], branch: Branch = "text"
    ) -> None:
        super().__init__()
        _check_plain(unet)
        own = _transformers(unet)
        if own.keys() != others.keys():
            raise InputError(
                "the transformers of the two UNets do not match",
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

        The image transformers start as copies of the text transformers. If the contexts differ in width, the
        projections of the context (keys and values) cannot be copied and are initialized at random (with torch's
        global generator).

        Parameters
        ----------
        unet : UNet2DConditionModel
            The text-conditioned UNet; it remains usable.
        image_width : int, optional
            Number of channels of the image context; by default that of the text context.
        zero_output : bool
            Initialize the image transformers as the identity, with their last projections set to zero.
        share : bool
            Share the weights with `unet` instead of copying them: training, casting or moving one affects both.

        Returns
        -------
        DualGuidedUNet
        """
        _check_plain(unet)
        own = shared_copy(unet) if share else copy.deepcopy(unet)
        image = {
            place: _image_transformer(transformer, image_width, zero_output)
            for place, transformer in _transformers(own).items()
        }
        return cls(own, image, branch="text")

    @classmethod
    def from_published(cls, folder: str | Path) -> DualGuidedUNet:
        """Load Versatile Diffusion from a local copy of its diffusers folder (``shi-labs/versatile-diffusion``).

        `image_unet` provides the ResNets and the image transformers. From `text_unet`, which generates text, only the
        transformers are read; its other weights denoise text, not images.

        Parameters
        ----------
        folder : str or Path
            Contains ``image_unet/`` and ``text_unet/``, each with config.json and weights (safetensors or .bin).

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
        """Predict the training target of the UNet (noise, velocity or flow).

        Parameters
        ----------
        sample : Tensor, shape (batch, channel, y, x)
            Noisy latents.
        timestep : Tensor, shape (batch,) or (), or float
            Diffusion step.
        text, image : Tensor, shape (batch, token, channel), optional
            The contexts, at least one. They may differ in the number of tokens.
        text_ratio : float or Tensor, shape (batch,), optional
            Weight of the text in [0, 1]: 1 is the text-conditioned UNet and 0 the image-conditioned one, without
            computing the other branch. A tensor gives each sample its own ratio, and each branch is computed only for
            the samples that use it (keep the tensor on the CPU to avoid a GPU synchronization). By default 1 or 0 if
            only one context is given, 0.4 if both are.

        Returns
        -------
        Tensor, shape (batch, channel, y, x)

        Raises
        ------
        InputError
            If a context is missing or has the wrong shape, or a ratio is not in [0, 1].
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
        """Map text contexts linearly to those with which the text branch was trained.

        Stable Diffusion is conditioned on the hidden states of CLIP's text tower, Versatile Diffusion on their
        projection into the joint embedding space. With this map, a text branch that was trained on one accepts the
        other.

        Parameters
        ----------
        weight : Tensor, shape (channel, channel given)
            Both have `text_width` channels.

        Raises
        ------
        InputError
            If the shape does not match.
        """
        width = self.text_width
        if tuple(weight.shape) != (width, width):
            raise InputError(
                "the shape of the text adapter does not match the text transformers",
                given=tuple(weight.shape),
                expected=(width, width),
            )
        own = next(self.parameters())
        adapter = nn.Linear(width, width, bias=False, device=own.device, dtype=own.dtype)
        with torch.no_grad():
            adapter.weight.copy_(weight)
        self.text_adapter = adapter.requires_grad_(False)

    def image_branch_state_dict(self) -> dict[str, Tensor]:
        """Return the weights of the image transformers only, named as in a plain `UNet2DConditionModel`."""
        return _flat_state(self._branch("image"))

    def load_image_branch(self, state: Mapping[str, Tensor]) -> None:
        """Load the output of :meth:`image_branch_state_dict`, converted to the dtype and device of this network."""
        self._load_branch("image", state)

    def image_branch_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of the image transformers, for an optimizer."""
        for module in self._branch("image").values():
            yield from module.parameters()

    def train_image_branch_only(self) -> None:
        """Freeze all weights except those of the image transformers."""
        self.requires_grad_(False)
        for parameter in self.image_branch_parameters():
            parameter.requires_grad_(True)

    def plain_unet(self, branch: Branch) -> UNet2DConditionModel:
        """Return one branch as a plain diffusers UNet that shares its weights with this network."""
        unet = shared_copy(self.unet)
        for place, dual in _duals(unet).items():
            _replace(unet, place, getattr(dual, branch))
        width = self.text_width if branch == "text" else self.image_width
        unet.register_to_config(cross_attention_dim=width)
        return unet

    def save(self, folder: str | Path, text_unet: str | None = None, dtype: torch.dtype | None = None) -> None:
        """Save the network as a text-conditioned UNet plus the image branch.

        Parameters
        ----------
        folder : str or Path
            Destination of ``config.json`` and ``model.safetensors``.
        text_unet : str, optional
            Path of an existing diffusers folder with the text-conditioned UNet, relative to `folder`
            (``"../text_unet"``), so that it is not written again. By default it is written to ``folder/text_unet``.
        dtype : torch.dtype, optional
            Dtype of the image branch on disk, e.g. ``torch.float16``; by default that in memory.
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
        """Load a network written by :meth:`save`.

        Parameters
        ----------
        folder : str or Path
            A folder written by :meth:`save`.
        text_unet : UNet2DConditionModel, optional
            The text-conditioned UNet if it is already in memory; its weights are shared. By default it is read from
            the folder named in ``config.json``.

        Returns
        -------
        DualGuidedUNet
            In the dtype of the text-conditioned UNet, in evaluation mode.

        Raises
        ------
        MissingFileError
            If ``config.json`` or the weights are missing.
        InputError
            If the folder does not contain a dual-guided UNet.
        """
        folder = Path(folder)
        config = read_config(folder)
        if config.get("network") != cls.__name__:
            raise InputError(
                "the folder does not contain a dual-guided UNet", given=folder, expected="a folder written by save()"
            )
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


def shared_copy(network: Network) -> Network:
    """Copy the modules but share their weights."""
    tensors = [*network.parameters(), *network.buffers()]
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})


def _with_width(transformer: Transformer2DModel, width: int) -> Transformer2DModel:
    """Copy a transformer for contexts of another width."""
    if transformer.config["cross_attention_dim"] == width:
        return copy.deepcopy(transformer)
    # Not `from_config`: it replaces arguments that diffusers' blocks pass by position (the heads) with defaults.
    config = {name: value for name, value in transformer.config.items() if not name.startswith("_")}
    wider = Transformer2DModel(**{**config, "cross_attention_dim": width})
    # torch's own `to`: that of diffusers warns about layers to keep in float32, and there are none.
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
            "the transformers of the UNet expect contexts of different widths",
            given=f"cross_attention_dim {sorted(widths, key=str)}",
            expected="one width",
        )
    return int(widths.pop())


def _check_plain(unet: UNet2DConditionModel) -> None:
    """Check that only the transformers of a UNet read the condition."""
    if not isinstance(unet, UNet2DConditionModel):
        raise InputError("the UNet is not a UNet2DConditionModel of diffusers", given=type(unet).__name__)
    needs = {
        "encoder_hid_dim_type": None,
        "addition_embed_type": None,
        "dual_cross_attention": False,
    }
    other = {name: unet.config[name] for name, plain in needs.items() if unet.config[name] != plain}
    if other or _duals(unet) or not _transformers(unet):
        raise InputError(
            "the UNet does not read its condition in plain transformers only",
            given=", ".join(f"{name}={value!r}" for name, value in other.items()) or "no plain transformers",
            expected="blocks with cross-attention, as in Stable Diffusion v1 and Versatile Diffusion",
        )


#: Names of weight files in a diffusers folder, safest first; large networks are split into several safetensors files.
WEIGHT_NAMES = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model-*-of-*.safetensors",
    "diffusion_pytorch_model.bin",
)


def read_unet(folder: Path) -> UNet2DConditionModel:
    """Load a UNet from a local diffusers folder.

    Parameters
    ----------
    folder : Path
        Contains config.json and weights of any dtype.

    Returns
    -------
    UNet2DConditionModel
        In float32, in evaluation mode.

    Raises
    ------
    MissingFileError
        If ``config.json`` or the weights are missing.
    InputError
        If the weights do not match the configuration.
    """
    config = read_config(folder)
    with torch.device("meta"):  # do not initialize weights that are replaced at once
        unet = UNet2DConditionModel.from_config(config)
    state = {key: tensor.float() for key, tensor in read_weights(folder).items()}
    check_fit(unet.state_dict(), state, f"the UNet of {folder}")
    unet.load_state_dict(state, assign=True)
    return unet.eval()


def read_config(folder: Path) -> dict[str, Any]:
    """Read the config.json of a folder."""
    if not (folder / "config.json").is_file():
        raise MissingFileError("the folder contains no network", given=folder, expected="config.json and weights")
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read the weights of a diffusers folder, without creating the network."""
    for name in WEIGHT_NAMES:
        files = sorted(folder.glob(name))
        if files:
            return {key: tensor for file in files for key, tensor in load_state(file).items()}
    raise MissingFileError(
        "the diffusers folder contains no weights", given=folder, expected=f"one of: {', '.join(WEIGHT_NAMES)}"
    )


def write_weights(file: Path, state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Write weights as safetensors, optionally in another dtype."""
    save_file({key: tensor.detach().to("cpu", dtype).contiguous() for key, tensor in state.items()}, file)


def check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], what: str) -> None:
    """Check that weights match a network.

    Parameters
    ----------
    own : mapping of str to Tensor
        The network's weights; only names and shapes matter.
    state : mapping of str to Tensor
        The weights to load.
    what : str
        Name of the network, for the message.

    Raises
    ------
    InputError
        If a tensor is missing, unknown or of another shape.
    """
    for problem, names in (
        ("missing", sorted(own.keys() - state.keys())),
        ("unknown", sorted(state.keys() - own.keys())),
        ("of another shape", [key for key in own if key in state and own[key].shape != state[key].shape]),
    ):
        if names:
            raise InputError(
                f"the weights do not match {what}",
                given=f"{len(names)} tensors {problem}; the first is {names[0]}",
                expected=f"{len(own)} tensors, among them {next(iter(own))} {tuple(next(iter(own.values())).shape)}",
            )
