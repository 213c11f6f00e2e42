from collections import Counter
from itertools import pairwise

import pytest

from neurorecon.simulation.captions import article, captions
from neurorecon.simulation.scene import sample_scene

_SCENES = [sample_scene(21, index, kind) for kind in ("image", "video") for index in range(400)]


def test_five_different_plain_sentences() -> None:
    for scene in _SCENES:
        sentences = captions(scene)
        assert len(sentences) == len(set(sentences)) == 5
        for sentence in sentences:
            assert sentence.isascii()
            assert sentence[0].isupper()
            assert sentence.endswith(".")
            assert "  " not in sentence
            assert not set("<>&_") & set(sentence)
            assert 3 <= len(sentence.split()) <= 32


def test_captions_are_the_same_each_time() -> None:
    assert captions(sample_scene(21, 5)) == captions(sample_scene(21, 5))


def test_the_kind_and_the_color_are_named() -> None:
    words = {"man face": "man", "woman face": "woman", "child face": "child", "boat": "boat", "pine": "pine tree"}
    for scene in _SCENES:
        main = scene.main
        first = captions(scene)[0].lower()
        assert words.get(main.kind, main.kind) in first
        if main.kind != "pine":  # a pine is green in every image, and nobody says so
            assert main.color in first
        assert sum(main.color in sentence.lower() for sentence in captions(scene)) >= (main.kind != "pine")


def test_motion_and_light_are_told() -> None:
    for scene in _SCENES:
        text = " ".join(captions(scene)).lower()
        vx = scene.main.velocity[0]
        if vx and scene.category not in ("face", "tool"):
            assert ("to the right" if vx > 0 else "to the left") in text
        if scene.kind == "image":
            assert "video" not in text
            assert "camera pans" not in text
        else:
            assert "video" in text
        if scene.lighting == "sunset" and not scene.indoor:
            assert any(words in text for words in ("at sunset", "evening sun", "sun goes down"))


def test_other_objects_are_told() -> None:
    told = 0
    for scene in _SCENES:
        others = [o for o in scene.objects[1:] if o.category != "room" and o.visible > 0.35]
        if others and scene.category not in ("face", "room"):
            biggest = max(others, key=lambda item: item.size)
            named = "pine tree" if biggest.kind == "pine" else biggest.kind
            assert any(named in sentence for sentence in captions(scene)), (scene, captions(scene))
            told += 1
    assert told > 100


def test_the_vocabulary_is_closed_and_used() -> None:
    words = Counter(word for scene in _SCENES for sentence in captions(scene) for word in sentence.lower()[:-1].split())
    assert 120 < len(words) < 260
    assert sum(count < 2 for count in words.values()) < 10


@pytest.mark.parametrize(("noun", "right"), [("orange cat", "an orange cat"), ("dog", "a dog")])
def test_articles(noun: str, right: str) -> None:
    assert article(noun) == right
    for scene in _SCENES[:200]:
        for sentence in captions(scene):
            parts = sentence.lower()[:-1].split()
            for first, second in pairwise(parts):
                assert not (first == "a" and second[0] in "aeiou"), sentence
                assert not (first == "an" and second[0] not in "aeiou"), sentence
