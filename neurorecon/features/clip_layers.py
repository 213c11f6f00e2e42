"""The first six blocks of CLIP's vision tower, and the image embedding: MindDiffuser's structural features."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurorecon.errors import UnknownNameError
from neurorecon.features.clip_vision import ClipPictures

if TYPE_CHECKING:
    from torch import Tensor

#: Blocks that MindDiffuser takes.
BLOCKS = 6


class ClipLayersExtractor(ClipPictures):
    """Outputs of the first six vision blocks, then the image embedding, joined: 6 x 50 x 768 + 512 for ViT-B/32.

    Within a block tokens come one after the other. The attribute ``layer_boundaries`` says where each layer begins and
    ``layers`` how they are called. MindDiffuser (Lu et al., 2023, arXiv 2308.04249) defines them so; its released code
    hooks the last linear layer of each block's MLP, which is what ``part="mlp"`` gives.

    Parameters
    ----------
    categories, models, device, precision
        As in :class:`~neurorecon.features.network.NetworkExtractor`.
    part : {"block", "mlp"}
        The output of each block, or what its MLP adds.
    """

    name: ClassVar[str] = "clip_layers"
    role: ClassVar[str] = "clip-b32"
    dims: ClassVar[tuple[str, ...] | None] = ("feature",)

    def __init__(
        self,
        categories: list[str] | None = None,
        *,
        models: str | Path = "bundled",
        device: str | None = None,
        precision: str = "float32",
        part: str = "block",
    ) -> None:
        super().__init__(categories, models=models, device=device, precision=precision)
        if part not in ("block", "mlp"):
            raise UnknownNameError("part of a block", part, ("block", "mlp"))
        self.part = part

    def forward(self, prepared: np.ndarray, device: str) -> Tensor:
        """Return the layers, joined, shape (stimulus, feature)."""
        import torch

        from neurorecon.features.clip_towers import block_outputs

        images = self.preprocessing.normalize(prepared, device)
        outputs, embedding = block_outputs(self.network, images, BLOCKS, self.part)  # type: ignore[arg-type]
        return torch.cat([*(output.float().flatten(1) for output in outputs), embedding.float()], dim=1)

    def description(self) -> dict[str, Any]:
        """Return how the numbers come about, but for weights and precision."""
        return {
            "model": "CLIP, vision tower",
            "layer": f"{self.part} 1 to {self._blocks}, token by token; image embedding, not normalized",
            "preprocessing": self.preprocessing.describe(),
            "source": "Lu et al. (2023), arXiv 2308.04249; Radford et al. (2021), arXiv 2103.00020",
        }

    def layout(self) -> dict[str, Any]:
        """Return the names of the layers, the shape of each, and where it begins."""
        vision = self.settings.network["vision_cfg"]
        tokens, width = (self.settings.size // vision["patch_size"]) ** 2 + 1, int(vision["width"])
        shapes = [[tokens, width]] * self._blocks + [[int(self.settings.network["embed_dim"])]]
        boundaries = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()
        names = [*(f"{self.part} {number + 1}" for number in range(self._blocks)), "embedding"]
        return {"layers": names, "layer_shapes": shapes, "layer_boundaries": boundaries}

    @property
    def _blocks(self) -> int:
        return min(BLOCKS, int(self.settings.network["vision_cfg"]["layers"]))
