"""Targets from CLIP: vision tokens, image embeddings, layers of the vision tower, and text tokens."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurorecon.errors import UnknownNameError
from neurorecon.features.base import Extractor, Needs, NetworkExtractor, StimulusBatch, images_at_a_time
from neurorecon.features.images import Preprocessing
from neurorecon.models.clip import (
    CLIP_MEAN,
    CLIP_STD,
    ClipSettings,
    TextEncoder,
    Tokenizer,
    clip_settings,
    layer_features,
    layer_sizes,
    text_encoder,
    text_tokens,
    vision_tokens,
)
from neurorecon.models.load import WeightsSource, load_transformers, read_json, source

if TYPE_CHECKING:
    from torch import Tensor


class ClipImages(NetworkExtractor):
    """Base class of targets from the vision tower of CLIP, for images and the middle frame of videos."""

    needs: ClassVar[Needs] = "images"
    #: ``"clip"`` is the published ViT-L/14, ``"clip-b32"`` ViT-B/32.
    role: ClassVar[str] = "clip"

    @cached_property
    def settings(self) -> ClipSettings:
        """Configuration of the network."""
        return clip_settings(self.models, self.role)

    @property
    def source(self) -> WeightsSource:
        """The weights: location, sha256 and license."""
        return self.settings.source

    @property
    def batch(self) -> int:
        """Number of stimuli in a batch."""
        return images_at_a_time(self.settings.size)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """OpenAI's preprocessing: bicubic, center crop, as in open_clip's ``image_transform``."""
        return Preprocessing(self.settings.size, "bicubic", "crop", self.settings.mean, self.settings.std)

    def load(self, device: str) -> Any:
        """Load the network on a device."""
        return self.settings.load(device)

    def prepare(self, batch: StimulusBatch) -> np.ndarray:
        """Return the resized images, uint8."""
        assert batch.images is not None
        return self.preprocessing.prepare(batch.images)


class ClipVisionExtractor(ClipImages):
    """All vision tokens in the joint embedding space, divided by the norm of the CLS token.

    The last hidden states pass through the final layer norm and the projection, and every token is divided by the
    norm of the CLS token: 257 x 768 for ViT-L/14. This is the target of Brain-Diffuser (Ozcelik & VanRullen, 2023,
    arXiv 2303.05334), following Versatile Diffusion.
    """

    name: ClassVar[str] = "clip_vision"
    dims: ClassVar[tuple[str, ...] | None] = ("token", "channel")

    def forward(self, prepared: np.ndarray, device: str) -> Tensor:
        """Return the tokens, shape (stimulus, token, channel)."""
        tokens = vision_tokens(self.network, self.preprocessing.normalize(prepared, device))
        return tokens / tokens[:, :1].norm(dim=-1, keepdim=True)

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {
            "model": "CLIP, vision tower",
            "layer": "last hidden states -> ln_post -> proj, each token over the norm of the CLS token",
            "preprocessing": self.preprocessing.describe(),
            "source": "Ozcelik & VanRullen (2023), arXiv 2303.05334; Radford et al. (2021), arXiv 2103.00020",
        }


class ClipImageExtractor(ClipImages):
    """The image embedding, not normalized: 512 values for ViT-B/32. Videos are represented by their middle frame.

    Mind-Animator (Lu et al., 2024, arXiv 2405.03280) aligns responses with it.
    """

    name: ClassVar[str] = "clip_image"
    role: ClassVar[str] = "clip-b32"
    dims: ClassVar[tuple[str, ...] | None] = ("feature",)

    def forward(self, prepared: np.ndarray, device: str) -> Tensor:
        """Return the embeddings, shape (stimulus, feature)."""
        embedding: Tensor = self.network.encode_image(self.preprocessing.normalize(prepared, device))
        return embedding

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {
            "model": "CLIP, vision tower",
            "layer": "image embedding, not normalized",
            "frames": "middle",
            "preprocessing": self.preprocessing.describe(),
            "source": "Radford et al. (2021), arXiv 2103.00020; Lu et al. (2024), arXiv 2405.03280",
        }


class ClipImageMeanExtractor(ClipImageExtractor):
    """The mean image embedding over all frames of a video."""

    name: ClassVar[str] = "clip_image_mean"
    needs: ClassVar[Needs] = "frames"

    #: Assumed number of frames, for the batch size; videos of other lengths only change the memory.
    _FRAMES = 8

    @property
    def batch(self) -> int:
        """Number of videos in a batch."""
        return images_at_a_time(self.settings.size, self._FRAMES)

    def prepare(self, batch: StimulusBatch) -> np.ndarray:
        """Return the resized frames, uint8, shape (video, frame, y, x, rgb)."""
        assert batch.frames is not None
        videos, frames = batch.frames.shape[:2]
        prepared = self.preprocessing.prepare(batch.frames.reshape(videos * frames, *batch.frames.shape[2:]))
        return prepared.reshape(videos, frames, *prepared.shape[1:])

    def forward(self, prepared: np.ndarray, device: str) -> Tensor:
        """Return the mean embeddings, shape (video, feature)."""
        flat = super().forward(prepared.reshape(-1, *prepared.shape[2:]), device)
        return flat.float().unflatten(0, prepared.shape[:2]).mean(dim=1)

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {**super().description(), "frames": "mean over all frames"}


class ClipLayersExtractor(ClipImages):
    """Outputs of the first six vision blocks and the image embedding, concatenated: 6 x 50 x 768 + 512 for ViT-B/32.

    Within a block, tokens follow one another. The attribute ``layers`` names the layers and ``layer_boundaries`` says
    where each begins. This is the definition of MindDiffuser (Lu et al., 2023, arXiv 2308.04249); its released code
    hooks the last linear layer of each block's MLP instead, which corresponds to ``part="mlp"``.

    Parameters
    ----------
    categories, models, device, precision
        As in :class:`~neurorecon.features.base.NetworkExtractor`.
    part : {"block", "mlp"}
        The output of each block, or what its MLP adds to the residual stream.
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
        """Return the concatenated layers, shape (stimulus, feature)."""
        images = self.preprocessing.normalize(prepared, device)
        return layer_features(self.network, images, self.part)  # type: ignore[arg-type]

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {
            "model": "CLIP, vision tower",
            "layer": f"{self.part} 1 to {len(layer_sizes(self.settings)) - 1}, token by token; "
            "image embedding, not normalized",
            "preprocessing": self.preprocessing.describe(),
            "source": "Lu et al. (2023), arXiv 2308.04249; Radford et al. (2021), arXiv 2103.00020",
        }

    def layout(self) -> dict[str, Any]:
        """Return the name, the shape and the start of each layer."""
        shapes = [list(shape) for shape in layer_sizes(self.settings)]
        boundaries = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()
        names = [*(f"{self.part} {number + 1}" for number in range(len(shapes) - 1)), "embedding"]
        return {"layers": names, "layer_shapes": shapes, "layer_boundaries": boundaries}


class ImagePromptExtractor(NetworkExtractor):
    """The image embedding that the IP-Adapter of SDXL takes: 1,280 values of OpenCLIP ViT-bigG/14, not normalized.

    Videos are represented by their middle frame. The networks of image prompts (Ye et al., 2023, arXiv 2308.06721;
    Razzhigaev et al., 2023, arXiv 2310.03502) are kept by transformers, and none of them is bundled.
    """

    name: ClassVar[str] = "ip_adapter"
    needs: ClassVar[Needs] = "images"
    role: ClassVar[str] = "clip-bigg"
    dims: ClassVar[tuple[str, ...] | None] = ("feature",)

    @cached_property
    def source(self) -> WeightsSource:
        """The weights: location, sha256 and license."""
        return source(self.role, self.models)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """OpenAI's preprocessing, which all these networks share: bicubic, center crop."""
        size = int(read_json(self.source.folder / "config.json")["image_size"])
        return Preprocessing(size, "bicubic", "crop", CLIP_MEAN, CLIP_STD)

    @property
    def batch(self) -> int:
        """Number of stimuli in a batch."""
        return images_at_a_time(self.preprocessing.size)

    def load(self, device: str) -> Any:
        """Load the network on a device."""
        return load_transformers(self.source, "CLIPVisionModelWithProjection", device)

    def prepare(self, batch: StimulusBatch) -> np.ndarray:
        """Return the resized images, uint8."""
        assert batch.images is not None
        return self.preprocessing.prepare(batch.images)

    def forward(self, prepared: np.ndarray, device: str) -> Tensor:
        """Return the embeddings, shape (stimulus, feature)."""
        embedding: Tensor = self.network(self.preprocessing.normalize(prepared, device)).image_embeds
        return embedding

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {
            "model": "CLIP, vision tower",
            "layer": "image embedding, not normalized",
            "frames": "middle",
            "preprocessing": self.preprocessing.describe(),
            "source": "Ye et al. (2023), arXiv 2308.06721; Razzhigaev et al. (2023), arXiv 2310.03502",
        }


class ImagePromptSd15Extractor(ImagePromptExtractor):
    """The image embedding that the IP-Adapter of Stable Diffusion 1.5 takes: 1,024 values of OpenCLIP ViT-H/14."""

    name: ClassVar[str] = "ip_adapter_sd15"
    role: ClassVar[str] = "clip-vit-h"


class KandinskyImageExtractor(ImagePromptExtractor):
    """The image embedding that the decoder of Kandinsky 2.2 takes: 1,280 values of its own CLIP ViT-bigG/14."""

    name: ClassVar[str] = "kandinsky_image"
    role: ClassVar[str] = "kandinsky-encoder"


class ClipBigGExtractor(ImagePromptExtractor):
    """The patch tokens of OpenCLIP ViT-bigG/14 behind its last layer norm, without the CLS token: 256 x 1,664.

    This is the target of MindEye2 (Scotti et al., 2024, arXiv 2403.11207).
    """

    name: ClassVar[str] = "clip_bigg"
    dims: ClassVar[tuple[str, ...] | None] = ("token", "channel")

    def forward(self, prepared: np.ndarray, device: str) -> Tensor:
        """Return the tokens, shape (stimulus, token, channel)."""
        output = self.network(self.preprocessing.normalize(prepared, device))
        tokens: Tensor = self.network.vision_model.post_layernorm(output.last_hidden_state[:, 1:])
        return tokens

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {
            **super().description(),
            "layer": "last hidden states of all patches -> post_layernorm, not projected",
            "source": "Scotti et al. (2024), arXiv 2403.11207",
        }


#: Memory limit for results shared between targets; beyond it, the other target computes its own.
_KEPT_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Captions:
    """The tokenized captions of a batch.

    Parameters
    ----------
    tokens : Tensor, shape (caption, token)
    stimulus : int array, shape (caption,)
        Index in the batch of the stimulus of each caption.
    ids : tuple of str
        Ids of the stimuli.
    """

    tokens: Tensor
    stimulus: np.ndarray
    ids: tuple[str, ...]


class CaptionExtractor(NetworkExtractor):
    """Base class of targets from captions, averaged over the captions of a stimulus.

    Stimuli without captions are left out.
    """

    needs: ClassVar[Needs] = "captions"
    dims: ClassVar[tuple[str, ...] | None] = ("token", "channel")

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the network."""

    @abstractmethod
    def states(self, tokens: Tensor) -> Tensor:
        """Return the target of each caption, shape (caption, token, channel)."""

    @property
    def batch(self) -> int:
        """Number of stimuli in a batch; each has up to five captions."""
        return 32

    def prepare(self, batch: StimulusBatch) -> Captions:
        """Return the tokenized captions."""
        captions = batch.table["captions"].tolist()
        tokens = self.tokenizer([caption for found in captions for caption in found])
        stimulus = np.repeat(np.arange(len(captions)), [len(found) for found in captions])
        return Captions(tokens, stimulus, tuple(batch.table["id"]))

    def forward(self, prepared: Captions, device: str) -> Tensor:
        """Return the mean over the captions of each stimulus, shape (stimulus, token, channel)."""
        return _means(self.states(prepared.tokens.to(device)), prepared.stimulus)


class ClipTextExtractor(CaptionExtractor):
    """All text tokens in the joint embedding space, divided by the norm of the end token.

    The last hidden states pass through the final layer norm and the projection, every token is divided by the norm of
    the end token (the text embedding), and the result is averaged over captions: 77 x 768 for ViT-L/14. This is the
    target of Brain-Diffuser (Ozcelik & VanRullen, 2023, arXiv 2303.05334), following Versatile Diffusion.
    """

    name: ClassVar[str] = "clip_text"
    role: ClassVar[str] = "clip"

    #: A target that is computed after this one from the same hidden states, which are passed on to it.
    _condition: TextConditionExtractor | None = None

    @cached_property
    def settings(self) -> ClipSettings:
        """Configuration of the network."""
        return clip_settings(self.models)

    @property
    def source(self) -> WeightsSource:
        """The weights: location, sha256 and license."""
        return self.settings.source

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the network."""
        return self.settings.tokenizer()

    def load(self, device: str) -> Any:
        """Load the network on a device."""
        return self.settings.load(device)

    def meet(self, later: Sequence[Extractor]) -> None:
        """Find the text condition of latent diffusion, if the same network computes it."""
        from neurorecon.models.text_tower import TextTower

        self._condition = None
        for other in later:
            if type(other) is TextConditionExtractor and self._same_network(other):
                self._condition = other if isinstance(other.network, TextTower) else None

    def _same_network(self, other: TextConditionExtractor) -> bool:
        mine, others = ((one.source.record(), one.precision, one.torch_device) for one in (self, other))
        return mine == others

    def forward(self, prepared: Captions, device: str) -> Tensor:
        """Return the mean over the captions of each stimulus, shape (stimulus, token, channel)."""
        tokens = prepared.tokens.to(device)
        hidden = self._hidden(tokens)
        if self._condition is not None:
            self._condition.keep(prepared.ids, _means(hidden, prepared.stimulus))
        return _means(self._normalized(hidden, tokens), prepared.stimulus)

    def states(self, tokens: Tensor) -> Tensor:
        """Return normalized tokens, shape (caption, token, channel)."""
        return self._normalized(self._hidden(tokens), tokens)

    def _hidden(self, tokens: Tensor) -> Tensor:
        from neurorecon.models.text_tower import TextTower

        hidden: Tensor = TextTower(self.network)(tokens)
        return hidden

    def _normalized(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        from neurorecon.models.text_tower import end_positions

        return text_tokens(self.network, hidden, end_positions(tokens, self.tokenizer.end))

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {
            "model": "CLIP, text tower",
            "layer": "last hidden states -> ln_final -> text_projection, each token over the norm of the end token; "
            "mean over captions",
            "preprocessing": self.tokenizer.description,
            "source": "Ozcelik & VanRullen (2023), arXiv 2303.05334; Radford et al. (2021), arXiv 2103.00020",
        }


class ClipTextEmbeddingExtractor(CaptionExtractor):
    """The text embedding, not normalized, mean over captions: 512 values for ViT-B/32, in the space of ``clip_image``.

    Mind-Animator (Lu et al., 2024, arXiv 2405.03280) aligns responses with it.
    """

    name: ClassVar[str] = "clip_text_embedding"
    role: ClassVar[str] = "clip-b32"
    dims: ClassVar[tuple[str, ...] | None] = ("feature",)

    @cached_property
    def settings(self) -> ClipSettings:
        """Configuration of the network."""
        return clip_settings(self.models, self.role)

    @property
    def source(self) -> WeightsSource:
        """The weights: location, sha256 and license."""
        return self.settings.source

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the network."""
        return self.settings.tokenizer()

    def load(self, device: str) -> Any:
        """Load the network on a device."""
        return self.settings.load(device)

    def states(self, tokens: Tensor) -> Tensor:
        """Return the embedding of each caption, shape (caption, feature)."""
        embedding: Tensor = self.network.encode_text(tokens)
        return embedding

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        return {
            "model": "CLIP, text tower",
            "layer": "text embedding, not normalized; mean over captions",
            "preprocessing": self.tokenizer.description,
            "source": "Radford et al. (2021), arXiv 2103.00020; Lu et al. (2024), arXiv 2405.03280",
        }


class TextConditionExtractor(CaptionExtractor):
    """The text condition of latent diffusion: hidden states of its text encoder, averaged over captions (77 x 768).

    They are taken after the final layer norm and before the projection, as in the training of Stable Diffusion v1-4
    (Rombach et al., 2022, arXiv 2112.10752).
    """

    name: ClassVar[str] = "clip_text_sd"
    role: ClassVar[str] = "text-encoder"
    #: Number of first tokens to keep; None for all.
    tokens: ClassVar[int | None] = None

    @cached_property
    def encoder(self) -> TextEncoder:
        """The text encoder, not loaded."""
        return text_encoder(self.models)

    @cached_property
    def _kept(self) -> dict[tuple[str, ...], np.ndarray]:
        """Batches of this target that another target has computed, by the ids of their stimuli."""
        return {}

    def keep(self, ids: tuple[str, ...], values: Tensor) -> None:
        """Keep the target of a batch until it is requested, within the memory limit."""
        found = values.float().cpu().numpy()
        if (len(self._kept) + 1) * found.nbytes <= _KEPT_BYTES:
            self._kept[ids] = found

    def compute(self, prepared: Captions) -> np.ndarray:
        """Return the target of a prepared batch, float32, shape (stimulus, token, channel)."""
        kept = self._kept.pop(prepared.ids, None)
        return super().compute(prepared) if kept is None else kept

    @property
    def source(self) -> WeightsSource:
        """The weights: location, sha256 and license."""
        return self.encoder.source

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the network."""
        return self.encoder.tokenizer

    def load(self, device: str) -> Any:
        """Load the network on a device."""
        return self.encoder.load(device)

    def states(self, tokens: Tensor) -> Tensor:
        """Return hidden states, shape (caption, token, channel)."""
        hidden: Tensor = self.network(tokens)[:, : self.tokens]
        return hidden

    def description(self) -> dict[str, Any]:
        """Return how the target is computed, except weights and precision."""
        kept = "all tokens" if self.tokens is None else f"the first {self.tokens} tokens"
        return {
            "model": "text encoder of latent diffusion",
            "layer": f"last hidden states behind the last layer norm, {kept}; mean over captions",
            "preprocessing": self.tokenizer.description,
            "source": "Rombach et al. (2022), arXiv 2112.10752",
        }


class FirstTokensExtractor(TextConditionExtractor):
    """Base class of targets that keep the first tokens of the text condition."""

    def whole(self) -> TextConditionExtractor:
        """Return the extractor of all tokens."""
        return TextConditionExtractor(
            self.categories, models=self.models, device=self.device, precision=self._precision
        )

    def cut(self, values: np.ndarray) -> np.ndarray:
        """Return the first tokens, shape (stimulus, token, channel)."""
        return values[:, : self.tokens]


class TextConditionFirst15Extractor(FirstTokensExtractor):
    """The first 15 tokens of the text condition, as decoded by MindDiffuser (Lu et al., 2023, arXiv 2308.04249)."""

    name: ClassVar[str] = "clip_text_15"
    tokens: ClassVar[int | None] = 15


class TextConditionFirst20Extractor(FirstTokensExtractor):
    """The first 20 tokens of the text condition, as decoded by Mind-Animator (Lu et al., 2024, arXiv 2405.03280)."""

    name: ClassVar[str] = "clip_text_20"
    tokens: ClassVar[int | None] = 20


def _means(states: Tensor, stimulus: np.ndarray) -> Tensor:
    """Average states (caption, token, channel) over the captions of each stimulus."""
    import torch

    states = states.float()
    # One stimulus at a time, so that the last bits do not depend on the rest of the batch.
    return torch.stack([states[torch.from_numpy(rows)].mean(dim=0) for rows in _rows_by_stimulus(stimulus)])


def _rows_by_stimulus(stimulus: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(stimulus == number) for number in np.unique(stimulus)]
