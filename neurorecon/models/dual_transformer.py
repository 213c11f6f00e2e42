"""A text and an image transformer in one: the part of the dual-guided UNet that sees the contexts.

Both transformers get the same features x, and their outputs are averaged,

    r * text_transformer(x) + (1 - r) * image_transformer(x),

which is x + r * (text_transformer(x) - x) + (1 - r) * (image_transformer(x) - x), the mixture of changes that
Versatile Diffusion describes (arXiv 2211.08332), with r the share of the text. diffusers has a module for it,
which its own UNet cannot call as of 0.42 (it refuses the keyword `encoder_attention_mask`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from neurorecon.errors import InputError

#: Share of the text where both contexts are given: Brain-Diffuser's .4 text, .6 vision (arXiv 2303.05334).
TEXT_RATIO = 0.4


@dataclass(frozen=True)
class Listeners:
    """The samples of a batch that listen to one of the two contexts.

    Parameters
    ----------
    context : Tensor, shape (batch, token, channel)
        What they listen to.
    weight : float or Tensor, shape (batch,)
        How much, above 0 and at most 1.
    rows : Tensor of int, shape (listener,), optional
        Which samples; by default all.
    """

    context: Tensor
    weight: float | Tensor
    rows: Tensor | None = None


@dataclass(frozen=True)
class Guidance:
    """Who listens to what in one forward pass.

    Travels through diffusers' UNet in place of the tensor `encoder_hidden_states`, so that the network itself
    keeps no state between calls.

    Parameters
    ----------
    text, image : Listeners, optional
        None where no sample listens to that context; not both.
    """

    text: Listeners | None
    image: Listeners | None


class DualTransformer(nn.Module):
    """A text and an image transformer in the place of one of diffusers' `Transformer2DModel`.

    Parameters
    ----------
    image, text : Transformer2DModel
        Networks for the two contexts; same channels in and out.
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
        """Average the two transformers' outputs; a transformer that nobody listens to is not computed.

        Parameters
        ----------
        hidden_states : Tensor, shape (batch, channel, y, x)
            Features from the ResNet before.
        encoder_hidden_states : Guidance
            Contexts and ratio, under the name that diffusers' blocks use.
        timestep, added_cond_kwargs, class_labels, cross_attention_kwargs
            Handed to both transformers as they are.
        attention_mask, encoder_attention_mask : None
            Accepted because diffusers' blocks pass them; masks are refused, as one mask cannot fit both contexts.
        return_dict : bool
            As in diffusers: a `Transformer2DModelOutput`, or a tuple of one tensor.

        Returns
        -------
        Transformer2DModelOutput or tuple of Tensor, shape (batch, channel, y, x)
        """
        if attention_mask is not None or encoder_attention_mask is not None:
            raise InputError(
                "the dual-guided UNet takes no attention masks",
                todo="leave the tokens to be ignored out of the context",
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
    """Weighted output of a transformer for the samples that listen to its context, zeros for the others."""
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
    """Check the contexts and the ratio, and find out who listens to what.

    Parameters
    ----------
    sample : Tensor, shape (batch, channel, y, x)
        The latents to be denoised.
    text, image : Tensor, shape (batch, token, channel), optional
        The contexts.
    text_ratio : float or Tensor, shape (batch,), optional
        Share of the text; by default the context that is given, or :data:`TEXT_RATIO` with both.
    widths : tuple of int
        Channels of text and image that the transformers expect.

    Returns
    -------
    Guidance

    Raises
    ------
    InputError
        A context is missing or has the wrong shape, or a ratio is not in [0, 1].
    """
    if text is None and image is None:
        raise InputError("the dual-guided UNet was given no context", expected="text, image or both")
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
        ratio = ratio if ratio.is_floating_point() else ratio.float()  # `1 - ratio` refuses booleans
        inside = bool(((ratio >= 0) & (ratio <= 1)).all())
        given: object = ratio.tolist()
    else:
        inside, given = 0 <= ratio <= 1, ratio
    if not inside:
        raise InputError(
            "text_ratio is the share of the text", given=given, expected="from 0 (image only) to 1 (text only)"
        )
    return ratio.expand(batch) if isinstance(ratio, Tensor) else float(ratio)


def _listeners(name: str, context: Tensor | None, weight: float | Tensor, device: torch.device) -> Listeners | None:
    """Find who listens to a context, once for all transformers: on a GPU each such look waits for it."""
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
            f"samples listen to the {name}, but no {name} context was given",
            expected=f"{name}= of shape (batch, token, channel), or text_ratio={int(name == 'image')}",
        )
    return Listeners(context, weight, rows)
