"""Latents of a VDVAE, random: those of the network itself, by group."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from neurorecon.errors import InputError
from neurorecon.features.extract import load_extractor
from neurorecon.models.vdvae import IMAGENET64

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 30, 40, 3), dtype=np.uint8)


def squeezed(images, size):
    resized = [np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BILINEAR)) for one in images]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("groups", [None, 1, 2, 4])
def test_latents_of_the_first_groups(random_models, groups):
    extractor = load_extractor("vdvae", models=random_models, groups=groups)
    network = extractor.network
    latents = network.encode(squeezed(IMAGES, 16), groups=groups or 4)
    found = extractor.transform(IMAGES)
    np.testing.assert_allclose(found, network.flatten(latents), atol=1e-5)
    layout = extractor.layout()
    assert layout["group_boundaries"] == network.group_boundaries(groups or 4)
    assert layout["group_boundaries"][-1] == found.shape[1]
    assert [tuple(shape) for shape in layout["group_shapes"]] == network.group_shapes[: groups or 4]
    reconstructed = network.decode(network.unflatten(torch.from_numpy(found)), temperature=0)
    torch.testing.assert_close(reconstructed, network.decode(latents, temperature=0), atol=1e-4, rtol=1e-4)


def test_the_groups_of_the_papers():
    extractor = load_extractor("vdvae", models="bundled")
    extractor.config = IMAGENET64
    assert extractor.groups == 31
    assert extractor.layout()["group_boundaries"][-1] == 91_168
    fewer = load_extractor("vdvae", models="bundled", groups=15)
    fewer.config = IMAGENET64
    assert fewer.layout()["group_boundaries"][-1] == 13_344


def test_a_prefix_is_a_prefix(random_models):
    whole, first = (load_extractor("vdvae", models=random_models, groups=groups) for groups in (5, 3))
    values = first.transform(IMAGES)
    np.testing.assert_allclose(values, whole.transform(IMAGES)[:, : values.shape[1]], atol=1e-6)
    assert whole.made_by()["groups"] == 5


def test_samples_belong_to_a_seed_and_a_stimulus(random_models):
    one, other = (load_extractor("vdvae", models=random_models, seed=seed) for seed in (0, 1))
    found = one.transform(IMAGES)
    np.testing.assert_array_equal(one.transform(IMAGES, batch=1), found)
    assert np.abs(other.transform(IMAGES) - found).max() > 0.1
    assert one.made_by()["sampled_on"] == "cpu"
    mean = load_extractor("vdvae", models=random_models)
    assert np.abs(mean.transform(IMAGES) - found).max() > 0.1
    assert "sampled_on" not in mean.made_by()


@pytest.mark.parametrize("groups", [7, 0])
def test_a_vdvae_has_only_so_many_groups(random_models, groups):
    with pytest.raises(InputError, match="1 to 6"):
        load_extractor("vdvae", models=random_models, groups=groups).made_by()
