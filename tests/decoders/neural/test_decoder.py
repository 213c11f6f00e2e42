import copy
import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from sklearn.base import clone

from neurorecon.decoders import MLPDecoder, NeuralDecoder, load_decoder
from neurorecon.errors import InputError, StoreWriteError


def problem(n_samples=40, seed=0):
    generator = np.random.default_rng(seed)
    X = generator.standard_normal((n_samples, 6)).astype(np.float32)
    return X, (X @ generator.standard_normal((6, 4)) + 0.3 * generator.standard_normal((n_samples, 4))).astype(
        "float32"
    )


SMALL = {"hidden": (8,), "max_epochs": 6, "batch_size": 10, "learning_rate": 0.02, "dropout": 0.2}

VARIANTS = {
    "adamw": {},
    "sgd, warm-up and cosine": {"optimizer": "sgd", "schedule": "cosine", "warmup": 0.3, "clip_norm": 1.0},
    "one cycle": {"optimizer": "adam", "schedule": "one_cycle", "input_dropout": 0.2},
    "linear, seldom kept": {"schedule": "linear", "checkpoint_every": 2},
    "exponential, no validation": {"schedule": "exponential", "validation_fraction": 0},
}


def same_bits(one, other):
    assert one.weights_.keys() == other.weights_.keys()
    for name, values in one.weights_.items():
        assert values.tobytes() == other.weights_[name].tobytes(), name
    for name, values in one.history_.items():
        np.testing.assert_array_equal(values, other.history_[name])
    assert one.best_epoch_ == other.best_epoch_


def interrupt(monkeypatch, after):
    """Press Ctrl-C in the middle of an epoch, after so many batches."""
    seen = []

    def augment(self, inputs, targets):
        seen.append(1)
        if len(seen) == after:
            raise KeyboardInterrupt
        return inputs, targets

    monkeypatch.setattr(MLPDecoder, "augment", augment)


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_interrupted_training_goes_on_and_ends_in_the_same_bits(tmp_path, monkeypatch, variant):
    X, y = problem()
    decoder = MLPDecoder(**(SMALL | VARIANTS[variant]))
    whole = clone(decoder).fit(X, y)
    for after in (3, 5, 10, 11):  # an interruption before the first checkpoint, and three later
        with monkeypatch.context() as patched:
            interrupt(patched, after)
            with pytest.raises(KeyboardInterrupt):
                clone(decoder).fit(X, y, checkpoint=tmp_path)
    resumed = clone(decoder).fit(X, y, checkpoint=tmp_path)
    same_bits(whole, resumed)
    assert len(resumed.history_["loss"]) == 6
    # What is finished is read, not trained again.
    with monkeypatch.context() as patched:
        interrupt(patched, 1)
        same_bits(whole, clone(decoder).fit(X, y, checkpoint=tmp_path))


_KILLED = """
import os, signal, sys
import numpy as np
from neurorecon.decoders import MLPDecoder
data = np.load(sys.argv[1])
replace, written = os.replace, []

def kill(part, file):
    written.append(file)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(part, file)

os.replace = kill
MLPDecoder((8,), max_epochs=6, batch_size=10, learning_rate=0.02, dropout=0.2).fit(
    data["X"], data["y"], checkpoint=sys.argv[2])
"""


def test_a_killed_training_goes_on_and_ends_in_the_same_bits(tmp_path):
    X, y = problem()
    np.savez(tmp_path / "data.npz", X=X, y=y)
    folder = tmp_path / "checkpoint"
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "data.npz"), str(folder)]
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    killed = subprocess.run(command, env=os.environ | threads, timeout=500, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # It was killed while it wrote the third checkpoint: the second is whole, the third lies beside it.
    assert len(list(folder.iterdir())) == 2
    resumed = MLPDecoder(**SMALL).fit(X, y, checkpoint=folder)
    same_bits(MLPDecoder(**SMALL).fit(X, y), resumed)
    assert [file.name for file in folder.iterdir()] == ["checkpoint.safetensors"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    X, y = problem()
    MLPDecoder(**SMALL).fit(X, y, checkpoint=tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    other = y.copy()
    other[-1, -1] += 1
    for parameters, data, message in (
        ({"learning_rate": 0.01}, (X, y), r"learning_rate=0.02[\s\S]*learning_rate=0.01"),
        ({"hidden": (8, 8)}, (X, y), r"hidden=\[8\][\s\S]*hidden=\[8, 8\]"),
        ({"max_epochs": 7}, (X, y), "max_epochs=6"),
        ({"random_state": 1}, (X, y), "random_state=0"),
        ({}, (X, other), "digest of y"),
        ({}, (X + 1, y), "digest of X"),
        ({}, (X, y, np.arange(40) // 2), "validation samples"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            MLPDecoder(**(SMALL | parameters)).fit(*data, checkpoint=tmp_path)
        assert "belongs to another training run" in str(caught.value)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    # What changes no number may change.
    MLPDecoder(**SMALL, checkpoint_every=3, progress=True).fit(X, y, checkpoint=tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 200, -1])
def test_a_damaged_checkpoint_is_one_clear_error(tmp_path, keep):
    X, y = problem()
    MLPDecoder(**SMALL).fit(X, y, checkpoint=tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(InputError, match="cannot be read"):
        MLPDecoder(**SMALL).fit(X, y, checkpoint=tmp_path)


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path):
    X, y = problem()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match="could not be written"):
        MLPDecoder(**SMALL).fit(X, y, checkpoint=tmp_path / "file")


def test_checkpoints_hold_no_pickle(tmp_path):
    from safetensors import safe_open

    X, y = problem()
    MLPDecoder(**SMALL).fit(X, y, checkpoint=tmp_path)
    with safe_open(tmp_path / "checkpoint.safetensors", framework="np") as opened:
        said = json.loads(opened.metadata()["neurorecon"])
    assert said["identity"]["class"] == "MLPDecoder"
    assert said["identity"]["learning_rate"] == 0.02


def test_training_stops_early_and_keeps_the_best_weights():
    # Nothing is to be learned: what is learned is noise, and the score of held-out samples falls.
    generator = np.random.default_rng(0)
    X, y = generator.standard_normal((60, 20)), generator.standard_normal((60, 2))
    decoder = MLPDecoder((32,), max_epochs=200, patience=5, learning_rate=0.01, validation_fraction=0.3).fit(X, y)
    scores = decoder.history_["validation_score"]
    assert len(scores) == decoder.best_epoch_ + 5 < 200
    assert decoder.best_epoch_ == scores.argmax() + 1
    rows = decoder.validation_rows_
    # The score is that of the best epoch: the mean squared error of what was standardized.
    errors = ((decoder.predict(X[rows]) - y[rows]) / decoder.y_scale_) ** 2
    assert errors.mean() == pytest.approx(-scores.max(), rel=1e-5)
    # All epochs, with the weights of the best one nevertheless.
    longer = clone(decoder).set_params(patience=None, max_epochs=decoder.best_epoch_ + 20).fit(X, y)
    assert len(longer.history_["loss"]) == decoder.best_epoch_ + 20
    for name, values in decoder.weights_.items():
        assert values.tobytes() == longer.weights_[name].tobytes()
    # Scores have to rise by more than the tolerance.
    assert clone(decoder).set_params(tolerance=10.0).fit(X, y).best_epoch_ == 1


def test_repeats_of_a_stimulus_are_not_validated_on():
    X, y = problem()
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 4))
    decoder = MLPDecoder(**SMALL, validation_fraction=0.3).fit(X, y, groups)
    held_out = decoder.validation_rows_
    assert len(held_out) == 12
    assert not set(groups[held_out]) & set(np.delete(groups, held_out))
    # Mean and scale are those of the samples that are trained on.
    np.testing.assert_allclose(decoder.x_mean_, np.delete(X, held_out, axis=0).mean(0, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(decoder.y_scale_, np.delete(y, held_out, axis=0).std(0, dtype=float), rtol=1e-12)
    chosen = MLPDecoder(**SMALL).fit(X, y, validation=held_out)
    np.testing.assert_array_equal(chosen.validation_rows_, np.sort(held_out))


def test_targets_on_disk_give_the_bits_of_targets_in_memory(tmp_path):
    import dask.array
    import xarray
    import zarr

    X, y = problem()
    y = y.reshape(40, 2, 2)
    decoder = MLPDecoder(**SMALL)
    expected = clone(decoder).fit(X, y)
    memory = np.memmap(tmp_path / "y", dtype=y.dtype, mode="w+", shape=y.shape)
    memory[:] = y
    chunked = dask.array.from_array(y, chunks=(15, 2, 1))
    stored = zarr.create_array(tmp_path / "y.zarr", shape=y.shape, chunks=(15, 1, 2), dtype=y.dtype)
    stored[:] = y
    for lazy in (memory, chunked, xarray.DataArray(chunked), stored):
        same_bits(expected, clone(decoder).fit(X, lazy))
        np.testing.assert_allclose(expected.score_targets(X, lazy), expected.score_targets(X, y), rtol=1e-12)
    # In windows the order is another, and what is learned alike.
    windows = clone(decoder).set_params(shuffle_window=15, max_epochs=25).fit(X, stored)
    assert windows.score(X, y) > 0.5
    same_bits(windows, clone(windows).fit(X, y))


def test_the_callers_state_stays():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    X, y = problem()
    AcceleratorState._reset_state(reset_partial_state=True)  # of libraries that other tests of this process used
    mine = Accelerator(cpu=True, mixed_precision="bf16")
    try:
        numbers = torch.get_rng_state()
        MLPDecoder(**SMALL).fit(X, y).predict(X)
        assert torch.equal(numbers, torch.get_rng_state())
        assert mine.mixed_precision == "bf16"
        assert Accelerator(cpu=True).mixed_precision == "bf16"
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
    MLPDecoder(**SMALL).fit(X, y)
    assert not AcceleratorState._shared_state
    assert not PartialState._shared_state


def test_threads_do_not_share_random_numbers():
    X, y = problem()
    expected = MLPDecoder(**SMALL).fit(X, y)
    decoders = [MLPDecoder(**SMALL) for _ in range(3)]
    threads = [threading.Thread(target=decoder.fit, args=(X, y)) for decoder in decoders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for decoder in decoders:
        same_bits(expected, decoder)


@pytest.mark.parametrize(
    "parameters", [{"precision": "float64"}, {"precision": "bf16"}, {"compile": "eager"}, {"precision": "float32"}]
)
def test_precision_and_compilation_change_little(parameters):
    X, y = problem()
    plain = MLPDecoder(**SMALL).fit(X, y)
    other = MLPDecoder(**SMALL, **parameters).fit(X, y)
    assert other.predict(X).dtype == ("float64" if parameters.get("precision") == "float64" else "float32")
    tolerance = 0.05 if parameters.get("precision") == "bf16" else 1e-4
    np.testing.assert_allclose(other.predict(X), plain.predict(X), atol=tolerance * np.abs(plain.predict(X)).max())
    assert all(values.dtype in ("float32", "float64") for values in other.weights_.values())


def test_training_that_diverges_is_one_clear_error():
    X, y = problem()
    with pytest.raises(InputError, match="training diverged"):
        MLPDecoder((), optimizer="sgd", learning_rate=1e6, max_epochs=100, validation_fraction=0).fit(X, y)


def test_inputs_may_have_several_axes():
    X, y = problem()
    decoder = Volumes(max_epochs=2).fit(X.reshape(40, 3, 2), y)
    assert decoder.predict(X.reshape(40, 3, 2)).shape == (40, 4)
    assert decoder.input_shape_ == (3, 2)
    with pytest.raises(InputError, match="another shape"):
        decoder.predict(X.reshape(40, 3, 2)[:, :, :1])


class Volumes(NeuralDecoder):
    """Takes inputs of three axes."""

    def prepare_inputs(self, X, *, reset):
        return np.asarray(X, dtype=np.float32)

    def build_network(self, input_shape, target_shape):
        return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 4))


class Frames(NeuralDecoder):
    """Predicts each frame from the one before and the responses; the first from the responses alone.

    All hooks are overridden once: this is what the decoders of videos need.
    """

    def __init__(self, width=8, *, noise=0.1, max_epochs=60, **training):
        super().__init__(max_epochs=max_epochs, **training)
        self.width = width
        self.noise = noise

    def build_network(self, input_shape, target_shape):
        (n_frames, n_values) = target_shape["frames"]
        assert input_shape == (6,)
        assert target_shape["clip"] == (5,)
        network = torch.nn.Module()
        network.first = torch.nn.Linear(6, n_values)
        network.next = torch.nn.GRUCell(n_values + 6, n_values)
        network.clip = torch.nn.Linear(6, 5)
        network.n_frames = n_frames
        network.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        return network

    def augment(self, inputs, targets):
        return inputs + self.noise * torch.randn_like(inputs), targets

    def forward(self, network, inputs, targets):
        if targets is not None:
            network.calls += 1
        frames = [network.first(inputs)]
        for number in range(1, network.n_frames):
            before = frames[-1] if targets is None else targets["frames"][:, number - 1]
            frames.append(network.next(torch.cat([before, inputs], dim=1), before))
        return {"made": torch.stack(frames, dim=1), "embedding": network.clip(inputs)}

    def compute_loss(self, outputs, targets):
        from neurorecon.decoders.neural.layers import info_nce, mse

        return mse(outputs["made"], targets["frames"]) + 0.1 * info_nce(outputs["embedding"], targets["clip"])

    def validation_score(self, outputs, targets):
        return torch.cosine_similarity(outputs["made"].flatten(1), targets["frames"].flatten(1)).mean()

    def to_predictions(self, outputs):
        return {"frames": outputs["made"]}

    def build_optimizer(self, network):
        return torch.optim.NAdam(network.parameters(), lr=self.learning_rate)


def videos():
    generator = np.random.default_rng(0)
    X = generator.standard_normal((80, 6))
    first = np.tanh(X @ generator.standard_normal((6, 3)))
    frames = np.stack([first, 0.5 * first + 1, 0.25 * first + 2], axis=1)
    return X, {"frames": frames, "clip": X @ generator.standard_normal((6, 5))}


def test_subclasses_override_what_they_need(tmp_path, monkeypatch):
    X, y = videos()
    decoder = Frames(learning_rate=0.02, batch_size=16)
    parameters = decoder.get_params()
    assert parameters["width"] == 8
    assert parameters["max_epochs"] == 60
    assert parameters["learning_rate"] == 0.02
    assert clone(decoder).get_params() == parameters
    decoder.fit(X[:60], {name: values[:60] for name, values in y.items()})
    assert set(decoder.predict(X[60:])) == {"frames"}
    assert decoder.score(X[60:], {name: values[60:] for name, values in y.items()}) > 0.6
    assert 0.5 < decoder.history_["validation_score"].max() <= 1
    # Numbers that are no weights are kept, too, in their shape.
    assert decoder.weights_["calls"].shape == ()
    assert decoder.weights_["calls"] == decoder.best_epoch_ * 4
    # It is saved and loaded as any other, under the name of its class.
    loaded = load_decoder(decoder.save(tmp_path / "decoder"))
    assert isinstance(loaded, Frames)
    assert loaded.predict(X)["frames"].tobytes() == decoder.predict(X)["frames"].tobytes()
    assert loaded.weights_["calls"].shape == ()
    same_bits(decoder, loaded)
    assert isinstance(loaded.network_.next, torch.nn.GRUCell)
    assert not any(weights.requires_grad for weights in loaded.network_.parameters())
    twin = copy.deepcopy(decoder)
    assert twin.predict(X)["frames"].tobytes() == decoder.predict(X)["frames"].tobytes()


def test_a_subclass_without_network_says_what_is_missing():
    X, y = problem()
    with pytest.raises(NotImplementedError, match="has to override build_network"):
        NeuralDecoder().fit(X, y)


def test_what_cannot_be_named_keeps_no_checkpoints(tmp_path):
    X, y = videos()
    with pytest.raises(InputError, match="cannot keep checkpoints"):
        Frames(width=np.tanh, max_epochs=1).fit(X, y, checkpoint=tmp_path)


def test_the_progress_bar_says_loss_and_score(capsys):
    X, y = problem()
    MLPDecoder(**SMALL).fit(X, y)
    assert not capsys.readouterr().err
    MLPDecoder(**SMALL, progress=True).fit(X, y)
    shown = capsys.readouterr().err
    assert "6/6" in shown
    assert "validation_score=" in shown


_IMPORTED = """
import sys
import neurorecon.decoders
from neurorecon.decoders import MLPDecoder
MLPDecoder()
print("torch" in sys.modules, "accelerate" in sys.modules)
"""


def test_torch_is_imported_late():
    found = subprocess.run([sys.executable, "-c", _IMPORTED], capture_output=True, text=True, check=True, timeout=300)
    assert found.stdout.split() == ["False", "False"]
