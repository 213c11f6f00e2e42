"""Mind-Animator on a small store: contract, what each target changes, presets, ablations."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from sklearn.base import clone

import neurorecon as nr
from neurorecon.analyses.system_maps import system_maps
from neurorecon.datasets.recipe import Recipe
from neurorecon.decoders.samples import Recordings, training_images
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.systems.base import Decoded
from neurorecon.systems.diffusion import decode_frames
from neurorecon.systems.mind_animator import ENERGY, FRAMES, SEMANTICS, STRUCTURE
from neurorecon.testing import system_checks

NAME = "mind-animator"
#: The store is built once.
pytestmark = pytest.mark.xdist_group("mind-animator")

_SHORT = {"max_epochs": 4, "batch_size": 8, "learning_rate": 3e-3}
#: Two steps, of which the strength skips the first, and decoders that are fitted in a moment.
TINY = {
    SEMANTICS: {"hidden": [32], "head": [32], **_SHORT},
    STRUCTURE: {"hidden": [64], **_SHORT},
    FRAMES: {"width": 16, "depth": 1, "heads": 2, "feedforward": 16, "patch": 4, "memory": 4, **_SHORT},
}
QUICK = {"steps": 2, "device": "cpu", "motion": "frames", "linear": (), "network": TINY}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Forty training and eight test clips of one subject (the delayed responses to the last three are not there)."""
    options = {"subjects": 1, "voxels": 300, "train_images": 1, "test_images": 1, "train_videos": 40, "test_videos": 8}
    options |= {"signal": 4.0, "test_video_repeats": 2, "test_image_repeats": 1}
    targets = [SEMANTICS, STRUCTURE, FRAMES, ENERGY, "clip_text_embedding", "clip_image", "vqvae"]
    recipe = Recipe(name="clips", reader="scenes", targets=targets, options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("clips") / "s.icechunk", progress=False)


@pytest.mark.parametrize("check", system_checks(), ids=str)
def test_contract(store, check):
    check(nr.load_system(NAME, **QUICK), store)


# -- with ridge regression and the motion prior, as with the bundled networks ---------------------------------------


@pytest.fixture(scope="module")
def fitted(store):
    return nr.load_system(NAME, steps=2, device="cpu").fit(store, "subj01", task="videos")


@pytest.fixture(scope="module")
def decoded(fitted, store):
    return fitted.decode(store.responses("subj01", task="videos", split="test", average="stimulus", delays=())[:2])


def test_each_target_has_its_own_renormalization(fitted):
    """Text and motion need the deviation of true targets: near the mean, all clips are the same, and nothing moves."""

    def found(system):
        return {name: spec.decoder.renorm for name, spec in system.targets.items()}

    assert found(fitted) == {SEMANTICS: "train", STRUCTURE: None, ENERGY: "train"}
    assert found(nr.load_system(NAME, renorm="train")) == dict.fromkeys((SEMANTICS, STRUCTURE, ENERGY), "train")
    assert found(nr.load_system(NAME, renorm={STRUCTURE: "train"})) == {
        SEMANTICS: "train", STRUCTURE: "train", ENERGY: "train"
    }  # fmt: skip
    assert found(nr.load_system("brain-diffuser", renorm={"vdvae": "none"})) == {
        "vdvae": None, "clip_vision": "train", "clip_text": "train"
    }  # fmt: skip
    with pytest.raises(UnknownNameError, match=r"vqvae_frist"):
        found(nr.load_system(NAME, renorm={"vqvae_frist": "train"}))


def test_the_bundled_default_decodes_motion_energy(fitted, decoded):
    assert list(decoded) == [SEMANTICS, STRUCTURE, ENERGY]
    assert fitted.network_roles[-1] == "motion-prior"
    assert {type(decoder).__name__ for decoder in fitted.decoders_.values()} == {"RidgeDecoder"}
    videos = fitted.generate(decoded, seed=1)
    assert videos.shape == (2, 8, 64, 64, 3)


@pytest.mark.parametrize(("target", "roi"), [(STRUCTURE, "early"), (ENERGY, ("MT", "MST"))])
def test_structure_and_motion_are_decoded_from_their_areas(fitted, store, target, roi):
    """Other voxels do not change them."""
    responses = store.responses("subj01", task="videos", split="test", average="stimulus", delays=())[:2]
    areas = np.isin(responses["voxel"], store.voxels("subj01", roi).index)
    assert 0 < areas.sum() < len(areas)
    found, other = fitted.decode(responses), fitted.decode(responses.copy(data=np.where(areas, responses.values, 0)))
    np.testing.assert_array_equal(found[target].values, other[target].values)
    assert np.abs(found[SEMANTICS].values - other[SEMANTICS].values).max() > 0.01


# -- structure from images ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def with_images(tmp_path_factory):
    """Twelve training clips, and more images."""
    options = {"subjects": 1, "voxels": 200, "train_images": 30, "test_images": 2, "train_videos": 12, "test_videos": 8}
    options |= {"signal": 4.0, "test_video_repeats": 2, "test_image_repeats": 1}
    recipe = Recipe(name="both", reader="scenes", targets=[STRUCTURE, "vqvae"], options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("both") / "s.icechunk", progress=False)


def structure_of(store, **options):
    """Return a fitted system with structure alone, and what it decodes from the test clips."""
    fit = {name: options.pop(name) for name in ("samples", "folder") if name in options}
    system = nr.load_system(NAME, without=(SEMANTICS, ENERGY), device="cpu", **options)
    system.fit(store, "subj01", task="videos", **fit)
    responses = store.responses("subj01", task="videos", split="test", average="stimulus", delays=())
    return system, system.decode(responses)[STRUCTURE].values


def test_structure_is_learned_from_images(with_images, tmp_path):
    """As by hand: responses to images, standardized on their own, and images' latents with the mean of first frames."""
    store = with_images
    system, found = structure_of(store, folder=tmp_path / "fit")
    assert system.elsewhere_ == {STRUCTURE: {"task": "images", "target": "vqvae", "stimuli": 30}}
    kept = nr.load_system(tmp_path / "fit")
    assert kept.elsewhere_ == system.elsewhere_
    parts = {}
    for task in ("images", "videos"):
        read = Recordings.read(store, "subj01", "early", task=task, split="train")
        parts[task] = read.responses.astype(float), read
    x, images = parts["images"]
    clips = parts["videos"][0]
    latents = images.target("vqvae").copy()
    latents = latents + (parts["videos"][1].target(STRUCTURE).mean("sample") - latents.mean("sample"))
    decoder = clone(system.targets[STRUCTURE].decoder).fit((x - x.mean(0)) / x.std(0), latents)
    test = store.responses("subj01", "early", task="videos", split="test", average="stimulus", delays=()).values
    np.testing.assert_allclose(found, decoder.predict((test - clips.mean(0)) / clips.std(0)), atol=1e-4)
    _, from_clips = structure_of(store, structure="clips")
    assert np.abs(found - from_clips).max() > 0.1
    with pytest.raises(UnknownNameError, match="films"):
        structure_of(store, structure="films")


def test_what_is_learned_from_images_does_not_escape_a_null(with_images):
    """If clips are re-paired for a null, so are images; and a fit to other pairs is another fit."""
    train = Recordings.read(with_images, "subj01", task="videos", split="train")
    same, other = (train.showing(stimuli) for stimuli in (train.stimuli, np.roll(train.stimuli, 1)))
    (system, own), (_, again) = (structure_of(with_images, samples=one) for one in (train, same))
    np.testing.assert_array_equal(own, again)
    _, null = structure_of(with_images, samples=other)
    assert np.abs(own - null).max() > 0.1
    images, permuted = train.elsewhere(), other.elsewhere()
    assert sorted(images.stimuli) == sorted(permuted.stimuli)
    assert (images.stimuli != permuted.stimuli).mean() > 0.5
    np.testing.assert_array_equal(images.responses, permuted.responses)
    assert system.fit_digest(train) == system.fit_digest(same) != system.fit_digest(other)


def test_images_stay_in_their_category_as_clips_do(with_images):
    train = Recordings.read(with_images, "subj01", task="videos", split="train")
    category = with_images.stimuli.set_index("id")["category"]
    labels = category.loc[train.stimuli].to_numpy()
    paired = train.stimuli.copy()
    for label in set(labels):
        paired[labels == label] = np.roll(paired[labels == label], 1)
    images, permuted = train.elsewhere(), train.showing(paired, within="category").elsewhere()
    assert (images.stimuli != permuted.stimuli).any()
    np.testing.assert_array_equal(category.loc[images.stimuli], category.loc[permuted.stimuli])
    free = train.showing(paired, within="category").showing(np.roll(paired, 1)).elsewhere()
    assert (category.loc[free.stimuli].to_numpy() != category.loc[images.stimuli].to_numpy()).any()


def test_held_out_clips_are_not_known_from_images(with_images):
    """Other samples than those of the training split, or other splits: nobody knows which images belong to them."""
    every = Recordings.read(with_images, "subj01", task="videos")
    assert every.elsewhere() is None
    train = Recordings.read(with_images, "subj01", task="videos", split="train")
    assert train.take(np.arange(4)).elsewhere() is not None
    folds = nr.split(with_images, "random", target=STRUCTURE)
    folds = folds.with_split(folds.split_columns[-1])
    assert Recordings.read(folds, "subj01", task="videos", split="train").elsewhere() is None
    found = nr.reconstruct(
        with_images, NAME, subject="subj01", task="videos", cross_validate="stimulus", metrics=["psnr_frames"],
        options={"without": (SEMANTICS, ENERGY), "first_stage_only": True, "device": "cpu"}, n_permutations=9,
    )  # fmt: skip
    assert found.chosen["learned_elsewhere"] == {}


def test_clips_do_not_stand_for_images(with_images):
    """Only images teach structure, however many there are of something else."""
    assert training_images(with_images, "subj01", "videos") == "images"
    assert training_images(with_images, "subj01", "images") is None


def test_images_without_latents_say_what_to_compute(tmp_path):
    options = {"subjects": 1, "voxels": 100, "train_images": 6, "test_images": 1, "train_videos": 4, "test_videos": 2}
    options |= {"test_video_repeats": 1, "test_image_repeats": 1}
    recipe = Recipe(name="both", reader="scenes", targets=[STRUCTURE], options=options)
    lacking = nr.build(recipe, tmp_path / "s.icechunk", progress=False)
    train = Recordings.read(lacking, "subj01", task="videos", split="train")
    with pytest.raises(InputError, match=r"(?s)vqvae.*neurorecon features --target vqvae"):
        structure_of(lacking, samples=train)
    system, _ = structure_of(lacking)  # a store is given what it lacks
    assert system.elsewhere_[STRUCTURE]["stimuli"] == 6


def test_structure_is_learned_from_clips_where_there_are_fewer_images(store):
    system, _ = structure_of(store)
    assert system.elsewhere_ == {}


def test_weights_of_structure_are_those_that_images_taught(with_images):
    system, _ = structure_of(with_images)
    found = system_maps(with_images, system, "subj01", kind="weights", n_permutations=19)
    x = Recordings.read(with_images, "subj01", "early", task="images", split="train")
    early = np.isin(with_images.voxels("subj01").index, x.voxels)
    weights = np.abs(system.decoders_[STRUCTURE].coef_.reshape(-1, early.sum()))
    strength = (weights / system.training_[STRUCTURE][1].ravel()[:, None]).mean(axis=0)
    np.testing.assert_allclose(found.table[f"weights_{STRUCTURE}"][early], strength, rtol=1e-3)


def test_a_store_without_the_areas_says_what_to_type(store):
    everywhere = nr.load_system(NAME, rois={}, without=(SEMANTICS, STRUCTURE), device="cpu")
    assert everywhere.targets[ENERGY].roi is None
    elsewhere = nr.load_system(NAME, rois={ENERGY: "V5"}, device="cpu")
    with pytest.raises(InputError, match=r"does not have the ROI that 'motion'.*\n.*V5.*MST(.*\n)*.*rois=\{\}"):
        elsewhere.fit(store, "subj01", task="videos")


def test_each_target_changes_what_it_stands_for(fitted, decoded):
    """Motion leaves the first frame; a clip without motion stands still; energy of another clip moves it otherwise."""
    first = fitted.first_frame(decoded, 0)
    np.testing.assert_array_equal(first, decoded[STRUCTURE].values)
    latents = fitted.moved(first, decoded)
    np.testing.assert_array_equal(latents[:, 0], first)
    assert np.abs(latents[:, 1:] - latents[:, :1]).max() > 0.01
    still = fitted.moved(first, decoded.drop(ENERGY))
    assert (still == still[:, :1]).all()
    other = fitted.moved(first, decoded.permute(ENERGY, [1, 0]))
    np.testing.assert_array_equal(other[:, 0], first)
    assert np.abs(other - latents).max() > 1e-3
    imagined = fitted.first_frame(decoded.drop(STRUCTURE), 0)
    assert np.abs(imagined - first).max() > 0.1


def test_first_frames_are_redrawn_before_they_move(fitted, decoded):
    """By the network of images, from the decoded frame and guided by the text; not in the first stage."""
    own, text = (fitted.first_frame(part, 0, 0.5) for part in (decoded, decoded.permute(SEMANTICS, [1, 0])))
    assert own.shape == decoded[STRUCTURE].shape
    assert np.abs(own - text).max() > 1e-3
    kept = copy.copy(fitted).set_params(redraw=0.0, strength=0.0)
    np.testing.assert_array_equal(kept.generate(decoded).values, kept.stages(decoded)[STRUCTURE].values)
    kept.set_params(redraw=0.5)
    shown = kept.generate(decoded, seed=0).values
    np.testing.assert_allclose(shown, decode_frames(kept, kept.moved(own, decoded)), atol=1e-5)


def test_the_prior_moves_frames_as_true_motion_does(store, fitted):
    """On clips of the store, which the prior has not seen: closer to the true latents than frames that stand still."""
    ids = sorted(store.stimuli_with(FRAMES))[:12]
    true = {name: store.targets(name, stimuli=ids) for name in (STRUCTURE, ENERGY, FRAMES)}
    moved = fitted.moved(true[STRUCTURE].values, Decoded({ENERGY: true[ENERGY]}))
    frames = true[FRAMES].values
    error, still = (((made - frames) ** 2).sum() for made in (moved, np.repeat(frames[:, :1], 8, axis=1)))
    assert error < 0.9 * still


def test_frames_go_on_from_the_decoded_structure():
    """With decoded frames, what changes after the first one is added to the structure."""
    import xarray

    random, stimuli = np.random.default_rng(0), ["a", "b"]
    made = {
        STRUCTURE: xarray.DataArray(
            random.standard_normal((2, 6, 16, 16)), dims=("stimulus", "channel", "y", "x"), coords={"stimulus": stimuli}
        ),
        FRAMES: xarray.DataArray(
            random.standard_normal((2, 3, 6, 16, 16)),
            dims=("stimulus", "frame", "channel", "y", "x"),
            coords={"stimulus": stimuli},
        ),
    }
    decoded, system = Decoded(made), nr.load_system(NAME, motion="frames", device="cpu")
    found = system.moved(system.first_frame(decoded, 0), decoded)
    np.testing.assert_array_equal(found[:, 0], decoded[STRUCTURE].values)
    changes = decoded[FRAMES].values[:, 1:] - decoded[FRAMES].values[:, :1]
    np.testing.assert_allclose(found[:, 1:] - found[:, :1], changes, atol=1e-5)
    assert system.make_generator(decoded).frames == 3
    smaller = made[STRUCTURE][:, :, :8, :8]
    with pytest.raises(InputError, match="different sizes"):
        system.moved(smaller.values, decoded)


def test_presets_and_parameters():
    released = nr.load_system(NAME, preset="released")
    assert released.targets[FRAMES].decoder.patch is None
    assert released.targets[FRAMES].decoder.width == 16_384
    assert released.settings["scale_responses"] == "test"
    corrected = nr.load_system(NAME, models="published")
    assert corrected.targets[FRAMES].decoder.patch == 2
    assert corrected.targets[SEMANTICS].beside == ("clip_text_embedding", "clip_image")
    assert corrected.sources == [SEMANTICS, "clip_text_embedding", "clip_image", STRUCTURE, FRAMES]
    assert list(nr.load_system(NAME, without=(ENERGY,)).targets) == [SEMANTICS, STRUCTURE]
    for wrong in ({"motion": "speed"}, {"without": ("speed",)}, {"network": {STRUCTURE: {"widths": 3}}, "linear": ()}):
        with pytest.raises(UnknownNameError):
            nr.load_system(NAME, **wrong).targets  # noqa: B018
