"""Baselines of video systems: frames that know nothing of each other."""

from __future__ import annotations

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.errors import InputError
from neurorecon.systems.decoded import Decoded
from neurorecon.systems.takagi import Takagi

#: The store of ``test_mind_animator`` would be built twice otherwise.
pytestmark = pytest.mark.xdist_group("mind-animator")


@pytest.fixture(scope="module")
def decoded():
    """Latents of three frames and text conditions of two stimuli."""
    import xarray

    random, stimuli = np.random.default_rng(0), ["a", "b"]
    shapes = {"vqvae_frames": ("frame", "channel", "y", "x"), "clip_text_sd": ("token", "channel")}
    sizes = {"vqvae_frames": (3, 6, 16, 16), "clip_text_sd": (40, 128)}
    arrays = {
        name: xarray.DataArray(
            0.3 * random.standard_normal((2, *sizes[name])), dims=("stimulus", *dims), coords={"stimulus": stimuli}
        )
        for name, dims in shapes.items()
    }
    return Decoded(arrays)


def test_each_frame_is_the_image_of_the_image_system(decoded):
    options = {"steps": 2, "strength": 0.5}
    videos = nr.load_system("frame-by-frame", system="takagi", options=options, device="cpu").generate(decoded, seed=3)
    assert videos.dims == ("stimulus", "frame", "y", "x", "rgb")
    image = Takagi(device="cpu", **options)
    for frame in range(3):
        of_frame = decoded.drop("vqvae_frames").with_(vqvae=decoded["vqvae_frames"][:, frame])
        np.testing.assert_array_equal(videos.values[:, frame], image.generate(of_frame, seed=3).values)


def test_without_latents_all_frames_are_the_same(decoded):
    system = nr.load_system("frame-by-frame", options={"steps": 2}, frames=4, device="cpu")
    videos = system.generate(decoded.drop("vqvae_frames"), seed=3).values
    assert videos.shape[1] == 4
    assert (videos == videos[:, :1]).all()


def test_the_targets_are_those_of_frames():
    targets = nr.load_system("frame-by-frame", system="mind-diffuser").targets
    assert {name: spec.source for name, spec in targets.items()} == {
        "clip_text_15": "clip_text_15", "vqvae_frames": "vqvae_frames", "clip_layers": "clip_layers",
    }  # fmt: skip
    with pytest.raises(InputError, match="makes no images of videos"):
        nr.load_system("frame-by-frame", system="mind-animator").targets  # noqa: B018
