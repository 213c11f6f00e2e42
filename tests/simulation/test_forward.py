"""The responses of simulated voxels: receptive fields, planted shares, what drives which ROI."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from neurorecon.simulation.cortex import COMPONENTS, FIELD_OF_VIEW, LAYOUT, ROIS, TUNING, build_cortex
from neurorecon.simulation.stimuli import Stimuli
from neurorecon.simulation.vocabulary import CATEGORIES
from neurorecon.simulation.voxels import ForwardModel, receptive_fields, saturate

IMAGES, VIDEOS = 48, 24


@pytest.fixture(scope="module")
def stimuli() -> Stimuli:
    return Stimuli(seed=3, images=IMAGES, videos=VIDEOS, size=64)


@pytest.fixture(scope="module")
def model(stimuli: Stimuli) -> ForwardModel:
    cortex = build_cortex(seed=3, subject=1, voxels=600)
    return ForwardModel(3, 1, cortex, stimuli, range(IMAGES), range(IMAGES, IMAGES + VIDEOS))


def test_every_roi_is_tuned_to_something_and_its_shares_sum_to_one() -> None:
    assert [roi.name for roi in ROIS] == list(TUNING)
    for tuning in TUNING.values():
        assert sum(tuning.shares.values()) == pytest.approx(1)
        assert set(tuning.shares) <= set(COMPONENTS)
        assert set(tuning.prefers) <= set(CATEGORIES)
        assert set(tuning.layout) <= set(LAYOUT)
        assert ("category" in tuning.shares) == bool(tuning.prefers)
        assert ("layout" in tuning.shares) == bool(tuning.layout)


@given(x=st.floats(-5, 5), y=st.floats(-5, 5), size=st.floats(0.6, 1.2), cells=st.sampled_from([16, 32]))
def test_receptive_fields_are_where_they_were_put(x: float, y: float, size: float, cells: int) -> None:
    field = receptive_fields(np.array([[x], [y], [size]]), cells).reshape(cells, cells)
    centers = (np.arange(cells) + 0.5) * FIELD_OF_VIEW / cells - FIELD_OF_VIEW / 2
    assert field.sum() == pytest.approx(1, abs=0.05)
    assert (field.sum(axis=0) * centers).sum() == pytest.approx(x, abs=0.3)
    assert (field.sum(axis=1) * centers).sum() == pytest.approx(y, abs=0.3)
    variance = (field.sum(axis=0) * (centers - x) ** 2).sum()
    assert np.sqrt(variance) == pytest.approx(size, rel=0.2)


def test_a_field_beyond_the_border_sees_less() -> None:
    field = receptive_fields(np.array([[0.0, 10.0, 16.0], [0.0] * 3, [1.5] * 3]), 32).sum(axis=0)
    assert field == pytest.approx([1.0, 0.5, 0.0], abs=0.01)


def test_planted_shares_sum_to_one_in_visual_rois_and_to_zero_outside(model: ForwardModel) -> None:
    total = sum(model.shares.values())
    np.testing.assert_allclose(total, (model.roi != "").astype(float))
    early = np.isin(model.roi, ("V1", "V2", "V3"))
    assert (model.shares["color"][early] <= 0.25 + 1e-12).all()


@pytest.mark.parametrize("task", ["images", "videos"])
def test_signals_have_mean_zero_and_variance_one_over_training_stimuli(model: ForwardModel, task: str) -> None:
    numbers = range(IMAGES) if task == "images" else range(IMAGES, IMAGES + VIDEOS)
    signals = np.stack([model.signal(number, task) for number in numbers])
    assert (signals[:, model.roi == ""] == 0).all()
    np.testing.assert_allclose(signals.mean(axis=0), 0, atol=1e-4)
    alive = (model.coverage > 0.01) & (model.left["images"] > 0.1)
    np.testing.assert_allclose(signals.std(axis=0)[alive], 1, atol=1e-3)


def test_what_is_left_out_is_missing_and_all_else_is_as_before(stimuli: Stimuli, model: ForwardModel) -> None:
    cortex = build_cortex(seed=3, subject=1, voxels=600)
    videos = range(IMAGES, IMAGES + VIDEOS)
    still = ForwardModel(3, 1, cortex, stimuli, range(IMAGES), videos, without=["motion"])
    assert not still.shares["motion"].any()
    np.testing.assert_allclose(sum(still.shares.values()), (model.roi != "").astype(float))
    np.testing.assert_allclose(still.left["videos"], (model.roi != "") - model.shares["motion"], atol=1e-12)
    np.testing.assert_allclose(still.left["images"], model.left["images"], atol=1e-12)
    np.testing.assert_allclose(still.signal(0, "images"), model.signal(0, "images"), atol=1e-5)  # images have no motion
    moving = model.components(IMAGES).copy()
    moving[COMPONENTS.index("motion")] = 0
    np.testing.assert_array_equal(still.components(IMAGES), moving)
    nothing = ForwardModel(3, 1, cortex, stimuli, range(IMAGES), videos, without=COMPONENTS)
    assert not nothing.signal(IMAGES, "videos").any()
    assert not any(share.any() for share in (*nothing.shares.values(), *nothing.left.values()))


def test_images_do_not_move(model: ForwardModel) -> None:
    assert not model.components(0)[COMPONENTS.index("motion")].any()
    assert model.components(IMAGES)[COMPONENTS.index("motion"), model.roi == "MT"].all()


@pytest.mark.parametrize(
    ("roi", "preferred"),
    [("FFA", {"face"}), ("OFA", {"face"}), ("EBA", {"person"}), ("PPA", {"building", "room"})],
)
def test_rois_prefer_their_categories(model: ForwardModel, roi: str, preferred: set[str]) -> None:
    signals = np.stack([model.signal(number, "images")[model.roi == roi].mean() for number in range(IMAGES)])
    categories = np.array([model.stimuli.scene(number).category for number in range(IMAGES)])
    means = {name: signals[categories == name].mean() for name in CATEGORIES}
    assert sorted(means, key=means.__getitem__)[-len(preferred) :] == sorted(preferred, key=means.__getitem__)


def test_the_response_to_a_category_saturates() -> None:
    rois = np.array([0.0, 0.06, 1.0])
    assert saturate(rois) == pytest.approx([0.0, 0.5, 0.943], abs=1e-3)


def test_models_repeat_and_do_not_depend_on_what_was_asked_before(stimuli: Stimuli) -> None:
    cortex = build_cortex(seed=3, subject=1, voxels=100)
    first, second = (ForwardModel(3, 1, cortex, stimuli, range(8), range(IMAGES, IMAGES + 4)) for _ in range(2))
    early = [first.signal(number, "images") for number in (5, 20)]
    for number in (30, 20, 7, 5):
        late = second.signal(number, "images")
    np.testing.assert_array_equal(late, early[0])
    np.testing.assert_array_equal(second.signal(20, "images"), early[1])


def test_stimuli_computed_at_the_same_time_give_the_same_bits(stimuli: Stimuli) -> None:
    videos = range(IMAGES, IMAGES + VIDEOS)
    cortex = build_cortex(seed=3, subject=1, voxels=300)
    alone, together = (ForwardModel(3, 1, cortex, stimuli, range(IMAGES), videos) for _ in range(2))
    with threadpool_limits(1, "blas"):
        together.prepare([*videos[:5], *videos[:5]], "videos")
        assert together.components.cache_info().currsize == VIDEOS
        for number in videos[:5]:
            np.testing.assert_array_equal(together.signal(number, "videos"), alone.signal(number, "videos"))


def test_features_do_not_depend_on_the_size_of_the_images() -> None:
    small, large = (Stimuli(seed=3, images=2, videos=1, size=size) for size in (64, 32))
    for number in range(3):
        np.testing.assert_array_equal(small.features(number).gabor, large.features(number).gabor)
    assert large.image(2).shape == (32, 32, 3)
