"""The closed-vocabulary tokenizer of the bundled CLIP: one token a word.

It is called like open_clip's tokenizers and lays tokens out as OpenAI's does: a start token, the words, an end
token with the highest number of all (where CLIP reads the sentence from), and zeros.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neurorecon.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

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
