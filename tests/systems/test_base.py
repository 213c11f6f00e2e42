import json
import shutil

import numpy as np
import pytest
import xarray
from sklearn.base import clone

import neurorecon as nr
from neurorecon.decoders import RidgeDecoder
from neurorecon.decoders.samples import Recordings
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.parallel import Compute
from neurorecon.stats import stimulus_permutations
from neurorecon.systems.base import Decoded, MissingTargetError, System, TargetSpec, as_images, load_system
from neurorecon.systems.linear_pixels import LinearPixels


class TwoTargets(System):
    """Images, and Gabor energy from early visual areas."""

    name = "two-targets"

    def __init__(self, alpha=100.0, renorm=None):
        self.alpha = alpha
        self.renorm = renorm

    @property
    def targets(self):
        ridge = RidgeDecoder(self.alpha, renorm=self.renorm)
        return {
            "pixels": TargetSpec("images", ridge, required=True),
            "gabor": TargetSpec("gabor", ridge, roi="V1", standardize=False),
        }

    def generate(self, decoded, *, seed=0):
        return as_images(decoded["pixels"].values, decoded.stimuli)


@pytest.fixture
def decoded():
    rng = np.random.default_rng(0)
    coords = {"stimulus": ["a", "b", "c"]}
    arrays = {
        "one": xarray.DataArray(rng.random((3, 4)), dims=("stimulus", "feature"), coords=coords, attrs={"layer": "x"}),
        "two": xarray.DataArray(rng.random((3, 2, 2)), dims=("stimulus", "y", "x"), coords=coords),
    }
    return Decoded(arrays, training={"one": (np.full(4, 5.0), np.array([0.0, 1.0, 2.0, 3.0]))})


class TestDecoded:
    def test_is_a_mapping_in_single_precision(self, decoded):
        assert list(decoded) == ["one", "two"]
        assert decoded["one"].dtype == np.float32
        assert decoded["one"].attrs == {"layer": "x"}
        assert decoded.stimuli.tolist() == ["a", "b", "c"]
        assert decoded.get("three") is None
        assert "three" not in decoded
        assert repr(decoded) == "Decoded(one (4,), two (2, 2); 3 stimuli)"

    def test_a_missing_target_is_named(self, decoded):
        with pytest.raises(MissingTargetError, match=r"the target 'one' is missing[\s\S]*two"):
            decoded.drop("one")["one"]
        with pytest.raises(MissingTargetError, match="three"):
            decoded.drop("three")

    def test_interventions_leave_the_original(self, decoded):
        before = decoded["one"].values.copy()
        turned = decoded.permute("one", [2, 0, 1])
        np.testing.assert_array_equal(turned["one"].values, before[[2, 0, 1]])
        np.testing.assert_array_equal(turned["two"].values, decoded["two"].values)
        assert (decoded.with_(one=np.zeros((3, 4)))["one"].values == 0).all()
        assert set(decoded.drop("one")) == {"two"}
        np.testing.assert_array_equal(decoded["one"].values, before)
        with pytest.raises(InputError, match="cannot replace"):
            decoded.with_(one=np.zeros((3, 5)))
        new = xarray.DataArray(np.zeros((3, 1)), dims=("stimulus", "feature"), coords={"stimulus": ["a", "b", "c"]})
        assert set(decoded.with_(three=new)) == {"one", "two", "three"}

    def test_noise_has_the_moments_of_training_and_goes_with_the_stimulus(self, decoded):
        many = decoded.take(np.zeros(1, dtype=int))
        drawn = np.stack([decoded.noise("one", seed)["one"].values[0] for seed in range(400)])
        np.testing.assert_allclose(drawn.mean(axis=0), 5, atol=0.6)
        np.testing.assert_allclose(drawn.std(axis=0), [0, 1, 2, 3], rtol=0.15)
        np.testing.assert_array_equal(many.noise("one", 7)["one"].values[0], decoded.noise("one", 7)["one"].values[0])

    def test_some_stimuli_by_ids_or_numbers(self, decoded):
        assert decoded.take(["c", "a"]).stimuli.tolist() == ["c", "a"]
        np.testing.assert_array_equal(decoded.take([2, 0])["one"].values, decoded["one"].values[[2, 0]])
        with pytest.raises(UnknownNameError, match="unknown stimulus 'z'"):
            decoded.take(["z"])

    def test_nothing_decoded_still_says_which_stimuli(self):
        empty = Decoded.empty(["a", "b"])
        assert len(empty) == 0
        assert empty.stimuli.tolist() == ["a", "b"]
        with pytest.raises(InputError, match="nothing was decoded"):
            Decoded({})

    def test_other_stimuli_are_refused(self, decoded):
        with pytest.raises(InputError, match="other stimuli"):
            decoded.with_(two=decoded["two"].assign_coords(stimulus=["a", "b", "d"]))
        with pytest.raises(InputError, match="has no stimuli"):
            decoded.with_(two=decoded["two"].rename(stimulus="sample"))

    def test_on_disk(self, decoded, tmp_path):
        for given in (decoded, Decoded.empty(["a"])):
            found = Decoded.load(given.save(tmp_path / "decoded"))
            assert found.stimuli.tolist() == given.stimuli.tolist()
            assert set(found) == set(given)
            for name in given:
                xarray.testing.assert_identical(found[name].rename(None), given[name].rename(None))
        np.testing.assert_array_equal(
            Decoded.load(decoded.save(tmp_path / "again")).training["one"][1], decoded.training["one"][1]
        )


class TestSystem:
    def test_each_target_has_its_own_voxels_and_scale(self, scenes):
        fitted = TwoTargets().fit(scenes, "subj01")
        assert fitted.decoders_["pixels"].n_features_in_ == 300
        v1 = scenes.voxels("subj01", "V1").index.to_numpy()
        assert fitted.decoders_["gabor"].n_features_in_ == len(v1)
        # By hand: standardized by the training samples, or centered alone.
        train = scenes.responses("subj01", split="train", average="stimulus")
        x = train.values.astype(float)
        names = train["stimulus"].values.tolist()
        by_hand = {
            "pixels": ((x - x.mean(0)) / x.std(0), scenes.images(names).values / 255),
            "gabor": ((x - x.mean(0))[:, v1], scenes.targets("gabor", stimuli=names).values),
        }
        test = scenes.responses("subj01", split="test", average="stimulus").values.astype(float)
        decoded = fitted.decode(test)
        inputs = {"pixels": (test - x.mean(0)) / x.std(0), "gabor": (test - x.mean(0))[:, v1]}
        for name, (given, target) in by_hand.items():
            expected = RidgeDecoder(100.0).fit(given, target).predict(inputs[name])
            np.testing.assert_allclose(decoded[name].values, expected, atol=1e-4)
        assert decoded["pixels"].dims == ("stimulus", "y", "x", "rgb")
        np.testing.assert_allclose(decoded.training["gabor"][0], by_hand["gabor"][1].mean(0), atol=1e-4)

    def test_a_notebook_shows_targets_and_what_it_was_fitted_to(self, scenes):
        system = TwoTargets(alpha=7.0)
        assert "not fitted" in system._repr_html_()
        shown = system.fit(scenes, "subj01", roi="V1")._repr_mimebundle_()
        assert shown["text/plain"] == repr(system)
        for part in ("two-targets", "subject subj01", "<td>pixels</td>", "<td>RidgeDecoder</td>", "alpha=7.0"):
            assert part in shown["text/html"]

    def test_rows_of_the_sample_table_and_other_stimuli(self, scenes):
        table = scenes.samples("subj01")
        rows = np.flatnonzero((table["split"] == "train").to_numpy())
        test = scenes.responses("subj01", split="test", average="stimulus")
        whole = TwoTargets().fit(scenes, "subj01").decode(test)["pixels"].values
        same = TwoTargets().fit(scenes, "subj01", samples=rows).decode(test)["pixels"].values
        np.testing.assert_allclose(same, whole, atol=1e-5)
        names = table["stimulus"].to_numpy(str)[rows]
        order = stimulus_permutations(len(names), 1, 0)[0]
        wrong = TwoTargets().fit(scenes, "subj01", samples=rows, stimuli=names[order]).decode(test)["pixels"].values
        assert abs(wrong - whole).max() > 0.05
        with pytest.raises(InputError, match="stimuli do not match"):
            TwoTargets().fit(scenes, "subj01", samples=rows, stimuli=names[:-1])
        with pytest.raises(InputError, match="groups do not match"):
            TwoTargets().fit(scenes, "subj01", samples=rows, groups=names[:-1])
        with pytest.raises(InputError, match="not rows of the sample table"):
            TwoTargets().fit(scenes, "subj01", samples=[len(table)])

    def test_repeats_are_averaged_where_the_system_says_so(self, scenes):
        rows = np.flatnonzero((scenes.samples("subj01")["split"] == "test").to_numpy())
        assert TwoTargets().fit(scenes, "subj01", samples=rows).provenance_["samples"] == 16
        assert LinearPixels(10.0).fit(scenes, "subj01", samples=rows).provenance_["samples"] == len(rows) == 48

    def test_a_pattern_in_standard_deviations(self, scenes):
        fitted = TwoTargets().fit(scenes, "subj01")
        nothing = fitted.decode(np.zeros((1, 300)), standardized=True)
        mean = fitted.decode(fitted.mean_[None])
        np.testing.assert_allclose(nothing["gabor"].values, mean["gabor"].values, atol=1e-5)

    def test_the_moments_of_the_test_set_where_a_stimulus_is_alone(self, scenes):
        test = scenes.responses("subj01", split="test", average="stimulus")
        fitted = TwoTargets(renorm="test").fit(scenes, "subj01", alone=True)
        assert fitted.decoders_["pixels"].renorm == "train"
        assert np.isfinite(fitted.decode(test[:1])["pixels"].values).all()
        assert fitted.get_params()["renorm"] == "test"

    def test_large_targets_are_streamed_to_the_same_numbers(self, scenes, monkeypatch):
        test = scenes.responses("subj01", split="test", average="stimulus")
        once = TwoTargets().fit(scenes, "subj01").decode(test)
        monkeypatch.setattr("neurorecon.decoders.samples.LOADED_VALUES", 100)
        streamed = TwoTargets().fit(scenes, "subj01").decode(test)
        for name in once:
            np.testing.assert_array_equal(streamed[name].values, once[name].values)
            np.testing.assert_array_equal(streamed.training[name], once.training[name])

    def test_responses_that_are_known_need_no_weights(self, scenes, monkeypatch):
        test = scenes.responses("subj01", split="test", average="stimulus")
        expected = TwoTargets(renorm="train").fit(scenes, "subj01").decode(test)
        found = TwoTargets(renorm="train").fit_decode(scenes, "subj01", test)
        monkeypatch.setattr("neurorecon.decoders.samples.LOADED_VALUES", 100)
        system = TwoTargets(renorm="train")
        streamed = system.fit_decode(scenes, "subj01", test)
        for name in expected:
            np.testing.assert_array_equal(found[name].values, expected[name].values)
            np.testing.assert_allclose(streamed[name].values, expected[name].values, atol=1e-4)
            assert not hasattr(system.decoders_[name], "coordinates_")

    def test_large_targets_in_jobs(self, scenes, tmp_path, monkeypatch):
        """Blocks of features are computed one by one, kept, and read again by the same call."""
        test = scenes.responses("subj01", split="test", average="stimulus")
        expected = TwoTargets().fit(scenes, "subj01").decode(test)
        monkeypatch.setattr("neurorecon.decoders.samples.LOADED_VALUES", 100)
        monkeypatch.setattr("neurorecon.decoders.smoother.BLOCK_VALUES", 60 * 500)
        compute = Compute(threads=1, folder=tmp_path)
        found = TwoTargets().fit_decode(scenes, "subj01", test, compute=compute)
        for name in expected:
            np.testing.assert_allclose(found[name].values, expected[name].values, atol=1e-4)
        files = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("gabor_*")}
        assert len(files) == 3  # 1,440 features in blocks of 500
        again = TwoTargets().fit_decode(scenes, "subj01", test, compute=compute)
        np.testing.assert_array_equal(again["gabor"].values, found["gabor"].values)
        assert {file: file.stat().st_mtime_ns for file in files} == files

    def test_fit_to_arrays(self):
        rng = np.random.default_rng(0)
        responses, images = rng.standard_normal((20, 6)), rng.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)

        class OnArrays(TwoTargets):
            name = "on-arrays"

            @property
            def targets(self):
                return {"pixels": TargetSpec("images", RidgeDecoder(self.alpha), required=True)}

        fitted = OnArrays().fit_arrays(responses, {"images": images})
        assert fitted.reconstruct(responses).shape == images.shape
        with pytest.raises(InputError, match="needs an ROI"):
            TwoTargets().fit_arrays(responses, {"images": images, "gabor": images})
        with pytest.raises(UnknownNameError, match="unknown target 'images'"):
            OnArrays().fit_arrays(responses, {"pixels": images})

    def test_targets_that_the_store_lacks_are_computed(self, scenes, tmp_path):
        class OfCategories(TwoTargets):
            name = "of-categories"

            @property
            def targets(self):
                return {"category": TargetSpec("category", RidgeDecoder(self.alpha))}

        shutil.copytree(scenes.location, tmp_path / "copy.icechunk")
        store = nr.open_store(tmp_path / "copy.icechunk")
        system = OfCategories().fit(store, "subj01", "V1")
        assert "category" not in store.targets_available
        after = nr.open_store(store.location)
        assert after.snapshot == system.provenance_["snapshot"]
        test = after.responses("subj01", "V1", "test", average="stimulus")
        expected = RidgeDecoder(100.0)
        train = after.pairs("subj01", "category", "V1", "train")
        mean, scale = train[0].values.mean(axis=0), train[0].values.std(axis=0)
        expected.fit((train[0].values - mean) / scale, train[1].values)
        decoded = system.decode(test)["category"]
        np.testing.assert_allclose(decoded, expected.predict((test.values - mean) / scale), rtol=1e-4, atol=1e-5)

    def test_an_interrupted_fit_resumes(self, scenes, tmp_path, monkeypatch):
        calls, fit = [], RidgeDecoder.fit

        def dies(self, X, y, **options):
            calls.append(y.shape)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return fit(self, X, y, **options)

        monkeypatch.setattr(RidgeDecoder, "fit", dies)
        with pytest.raises(KeyboardInterrupt):
            TwoTargets().fit(scenes, "subj01", folder=tmp_path)
        with pytest.raises(MissingFileError, match="incomplete"):
            load_system(tmp_path)
        resumed = TwoTargets().fit(scenes, "subj01", folder=tmp_path)
        assert len(calls) == 3  # the first decoder was not fitted again
        assert load_system(tmp_path).provenance_ == resumed.provenance_
        for changed in ({"roi": "V1+V2"}, {"samples": [0, 1, 2, 3, 4, 5]}):
            with pytest.raises(InputError, match="cannot resume"):
                TwoTargets().fit(scenes, "subj01", folder=tmp_path, **changed)
        with pytest.raises(InputError, match="cannot resume"):
            TwoTargets(alpha=1.0).fit(scenes, "subj01", folder=tmp_path)

    def test_on_disk(self, scenes, tmp_path):
        test = scenes.responses("subj01", split="test", average="stimulus")
        fitted = TwoTargets(alpha=7.0).fit(scenes, "subj01", "V1+V2")
        loaded = nr.load_system(fitted.save(tmp_path / "system"))
        assert loaded.get_params() == fitted.get_params()
        chosen = scenes.responses("subj01", "V1+V2", split="test", average="stimulus")
        np.testing.assert_array_equal(loaded.reconstruct(chosen), fitted.reconstruct(chosen))
        assert loaded.provenance_["roi"] == "V1+V2"
        with pytest.raises(InputError, match="do not match"):
            loaded.decode(test)
        assert not hasattr(clone(loaded), "decoders_")

    def test_damaged_and_foreign_folders(self, scenes, tmp_path):
        folder = TwoTargets().fit(scenes, "subj01").save(tmp_path / "system")
        state = json.loads((folder / "system.json").read_text())
        for change, said in (({"system": "nobody"}, "unknown system 'nobody'"), ({"format": 99}, "newer version")):
            (folder / "system.json").write_text(json.dumps({**state, **change}))
            with pytest.raises(InputError, match=said):
                load_system(folder)
        (folder / "system.json").write_text("{")
        with pytest.raises(InputError, match="damaged"):
            load_system(folder)
        (tmp_path / "empty").mkdir()
        with pytest.raises(MissingFileError, match=r"system\.json is missing"):
            load_system(tmp_path / "empty")

    def test_a_system_without_targets_or_generation_says_so(self):
        class Nothing(System):
            name = "nothing-at-all"

        with pytest.raises(NotImplementedError, match="Nothing has to define targets"):
            assert Nothing().targets
        with pytest.raises(NotImplementedError, match="Nothing has to define generate"):
            Nothing().generate(Decoded.empty(["a"]))


class TestRecordings:
    def test_single_samples_and_their_targets(self, scenes):
        found = Recordings.read(scenes, "subj01", "V1", task="images")
        expected = scenes.responses("subj01", "V1")
        np.testing.assert_array_equal(found.responses, expected.values)
        assert found.stimuli.tolist() == expected["stimulus"].values.tolist()
        table = scenes.samples("subj01")
        part = found.take(found.stimuli == table.loc[table["split"] == "test", "stimulus"].iloc[0])
        assert len(part.table) == 3
        np.testing.assert_allclose(
            part.averaged().responses[0],
            scenes.responses("subj01", "V1", "test", average="stimulus")
            .set_index(sample="stimulus")
            .sel(sample=part.stimuli[0])
            .values,
            atol=1e-5,
        )
        target = part.target("vqvae")
        assert target.dims == ("sample", "channel", "y", "x")
        np.testing.assert_array_equal(
            target.values, np.repeat(scenes.targets("vqvae", stimuli=[part.stimuli[0]]).values, len(part.table), axis=0)
        )
        # Stimuli that were not among those read first.
        assert found.target("vqvae").sizes["sample"] == len(found.table)

    def test_arrays_that_do_not_match(self):
        responses, images = np.zeros((4, 2)), np.zeros((4, 2, 2, 3))
        with pytest.raises(InputError, match="responses and stimuli do not match"):
            Recordings.of_arrays(responses, ["a", "b"], {"images": images})
        with pytest.raises(InputError, match="responses and images do not match"):
            Recordings.of_arrays(responses, list("abcd"), {"images": images[:-1]})
        images[1] = 1
        with pytest.raises(InputError, match="more than one row in images"):
            Recordings.of_arrays(responses, list("aabb"), {"images": images})


def test_coordinates_on_disk_decode_the_same(tmp_path):
    """Ridge decoders keep their coordinates in a file of the folder, instead of memory."""
    random = np.random.default_rng(0)
    recordings = Recordings.of_arrays(
        random.standard_normal((20, 6)), np.arange(20).astype(str), {"images": random.random((20, 2, 2, 3))}
    )
    one = load_system("linear-pixels", alphas=[3.0]).fit(None, "", samples=recordings)
    other = load_system("linear-pixels", alphas=[3.0]).fit(None, "", samples=recordings, coordinates=tmp_path)
    assert isinstance(other.decoders_["images"].coordinates_, np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["images.npy"]
    np.testing.assert_array_equal(
        one.decode(recordings.responses)["images"], other.decode(recordings.responses)["images"]
    )
