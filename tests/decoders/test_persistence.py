import json
import subprocess
import sys

import numpy as np
import pytest

import neurorecon.decoders
from neurorecon.decoders import BandedRidge, RidgeDecoder, load_decoder
from neurorecon.decoders.persistence import Persistent
from neurorecon.errors import InputError, MissingFileError, UnknownNameError


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    return generator.standard_normal((30, 12)), generator.standard_normal((30, 2, 3))


def assert_same(one, other):
    assert type(one) is type(other)
    mine, theirs = ({k: v for k, v in vars(e).items() if k != "provenance_"} for e in (one, other))
    assert set(mine) == set(theirs)
    for name, value in mine.items():
        if isinstance(value, np.ndarray) and value.dtype != object:
            assert value.dtype == theirs[name].dtype
            assert value.tobytes() == theirs[name].tobytes(), name
        else:
            assert str(value) == str(theirs[name]), name


@pytest.mark.parametrize(
    "parameters",
    [
        {"alpha": 3.0},
        {"alpha": np.logspace(-1, 3, 5), "alpha_per": "target", "cv": 3},
        {"alpha": [1.0, 10.0], "dtype": "float64", "solver": "primal"},
        {"alpha": (1, 10), "cv": [(np.arange(15), np.arange(15, 30))], "target_block": 2},
    ],
)
def test_a_ridge_decoder_comes_back_bit_for_bit(tmp_path, data, parameters):
    X, Y = data
    decoder = RidgeDecoder(**parameters).fit(X, Y)
    decoder.save(tmp_path / "decoder", provenance={"store": "scenes", "seed": 3})
    loaded = load_decoder(tmp_path / "decoder")
    assert_same(decoder, loaded)
    assert loaded.predict(X).tobytes() == decoder.predict(X).tobytes()
    assert loaded.provenance_ == {"store": "scenes", "seed": 3}
    assert sorted(file.name for file in (tmp_path / "decoder").iterdir()) == [
        "arrays.safetensors",
        "decoder.json",
    ]
    np.testing.assert_array_equal(loaded.fit(X, Y).predict(X), decoder.predict(X))


@pytest.mark.parametrize("bands", [{"a": slice(0, 5), "b": np.arange(5, 12)}, ["a"] * 5 + ["b"] * 7, None])
def test_banded_ridge_comes_back_bit_for_bit(tmp_path, data, bands):
    X, Y = data
    model = BandedRidge(bands, cv=3, alphas=[1.0, 100.0]).fit(X, Y.reshape(30, 6))
    loaded = load_decoder(model.save(tmp_path / "model"))
    assert_same(model, loaded)
    assert loaded.predict(X, split=True).tobytes() == model.predict(X, split=True).tobytes()
    assert loaded.coef_.tobytes() == model.coef_.tobytes()


def test_weights_of_samples_and_names_of_features_are_kept(tmp_path, data):
    import pandas as pd

    X, Y = data
    frame = pd.DataFrame(X, columns=[f"voxel{number}" for number in range(12)])
    decoder = RidgeDecoder().fit(frame, Y, sample_weight=np.arange(30.0))
    loaded = load_decoder(decoder.save(tmp_path / "decoder"))
    np.testing.assert_array_equal(loaded.dual_coef_, decoder.dual_coef_)
    np.testing.assert_array_equal(loaded.feature_names_in_, decoder.feature_names_in_)
    np.testing.assert_array_equal(loaded.predict(frame), decoder.predict(frame))


def test_saving_again_replaces(tmp_path, data):
    X, Y = data
    RidgeDecoder(1.0).fit(X, Y).save(tmp_path)
    RidgeDecoder(2.0).fit(X, Y).save(tmp_path)
    assert load_decoder(tmp_path).alpha_ == 2.0


def test_nothing_in_the_file_is_pickled(tmp_path, data):
    from safetensors.numpy import load_file

    X, Y = data
    RidgeDecoder(1.0).fit(X, Y).save(tmp_path)
    arrays = load_file(tmp_path / "arrays.safetensors")
    description = json.loads((tmp_path / "decoder.json").read_text())
    assert description["class"] == "RidgeDecoder"
    assert set(description["versions"]) >= {"neurorecon", "numpy", "python"}
    np.testing.assert_array_equal(arrays["state.intercept_"], Y.reshape(30, 6).astype("float32").mean(0, dtype=float))


@pytest.mark.parametrize("file", ["arrays.safetensors", "decoder.json"])
@pytest.mark.parametrize("keep", [0, 10, -1])
def test_a_file_cut_short_is_one_clear_error(tmp_path, data, file, keep):
    RidgeDecoder().fit(*data).save(tmp_path)
    content = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(content[:keep])
    with pytest.raises(InputError, match="damaged or was cut short") as caught:
        load_decoder(tmp_path)
    assert file in str(caught.value)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"format": 1}', '{"format": null}'])
def test_a_strange_description_is_one_clear_error(tmp_path, data, text):
    RidgeDecoder().fit(*data).save(tmp_path)
    (tmp_path / "decoder.json").write_text(text)
    with pytest.raises(InputError, match="damaged or was cut short"):
        load_decoder(tmp_path)


def test_missing_newer_and_unknown_decoders(tmp_path, data):
    with pytest.raises(MissingFileError, match="no decoder is saved here"):
        load_decoder(tmp_path / "nowhere")
    RidgeDecoder().fit(*data).save(tmp_path)
    description = json.loads((tmp_path / "decoder.json").read_text())
    (tmp_path / "decoder.json").write_text(json.dumps(description | {"format": 99}))
    with pytest.raises(InputError, match="newer version"):
        load_decoder(tmp_path)
    (tmp_path / "decoder.json").write_text(json.dumps(description | {"class": "RidgeDecodr"}))
    with pytest.raises(UnknownNameError, match="did you mean 'RidgeDecoder'"):
        load_decoder(tmp_path)


def test_a_decoder_that_is_gone_names_the_version_that_reads_it(tmp_path, data):
    RidgeDecoder().fit(*data).save(tmp_path)
    description = json.loads((tmp_path / "decoder.json").read_text())
    (tmp_path / "decoder.json").write_text(json.dumps(description | {"class": "UpdatingRidge"}))
    with pytest.raises(InputError, match=r"UpdatingRidge is no longer part[\s\S]*0\.1\.0 is the last version"):
        load_decoder(tmp_path)


_LOADED = """
import sys
import numpy as np
from neurorecon.decoders import load_decoder
assert "neurorecon.decoders.ridge" not in sys.modules
print(type(load_decoder(sys.argv[1])).__name__, *{"torch", "neurorecon.decoders.banded"} & set(sys.modules))
"""


def test_only_the_module_of_a_decoder_is_imported_for_it(tmp_path, data):
    RidgeDecoder().fit(*data).save(tmp_path)
    command = [sys.executable, "-c", _LOADED, str(tmp_path)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.split() == ["RidgeDecoder"]


def test_names_of_decoders_resolve():
    for name in neurorecon.decoders.__all__:
        assert getattr(neurorecon.decoders, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'UpdatingRidge'"):
        neurorecon.decoders.UpdatingRidge  # noqa: B018


class OwnRidge(RidgeDecoder):
    """A class that no entry point names: it registers itself when it is defined."""


def test_a_class_of_a_script_is_found(tmp_path, data):
    assert type(load_decoder(OwnRidge().fit(*data).save(tmp_path))) is OwnRidge


@pytest.mark.parametrize("name", ["TwinRidge", "RidgeDecoder"])
def test_of_two_classes_with_one_name_each_finds_its_own(tmp_path, data, name):
    """Two packages may name their decoders alike, or as one of ours is named."""
    twins = [type(name, (RidgeDecoder,), {"__module__": module}) for module in ("one.package", "another.package")]
    for twin in twins:
        assert type(load_decoder(twin().fit(*data).save(tmp_path / twin.__module__))) is twin
    assert type(load_decoder(RidgeDecoder().fit(*data).save(tmp_path / "ours"))) is RidgeDecoder


def test_a_class_named_like_ours_is_not_taken_for_ours(tmp_path, data, monkeypatch):
    """Where its package is not imported."""
    monkeypatch.setattr(Persistent, "classes", dict(Persistent.classes))
    other = type("RidgeDecoder", (RidgeDecoder,), {"__module__": "their.package"})
    saved = other().fit(*data).save(tmp_path)
    del Persistent.classes["their.package", "RidgeDecoder"]
    with pytest.raises(InputError, match=r"import their\.package"):
        load_decoder(saved)


def test_what_cannot_be_written_is_refused(tmp_path, data):
    from sklearn.model_selection import KFold

    with pytest.raises(InputError, match="not fitted"):
        RidgeDecoder().save(tmp_path / "decoder")
    with pytest.raises(InputError, match="cannot be saved"):
        RidgeDecoder([1.0, 2.0], cv=KFold(3)).fit(*data).save(tmp_path / "decoder")
    assert not (tmp_path / "decoder").exists()
