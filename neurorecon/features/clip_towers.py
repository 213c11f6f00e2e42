"""What comes out of the inside of CLIP's vision tower. Gradients pass, so reconstructions can be guided by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from torch import Tensor, nn

from neurorecon.errors import InputError

#: What is taken of a block: its output, or what its MLP adds to it.
Part = Literal["block", "mlp"]


def vision_tokens(clip: Any, images: Tensor) -> Tensor:
    """Return all vision tokens in the space that CLIP shares with text.

    Parameters
    ----------
    clip : open_clip.model.CLIP
    images : Tensor, shape (picture, rgb, y, x)
        Normalized.

    Returns
    -------
    Tensor, shape (picture, token, channel)
        The first token is the image embedding.
    """
    visual = clip.visual
    if getattr(visual, "proj", None) is None or getattr(visual, "attn_pool", None) is not None:
        raise _no_vision_transformer("a projection of the tokens, and no attentional pooling")
    with outputs_of([visual.ln_post]) as found:
        visual(images)
    if found[0].ndim != 3:
        raise _no_vision_transformer("a layer norm over all tokens (final_ln_after_pool is false)")
    return found[0] @ visual.proj


def block_outputs(clip: Any, images: Tensor, blocks: int, part: Part = "block") -> tuple[list[Tensor], Tensor]:
    """Return the outputs of the first blocks of the vision tower, and the image embedding.

    Parameters
    ----------
    clip : open_clip.model.CLIP
    images : Tensor, shape (picture, rgb, y, x)
        Normalized.
    blocks : int
        How many; fewer where the network has fewer.
    part : {"block", "mlp"}
        The output of each block, or what its MLP adds to the residual stream.

    Returns
    -------
    outputs : list of Tensor, each of shape (picture, token, channel)
    embedding : Tensor, shape (picture, channel)
    """
    transformer = getattr(clip.visual, "transformer", None)
    if transformer is None:
        raise _no_vision_transformer("residual blocks")
    chosen = list(transformer.resblocks)[:blocks]
    with outputs_of([block if part == "block" else block.mlp for block in chosen]) as found:
        embedding: Tensor = clip.visual(images)
    if not transformer.batch_first:
        found = [output.transpose(0, 1) for output in found]
    return list(found), embedding


@contextmanager
def outputs_of(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what modules return while the body runs, in the order in which they run."""
    found: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
        found.append(output)

    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _no_vision_transformer(expected: str) -> InputError:
    return InputError(
        "this CLIP network has no vision transformer of the kind that the target is defined for",
        given="another vision tower",
        expected=expected,
        todo="take other weights with --models",
    )
