"""Captions by BLIP-2, with random weights of a small configuration."""

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from neurorecon.errors import InputError
from neurorecon.features.captions import LONGEST, PROMPT, Captioner, caption_videos, choose

WORDS = ["<pad>", "</s>", "<unk>", "<image>", *PROMPT.replace(":", " :").replace("?", " ?").split(), "a", "dog", "runs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Blip2Config(
        vision_config={**small, "image_size": 32, "patch_size": 16},
        qformer_config={**small, "vocab_size": len(tokenizer), "encoder_hidden_size": 16},
        text_config={
            "model_type": "t5", "vocab_size": len(tokenizer), "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1,
            "num_heads": 2, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1,
        },
        num_query_tokens=4,
        image_token_index=3,
    )  # fmt: skip
    torch.manual_seed(2)
    network = transformers.Blip2ForConditionalGeneration(config)
    for value in network.parameters():  # far from 0, so that captions differ
        torch.nn.init.normal_(value, std=0.6)
    network.save_pretrained(place / "blip2")
    images = transformers.BlipImageProcessor(size={"height": 32, "width": 32})
    transformers.Blip2Processor(images, tokenizer, num_query_tokens=4).save_pretrained(place / "blip2")
    return place


def test_captions_are_those_of_transformers(folder):
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    captioner = Captioner(folder)
    found = captioner(images)
    place = str(folder / "blip2")
    network = transformers.Blip2ForConditionalGeneration.from_pretrained(place).eval()
    processor = transformers.Blip2Processor.from_pretrained(place)
    for image, caption in zip(images, found, strict=True):
        tokens = network.generate(
            **processor(images=[image], text=[PROMPT], return_tensors="pt"), max_new_tokens=LONGEST, do_sample=False
        )
        assert processor.batch_decode(tokens, skip_special_tokens=True)[0].strip() == caption
    assert any(found)
    assert captioner(images, batch=2) == found
    assert captioner(images[::-1]) == found[::-1]


def test_one_caption_or_two():
    assert choose("a dog", "a cat", 0.30, 0.27) == "a dog"
    assert choose("a dog", "a cat", 0.27, 0.30) == "a cat"
    assert choose("a dog", "a cat", 0.31, 0.25) == "a dog, and then a cat"


def test_a_table_that_readers_take(folder):
    videos = np.random.default_rng(1).integers(0, 256, (3, 4, 40, 40, 3), dtype=np.uint8)
    captioner = Captioner(folder)
    table = caption_videos(["a", "b", "c"], iter(videos), captioner, clip="bundled")
    assert table.columns.tolist() == ["stimulus", "caption"]
    for video, caption in zip(videos, table["caption"], strict=True):
        first, last = captioner(video[[0, -1]])
        assert caption in (first, last, f"{first}, and then {last}")
    with pytest.raises(InputError, match="3 videos, 2 ids"):
        caption_videos(["a", "b"], videos, captioner, clip="bundled")
