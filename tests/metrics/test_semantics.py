"""Names that survive: CLIP as a judge of names, against open_clip itself, and what captions mention."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
import torch
from PIL import Image

from neurorecon.errors import InputError
from neurorecon.metrics import load_metric
from neurorecon.metrics.networks import ClipEmbedding
from neurorecon.metrics.semantics import CaptionNames, ZeroShot, mentions, survival
from neurorecon.models.clip import clip_settings
from neurorecon.simulation.captions import captions
from neurorecon.simulation.drawing.render import render
from neurorecon.simulation.scene import sample_scene
from neurorecon.simulation.training.loop import SEEDS

NAMES = ("dog", "cat", "horse", "bus", "boat", "house", "kitchen", "tree")


@pytest.fixture(scope="module")
def scenes():
    return [sample_scene(SEEDS["held-out"], index) for index in range(160)]


@pytest.fixture(scope="module")
def drawn(scenes):
    return np.stack([render(scene, size=64, time=0.0) for scene in scenes])


@pytest.fixture(scope="module")
def said(scenes):
    found = np.empty(len(scenes), dtype=object)
    found[:] = [captions(scene) for scene in scenes]
    return found


def open_clips(images, sentences):
    """Embeddings by open_clip itself, each of norm 1."""
    import open_clip

    settings = clip_settings()
    clip = settings.load()
    transform = open_clip.transform.image_transform(64, is_train=False, mean=settings.mean, std=settings.std)
    with torch.inference_mode():
        seen = clip.encode_image(torch.stack([transform(Image.fromarray(image)) for image in images]), normalize=True)
        read = clip.encode_text(settings.tokenizer()(sentences), normalize=True)
    return seen.double().numpy(), read.double().numpy()


def test_zero_shot_is_the_definition_with_open_clip(drawn):
    templates = ("a photo of a {}.", "a {} on the grass.")
    judge = ZeroShot(names=NAMES, templates=templates)
    sentences = [template.format(name) for name in NAMES for template in templates]
    seen, read = open_clips(drawn[:20], sentences)
    names = read.reshape(len(NAMES), 2, -1).mean(axis=1)
    expected = seen @ (names / np.linalg.norm(names, axis=1, keepdims=True)).T
    np.testing.assert_allclose(judge.features(drawn[:20], "similarity"), expected, atol=1e-6)
    assert judge.features(drawn[:20], "category").tolist() == [NAMES[row.argmax()] for row in expected]
    assert judge.record() == {**ClipEmbedding().record(), "names": ", ".join(NAMES), "templates": "; ".join(templates)}
    # In another order, and of another type.
    again = judge.features(drawn[:20][::-1].astype(np.float32) / 255, "similarity")[::-1]
    np.testing.assert_allclose(again, expected, atol=1e-6)


def test_zero_shot_names_drawn_things_far_above_chance(scenes, drawn):
    kinds = np.array([scene.main.kind for scene in scenes])
    names = sorted(set(kinds.tolist()) - {"man face", "woman face", "child face"})
    named = ZeroShot(names=names).features(drawn, "category")
    known = np.isin(kinds, names)
    right = named[known] == kinds[known]
    assert right.mean() > 0.3  # chance is .03
    assert (named[known] == np.random.default_rng(0).permutation(kinds[known])).mean() < 0.1


def test_zero_shot_takes_the_names_of_a_store():
    store = SimpleNamespace(name="photos", stimuli=pd.DataFrame({"category": ["dog", "cat", "", "dog"]}))
    network = load_metric("zero_shot").network.for_store(store)
    assert network.names == ("cat", "dog")
    assert network is load_metric("zero_shot").network.for_store(store)
    assert ZeroShot(names=("bus", "car")).for_store(store).names == ("bus", "car")
    with pytest.raises(InputError, match="no names to choose from"):
        ZeroShot().for_store(SimpleNamespace(name="one", stimuli=pd.DataFrame({"category": ["dog"]})))
    strange = SimpleNamespace(name="far", stimuli=pd.DataFrame({"category": ["dog", "zebra"]}))
    with pytest.raises(InputError, match=r"vocabulary lacks zebra"):
        ZeroShot().for_store(strange)
    with pytest.raises(InputError, match=r"vocabulary lacks zebra"):
        ZeroShot(names=("dog", "zebra")).features(np.zeros((1, 8, 8, 3)), "category")
    with pytest.raises(InputError, match="cannot be told apart"):
        ZeroShot(names=("dog", "dog"))
    with pytest.raises(InputError, match="cannot be told apart"):
        ZeroShot(names=NAMES, templates=("a photo.",))


def test_metrics_on_clip_embed_an_image_once(drawn, monkeypatch):
    judge, other = ZeroShot(names=NAMES).on(), load_metric("two_way_clip")
    other.features(drawn[:5])
    monkeypatch.setattr(ClipEmbedding, "read", lambda self, prepared: pytest.fail("an image was read again"))
    judge.features(drawn[:5], "category")


def test_mentions_are_whole_words():
    names = ("dog", "hot dog", "bus", "cup", "traffic light")
    texts = [
        "Two dogs and a bus.",
        ["A hot dog.", "A Cup"],
        "A buster in traffic, light rain",
        [],
        "Buses and traffic lights",
    ]
    expected = [{"dog", "bus"}, {"hot dog", "cup"}, set(), set(), {"bus", "traffic light"}]
    found = mentions(texts, names)
    assert [{names[n] for n in np.flatnonzero(row)} for row in found] == expected


def test_caption_recall_by_hand():
    judge = CaptionNames(names=("dog", "cat", "bus"))
    similarity = np.array([[0.9, 0.1, 0.5], [0.9, 0.1, 0.5], [0.1, 0.2, 0.9], [0.1, 0.2, 0.3]])
    metric = load_metric("caption_recall")
    texts = ["a dog and a bus", "a cat", "a cat and a dog", "nothing"]
    values = metric.function(similarity, similarity, captions=texts, network=judge)
    np.testing.assert_array_equal(values, [1, 0, 0.5, np.nan])


def test_caption_similarity_is_open_clips(drawn, said):
    metric = load_metric("caption_similarity")
    given = said[:6].copy()
    given[3] = []
    sentences = [text for texts in given for text in texts]
    seen, read = open_clips(drawn[:6], sentences)
    rows = np.repeat(np.arange(6), [len(texts) for texts in given])
    expected = np.full(6, np.nan)
    for row in set(rows.tolist()):
        mean = read[rows == row].mean(axis=0)
        expected[row] = seen[row] @ mean / np.linalg.norm(mean)
    context = {"captions": given}
    found = metric.values(drawn[:6][::-1], drawn[:6], context)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.isnan(found[3])
    # The null: the caption of another stimulus, whether by the matrix or pair by pair.
    orders = np.array([[1, 2, 0, 4, 5, 3], [5, 4, 3, 2, 1, 0]])
    expected = [np.nanmean(metric.values(drawn[:6], drawn[:6], context, order)) for order in orders]
    np.testing.assert_allclose(metric.null(drawn[:6], drawn[:6], orders, context), expected, atol=1e-12)
    shown = np.array([0, 1, 1, 2, 3, 4, 5])
    expected = [
        np.nanmean(metric.values(drawn[shown], drawn[:6][shown], {"captions": given[order[shown]]})) for order in orders
    ]
    found = metric.null(drawn[:6], drawn[:6][shown], orders[:, shown], context)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_captions_and_names_tell_right_from_wrong_pairs(drawn, said):
    store = SimpleNamespace(name="scenes", stimuli=pd.DataFrame({"captions": list(said)}))
    orders = np.stack([np.random.default_rng(n).permutation(len(drawn)) for n in range(20)])
    for name in ("caption_similarity", "caption_recall", "probe_kind"):
        metric = load_metric(name)
        network = metric.network.for_store(store) if name == "caption_recall" else metric.network
        metric = type(metric)(**{**vars(metric), "network": network})
        context = {"captions": said}
        values, null = metric.values(drawn, drawn, context), metric.null(drawn, drawn, orders, context)
        assert np.nanmean(values) > 2 * null.max()
        assert len(null) == 20
    with pytest.raises(InputError, match="too few things"):
        CaptionNames().for_store(SimpleNamespace(name="none", stimuli=pd.DataFrame({"captions": [["sky"]]})))


def test_survival_is_scikit_learns():
    rng = np.random.default_rng(0)
    shown = rng.choice(["cat", "dog", "bus"], 60)
    judged = np.where(rng.random(60) < 0.5, shown, rng.choice(["cat", "dog", "tree"], 60))
    table = survival(shown, judged).set_index("name")
    names = ["bus", "cat", "dog"]
    expected = sklearn.metrics.precision_recall_fscore_support(shown, judged, labels=names, zero_division=np.nan)
    np.testing.assert_allclose(table[["precision", "recall", "f1", "n"]].T.to_numpy(float), np.array(expected, float))
    wrong = pd.Series(judged[(shown == "bus") & (judged != "bus")]).value_counts()
    assert table.loc["bus", "mistaken for"] in wrong.index[wrong == wrong.max()]
    perfect = survival(["a", "b"], ["a", "b"])
    assert perfect["mistaken for"].tolist() == ["", ""]
    assert (perfect[["recall", "precision", "f1"]] == 1).all(axis=None)
