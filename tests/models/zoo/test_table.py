"""The table of weights says what a user needs, and answers wrong names."""

from pathlib import Path

import pytest

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.models import zoo


def test_every_entry_says_what_a_user_needs():
    assert len(zoo.ZOO) == len({weights.name for weights in zoo.ZOO.values()})
    for name, weights in zoo.ZOO.items():
        assert weights.name == name
        assert weights.files
        assert weights.licence
        assert weights.source
        assert weights.systems
        assert weights.origin in ("bundled", "published")
        if weights.origin == "published":
            assert (weights.repository is None) != (weights.url is None)
            assert weights.about > 1e8
        for file in weights.files:
            assert file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16) > 0)
            assert not Path(file.path).is_absolute()
            assert ".." not in file.path


def test_the_sizes_known_agree_with_the_numbers_of_parameters():
    weights = zoo.find("clip-vit-b32")
    # 4 bytes a parameter, and a header that names 302 tensors.
    assert 0 < weights.size - 4 * weights.parameters < 50_000


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'clip-vit-l14'"):
        zoo.find("clip-vit-l-14")
    with pytest.raises(UnknownNameError, match="one of: clip, clip-b32"):
        zoo.for_role("klip", "bundled")
    with pytest.raises(UnknownNameError, match="one of: bundled, published"):
        zoo.for_role("clip", "home-made")


@pytest.mark.parametrize(
    ("role", "published", "bundled"),
    [
        ("clip", "clip-vit-l14", "bundled-clip"),
        ("clip-b32", "clip-vit-b32", "bundled-clip"),
        ("text-encoder", "sd-v1-4-text-encoder", "bundled-clip"),
        ("autoencoder", "sd-v1-4-autoencoder", "bundled-autoencoder"),
        ("vdvae", "vdvae-imagenet64", "bundled-vdvae"),
        ("text-diffusion", "sd-v1-4-unet", "bundled-text-diffusion"),
        ("dual-diffusion", "versatile-diffusion", "bundled-dual-diffusion"),
    ],
)
def test_every_role_has_published_and_bundled_weights(role, published, bundled):
    assert zoo.for_role(role, "published").name == published
    assert zoo.for_role(role, "bundled").name == bundled


def test_the_probe_was_never_published():
    assert zoo.for_role("probe", "bundled").name == "bundled-probe"
    with pytest.raises(InputError, match="no published weights for this role"):
        zoo.for_role("probe", "published")
