"""The decoders of Mind-Animator: which frames see which, what the loss is, that they learn, resume and refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch.nn import functional

from neurorecon.decoders import MotionDecoder, SemanticDecoder, load_decoder
from neurorecon.decoders.neural.frames import FrameTransformer, seen_frames
from neurorecon.errors import InputError

SHAPE = (4, 2, 4, 6)
MOTION = {"patch": 2, "width": 16, "depth": 2, "heads": 2, "feedforward": 16, "memory": 3, "dropout": 0.0}
SEMANTIC = {"hidden": (16,), "head": (12,), "max_epochs": 3, "batch_size": 10}


def network(first=True, seed=0, **settings):
    """Return a network whose last layer is not zero."""
    torch.manual_seed(seed)
    found = FrameTransformer(11, SHAPE, **{**MOTION, **settings}, first=first).double().eval()
    torch.nn.init.normal_(found.change.weight)
    return found


def clips(samples=40, seed=0):
    """Return inputs, and clips whose first frame moves by the first inputs along x, as a sum of two waves."""
    random = np.random.default_rng(seed)
    X = random.standard_normal((samples, 7))
    phase = 2 * np.pi * (np.arange(6) / 6)[:, None] + 0.4 * np.arange(4)[:, None, None] * X[:, 0, None, None, None]
    waves = np.stack([np.sin(phase + X[:, 1, None, None, None]), np.cos(phase)], axis=2)
    return X, np.broadcast_to(np.moveaxis(waves, -1, -2), (samples, 4, 2, 1, 6)).repeat(4, axis=3).astype("f4")


def test_a_frame_comes_from_the_first_and_the_previous_one():
    """Gradients of each predicted frame: of no other frame, whatever the depth."""
    random = torch.Generator().manual_seed(1)
    inputs = torch.randn(1, 11, generator=random, dtype=torch.float64)
    frames = torch.randn(1, 3, *SHAPE[1:], generator=random, dtype=torch.float64).requires_grad_(True)
    sees = seen_frames(3, 0.0, torch.device("cpu"))
    found = network()(inputs, frames, sees, torch.arange(3))
    for number in range(3):
        (gradient,) = torch.autograd.grad(found[:, number].square().sum(), frames, retain_graph=True)
        assert set(torch.nonzero(gradient.abs().amax((0, 2, 3, 4)) > 0)[:, 0].tolist()) == {0, number}


def test_in_training_earlier_frames_are_seen_at_random():
    torch.manual_seed(0)
    drawn = torch.stack([seen_frames(5, 0.5, torch.device("cpu")) for _ in range(400)])
    mean = drawn.double().mean(0)
    assert (mean[:, 0] == 1).all()
    assert (mean.diagonal() == 1).all()
    assert (drawn.triu(1).sum((1, 2)) == 0).all()  # no later frame
    between = mean[torch.tensor([2, 3, 3, 4, 4, 4]), torch.tensor([1, 1, 2, 1, 2, 3])]
    assert ((between > 0.4) & (between < 0.6)).all()
    assert len({tuple(one.flatten().tolist()) for one in drawn}) > 30


def test_frames_one_by_one_are_those_of_the_mask():
    """What is predicted frame by frame, each from the predicted one, is what the mask allows all at once."""
    inputs, built = torch.randn(2, 11, dtype=torch.float64), network()
    with torch.no_grad():
        videos = built.continued(inputs, built.start(inputs))
        at_once = built(inputs, videos[:, :-1], seen_frames(3, 0.0, torch.device("cpu")), torch.arange(3))
    torch.testing.assert_close(videos[:, 1:], at_once, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("patch", [1, 2, None])
def test_patches_and_back(patch):
    built, frames = network(patch=patch), torch.randn(2, 3, *SHAPE[1:], dtype=torch.float64)
    patches = built._to_patches(frames)
    assert patches.shape[2] == (1 if patch is None else 4 * 6 // patch**2)
    torch.testing.assert_close(built._from_patches(patches), frames, rtol=0, atol=0)
    if patch == 2:  # the second patch of the first row, all channels
        torch.testing.assert_close(patches[0, 0, 1], frames[0, 0, :, :2, 2:4].flatten(), rtol=0, atol=0)


def test_several_tokens_of_the_inputs_drive_the_motion():
    """Each of the parts that the inputs are cut into has an effect, which depends on the place."""
    inputs = torch.zeros(1, 11, dtype=torch.float64, requires_grad=True)
    built = network()
    found = built.continued(inputs, torch.randn(1, *SHAPE[1:], dtype=torch.float64))
    assert len(built.of_drive) == 3
    one, other = (torch.autograd.grad(found[0, -1, 0, 0, x], inputs, retain_graph=True)[0] for x in (0, 5))
    assert (one != 0).all()
    assert (other != 0).all()
    assert torch.corrcoef(torch.cat([one, other]))[0, 1].abs() < 0.999


def test_an_untrained_network_stands_still():
    torch.manual_seed(0)
    fresh, first = FrameTransformer(11, SHAPE, **MOTION, first=True), torch.randn(1, *SHAPE[1:])
    videos = fresh.continued(torch.randn(1, 11), first)
    assert videos.shape == (1, *SHAPE)
    assert (videos == first[:, None]).all()


def test_motion_is_learned():
    X, y = clips()
    settings = {**MOTION, "batch_size": 10, "learning_rate": 3e-3, "max_epochs": 60, "validation_fraction": 0}
    given = np.concatenate([X, y[:, 0].reshape(len(y), -1)], axis=1)
    decoder = MotionDecoder(first="given", standardize_inputs=False, jitter=0.05, **settings).fit(given[:30], y[:30])
    predicted = decoder.predict(given[30:])
    np.testing.assert_array_equal(predicted[:, 0], y[30:, 0])
    error = ((predicted - y[30:]) ** 2).mean()
    still = ((y[30:, :1] - y[30:]) ** 2).mean()
    assert error < 0.5 * still
    turned = given[30:].copy()
    turned[:, 0] *= -1  # the same first frames, driven the other way
    assert ((decoder.predict(turned) - y[30:]) ** 2).mean() > 2 * error


def test_saved_resumed_and_repeated_to_the_bit(tmp_path):
    X, y = clips(20)
    decoder = MotionDecoder(**{**MOTION, "dropout": 0.1}, max_epochs=3, batch_size=8, patience=None)
    whole = clone(decoder).fit(X, y, checkpoint=tmp_path / "whole")
    again = load_decoder(whole.save(tmp_path / "saved"))
    np.testing.assert_array_equal(again.predict(X), whole.predict(X))
    calls = []

    class Stops(MotionDecoder):
        def forward(self, network, inputs, targets):
            calls.append(1)
            if len(calls) > 5:
                raise KeyboardInterrupt
            return super().forward(network, inputs, targets)

    Stops.__name__ = "MotionDecoder"  # checkpoints compare the name of the class
    with pytest.raises(KeyboardInterrupt):
        Stops(**decoder.get_params()).fit(X, y, checkpoint=tmp_path / "part")
    resumed = clone(decoder).fit(X, y, checkpoint=tmp_path / "part")
    for name, weights in whole.weights_.items():
        np.testing.assert_array_equal(resumed.weights_[name], weights)


@pytest.mark.parametrize(
    ("settings", "y", "said"),
    [
        ({"heads": 3}, (4, 2, 4, 6), "heads=3"),
        ({"patch": 4}, (4, 2, 4, 6), "cut into patches"),
        ({}, (2, 4, 6), "cut into patches"),
        ({"memory": 9}, (4, 2, 4, 6), "memory=9"),
        ({"first": "given"}, (4, 1, 2, 2), "standardize_inputs=True"),
        ({"first": "none"}, (4, 2, 4, 6), "first='none'"),
        ({"depth": 0}, (4, 2, 4, 6), "depth must be a positive integer"),
    ],
)
def test_bad_motion_settings(settings, y, said):
    X = np.zeros((6, 7)) + np.arange(6)[:, None]
    with pytest.raises(InputError, match=said):
        MotionDecoder(**{**MOTION, **settings}, max_epochs=1).fit(X, np.ones((6, *y)))


# -- semantics ----------------------------------------------------------------------------------------------------


def meanings(samples=60, seed=0):
    random = np.random.default_rng(seed)
    X = random.standard_normal((samples, 20))
    text, video = (X[:, :8] + 0.3 * random.standard_normal((samples, 8)) for _ in range(2))
    return X, {"condition": X[:, :6].reshape(-1, 2, 3), "text": text, "video": video}


def test_the_loss_of_three_modalities():
    """Against the formula of the paper, from cross-entropies of rows and columns."""
    decoder = SemanticDecoder(align=0.3, contrast=0.7, temperature=0.2, **SEMANTIC)
    f, text, video = (torch.randn(5, 8, dtype=torch.float64) for _ in range(3))
    condition, wanted = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    targets = {"condition": wanted, "text": text, "video": video}
    found = decoder.compute_loss({"condition": condition, "f": f}, targets)

    def contrast(one, other):
        logits = functional.normalize(one) @ functional.normalize(other).T / 0.2
        rows, columns = logits.log_softmax(1).diagonal(), logits.log_softmax(0).diagonal()
        return -(rows.mean() + columns.mean()) / 2

    expected = 0.7 * (0.3 * contrast(f, text) + 0.7 * contrast(f, video))
    expected = expected + (f - text).square().mean() + (condition - wanted).square().mean()
    torch.testing.assert_close(found, expected.to(found.dtype))


def test_semantics_are_learned_and_saved(tmp_path):
    X, y = meanings(120)
    decoder = SemanticDecoder(**{**SEMANTIC, "max_epochs": 30, "learning_rate": 0.01, "input_dropout": 0.2})
    before = X.copy()
    decoder.fit(X[:100], {name: values[:100] for name, values in y.items()})
    np.testing.assert_array_equal(X, before)  # the augmentation works on a copy
    found = decoder.predict(X[100:])
    assert list(found) == ["condition"]
    assert np.corrcoef(found["condition"].ravel(), y["condition"][100:].ravel())[0, 1] > 0.5
    loaded = load_decoder(decoder.save(tmp_path)).predict(X[100:])
    np.testing.assert_array_equal(loaded["condition"], found["condition"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: y["condition"], "needs a condition and the embeddings"),
        (lambda y: {"condition": y["condition"], "text": y["text"]}, "needs a condition and the embeddings"),
        (lambda y: {**y, "video": y["video"][:, :5]}, r"video \(60, 5\)"),
    ],
)
def test_bad_semantic_targets(change, said):
    X, y = meanings()
    with pytest.raises(InputError, match=said):
        SemanticDecoder(**SEMANTIC).fit(X, change(y))


def test_bad_weights():
    X, y = meanings()
    with pytest.raises(InputError, match=r"align=1\.2"):
        SemanticDecoder(align=1.2, **SEMANTIC).fit(X, y)


def test_the_product_of_weights_as_in_the_released_code():
    """Of the semantic decoder, its layers one after the other; of the motion decoder, the encoder of the inputs."""
    random = np.random.default_rng(0)
    x = random.standard_normal((20, 11))
    y = {"c": random.standard_normal((20, 2, 3)), "text": x[:, :5], "video": x[:, 5:10]}
    semantic = SemanticDecoder(**{**SEMANTIC, "max_epochs": 1}).fit(x, y)
    matrices = [value for value in semantic.weights_.values() if value.ndim == 2]
    assert [matrix.shape for matrix in matrices] == [(16, 11), (5, 16), (12, 5), (6, 12)]
    product = matrices[3] @ matrices[2] @ matrices[1] @ matrices[0]
    np.testing.assert_allclose(semantic.weight_product(), product.mean(axis=0), rtol=1e-5, atol=1e-8)
    motion = MotionDecoder(**MOTION, max_epochs=1).fit(x, random.standard_normal((20, *SHAPE)))
    tokens = motion.weights_["drive.weight"]  # three tokens of four inputs, the last one of three
    found = motion.weight_product()
    assert found.shape == (11,)
    assert found[5] == pytest.approx(tokens[1, 1].mean(), rel=1e-5)
