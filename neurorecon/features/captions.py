"""Captions of videos by BLIP-2, as Mind-Animator makes them, as a table that readers of data sets take.

The first and the last frame are captioned. Where CLIP (ViT-B/32) finds both about equally like the middle frame, the
video has one caption, else both, joined. The published code draws one of two equal captions at random; here it is the
one more like the middle frame, so that captions do not depend on chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from neurorecon.errors import InputError
from neurorecon.models.clip import clip_settings
from neurorecon.models.load import WeightsSource, load_transformers, source
from neurorecon.models.preprocessing import Preprocessing
from neurorecon.parallel import choose_device

#: What BLIP-2 is asked, and what joins the captions of the first and the last frame; both as published.
PROMPT, JOINED = "Question: What does this image describe? Answer:", ", and then "

#: Difference of the cosines with the middle frame up to which two captions are equally good, as published.
EQUAL = 0.05

#: Tokens of a caption at most.
LONGEST = 30


class Captioner:
    """BLIP-2, which describes images in a sentence.

    Parameters
    ----------
    models : {"published"} or path
        Whose weights; a folder holds a network and a processor as saved by transformers, in ``blip2``. There are no
        bundled ones: the captions of the embedded scenes are known.
    device : str
        Where the network runs. The published one has 4 billion parameters.

    References
    ----------
    Li et al. (2023). BLIP-2: bootstrapping language-image pre-training with frozen image encoders and large language
    models. ICML, arXiv 2301.12597.
    """

    def __init__(self, models: str | Path = "published", device: str = "cpu") -> None:
        self.models, self.device = models, device

    @cached_property
    def source(self) -> WeightsSource:
        """The weights: location, sha256 and license."""
        return source("blip2", self.models)

    @cached_property
    def network(self) -> Any:
        """The loaded network."""
        return load_transformers(self.source, "Blip2ForConditionalGeneration", choose_device(self.device))

    @cached_property
    def processor(self) -> Any:
        """What prepares images and prompts."""
        from transformers import Blip2Processor

        return Blip2Processor.from_pretrained(str(self.source.folder), local_files_only=True)

    def __call__(self, images: np.ndarray, batch: int = 8) -> list[str]:
        """Return a caption for each image.

        Parameters
        ----------
        images : array, uint8, shape (image, y, x, rgb)
        batch : int
            Images at a time.

        Returns
        -------
        list of str
        """
        import torch

        found: list[str] = []
        for start in range(0, len(images), batch):
            part = list(images[start : start + batch])
            inputs = self.processor(images=part, text=[PROMPT] * len(part), return_tensors="pt")
            with torch.inference_mode():
                tokens = self.network.generate(
                    **inputs.to(choose_device(self.device)), max_new_tokens=LONGEST, do_sample=False
                )
            said = self.processor.batch_decode(tokens, skip_special_tokens=True)
            found += [text.removeprefix(PROMPT).strip() for text in said]
        return found


def caption_videos(
    stimuli: Sequence[str], videos: Iterable[np.ndarray], captioner: Captioner, clip: str | Path = "published"
) -> pd.DataFrame:
    """Caption videos, one after the other.

    Parameters
    ----------
    stimuli : sequence of str
        Ids.
    videos : iterable of array, uint8, shape (frame, y, x, rgb)
        The videos in the same order, e.g. ``store.frames([name]).values[0]`` one by one.
    captioner : Captioner
    clip : {"published", "bundled"} or path
        Whose CLIP (ViT-B/32) chooses between captions.

    Returns
    -------
    DataFrame
        Columns ``stimulus`` and ``caption``. Written with ``to_csv(path, index=False)``, it is what the option
        ``captions`` of readers takes.

    Raises
    ------
    InputError
        If there are more or fewer videos than ids.
    """
    import torch

    settings = clip_settings(clip, "clip-b32")
    preparation = Preprocessing(settings.size, "bicubic", "crop", settings.mean, settings.std)
    device = choose_device(captioner.device)
    network: Any = settings.load(device)
    tokenizer = settings.tokenizer()
    captions = []
    for video in videos:
        first, last = captioner(video[[0, -1]])
        with torch.inference_mode():
            middle = preparation.normalize(preparation.prepare(video[[len(video) // 2]]), device)
            image = torch.nn.functional.normalize(network.encode_image(middle), dim=1)
            texts = torch.nn.functional.normalize(network.encode_text(tokenizer([first, last]).to(device)), dim=1)
            cosines = (texts @ image[0]).double().cpu().numpy()
        captions.append(choose(first, last, *cosines.tolist()))
    if len(captions) != len(stimuli):
        raise InputError(
            "there have to be as many videos as ids",
            given=f"{len(captions)} videos, {len(stimuli)} ids",
            expected="one id for each video",
            todo="pass both in the same order",
        )
    return pd.DataFrame({"stimulus": list(stimuli), "caption": captions})


def choose(first: str, last: str, like_first: float, like_last: float) -> str:
    """Return the caption of a video from those of its first and last frame and their cosines with the middle one."""
    if abs(like_first - like_last) <= EQUAL:
        return first if like_first >= like_last else last
    return first + JOINED + last
