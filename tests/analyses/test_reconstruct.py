import json

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.analyses.reconstruct import reconstruct
from neurorecon.errors import InputError, UnknownNameError


@pytest.mark.parametrize("how", [None, "category", "stimulus"])
def test_shapes_and_scores(miniature, how):
    store = miniature(subjects=1, images=40)
    found = reconstruct(store, task="images", cross_validate=how, n_permutations=29)
    number = 10 if how is None else 40
    assert len(found.stimuli) == len(set(found.stimuli)) == number
    assert found.seen.shape == found.reconstructed.shape == (number, *store.images().shape[1:])
    np.testing.assert_allclose(found.seen, store.images(found.stimuli).values / 255, atol=1e-6)
    assert found.reconstructed.min() >= 0
    assert found.reconstructed.max() <= 1
    assert found.pixel_correlation.shape == (number,)
    for score in found.scores:
        null = found.null[score["name"].removeprefix("subj01 ")]
        assert len(null) == 29
        assert score["null_mean"] == pytest.approx(null.mean())
        assert score["p"] == pytest.approx((1 + (null >= score["value"] - 1e-12).sum()) / 30)
    assert json.loads(json.dumps(found.settings))["voxels"] == 40


def test_responses_that_saw_other_images_reconstruct_nothing(miniature, monkeypatch):
    """Pairs of responses and images are exchanged; identification then is at chance."""
    store = miniature(subjects=1, images=80)
    right = reconstruct(store, task="images", n_permutations=199)
    images = type(store).images
    order = np.random.default_rng(0).permutation(80)
    ids = store.stimuli["id"].tolist()[:80]
    other = dict(zip(ids, np.array(ids)[order], strict=True))
    monkeypatch.setattr(type(store), "images", lambda self, names: images(self, [other[name] for name in names]))
    wrong = reconstruct(store, task="images", n_permutations=199)
    assert [score["name"] for score in wrong.scores] == [score["name"] for score in right.scores]
    assert abs(wrong.scores[1]["value"] - 0.5) < 0.15
    assert all(score["p"] > 0.02 for score in wrong.scores)


def test_the_same_seed_gives_the_same_images(miniature):
    store = miniature(subjects=1, images=40)
    first, second = (reconstruct(store, task="images", n_permutations=9, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.reconstructed, second.reconstructed)
    assert first.scores == second.scores


def test_wrong_names(miniature):
    store = miniature(subjects=1)
    for arguments, message in (
        ({"system": "nothing"}, "unknown system"),
        ({"task": "music"}, "unknown task"),
        ({"cross_validate": "mood"}, "unknown column to cross-validate over"),
        ({"subject": "subj09"}, "unknown subject"),
        ({"roi": "V9"}, "unknown ROI"),
    ):
        with pytest.raises(UnknownNameError, match=message):
            reconstruct(store, n_permutations=5, **arguments)


def test_without_a_test_split_it_says_what_to_do(miyawaki_folder, tmp_path):
    store = nr.build("miyawaki2008", tmp_path / "m.icechunk", root=miyawaki_folder, progress=False)
    with pytest.raises(InputError, match=r"no held-out stimuli[\s\S]*--cross-validate category"):
        reconstruct(store)
