"""CLIP networks from open_clip weights, their tokenizers, and the text encoders of latent diffusion.

The bundled CLIP has its own word tokenizer. It is called like open_clip's tokenizers and uses OpenAI's layout: a start
token, the words, an end token with the highest number (where CLIP reads out the sentence), and zeros.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from neurorecon import hub
from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.tensors import load_state
from neurorecon.models.load import WeightsSource, fill, read_json, same_random_numbers, source, weights_in

if TYPE_CHECKING:
    from torch import Tensor, nn


#: Stands for words that are not in the vocabulary.
UNKNOWN = "<unknown>"

_WORD = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


class WordTokenizer:
    """Tokenizer with a closed vocabulary of words.

    Parameters
    ----------
    words : sequence of str
        The vocabulary. Words are numbered from 2 (0 is padding, 1 stands for unknown words).
    context_length : int
        Number of tokens of a sentence, including start and end.

    Attributes
    ----------
    vocab_size : int
        Number of words plus four special tokens.
    sot_token_id, eot_token_id : int
        Start and end token.
    """

    def __init__(self, words: Sequence[str], context_length: int) -> None:
        self.words = list(words)
        self.context_length = context_length
        self._number = {word: number for number, word in enumerate(self.words, start=2)}
        self.vocab_size = len(self.words) + 4
        self.sot_token_id = self.vocab_size - 2
        self.eot_token_id = self.vocab_size - 1

    @classmethod
    def from_file(cls, file: str | Path, context_length: int) -> WordTokenizer:
        """Read a vocabulary with one word per line."""
        return cls(Path(file).read_text(encoding="utf-8").split(), context_length)

    def encode(self, text: str) -> list[int]:
        """Return the word numbers of a sentence, without start and end."""
        return [self._number.get(word, 1) for word in split_words(text)]

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the words of a sequence of numbers, without start, end and padding."""
        found = [int(number) for number in numbers]
        return " ".join(
            UNKNOWN if number == 1 else self.words[number - 2] for number in found if 0 < number < self.sot_token_id
        )

    def unknown(self, text: str) -> list[str]:
        """Return the words of a sentence that are not in the vocabulary."""
        return [word for word in split_words(text) if word not in self._number]

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Tokenize one or several sentences, truncating long ones.

        Parameters
        ----------
        texts : str or sequence of str
        context_length : int, optional
            Number of tokens; by default that of the tokenizer.

        Returns
        -------
        Tensor, int64, shape (text, token)

        Raises
        ------
        InputError
            If the context is too short for one word.
        """
        import torch

        length = context_length or self.context_length
        if length < 3:
            raise InputError(
                "the context is too short for start, one word and end", given=length, expected="3 or more tokens"
            )
        listed = [texts] if isinstance(texts, str) else list(texts)
        tokens = torch.zeros(len(listed), length, dtype=torch.long)
        for row, text in enumerate(listed):
            numbers = [self.sot_token_id, *self.encode(text)[: length - 2], self.eot_token_id]
            tokens[row, : len(numbers)] = torch.tensor(numbers)
        return tokens


def split_words(text: str) -> list[str]:
    """Return the lower-case words of a sentence, and its punctuation except the final period."""
    return _WORD.findall(text.lower().strip().rstrip("."))


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Return the sorted vocabulary of several sentences."""
    return sorted({word for text in texts for word in split_words(text)})


#: Names of open_clip's configurations of the published CLIP networks, by their name in the catalog.
OPEN_CLIP = {
    "clip-vit-l14": "ViT-L-14-quickgelu",
    "clip-vit-b32": "ViT-B-32-quickgelu",
    "vifi-clip-b16": "ViT-B-16-quickgelu",
}

#: Default mean and standard deviation of the pixels: those of OpenAI's CLIP (Radford et al., 2021).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipSettings:
    """Configuration of a CLIP network, available without loading it.

    Parameters
    ----------
    source : WeightsSource
        The weights.
    network : dict
        Arguments of ``open_clip.model.CLIP``.
    size : int
        Image size in pixels per side.
    mean, std : tuple of float
        Mean and standard deviation of red, green and blue, for normalization.
    """

    source: WeightsSource
    network: dict[str, Any]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def context_length(self) -> int:
        """Number of tokens of a sentence."""
        return int(self.network["text_cfg"].get("context_length", 77))

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer: a vocabulary beside the weights if there is one, else OpenAI's byte pairs."""
        words = self.source.folder / "vocabulary.txt"
        length = self.context_length
        if words.is_file():
            closed = WordTokenizer.from_file(words, length)
            digest = sha256("\n".join(closed.words).encode()).hexdigest()[:16]
            described = f"words of a closed vocabulary (sha256 {digest}...), padded with 0"
            return Tokenizer(closed, closed.eot_token_id, closed.vocab_size, described)
        from open_clip.tokenizer import SimpleTokenizer

        pairs = SimpleTokenizer(context_length=length)

        def tokens(texts: Sequence[str]) -> Tensor:
            # Pad like transformers' CLIPTokenizer, which the published systems use; open_clip pads with 0, which
            # changes the hidden states after the end token.
            return _padded(pairs(list(texts)), pairs.eot_token_id)

        return Tokenizer(tokens, pairs.eot_token_id, pairs.vocab_size, "byte pairs (OpenAI), padded with the end token")

    def load(self, device: str = "cpu") -> nn.Module:
        """Load the network (``open_clip.model.CLIP``) in float32 and evaluation mode, without gradients."""
        from open_clip.model import CLIP

        with same_random_numbers():
            network: nn.Module = CLIP(**self.network)
        fill(network, load_state(weights_in(self.source.folder)), self.source)
        return network.eval().requires_grad_(False).to(device)


@dataclass(frozen=True)
class Tokenizer:
    """A function that turns sentences into tokens, with its special tokens.

    Parameters
    ----------
    function : callable
        Maps sentences to an int64 tensor (sentence, token).
    end : int
        The end token.
    size : int
        Number of different tokens.
    description : str
        Description in words, which is stored with the targets.
    """

    function: Callable[[Sequence[str]], Tensor]
    end: int
    size: int
    description: str

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Tokenize sentences; return int64, shape (sentence, token)."""
        return self.function(texts)


def clip_settings(models: str | Path = "bundled", role: str = "clip") -> ClipSettings:
    """Return the configuration of a CLIP network, without loading it.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        Which weights: those that ship with neurorecon, those of the papers, or those in a folder.
    role : {"clip", "clip-b32"}
        The published networks are ViT-L/14 and ViT-B/32.

    Returns
    -------
    ClipSettings

    Raises
    ------
    MissingFileError
        If the weights are not on this machine.
    InputError
        If the folder does not specify the network.
    """
    return clip_settings_of(source(role, models))


def clip_settings_of(found: WeightsSource) -> ClipSettings:
    """Return the configuration of CLIP weights that were already located."""
    config, preprocessing = _clip_config(found)
    size = config["vision_cfg"]["image_size"]
    return ClipSettings(
        found,
        config,
        int(size[0] if isinstance(size, Sequence) else size),
        _three(preprocessing.get("mean", CLIP_MEAN)),
        _three(preprocessing.get("std", CLIP_STD)),
    )


def _clip_config(found: WeightsSource) -> tuple[dict[str, Any], Mapping[str, Any]]:
    own, theirs = found.folder / "config.json", found.folder / "open_clip_config.json"
    if theirs.is_file():
        config = read_json(theirs)
        return dict(config["model_cfg"]), config.get("preprocess_cfg", {})
    if own.is_file() and "vision_cfg" in (config := read_json(own)):
        return {key: value for key, value in config.items() if key != "preprocessing"}, config.get("preprocessing", {})
    if found.name in OPEN_CLIP:
        import open_clip

        return dict(open_clip.get_model_config(OPEN_CLIP[found.name])), {}
    raise InputError(
        "the folder does not specify its CLIP network",
        given=str(found.folder),
        expected="config.json with embed_dim, vision_cfg and text_cfg, or open_clip_config.json",
        todo="put the configuration beside the weights",
    )


def _padded(tokens: Tensor, end: int) -> Tensor:
    """Replace everything after the first end token with end tokens."""
    import torch

    positions = torch.arange(tokens.shape[1])
    first = (tokens == end).int().argmax(dim=1, keepdim=True)
    return torch.where(positions > first, end, tokens)


# -- text encoders ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class TextEncoder:
    """The text encoder of a diffusion network: hidden states after the final layer norm.

    Parameters
    ----------
    source : WeightsSource
        The weights.
    tokenizer : Tokenizer
    load : callable
        Loads the network on a device: a module that maps tokens (sentence, token) to hidden states (sentence, token,
        channel).
    """

    source: WeightsSource
    tokenizer: Tokenizer
    load: Callable[[str], nn.Module] = field(repr=False)


def text_encoder(models: str | Path = "bundled") -> TextEncoder:
    """Return the text encoder of latent diffusion: that of Stable Diffusion, or the text tower of a CLIP network.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        A folder must contain either transformers' ``text_encoder`` and ``tokenizer``, or a CLIP network.

    Returns
    -------
    TextEncoder

    Raises
    ------
    MissingFileError
        If the weights are not on this machine.
    """
    found = source("text-encoder", models)
    folder = hub.part(found.folder, "text_encoder")
    config = folder / "config.json"
    if config.is_file() and "vision_cfg" not in (settings := read_json(config)):
        return _transformers_encoder(found, folder, settings)
    clip = clip_settings_of(found)

    def load(device: str) -> nn.Module:
        from neurorecon.models.text_tower import TextTower

        return TextTower(clip.load("cpu")).to(device)

    return TextEncoder(found, clip.tokenizer(), load)


def _transformers_encoder(found: WeightsSource, folder: Path, settings: Mapping[str, Any]) -> TextEncoder:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    files = hub.part(found.folder, "tokenizer")
    if not any((files / name).is_file() for name in ("vocab.json", "tokenizer.json")):
        raise MissingFileError(  # transformers would go on with an empty vocabulary
            "the text encoder has no tokenizer",
            given=str(files),
            expected="a folder tokenizer with vocab.json and merges.txt",
            todo="put the tokenizer's files there",
        )
    pairs = CLIPTokenizer.from_pretrained(str(files), local_files_only=True)
    length = int(settings.get("max_position_embeddings", 77))

    def tokens(texts: Sequence[str]) -> Tensor:
        found_tokens: Tensor = pairs(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )["input_ids"]
        return found_tokens

    def load(device: str) -> nn.Module:
        from transformers.models.clip.modeling_clip import CLIPTextModel

        from neurorecon.models.text_tower import HiddenStates

        with same_random_numbers():
            network = CLIPTextModel(CLIPTextConfig.from_dict(dict(settings)))
        state = _renamed(load_state(weights_in(folder)), network, "text_model.")
        fill(network, state, found)
        return HiddenStates(network).eval().requires_grad_(False).to(device)

    described = "byte pairs (transformers), padded to full length as the tokenizer's files say"
    return TextEncoder(found, Tokenizer(tokens, int(pairs.eos_token_id), len(pairs), described), load)


def _renamed(state: dict[str, Tensor], network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """Add or drop a prefix: transformers 5 nests the text model one level less deeply than version 4."""
    nested = any(name.startswith(prefix) for name in network.state_dict())
    bare = {name.removeprefix(prefix): value for name, value in state.items()}
    return {f"{prefix}{name}": value for name, value in bare.items()} if nested else bare


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


# -- what is read from a network ------------------------------------------------------------------------------------
#: Part of a transformer block: its output, or what its MLP adds to the residual stream.
Part = Literal["block", "mlp"]


#: Number of blocks that MindDiffuser reads (Lu et al., 2023, arXiv 2308.04249).
BLOCKS = 6


def vision_tokens(clip: Any, images: Tensor) -> Tensor:
    """Return all vision tokens, projected into the joint embedding space of images and text.

    Parameters
    ----------
    clip : open_clip.model.CLIP
    images : Tensor, shape (image, rgb, y, x)
        Normalized images.

    Returns
    -------
    Tensor, shape (image, token, channel)
        The first token is the image embedding.

    Raises
    ------
    InputError
        If the vision tower is not a vision transformer with a projection and a CLS token.
    """
    visual = clip.visual
    if getattr(visual, "proj", None) is None or getattr(visual, "attn_pool", None) is not None:
        raise _no_vision_transformer("a projection of the tokens, and no attentional pooling")
    with outputs_of([visual.ln_post]) as found:
        visual(images)
    if found[0].ndim != 3:
        raise _no_vision_transformer("a layer norm over all tokens (final_ln_after_pool is false)")
    return found[0] @ visual.proj


def text_tokens(clip: Any, hidden: Tensor, ends: Tensor) -> Tensor:
    """Return all text tokens, projected into the joint embedding space and divided by the norm of the end token.

    Parameters
    ----------
    clip : open_clip.model.CLIP
    hidden : Tensor, shape (sentence, token, channel)
        Hidden states after the final layer norm, from :class:`~neurorecon.models.text_tower.TextTower`.
    ends : Tensor, shape (sentence,)
        Position of the end token of each sentence.

    Returns
    -------
    Tensor, shape (sentence, token, channel)
    """
    import torch

    from neurorecon.models.text_tower import projected

    states = projected(clip, hidden)
    return states / states[torch.arange(len(states)), ends].norm(dim=-1)[:, None, None]


def block_outputs(clip: Any, images: Tensor, blocks: int, part: Part = "block") -> tuple[list[Tensor], Tensor]:
    """Return the outputs of the first blocks of the vision tower, and the image embedding.

    Parameters
    ----------
    clip : open_clip.model.CLIP
    images : Tensor, shape (image, rgb, y, x)
        Normalized images.
    blocks : int
        Number of blocks; all if the network has fewer.
    part : {"block", "mlp"}
        The output of each block, or what its MLP adds to the residual stream.

    Returns
    -------
    outputs : list of Tensor, each of shape (image, token, channel)
    embedding : Tensor, shape (image, channel)

    Raises
    ------
    InputError
        If the vision tower is not a transformer.
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


def layer_features(clip: Any, images: Tensor, part: Part = "block") -> Tensor:
    """Return the outputs of the first :data:`BLOCKS` blocks, token by token, and the image embedding, concatenated.

    Parameters
    ----------
    clip, images, part
        As for :func:`block_outputs`.

    Returns
    -------
    Tensor, shape (image, feature)
        Float32. :func:`layer_sizes` says how many features each layer has.
    """
    import torch

    outputs, embedding = block_outputs(clip, images, BLOCKS, part)
    return torch.cat([*(output.float().flatten(1) for output in outputs), embedding.float()], dim=1)


def layer_sizes(settings: ClipSettings) -> list[tuple[int, ...]]:
    """Return the shapes of the layers of :func:`layer_features`: (token, channel) of each block, and (channel,)."""
    vision = settings.network["vision_cfg"]
    tokens = (settings.size // vision["patch_size"]) ** 2 + 1
    blocks = min(BLOCKS, int(vision["layers"]))
    return [(tokens, int(vision["width"]))] * blocks + [(int(settings.network["embed_dim"]),)]


@contextmanager
def outputs_of(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect the outputs of modules during the body of a with statement, in the order in which they run."""
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
        "the target is not defined for the vision tower of this CLIP network",
        given="another vision tower",
        expected=expected,
        todo="choose other weights with --models",
    )
