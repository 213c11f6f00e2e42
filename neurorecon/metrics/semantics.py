"""Which of the named things survive a reconstruction: CLIP as a zero-shot judge of names, and captions.

Pixel and CLIP scores saturate: a plausible image of the wrong thing scores well. These metrics ask for names. Of drawn
scenes, the category probe knows them (:class:`~neurorecon.metrics.networks.CategoryProbe`); of photographs, CLIP names
what it sees among any list of names, by the sentences of :data:`TEMPLATES`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from neurorecon.errors import InputError
from neurorecon.metrics.base import Metric
from neurorecon.metrics.networks import CategoryProbe, ClipEmbedding, ImageNetwork, verdicts
from neurorecon.models.clip import WordTokenizer

if TYPE_CHECKING:
    from neurorecon.store.store import Store

#: Sentences that a name is put into; the embedding of a name is the mean of theirs.
TEMPLATES = ("a photo of a {}.", "a picture of a {}.", "a {}.")

#: Things that captions may mention: the classes of COCO, from which the images of NSD are taken (Lin et al. 2014),
#: without "orange", which captions mean as a color.
THINGS = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "broccoli", "carrot",
    "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet", "tv",
    "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator",
    "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip


class ZeroShot(ClipEmbedding):
    """CLIP as a judge of names: which one of a list describes an image best.

    The embedding of a name is the mean of the embeddings of its sentences, each of norm 1; an image gets the name whose
    embedding has the highest cosine with its own (the first of equal ones). Images are embedded once, however many
    lists of names and metrics on CLIP there are.

    Parameters
    ----------
    models, device, progress
        As for :class:`~neurorecon.metrics.networks.ImageNetwork`.
    names : sequence of str
        What there may be in an image; by default the categories of the store whose stimuli are judged.
    templates : sequence of str
        Sentences with ``{}`` in place of the name.

    References
    ----------
    Radford et al. (2021). Learning transferable visual models from natural language supervision, section 3.1.
    """

    layers: ClassVar[tuple[str, ...]] = ("similarity", "category")

    def __init__(
        self,
        models: str | Path = "bundled",
        device: str = "cpu",
        progress: bool = False,
        *,
        names: Sequence[str] = (),
        templates: Sequence[str] = TEMPLATES,
    ) -> None:
        super().__init__(models, device, progress)
        self.names, self.templates = tuple(names), tuple(templates)
        wrong = [template for template in self.templates if template.count("{}") != 1]
        if wrong or not self.templates or len(set(self.names)) < len(self.names):
            raise InputError(
                "these names and sentences cannot be told apart",
                given=f"names {', '.join(self.names[:5])} ...; sentences {'; '.join(self.templates)}",
                expected="different names, and sentences with {} where the name goes",
                todo="correct names= or templates=",
            )

    @property
    def options(self) -> dict[str, Any]:
        """Names and sentences."""
        return {"names": self.names, "templates": self.templates}

    @cached_property
    def clip(self) -> Any:
        """The network, which other metrics on CLIP share."""
        return ClipEmbedding().on(self.models, self.device, self.progress)

    def load(self, device: str) -> Any:
        """Return open_clip's network."""
        return self.clip.network

    def for_store(self, store: Store) -> ImageNetwork:
        """Return the judge of a store: without names, those of its categories."""
        if self.names:
            return self
        names = sorted(set(store.stimuli["category"].astype(str)) - {""})
        if len(names) < 2:
            raise InputError(
                "there are no names to choose from",
                given=f"{store.name} with {len(names)} categories",
                expected="two categories or more",
                todo="leave this metric out, or judge with ZeroShot(names=[...])",
            )
        self._check(names)  # now, and not after everything was generated
        return type(self)(names=names, templates=self.templates).on(self.models, self.device, self.progress)

    def record(self) -> dict[str, str]:
        """Return what identifies the weights, and the names and sentences."""
        return {**super().record(), "names": ", ".join(self.names), "templates": "; ".join(self.templates)}

    @cached_property
    def named(self) -> np.ndarray:
        """The embedding of each name, of norm 1, shape (name, feature)."""
        self._check(self.names)
        sentences = [template.format(name) for name in self.names for template in self.templates]
        means = self.clip.texts(sentences).reshape(len(self.names), len(self.templates), -1).mean(axis=1)
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))

    def _check(self, names: Sequence[str]) -> None:
        """Refuse names that CLIP cannot choose among."""
        unknown = self._unknown(names)
        if len(names) < 2 or unknown:
            raise InputError(
                "CLIP cannot choose among these names",
                given=f"{', '.join(names[:8]) or 'no names'}"
                + (f"; its vocabulary lacks {', '.join(unknown[:5])}" if unknown else ""),
                expected="two names or more, of words that its tokenizer knows",
                todo="choose other names, the probe for drawn scenes, or --models published",
            )

    def _unknown(self, names: Sequence[str]) -> list[str]:
        """Return names with words that a closed vocabulary lacks; OpenAI's byte pairs can spell any word."""
        words = self.settings.tokenizer().function
        return [name for name in names if words.unknown(name)] if isinstance(words, WordTokenizer) else []

    def features(self, images: np.ndarray, layer: str) -> np.ndarray:
        """Return the cosine of images with each name, (image, name), or the best name of each image, (image,).

        Parameters
        ----------
        images : array, shape (image, y, x, rgb)
            uint8 or float in [0, 1], of any size.
        layer : {"similarity", "category"}

        Returns
        -------
        array
        """
        named = self.named
        embedded = self.clip.features(images, "embedding").astype(np.float64)
        similarity = embedded / np.linalg.norm(embedded, axis=1, keepdims=True) @ named.T
        return np.asarray(self.names)[similarity.argmax(axis=1)] if layer == "category" else similarity


class CaptionNames(ZeroShot):
    """CLIP as a judge of the things that captions mention: those of `names`, by default :data:`THINGS`."""

    def for_store(self, store: Store) -> ImageNetwork:
        """Return the judge of a store: of the things that the captions of its stimuli mention and CLIP's words name."""
        names = self.names or THINGS
        if "captions" not in store.stimuli:
            found = []
        else:
            unknown = set(self._unknown(names))
            said = mentions(list(store.stimuli["captions"]), names)
            found = [name for number, name in enumerate(names) if said[:, number].any() and name not in unknown]
        if len(found) < 2:
            raise InputError(
                "the captions of this store mention too few things",
                given=f"{store.name}: {', '.join(found) or 'none'} of {len(names)} names",
                expected="captions that mention two of the names or more",
                todo="leave out caption_recall, or judge with CaptionNames(names=[...])",
            )
        return type(self)(names=found, templates=self.templates).on(self.models, self.device, self.progress)


def mentions(captions: Sequence[Sequence[str] | str], names: Sequence[str]) -> np.ndarray:
    """Return which names the captions of each stimulus mention, as whole words, in the singular or with a final s.

    A name inside a longer one that is mentioned does not count: "hot dog" is no dog.

    Parameters
    ----------
    captions : sequence of (str or sequence of str), length stimulus
        Captions of each stimulus.
    names : sequence of str

    Returns
    -------
    array of bool, shape (stimulus, name)
    """
    longest = sorted(names, key=len, reverse=True)
    column = {name: number for number, name in enumerate(names)}
    pattern = re.compile(rf"\b({'|'.join(re.escape(name.lower()) for name in longest)})(?:s|es)?\b")
    lower = {name.lower(): column[name] for name in names}
    found = np.zeros((len(captions), len(names)), dtype=bool)
    for row, given in enumerate(captions):
        text = given if isinstance(given, str) else ". ".join(given)
        found[row, [lower[name] for name in pattern.findall(text.lower())]] = True
    return found


def caption_recall(
    seen: np.ndarray, reconstructed: np.ndarray, captions: Sequence[Sequence[str] | str], network: ZeroShot
) -> np.ndarray:
    """Return the share of the things in a stimulus's captions that are among the best names of its reconstruction.

    With R things mentioned, the R best names count, so that all of them can be found and naming more does not help
    (recall at R). Chance is R over the number of names.

    Parameters
    ----------
    seen : array, shape (stimulus, name)
        Not used: the captions say what is in the stimulus.
    reconstructed : array, shape (stimulus, name)
        Cosine of the reconstructions with the names.
    captions : sequence of (str or sequence of str), length stimulus
    network : ZeroShot
        Its names.

    Returns
    -------
    array, shape (stimulus,)
        NaN where captions mention none of the names.
    """
    said = mentions(captions, network.names)
    number = said.sum(axis=1)
    place = np.argsort(np.argsort(-reconstructed, axis=1, kind="stable"), axis=1)
    hits = (said & (place < number[:, None])).sum(axis=1)
    return np.divide(hits, number, out=np.full(len(said), np.nan), where=number > 0)


def caption_matrix(
    seen: np.ndarray, reconstructed: np.ndarray, captions: Sequence[Sequence[str] | str], network: ClipEmbedding
) -> np.ndarray:
    """Return the cosine of every reconstruction with the captions of every stimulus, shape (reconstruction, seen)."""
    image = np.asarray(reconstructed, dtype=np.float64)
    norm = np.linalg.norm(image, axis=1, keepdims=True)
    return np.asarray((image / np.where(norm > 0, norm, np.nan)) @ _caption_embeddings(captions, network).T)


def caption_similarity(
    seen: np.ndarray, reconstructed: np.ndarray, captions: Sequence[Sequence[str] | str], network: ClipEmbedding
) -> np.ndarray:
    """Return the cosine of CLIP's embeddings of the captions of each stimulus and of its reconstruction.

    Parameters
    ----------
    seen : array, shape (stimulus, feature)
        Not used.
    reconstructed : array, shape (stimulus, feature)
        Embeddings of the reconstructions.
    captions : sequence of (str or sequence of str), length stimulus
        Several captions of a stimulus are averaged, each of norm 1.
    network : ClipEmbedding
        Reads the captions.

    Returns
    -------
    array, shape (stimulus,)
        NaN without a caption. The cosine of a photograph and its own caption is about .25 to .3 (ViT-L/14), not 1.
    """
    text, image = _caption_embeddings(captions, network), np.asarray(reconstructed, dtype=np.float64)
    norm = np.linalg.norm(image, axis=1)
    return np.asarray((image * text).sum(axis=1) / np.where(norm > 0, norm, np.nan))


def _caption_embeddings(captions: Sequence[Sequence[str] | str], network: ClipEmbedding) -> np.ndarray:
    """Return the mean embedding of the captions of each stimulus, of norm 1; NaN where there is none."""
    listed = [[one] if isinstance(one, str) else list(one) for one in captions]
    said = [[text for text in texts if text.strip()] for texts in listed]
    size = network.texts(["a photo."]).shape[1]
    means = np.stack([network.texts(texts).mean(axis=0) if texts else np.full(size, np.nan) for texts in said])
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True))


def survival(categories: Sequence[str] | np.ndarray, judged: Sequence[str] | np.ndarray) -> pd.DataFrame:
    """Return how often each name survives, and what it is mistaken for.

    Parameters
    ----------
    categories : array of str, shape (stimulus,)
        What the stimuli show.
    judged : array of str, shape (stimulus,)
        What a judge sees in the reconstructions.

    Returns
    -------
    DataFrame
        One row a name: ``n`` stimuli that show it, ``recall`` (share of them whose reconstruction is given the name),
        ``precision`` (share of reconstructions with this name whose stimulus shows it; NaN if there is none),
        ``f1`` of both, and ``mistaken for``, the most frequent wrong name (empty if there is none).
    """
    shown, said = np.asarray(categories).astype(str), np.asarray(judged).astype(str)
    rows = []
    for name in np.unique(shown).tolist():
        own, named = shown == name, said == name
        right = int((own & named).sum())
        wrong, counts = np.unique(said[own & ~named], return_counts=True)
        rows.append({
            "name": name,
            "n": int(own.sum()),
            "recall": right / own.sum(),
            "precision": right / named.sum() if named.any() else np.nan,
            "f1": 2 * right / (own.sum() + named.sum()),
            "mistaken for": str(wrong[counts.argmax()]) if len(wrong) else "",
        })  # fmt: skip
    return pd.DataFrame(rows)


def same_kind(seen: np.ndarray, reconstructed: np.ndarray) -> np.ndarray:
    """Return whether a judge sees the same kind of thing in stimulus and reconstruction: 1 or 0, (stimulus,)."""
    return (np.asarray(seen) == np.asarray(reconstructed)).astype(np.float64)


#: Registered in :data:`neurorecon.registry.METRICS`. The chance of categories is that of naming the commonest one or
#: less, depending on the store, so it is the null that says it.
ZERO_SHOT = Metric(verdicts, needs=("categories",), network=ZeroShot(), layer="category")
CAPTION_RECALL = Metric(caption_recall, needs=("captions", "network"), network=CaptionNames(), layer="similarity")
CAPTION_SIMILARITY = Metric(
    caption_similarity, caption_matrix, needs=("captions", "network"), network=ClipEmbedding(), layer="embedding"
)
PROBE_KIND = Metric(
    same_kind,
    lambda seen, reconstructed: (np.asarray(reconstructed)[:, None] == np.asarray(seen)[None]).astype(np.float64),
    network=CategoryProbe(),
    layer="kind",
)
