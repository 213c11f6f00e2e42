"""Folders for the Hugging Face hub: cards that the hub's own library reads, terms that are kept, whole or nothing."""

import json
import re

import numpy as np
import pytest
import xarray
from huggingface_hub import DatasetCard, ModelCard
from sklearn.base import BaseEstimator

import neurorecon as nr
from neurorecon import hub
from neurorecon.analyses import cards
from neurorecon.analyses.cards import OPEN_LICENSES, Terms, export_dataset, export_model
from neurorecon.analyses.results import MANIFEST, data_of, record_of, write_fit_manifest
from neurorecon.decoders.persistence import Persistent
from neurorecon.errors import InputError, MissingFileError, NeuroreconWarning
from neurorecon.systems.base import System, TargetSpec
from neurorecon.systems.linear_pixels import LinearPixels

RESTRICTED = "no redistribution | <b>ask</b> the authors"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Return what builds a store of a lab's own images, by the terms of its data."""
    built = {}

    def build(terms):
        if terms not in built:
            generator = np.random.default_rng(0)
            images = generator.integers(0, 256, (16, 8, 8, 3), dtype=np.uint8)
            shown = np.r_[np.arange(12), np.tile(np.arange(12, 16), 3)]
            responses = images.reshape(16, -1)[shown, :20] / 64 + generator.standard_normal((24, 20))
            built[terms] = nr.build_from_arrays(
                tmp_path_factory.mktemp("lab") / "lab.icechunk",
                responses.astype(np.float32),
                {"stimulus": shown.astype(str), "split": np.where(shown < 12, "train", "test")},
                images=images,
                rois={"V1": np.arange(20) < 8, "odd|<i>name": np.arange(20) > 4},
                terms=terms,
                title="A lab's own",
                citation="Nobody (2026)",
                progress=False,
            )
        return built[terms]

    return build


@pytest.fixture
def fit(tmp_path):
    """Return what fits a system, as the command does, and the folder."""

    def make(store, system=None, subject=None):
        subject, folder = subject or store.subjects[0], tmp_path / "fits" / "one"
        fitted = (system or LinearPixels(alphas=(1.0, 10.0), cv=3)).fit(store, subject, folder=folder)
        write_fit_manifest(folder, fitted, record_of(store, "neurorecon fit"), data_of(store))
        return fitted, folder

    return make


def _snippets(text, folder):
    """Return the Python examples of a card, with the folder in place of its copy from the hub."""
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return [re.sub(r"snapshot_download\([^)]*\)", repr(str(folder)), block) for block in blocks]


def _names(folder):
    return {path.name for path in folder.iterdir()}


def test_a_store_as_a_data_set(miniature, tmp_path):
    store = miniature(("category",))
    card_path, license_path, copy = export_dataset(store, tmp_path / "hub", progress=False)
    assert _names(tmp_path / "hub") == {"README.md", "LICENSE.md", ".gitattributes", "miniature.zarr"}
    assert (card_path.name, license_path.name, copy.name) == ("README.md", "LICENSE.md", "miniature.zarr")
    data = DatasetCard.load(card_path).data
    assert data.pretty_name == "a miniature for tests"
    assert data.size_categories == ["n<1K"]
    assert (data.license, data.license_name, data.license_link) == ("other", "terms-of-miniature", "LICENSE.md")
    assert {"simulated", "fmri", "zarr"} <= set(data.tags)
    assert data.viewer is False
    assert "extra_gated_prompt" not in data
    copied = nr.open_store(copy)
    assert copied.digest == store.digest
    assert not [finding for finding in nr.check_store(copied) if finding.problem]
    text = card_path.read_text()
    assert "**The responses are SIMULATED" in text
    for fact in (store.snapshot, store.digest, "V1 16", f"| images | {store.mean_ceilings('subj01')['images']:.3f} |"):
        assert fact in text
    assert "| subj02 | 40 | volume | images | test | 18 | 6 | 3 |" in text
    assert "| video | train | 8 |" in text
    shape = " x ".join(map(str, store.about_target("category")[0]))
    assert f"| category | {shape} |" in text
    for block in _snippets(text, tmp_path / "hub"):
        names = {"folder": tmp_path / "hub"}
        exec(block, names)
        wanted = store.responses("subj01", task="images").values if "store" in names else None
        found = names["responses"]
        assert found.dims == ("sample", "voxel")
        np.testing.assert_array_equal(found.values, found.values if wanted is None else wanted)
        assert np.isfinite(found.values).all()


def test_stores_of_restricted_data_are_refused(lab, tmp_path):
    store = lab(RESTRICTED)
    with pytest.raises(InputError, match="do not let everybody redistribute it") as error:
        export_dataset(store, tmp_path / "hub", progress=False)
    assert RESTRICTED in str(error.value)
    assert "--permission" in str(error.value)
    assert not list(tmp_path.iterdir())
    said = "consent of the authors, 2026-11-30"
    card, terms, _ = export_dataset(store, tmp_path / "hub", permission=said, progress=False)
    data = DatasetCard.load(card).data
    assert data.license == "other"
    assert RESTRICTED in data.extra_gated_prompt
    assert said in terms.read_text()
    assert said in card.read_text()
    assert "odd\\|&lt;i>name" not in card.read_text()  # not a cell of a table
    assert "| SIMULATED" not in card.read_text()


def test_stores_of_open_data_are_not(lab, tmp_path):
    card, copy = export_dataset(lab("CC0"), tmp_path / "hub", progress=False)
    assert DatasetCard.load(card).data.license == "cc0-1.0"
    assert copy.is_dir()
    assert "LICENSE.md" not in _names(tmp_path / "hub")


@pytest.mark.parametrize(
    ("reader", "text", "license_id", "level"),
    [
        ("nsd", "NSD Terms of Use", "other", "restricted"),
        ("nsd", "CC0", "other", "restricted"),  # what a store says does not change the terms of a public data set
        ("hcp7t", "WU-Minn HCP", "other", "restricted"),
        ("things", "CC0 1.0 (responses)", "cc0-1.0", "responses"),
        ("haxby2001", "CC BY-SA 3.0", "cc-by-sa-3.0", "allowed"),
        ("arrays", "CC BY 4.0", "cc-by-4.0", "allowed"),
        ("bids", "PDDL", "pddl", "allowed"),
        ("bids", "PD", "other", "allowed"),
        ("arrays", "CC BY-NC-ND 4.0", "other", "restricted"),
        ("arrays", "not CC0", "other", "restricted"),
        ("arrays", "not stated", "other", "restricted"),
        ("of another package", "MIT", "mit", "allowed"),
    ],
)
def test_terms(reader, text, license_id, level):
    found = Terms.of({"name": "mine", "reader": reader, "terms": text})
    assert (found.license, found.redistribution) == (license_id, level)


def test_the_catalog_says_of_all_data_sets_what_may_be_redistributed():
    own = {"bids", "arrays"}
    for item in hub.items("data set"):
        assert bool(item.redistribution) == (item.name not in own)
        assert (item.license_id in OPEN_LICENSES) == (item.redistribution in ("allowed", "responses"))


def test_stimuli_of_other_terms_than_the_responses():
    terms = Terms.of({"name": "t", "reader": "things", "terms": "CC0 1.0 (responses)"})
    cards._require_terms(terms, [], None)
    assert terms.metadata(stimuli=False) == {"license": "cc0-1.0"}
    assert terms.metadata(stimuli=True)["license"] == "other"
    with pytest.raises(InputError, match="redistribute its stimuli"):
        cards._require_terms(terms, ["images"], None)
    cards._require_terms(terms, ["images"], "by agreement")


@pytest.mark.parametrize("there", ["files", "a file", "a link"])
def test_nothing_of_the_user_is_overwritten(miniature, tmp_path, there):
    target = tmp_path / "hub"
    if there == "files":
        target.mkdir()
        (target / "mine.txt").write_text("mine")
    elif there == "a file":
        target.write_text("mine")
    else:
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="cannot be written here"):
        export_dataset(miniature(("category",)), target, progress=False)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_export_leaves_nothing(lab, tmp_path, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    (tmp_path / "hub").mkdir()  # an empty folder may be there
    store = lab("CC0")
    with monkeypatch.context() as patch:
        patch.setattr(cards, "_write_card", interrupt)
        with pytest.raises(KeyboardInterrupt):
            export_dataset(store, tmp_path / "hub", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]
    assert not any((tmp_path / "hub").iterdir())
    left = tmp_path / ".hub.abcd1234.part" / "hub"  # of a killed process
    left.mkdir(parents=True)
    export_dataset(lab("CC0"), tmp_path / "hub", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["hub"]


def test_a_fit_as_a_model(miniature, fit, tmp_path):
    store = miniature(("category",))
    fitted, folder = fit(store)
    found = nr.reconstruct(store, fitted, "subj01", n_permutations=9, controls=True)
    nr.write(found, store, tmp_path / "results", record_of(store, "neurorecon reconstruct"), figures=False)
    files = export_model(folder, tmp_path / "hub", results=tmp_path / "results")
    assert {path.name for path in files} >= {"README.md", "system.json", "system.safetensors", MANIFEST}
    data = ModelCard.load(tmp_path / "hub" / "README.md").data
    assert (data.library_name, data.license) == ("neurorecon", "other")
    assert {"linear-pixels", "image-reconstruction", "simulated"} <= set(data.tags)
    scores = {result.metric_type: result for result in data.eval_results}
    assert {f"subj01 {name}": row.metric_value for name, row in scores.items()} == {
        score.name: score.value for score in found.scores
    }
    assert scores["pixcorr"].dataset_revision == store.snapshot
    text = (tmp_path / "hub" / "README.md").read_text()
    for fact in (store.digest, "SIMULATED", "public domain", "| images | 8 x 8 x 3 | RidgeDecoder |", "No network"):
        assert fact in text
    for score in found.comparison.scores:
        assert f"| {score.name} | {score.value:.3g} | {score.extra['low']:.3g} |" in text
    record = json.loads((tmp_path / "hub" / MANIFEST).read_text())
    assert record["data"]["reader"] == "miniature"
    assert record["command"] == "neurorecon fit"
    # Neither the folder of the store nor that of the fit is in what everybody can read.
    assert not [path for path in files if str(tmp_path.parent).encode() in path.read_bytes()]
    (block,) = _snippets(text, tmp_path / "hub")
    names = {}
    exec(block.replace('"STORE"', repr(store.location)), names)
    np.testing.assert_array_equal(names["images"], found.reconstructed)
    assert [score.value for score in names["scores"]] == [score.value for score in found.scores]
    # The data may be redistributed, so the decoder is whole.
    assert names["system"].decoders_["images"].dual_coef_.shape[1] == 192


def test_a_fit_to_restricted_data_is_without_training_samples(lab, fit, tmp_path):
    store = lab(RESTRICTED)
    fitted, folder = fit(store)
    export_model(folder, tmp_path / "hub")
    text = (tmp_path / "hub" / "README.md").read_text()
    assert RESTRICTED in text
    assert "without the vectors of the training samples" in text
    assert ModelCard.load(tmp_path / "hub" / "README.md").data.license_link == "LICENSE.md"
    loaded, whole = nr.load_system(tmp_path / "hub"), nr.load_system(folder)
    decoder, before = loaded.decoders_["images"], whole.decoders_["images"]
    # The fit itself gives the training responses away.
    computed = (before.sample_vectors_ * before.singular_values_) @ before.voxel_vectors_.T
    training = store.responses(store.subjects[0], split="train").values
    np.testing.assert_allclose(computed * whole.scale_ + whole.mean_, training, atol=1e-4)
    assert decoder.sample_vectors_.shape == (12, 0)
    test = store.responses(store.subjects[0], split="test")
    np.testing.assert_array_equal(loaded.decode(test)["images"], fitted.decode(test)["images"])
    np.testing.assert_array_equal(decoder.coef_, before.coef_)
    np.testing.assert_array_equal(decoder.haufe_patterns(), before.haufe_patterns())
    with pytest.raises(InputError, match="does not hold its training samples"):
        _ = decoder.dual_coef_
    assert nr.load_system(folder).decoders_["images"].sample_vectors_.size  # the fit is as it was
    export_model(folder, tmp_path / "permitted", permission="my own data")
    assert nr.load_system(tmp_path / "permitted").decoders_["images"].sample_vectors_.size
    assert "my own data" in (tmp_path / "permitted" / "LICENSE.md").read_text()


class NearestSample(Persistent, BaseEstimator):
    """A decoder as another package may have it: it keeps the training responses as they are."""

    def fit(self, X, y, groups=None):
        self.X_, self.y_ = X, np.asarray(y).reshape(len(X), -1)
        return self

    def predict(self, X):
        return self.y_[np.square(X[:, None] - self.X_).sum(axis=-1).argmin(axis=1)]


class Nearest(System):
    """A system with such a decoder, and networks of the user's own."""

    name = "test-cards-nearest"
    networks = ("autoencoder",)

    def __init__(self, models="bundled"):
        self.models = models

    @property
    def targets(self):
        return {"images": TargetSpec("images", NearestSample())}

    def generate(self, decoded, *, seed=0):
        return xarray.zeros_like(decoded["images"])


def test_decoders_that_keep_restricted_responses_are_refused(lab, fit, tmp_path):
    _, folder = fit(lab(RESTRICTED), Nearest(models=str(tmp_path / "networks")))
    with pytest.raises(InputError, match="may hold training responses"):
        export_model(folder, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()
    export_model(folder, tmp_path / "hub", permission="my own data")
    assert nr.load_system(tmp_path / "hub").models == "networks"
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "| autoencoder | own weights (networks) | not stated | not in this folder |" in text
    assert "Everything else in a reconstruction comes from the networks below" in text


def test_results_of_another_fit_are_refused(miniature, fit, tmp_path):
    store = miniature(("category",))
    _, folder = fit(store)
    other = nr.reconstruct(store, "linear-pixels", "subj01", roi="V1", n_permutations=9, options={"cv": 3})
    nr.write(other, store, tmp_path / "results", record_of(store, "other"), figures=False)
    with pytest.raises(InputError, match=r"other roi, voxels, options"):
        export_model(folder, tmp_path / "hub", results=tmp_path / "results")
    with pytest.raises(InputError, match="no reconstructions of subj01"):
        export_model(folder, tmp_path / "hub", results=tmp_path)
    assert not (tmp_path / "hub").exists()


def test_fits_that_do_not_say_their_data_need_the_store(miniature, fit, lab, tmp_path):
    store = miniature(("category",))
    _, folder = fit(store)
    (folder / MANIFEST).unlink()
    with pytest.raises(InputError, match="under what terms"):
        export_model(folder, tmp_path / "hub")
    with pytest.raises(InputError, match="fitted to another store"):
        export_model(folder, tmp_path / "hub", store=lab("CC0"))
    export_model(folder, tmp_path / "hub", store=store)
    assert "a miniature for tests" in (tmp_path / "hub" / "README.md").read_text()


def test_what_is_no_complete_fit_is_refused(fit, miniature, tmp_path):
    with pytest.raises(MissingFileError, match="no fitted system here"):
        export_model(tmp_path / "nothing", tmp_path / "hub")
    _, folder = fit(miniature(("category",)))
    description = json.loads((folder / "system.json").read_text())
    (folder / "system.json").write_text(json.dumps({**description, "complete": False}))
    with pytest.raises(MissingFileError, match="incomplete"):
        export_model(folder, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


def test_paths_of_this_machine_are_warned_of(lab, tmp_path, monkeypatch):
    store = lab("CC0")
    attributes = dict(store._root.attrs)
    assert cards._without_paths({"a": ["/data/x.csv"], "b": "x/y", "c": 1}) == {"a": ["x.csv"], "b": "x/y", "c": 1}
    changed = {**attributes, "recipe": {**attributes["recipe"], "options": {"table": "/data/x.csv"}}}
    monkeypatch.setattr(type(store._root), "attrs", property(lambda node: changed))
    with pytest.warns(NeuroreconWarning, match="recipe of the store"):
        cards._warn_of_paths(store)
