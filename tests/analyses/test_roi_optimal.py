"""Images that ROIs prefer, on a store in which it is planted what each ROI responds to."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge

import neurorecon as nr
from neurorecon.analyses.response_model import ResponseModel, standardized_by
from neurorecon.analyses.roi_optimal import eccentricity, expected_of
from neurorecon.analyses.roi_targets import RoiOptimalSettings, ascend, released
from neurorecon.decoders.samples import Recordings
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.features.base import Extractor
from neurorecon.metrics.networks import ImageNetwork
from neurorecon.parallel import Compute
from neurorecon.registry import FEATURES
from neurorecon.systems.base import System, TargetSpec, as_images, noise_like

SIZE, TRAIN, TEST = 16, 60, 20


class Halves(Extractor):
    """Mean luminance of the left and of the right half."""

    name, needs, version = "halves", "images", 1

    def __call__(self, batch):
        gray = batch.images.mean(axis=-1) / 255
        middle = gray.shape[2] // 2
        return np.stack([gray[..., :middle].mean(axis=(1, 2)), gray[..., middle:].mean(axis=(1, 2))], 1).astype("f4")

    def made_by(self):
        return {"model": "halves", "preprocessing": "none", "source": "this test", "version": self.version}


class Brighter(ImageNetwork):
    """A judge that says which half of an image is brighter."""

    layers = ("category",)
    source = preprocessing = None

    def load(self, device):
        raise AssertionError("there is no network")

    def read(self, prepared):
        raise AssertionError("there is no network")

    def record(self):
        return {"weights": "none", "weights_sha256": "0" * 64, "weights_license": "none"}

    def features(self, images, layer):
        left, right = images[:, :, : SIZE // 2].mean(axis=(1, 2, 3)), images[:, :, SIZE // 2 :].mean(axis=(1, 2, 3))
        return np.where(left > right, "left", "right")


class NoisyPixels(System):
    """Ridge regression to pixels, from all voxels or from those of one ROI, with noise of the seed."""

    name = "noisy-pixels"

    def __init__(self, renorm=None, roi=None):
        self.renorm = renorm
        self.roi = roi

    @property
    def targets(self):
        ridge = nr.RidgeDecoder(30.0, renorm=self.renorm, dtype="float64")
        return {"images": TargetSpec("images", ridge), "halves": TargetSpec("halves", ridge, roi=self.roi)}

    def generate(self, decoded, *, seed=0):
        shape = (SIZE, SIZE, 3)
        noise = np.stack([0.02 * noise_like(shape, seed, name) for name in decoded.stimuli])
        halves = np.repeat(decoded["halves"].values, SIZE // 2, axis=1)[:, None, :, None] if "halves" in decoded else 0
        return as_images(noise + (decoded["images"].values if "images" in decoded else halves), decoded.stimuli)


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Images of two halves; voxels of ROI A respond to the left one, those of B to the right one, C to nothing."""
    if "halves" not in FEATURES.names():
        FEATURES.register("halves", Halves)
    random = np.random.default_rng(0)
    halves = random.uniform(0.2, 0.8, (TRAIN + TEST, 2))
    images = np.repeat(halves, SIZE // 2, axis=1)[:, None, :, None] + random.normal(0, 0.05, (80, SIZE, SIZE, 3))
    drive = (halves - halves.mean(axis=0)) / halves.std(axis=0)
    units, sizes = (3, 0.5, 1), (10, 14, 12)  # voxels in units of their own, and with another mean
    responses = np.repeat(np.concatenate([drive, np.zeros((80, 1))], axis=1), sizes, axis=1)
    responses = (responses + random.normal(0, 0.4, responses.shape) + 2) * np.repeat(units, sizes)
    place = np.repeat(["A", "B", "C"], sizes)
    store = nr.build_from_arrays(
        tmp_path_factory.mktemp("planted") / "p.icechunk",
        {"subj01": responses.astype(np.float32)},
        pd.DataFrame({"stimulus": np.arange(80).astype(str), "split": ["train"] * TRAIN + ["test"] * TEST}),
        pd.DataFrame({"id": np.arange(80).astype(str)}),
        images=np.round(np.clip(images, 0, 1) * 255).astype(np.uint8),
        rois={name: place == name for name in "ABC"}, roi_groups={"both": ["A", "B"]}, simulated=True, progress=False,
    )  # fmt: skip
    return nr.extract(store, ["halves"], progress=False)


def optimal(store, roi=("A", "B"), system=None, **options):
    options = {"bands": ["halves"], "judge": Brighter(), "seeds": 4, "targets": ["images"], **options}
    return nr.roi_optimal(store, roi, system or NoisyPixels(), **options)


def lighter(found):
    """Return by how much the left half is brighter, by ROI."""
    left, right = found.images[..., : SIZE // 2, :], found.images[..., SIZE // 2 :, :]
    return dict(zip(found.rois, left.mean(axis=(1, 2, 3, 4)) - right.mean(axis=(1, 2, 3, 4)), strict=True))


@pytest.mark.parametrize(
    "options",
    [{}, {"method": "stimuli", "share": 0.3}, {"method": "stimuli", "share": 0.3, "mean_of": "decoded"},
     {"method": "stimuli", "share": 0.2, "relative": True},
     {"system": NoisyPixels("train")}, {"targets": ["halves"]}, {"system": NoisyPixels("test")}],
    ids=str,
)  # fmt: skip
def test_what_was_planted_is_found(planted, options):
    found = optimal(planted, ("A", "B", "A+B"), **options)
    difference = lighter(found)
    assert difference["A"] > 0.05
    assert difference["B"] < -0.05
    if options.get("method") != "stimuli" and options.get("system") is None:
        assert abs(difference["A+B"]) < 0.2 * difference["A"]
    table = found.table.groupby("roi")
    assert set(table.get_group("A")["verdict"]) == {"left"}
    assert set(table.get_group("B")["verdict"]) == {"right"}
    assert (table["predicted"].mean()[["A", "B"]] > 0.7).all()
    assert (table["selectivity"].mean()[["A", "B"]] > 0.5).all()
    responses = found.responses
    assert responses.loc["A", "A"] == pytest.approx(table["predicted"].mean()["A"])
    assert responses.loc["A", "A"] > responses.loc["A", "B"]
    encoding = found.encoding.set_index("roi")
    assert (encoding.loc[["A", "B"], "r"] > 0.9).all()
    assert (encoding.loc[["A", "B"], "p"] < 0.01).all()
    assert encoding.loc["C", "p"] > 0.01


@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_the_pattern_is_that_of_independent_code(planted, factor):
    found = optimal(planted, factor=factor)
    train = planted.responses("subj01", split="train").values.astype(float)
    pixels = planted.images([str(number) for number in range(TRAIN)]).values.reshape(TRAIN, -1) / 255
    weights = Ridge(alpha=30.0).fit((train - train.mean(0)) / train.std(0), pixels).coef_
    typical = np.sqrt(((pixels - pixels.mean(0)) ** 2).sum(axis=1).mean())
    for roi, mask in (("A", np.arange(36) < 10), ("B", (np.arange(36) >= 10) & (np.arange(36) < 24))):
        direction = weights @ mask.astype(float)
        wanted = pixels.mean(0) + factor * typical * direction / np.linalg.norm(direction)
        np.testing.assert_allclose(found.decoded[roi]["images"].values.ravel(), wanted, atol=1e-5)


def test_images_depend_on_no_other_roi_and_on_no_other_units(planted):
    both, alone = optimal(planted), optimal(planted, "B")
    np.testing.assert_array_equal(both.images[1], alone.images[0])
    fitted = NoisyPixels().fit(planted, "subj01")
    np.testing.assert_allclose(optimal(planted, system=fitted).images, both.images, atol=1e-6)


def test_targets_whose_decoder_does_not_see_the_roi_are_left_to_the_generator(planted):
    system = NoisyPixels(roi="A")
    found = optimal(planted, ("A", "B"), system, targets=None)
    assert {name: list(one) for name, one in found.decoded.items()} == {"A": ["images", "halves"], "B": ["images"]}
    assert found.record()["targets"]["B"] == ["images"]
    with pytest.raises(InputError, match="the decoder of 'halves' reads no voxel of the ROI 'B'"):
        optimal(planted, "B", system, targets=["halves"])


def test_random_sets_are_the_null_of_verdicts(planted):
    found = optimal(planted, ("A", "C"), random_sets=9, seeds=2)
    scores = {score.name: score for score in found.scores}
    assert list(scores) == ["subj01 A distance of verdicts", "subj01 C distance of verdicts"]
    for score in found.scores:
        assert score.n_permutations == 9
        assert round(score.p * 10, 6) in range(1, 11)
        assert 0 <= score.value <= 1
    again = optimal(planted, "C", random_sets=9, seeds=2)
    assert again.scores[0].row() == scores["subj01 C distance of verdicts"].row()


def test_released_constants():
    random = np.random.default_rng(0)
    weights, rest, mean = random.normal(size=(4, 6)), random.normal(size=6), random.normal(size=6)
    deviation = random.uniform(1, 2, 6)
    unit = weights / np.linalg.norm(weights, axis=1, keepdims=True)
    np.testing.assert_allclose(released(unit, rest, mean, deviation, (9.0,)), [9 * row + rest for row in unit])
    found = released(unit, rest, mean, deviation, (50.0, 80.0))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 80)
    columns = []
    for column in range(6):
        values = [50 * row[column] + rest[column] for row in unit]
        middle = sum(values) / 4
        spread = (sum((value - middle) ** 2 for value in values) / 4) ** 0.5
        columns.append([(value - middle) / spread * deviation[column] + mean[column] for value in values])
    wanted = np.array(columns).T
    np.testing.assert_allclose(found, 80 * wanted / np.linalg.norm(wanted, axis=1, keepdims=True))
    # What the corrected preset avoids: an image depends on the other ROIs.
    assert not np.allclose(found[:3], released(unit[:3], rest, mean, deviation, (50.0, 80.0)))


def test_an_external_encoder_and_files(planted, tmp_path):
    encoder = SimpleNamespace(predict=lambda images: images.mean(axis=(1, 2)))
    found = optimal(planted, encoder=encoder, judge=None)
    np.testing.assert_allclose(
        found.table[["external_0", "external_1", "external_2"]],
        found.images.mean(axis=(2, 3)).reshape(-1, 3),
        rtol=1e-5,
    )
    assert "verdict" not in found.table
    files = {path.name for path in nr.write(found, planted, tmp_path, nr.record_of(planted, "test"))}
    stem = "subj01_noisy-pixels_roi_optimal"
    tables = {f"{stem}_{name}.csv" for name in ("rois", "images", "responses", "encoding")}
    assert files == {f"{stem}.json", f"{stem}_grid.png", f"{stem}_report.html", f"{stem}_images.npz"} | tables
    record = json.loads((tmp_path / f"{stem}.json").read_text())
    assert record["settings"]["roi_voxels"] == {"A": 10, "B": 14}
    with np.load(tmp_path / f"{stem}_images.npz") as saved:
        np.testing.assert_array_equal(saved["images"], found.images)
    with pytest.raises(InputError, match="one row for each image"):
        optimal(planted, encoder=SimpleNamespace(predict=lambda images: np.zeros(3)))


def test_it_resumes(planted, tmp_path, monkeypatch):
    compute = Compute(folder=tmp_path)
    first = optimal(planted, compute=compute)
    monkeypatch.setattr(NoisyPixels, "generate", lambda *arguments, **options: pytest.fail("generated again"))
    np.testing.assert_array_equal(optimal(planted, compute=compute).images, first.images)


def test_mistakes_are_one_message(planted):
    for options, said in (
        ({"roi": "D"}, "unknown ROI"),
        ({"targets": ["pixels"]}, "unknown target of the system 'noisy-pixels'"),
        ({"method": "magic"}, "unknown method"),
        ({"judge": "pixcorr"}, "names no categories"),
    ):
        with pytest.raises((InputError, UnknownNameError), match=said):
            optimal(planted, **{"roi": "A", **options})
    for options, said in (
        ({"method": "gradient"}, "generator that can be differentiated"),
        ({"within": ["B", "C"]}, "the ROI 'A' has no voxels that the system is fitted to"),
        ({"within": "A"}, "the ROI 'A' has all voxels"),
        ({"factor": 0}, "factor is out of range"),
        ({"share": 1}, "share is out of range"),
        ({"roi": ["A+B"], "random_sets": 3}, "too large to be compared"),
        ({"system": NoisyPixels("test").fit(planted, "subj01")}, "moments that ROIs do not have"),
        ({"system": nr.load_system("brain-diffuser", preset="released"), "targets": None}, "standardizes across ROIs"),
        ({"options": {"alpha": 1}}, "given by name"),
    ):
        with pytest.raises(InputError, match=said):
            optimal(planted, **{"roi": "A", **options})


def test_where_the_energy_is():
    y, x = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32), indexing="ij")
    distance = np.hypot(y, x)
    spot, ring = distance < 0.3, (distance > 0.7) & (distance < 0.9)
    images = np.stack([spot, ring, np.zeros_like(spot)])[..., None] * np.ones(3)
    small, large, none = eccentricity(images)
    assert small == pytest.approx(0.3, abs=0.05)
    assert large == pytest.approx(0.8, abs=0.05)
    assert np.isnan(none)


def test_what_is_expected_of_rois():
    groups = {"faces": ["OFA", "FFA"], "visual": ["V1", "FFA"]}
    for roi, wanted in (
        ("FFA", ("face",)), ("lh.FFA-1", ("face",)), ("PPA+OPA", ("room", "building")), ("faces", ("face",)),
        ("V1", ()), ("FFA+PPA", ()), ("visual", ()), ("ecc4+", ()), ("EBA", ("person",)),
    ):  # fmt: skip
        assert expected_of(roi, groups) == wanted


def test_ascent_through_the_generator(scenes_with_tokens):
    """The predicted response of tensors is that of arrays, and ascent keeps the distance from the mean target."""
    store = scenes_with_tokens
    system = nr.load_system("brain-diffuser", device="cpu", steps=2, without=("vdvae", "clip_vision"))
    system.fit(store, "subj01")
    train = Recordings.read(store, "subj01", task="images", split="train")
    own = np.arange(len(train.voxels)) < 40
    model = ResponseModel.fit(store, standardized_by(system, train), {"own": own}, ("clip_image",), "bundled")
    start = system.decode(np.stack([np.zeros(own.size), own * 3.0]), standardized=True).take([1])
    start = nr.Decoded(
        {name: array.assign_coords(stimulus=["own"]) for name, array in start.items()}, ["own"], start.training
    )
    settings = RoiOptimalSettings(steps=2)
    found = ascend(system, model, start, train, settings, Compute())
    mean = system.training_["clip_text"][0]
    before, after = (one["clip_text"].values[0] - mean for one in (start, found))
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=1e-4)
    assert 0.7 < (before * after).sum() / np.linalg.norm(before) ** 2 < 0.9999
    np.testing.assert_array_equal(
        found["clip_text"], ascend(system, model, start, train, settings, Compute())["clip_text"]
    )
    images = np.concatenate([system.generate(one).values for one in (start, found)])
    values = model.of_tensors(torch.from_numpy(images).permute(0, 3, 1, 2), "own").detach().numpy()
    rest = model.decoder.predict(np.zeros((1, 128)))[0]
    np.testing.assert_allclose(values, model.predict(images)[:, 0] - rest, atol=0.05)


@pytest.fixture(scope="module")
def scenes_with_tokens(tmp_path_factory):
    from neurorecon.datasets.recipe import Recipe

    options = {"subjects": 1, "voxels": 100, "train_images": 40, "test_images": 8, "train_videos": 0, "test_videos": 0}
    recipe = Recipe(name="scenes-tokens", reader="scenes", targets=["clip_text", "clip_image"], options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("scenes") / "s.icechunk", progress=False)
