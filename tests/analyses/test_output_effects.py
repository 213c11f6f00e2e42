import itertools

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.analyses.output_effects import OutputSettings, flip_signs, measure, output_effects
from neurorecon.decoders import RidgeDecoder
from neurorecon.errors import InputError
from neurorecon.metrics.networks import CategoryProbe
from neurorecon.store.build import build_from_arrays
from neurorecon.systems.base import System, TargetSpec, as_images

STIMULI, VOXELS = 60, 12


class Gray(System):
    """Decodes one number, and generates a gray image of this luminance."""

    name = ""

    @property
    def targets(self):
        return {"level": TargetSpec("level", RidgeDecoder(5.0))}

    def generate(self, decoded, *, seed=0):
        levels = 0.5 + 0.05 * decoded["level"].values[:, :1, None, None]
        return as_images(np.broadcast_to(levels, (len(levels), 4, 4, 3)), decoded.stimuli)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """V1 follows the level, V2 is noise."""
    random = np.random.default_rng(0)
    level = random.standard_normal((STIMULI, 2))
    responses = random.standard_normal((STIMULI, VOXELS))
    responses[:, :6] += 2 * level[:, :1]
    ids = np.array([f"s{number:02d}" for number in range(STIMULI)])
    images = (255 * np.broadcast_to(0.5 + 0.1 * np.clip(level[:, :1, None, None], -3, 3), (STIMULI, 4, 4, 3))).astype(
        np.uint8
    )
    built = build_from_arrays(
        tmp_path_factory.mktemp("output") / "gray.icechunk", responses.astype(np.float32),
        {"stimulus": ids, "split": np.where(np.arange(STIMULI) < 40, "train", "test")}, stimuli={"id": ids},
        images=images, rois={"V1": np.arange(VOXELS) < 6, "V2": np.arange(VOXELS) >= 6}, progress=False,
    )  # fmt: skip
    made_by = {"model": "random numbers", "source": "a test"}
    return nr.add_target(built, "level", level.astype(np.float32), dims=["feature"], made_by=made_by)


def test_a_raised_roi_changes_the_output_by_its_weights(store):
    """A linear system: the change is the sum of the weights of the ROI, the same for all stimuli."""
    found = output_effects(store, Gray(), step=1.5, stimuli=12)
    decoder = Gray().fit(store, "subj01" if "subj01" in store.subjects else store.subjects[0]).decoders_["level"]
    weights = decoder.coef_[0]
    test = store.responses(store.subjects[0], split="test", average="stimulus")["stimulus"].values.tolist()
    spread = (store.images(test).values / 255.0).mean(axis=(1, 2, 3)).std()
    table = found.table.set_index(["roi", "feature"])
    for roi, voxels in (("V1", slice(0, 6)), ("V2", slice(6, 12))):
        expected = 1.5 * 0.05 * weights[voxels].sum() / spread
        assert table["value"][roi, "luminance"] == pytest.approx(expected, rel=1e-3)
    assert set(found.table["feature"]) == {"luminance"}  # gray images have neither color nor edges
    assert {score.name.split()[1] for score in found.scores} == {"V1", "V2"}
    assert "no category is measured" in found.text(store)
    assert table["p"]["V1", "luminance"] <= 0.01
    assert (found.table["low"] <= found.table["difference"] + 1e-9).all()


def test_named_rois_are_raised_in_a_system_of_all_voxels(store):
    both = output_effects(store, Gray(), stimuli=6).table.set_index("roi")["value"]
    one = output_effects(store, Gray(), roi=["V2", "V1+V2"], stimuli=6).table.set_index("roi")["value"]
    assert list(one.index) == ["V2", "V1+V2"]
    assert one["V2"] == pytest.approx(both["V2"])
    assert one["V1+V2"] == pytest.approx(both.sum())
    fitted = Gray().fit(store, store.subjects[0], "V1")
    with pytest.raises(InputError, match="no ROI to raise"):
        output_effects(store, fitted, roi="V2", stimuli=6)


def test_few_stimuli_are_said_to_be_too_few(store):
    found = output_effects(store, Gray(), stimuli=3, n_permutations=50)
    assert "a single effect among 2 cannot be significant" in found.text(store)


def test_what_is_measured():
    images = np.zeros((4, 8, 8, 3))
    images[1] = 1.0
    images[2, ..., 0] = 1.0  # red
    images[3, :, 4:] = 1.0  # an edge
    found = measure(images)
    np.testing.assert_allclose(found["luminance"], [0, 1, 0.2126, 0.5])
    np.testing.assert_allclose(found["contrast"], [0, 0, 0, 0.5], atol=1e-12)
    np.testing.assert_allclose(found["saturation"], [0, 0, 1, 0])
    np.testing.assert_allclose(found["red-green"], [0, 0, 1, 0])
    np.testing.assert_allclose(found["blue-yellow"], [0, 0, -0.5, 0])
    assert found["edges"][3] > 0.1 > found["edges"][:3].max()
    videos = measure(np.stack([images[:2], images[2:]]))
    np.testing.assert_allclose(videos["luminance"], [0.5, (0.2126 + 0.5) / 2])


def test_categories_are_those_that_the_probe_sees():
    images = np.random.default_rng(0).random((5, 64, 64, 3))
    found, probe = measure(images, CategoryProbe()), CategoryProbe()
    names = list(dict.fromkeys(probe.network.config.categories))
    np.testing.assert_allclose(np.sum([found[name] for name in names], axis=0), 1.0, rtol=1e-6)
    answers = probe.network.answers(np.round(255 * images).astype(np.uint8))
    kinds = np.array(probe.network.config.kinds)
    # The kind that is most probable has at least one in so many chances, and so has its category.
    for number, category in enumerate(answers.category):
        assert found[category][number] >= 1 / len(kinds)


def test_signs_are_flipped_as_in_all_flips():
    differences = np.random.default_rng(2).standard_normal(8) + 0.5
    flips = np.array(list(itertools.product([-1, 1], repeat=8)))
    exact = (np.abs(flips @ differences) >= abs(differences.sum()) - 1e-9).mean()
    p, null = flip_signs(differences, 20_000, 0)
    assert p == pytest.approx(exact, abs=0.01)
    assert null.mean() == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("wrong", [{"stimuli": 1}, {"step": 0.0}, {"step": np.nan}, {"confidence": 1.0}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(InputError, match="out of range"):
        OutputSettings(**wrong)
