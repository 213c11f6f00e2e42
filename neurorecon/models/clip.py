"""CLIP networks from open_clip weights, and their tokenizer.

It is called like open_clip's tokenizers and lays tokens out as OpenAI's does: a start token, the words, an end
token with the highest number of all (where CLIP reads the sentence from), and zeros.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurorecon import hub
from neurorecon.errors import InputError
from neurorecon.io.tensors import load_state
from neurorecon.models.load import Source, fill, read_json, same_random_numbers, source, weights_in

if TYPE_CHECKING:
    from torch import Tensor, nn


#: Stands for every word that the vocabulary lacks.
UNKNOWN = "<unknown>"

_WORD = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


class WordTokenizer:
    """Sentences to numbers.

    Parameters
    ----------
    words : sequence of str
        The vocabulary, in the order of the numbers, from 2 on (0 pads, 1 stands for unknown words).
    context_length : int
        Tokens of a sentence, start and end included.

    Attributes
    ----------
    vocab_size : int
        All words, and the four tokens that are none.
    sot_token_id, eot_token_id : int
        Start and end of the sentence.
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
        """Read a vocabulary with one word a line."""
        return cls(Path(file).read_text(encoding="utf-8").split(), context_length)

    def encode(self, text: str) -> list[int]:
        """Return the numbers of the words of one sentence, without start and end."""
        return [self._number.get(word, 1) for word in split_words(text)]

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the words that numbers stand for; start, end and padding are left out."""
        found = [int(number) for number in numbers]
        return " ".join(
            UNKNOWN if number == 1 else self.words[number - 2] for number in found if 0 < number < self.sot_token_id
        )

    def unknown(self, text: str) -> list[str]:
        """Return the words of a sentence that the vocabulary lacks."""
        return [word for word in split_words(text) if word not in self._number]

    def __call__(self, texts: str | Sequence[str], context_length: int | None = None) -> Tensor:
        """Return tokens, int64, shape (text, token); what is too long is cut.

        Raises
        ------
        InputError
            For a context too short for one word.
        """
        import torch

        length = context_length or self.context_length
        if length < 3:
            raise InputError("a context holds at least start, one word and end", given=length, expected="3 or more")
        listed = [texts] if isinstance(texts, str) else list(texts)
        tokens = torch.zeros(len(listed), length, dtype=torch.long)
        for row, text in enumerate(listed):
            numbers = [self.sot_token_id, *self.encode(text)[: length - 2], self.eot_token_id]
            tokens[row, : len(numbers)] = torch.tensor(numbers)
        return tokens


def split_words(text: str) -> list[str]:
    """Return words in lower case, and punctuation other than the final stop."""
    return _WORD.findall(text.lower().strip().rstrip("."))


def vocabulary(texts: Iterable[str]) -> list[str]:
    """Return all words of some sentences, sorted."""
    return sorted({word for text in texts for word in split_words(text)})


#: open_clip's configurations of the published CLIP networks, by their name in the catalog.
OPEN_CLIP = {"clip-vit-l14": "ViT-L-14-quickgelu", "clip-vit-b32": "ViT-B-32-quickgelu"}

#: Mean and standard deviation of the pixels in OpenAI's CLIP (Radford et al., 2021), where a folder says nothing else.
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)

CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipSettings:
    """What is known of a CLIP network before it is loaded.

    Parameters
    ----------
    source : Source
    network : dict
        Arguments of ``open_clip.model.CLIP``.
    size : int
        Pixels on each side of its images.
    mean, std : tuple of float
        Of its pixels.
    """

    source: Source
    network: dict[str, Any]
    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def context_length(self) -> int:
        """Tokens of a sentence."""
        return int(self.network["text_cfg"].get("context_length", 77))

    def tokenizer(self) -> Tokenizer:
        """Return what turns sentences into tokens: a vocabulary beside the weights, or else OpenAI's."""
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
            # As transformers' CLIPTokenizer pads, with which the published systems read captions; open_clip pads
            # with 0, and the tokens behind the end then differ.
            return _padded(pairs(list(texts)), pairs.eot_token_id)

        return Tokenizer(tokens, pairs.eot_token_id, pairs.vocab_size, "byte pairs (OpenAI), padded with the end token")

    def load(self, device: str = "cpu") -> nn.Module:
        """Return the network (``open_clip.model.CLIP``), in float32, ready to compute."""
        from open_clip.model import CLIP

        with same_random_numbers():
            network: nn.Module = CLIP(**self.network)
        fill(network, load_state(weights_in(self.source.folder)), self.source)
        return network.eval().requires_grad_(False).to(device)


@dataclass(frozen=True)
class Tokenizer:
    """Sentences to tokens.

    Parameters
    ----------
    function : callable
        Sentences to a long tensor (sentence, token).
    end : int
        The token that ends a sentence.
    size : int
        Number of different tokens.
    description : str
        In words, stored with the targets.
    """

    function: Callable[[Sequence[str]], Tensor]
    end: int
    size: int
    description: str

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return tokens, shape (sentence, token)."""
        return self.function(texts)


def clip_settings(models: str | Path = "bundled", role: str = "clip") -> ClipSettings:
    """Return what is known of the CLIP network of a role, without loading it.

    Parameters
    ----------
    models : {"bundled", "published"} or path
    role : {"clip", "clip-b32"}
        ViT-L/14 or ViT-B/32 among the published ones.
    """
    return clip_settings_of(source(role, models))


def clip_settings_of(found: Source) -> ClipSettings:
    """Return the settings of CLIP weights that were found already."""
    config, preprocessing = _clip_config(found)
    size = config["vision_cfg"]["image_size"]
    return ClipSettings(
        found,
        config,
        int(size[0] if isinstance(size, Sequence) else size),
        _three(preprocessing.get("mean", CLIP_MEAN)),
        _three(preprocessing.get("std", CLIP_STD)),
    )


def _clip_config(found: Source) -> tuple[dict[str, Any], Mapping[str, Any]]:
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
        "this folder does not say what CLIP network it holds",
        given=str(found.folder),
        expected="config.json with embed_dim, vision_cfg and text_cfg, or open_clip_config.json",
        todo="put the configuration beside the weights",
    )


def _padded(tokens: Tensor, end: int) -> Tensor:
    """Fill what follows the first end token with end tokens."""
    import torch

    positions = torch.arange(tokens.shape[1])
    first = (tokens == end).int().argmax(dim=1, keepdim=True)
    return torch.where(positions > first, end, tokens)


# -- text encoders ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class TextEncoder:
    """A text encoder as diffusion networks are conditioned on: hidden states behind the last layer norm.

    Parameters
    ----------
    source : Source
    tokenizer : Tokenizer
    load : callable
        Device to a module that maps tokens (sentence, token) to hidden states (sentence, token, channel).
    """

    source: Source
    tokenizer: Tokenizer
    load: Callable[[str], nn.Module] = field(repr=False)


def text_encoder(models: str | Path = "bundled") -> TextEncoder:
    """Return the text encoder of latent diffusion: that of Stable Diffusion, or the text tower of a CLIP network.

    Parameters
    ----------
    models : {"bundled", "published"} or path
        A folder holds either transformers' ``text_encoder`` and ``tokenizer``, or a CLIP network.
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


def _transformers_encoder(found: Source, folder: Path, settings: Mapping[str, Any]) -> TextEncoder:
    from transformers.models.clip.configuration_clip import CLIPTextConfig
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    pairs = CLIPTokenizer.from_pretrained(str(hub.part(found.folder, "tokenizer")), local_files_only=True)
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
    """Add or drop a prefix: transformers 5 keeps the text model one level higher than 4 did."""
    nested = any(name.startswith(prefix) for name in network.state_dict())
    bare = {name.removeprefix(prefix): value for name, value in state.items()}
    return {f"{prefix}{name}": value for name, value in bare.items()} if nested else bare


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
