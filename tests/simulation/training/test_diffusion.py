"""What the training of the diffusion networks hands out is what it trained."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import RidgeCV

from neurorecon.models.dual_guided import TEXT_RATIO
from neurorecon.simulation.training import diffusion
from neurorecon.simulation.training.diffusion import (
    _SLOW,
    CONFIG,
    Corruption,
    Denoiser,
    Frozen,
    _more_of,
    _steps,
    image_branch_loss,
    make_image_branch,
)

SMALL = {**CONFIG, "block_out_channels": [16, 16, 32], "cross_attention_dim": 16, "attention_head_dim": 2}


def _given():
    generator = torch.Generator().manual_seed(0)
    shapes = (4, 6, 16, 16), (4, 15, 16), (4, 9, 16)
    noisy, text, image = (torch.randn(shape, generator=generator) for shape in shapes)
    return noisy, torch.tensor([10, 300, 600, 990]), text, 0.08 * image, torch.tensor([1.0, 0.0, 0.4, 0.0])


def test_the_published_network_reads_contexts_as_they_are():
    denoiser = Denoiser(SMALL, patch_width=8).eval()
    with torch.no_grad():
        velocity, _ = denoiser(*_given())
        torch.testing.assert_close(denoiser.published()(*_given()), velocity, rtol=1e-4, atol=1e-5)


def test_a_training_goes_on_from_published_weights():
    before, after = Denoiser(SMALL, patch_width=8).eval(), Denoiser(SMALL, patch_width=8).eval()
    with torch.no_grad():
        for parameter in before.dual.parameters():
            parameter.add_(0.01 * torch.ones_like(parameter))
        published = before.published()
        published.adapt_text(torch.eye(16))
        after.go_on_from(published)
        torch.testing.assert_close(after(*_given())[0], before(*_given())[0], rtol=1e-4, atol=1e-5)


def test_most_steps_are_drawn_where_outlines_are_decided():
    generator = torch.Generator().manual_seed(0)
    steps = torch.cat([_steps(32, 1000, generator) for _ in range(300)])
    shares = torch.histc(steps.float(), 5, 0, 1000) / len(steps)
    assert shares.argmax() == 3
    assert float(shares.min()) > 0.03
    assert int(steps.max()) > 990 > 10 > int(steps.min())


def test_what_is_learned_slowly_is_drawn_more_often():
    generator = torch.Generator().manual_seed(0)
    rows, slow = torch.arange(100).repeat(40), torch.tensor([200, 300])
    drawn = _more_of(slow, rows, generator)
    kept = drawn == rows
    assert set(drawn[~kept].tolist()) == {200, 300}
    assert abs(float((~kept).float().mean()) - _SLOW) < 0.03


def _contexts(scenes=2_000):
    """Contexts (scene, 3, 4) whose components fall off, but not below float32, and whose last feature is constant."""
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.normal(size=(11, 11)))[0]
    values = random.normal(size=(scenes, 11)) * 1.7 ** -np.arange(11)
    flat = np.column_stack([values @ axes + 1.0, np.full(scenes, 3.0)])
    return torch.from_numpy(flat).float().unflatten(1, (3, 4))


def _corrupted(contexts, noise, spread=1.0):
    ones = torch.ones(len(contexts))
    return Corruption.of(contexts)(contexts, noise * ones, spread * ones, torch.Generator().manual_seed(1))


def _correlations(first, second, axes):
    """Correlation over scenes of each component of two sets of contexts."""
    pairs = zip((first.flatten(1).numpy() @ axes.T).T, (second.flatten(1).numpy() @ axes.T).T, strict=True)
    return np.array([np.corrcoef(one, two)[0, 1] for one, two in pairs])


def _axes(contexts):
    flat = contexts.flatten(1).double().numpy()
    _, values, axes = np.linalg.svd(flat - flat.mean(axis=0), full_matrices=False)
    return axes[:11], values[:11] ** 2 / len(flat)


def test_without_noise_contexts_stay_what_they_are():
    contexts = _contexts()
    torch.testing.assert_close(_corrupted(contexts, 0.0), contexts, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("noise", [0.01, 0.2])
def test_components_of_low_variance_are_corrupted_most(noise):
    contexts = _contexts()
    axes, variances = _axes(contexts)
    # The rescaling of the features mixes components a little.
    expected = np.sqrt(variances / (variances + noise * variances.sum()))
    found = _correlations(_corrupted(contexts, noise), contexts, axes)
    np.testing.assert_allclose(found[:6], expected[:6], atol=0.08)


@pytest.mark.parametrize("spread", [0.6, 1.0])
def test_each_feature_has_the_wanted_standard_deviation(spread):
    contexts = _contexts()
    corrupted = _corrupted(contexts, 0.05, spread)
    np.testing.assert_allclose(corrupted.std(dim=0)[:, :3], spread * contexts.std(dim=0)[:, :3], rtol=0.06)
    np.testing.assert_allclose(corrupted.mean(dim=0), contexts.mean(dim=0), atol=0.05)
    np.testing.assert_allclose(corrupted[:, 2, 3], 3.0, atol=1e-3)


def test_a_ridge_from_noisy_responses_corrupts_in_the_same_way():
    contexts = _contexts()
    random = np.random.default_rng(3)
    targets = contexts.flatten(1).double().numpy()
    brain = targets @ random.normal(size=(12, 300)) + 4.0 * random.normal(size=(2_000, 300))
    train, test = slice(0, 600), slice(600, None)
    ridge = RidgeCV(np.logspace(1, 6, 11)).fit(brain[train], targets[train])
    axes, _ = _axes(contexts)
    decoded = torch.from_numpy(ridge.predict(brain[test])).unflatten(1, (3, 4))
    by_ridge = _correlations(decoded, contexts[test].double(), axes)
    by_noise = {noise: _correlations(_corrupted(contexts, noise), contexts, axes) for noise in np.logspace(-4, 0, 17)}
    nearest = min(by_noise.values(), key=lambda found: np.abs(found - by_ridge).mean())
    assert by_ridge[0] > 0.9 > 0.5 > by_ridge[7]
    np.testing.assert_allclose(nearest[:8], by_ridge[:8], atol=0.15)


@pytest.fixture
def frozen():
    generator = torch.Generator().manual_seed(0)
    latents, texts, images = (
        torch.randn(shape, generator=generator).half() for shape in ((40, 6, 16, 16), (40, 5, 15, 16), (40, 9, 16))
    )
    return Frozen(latents, texts, images, torch.full((1, 15, 16), 7.0), torch.full((1, 9, 16), 7.0), torch.arange(8))


def test_most_contexts_of_the_image_branch_are_corrupted(frozen):
    seen = []

    def network(noisy, step, text, image, ratio):
        seen.append((text, image, ratio))
        return torch.zeros_like(noisy), torch.zeros(len(noisy), 16, 3, 3)

    loss = image_branch_loss(frozen, "cpu")
    for step in range(40):
        values = loss(network, torch.arange(40), torch.Generator().manual_seed(step))
        assert all(torch.isfinite(value) for value in values.values())
    text, image, ratio = (torch.cat(parts) for parts in zip(*seen, strict=True))
    assert set(ratio.tolist()) == {0.0, float(torch.tensor(TEXT_RATIO))}
    known = {tuple(row) for row in frozen.images.float().flatten(1).tolist()}
    exact = torch.tensor([tuple(row) in known for row in image.flatten(1).tolist()])
    nothing = (image == 7.0).all(dim=(1, 2))
    torch.testing.assert_close(nothing, (text == 7.0).all(dim=(1, 2)))
    assert abs(float(nothing.float().mean()) - diffusion._NOTHING) < 0.03
    assert abs(float((~exact & ~nothing).float().mean()) - diffusion._CORRUPTED * (1 - diffusion._NOTHING)) < 0.05


def test_only_the_image_branch_is_trained(frozen, monkeypatch):
    published = Denoiser(SMALL, patch_width=8).published().eval()
    denoiser = make_image_branch(published)
    noisy, step, text, image, _ = _given()
    ratio = torch.full((4,), TEXT_RATIO)
    with torch.no_grad():
        expected = published(noisy, step, text, image, ratio)
        torch.testing.assert_close(denoiser(noisy, step, text, image, ratio)[0], expected, rtol=1e-4, atol=1e-5)
    before = {key: value.clone() for key, value in denoiser.state_dict().items()}
    optimizer = torch.optim.AdamW([p for p in denoiser.parameters() if p.requires_grad], lr=1e-2)
    loss = image_branch_loss(frozen, "cpu")
    loss(denoiser, torch.arange(8), torch.Generator().manual_seed(0))["loss"].backward()
    optimizer.step()
    changed = {key for key, value in denoiser.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(".image." in key for key in changed)
