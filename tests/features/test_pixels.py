"""The same image gives the same numbers, whatever it comes as."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from neurorecon.errors import InputError
from neurorecon.features.images import Preprocessing, pixels

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def photographs() -> dict[str, np.ndarray]:
    from skimage import data
    from sklearn.datasets import load_sample_image

    return {
        "china": load_sample_image("china.jpg"),
        "flower": load_sample_image("flower.jpg"),
        "astronaut": data.astronaut(),
        "cat": data.chelsea(),
        "coffee": data.coffee(),
        "portrait": np.ascontiguousarray(data.coffee().transpose(1, 0, 2)),
    }


@pytest.fixture(scope="module")
def photos():
    return photographs()


@pytest.mark.parametrize("name", ["china", "flower", "astronaut", "cat", "coffee", "portrait"])
@pytest.mark.parametrize(("resampling", "fit", "size"), [("bicubic", "crop", 96), ("bilinear", "squeeze", 64)])
def test_bytes_floats_and_pil_images_are_the_same(photos, name, resampling, fit, size):
    photo = photos[name]
    preprocessing = Preprocessing(size, resampling, fit, MEAN, STD)
    expected = preprocessing.prepare(photo[None])
    assert expected.shape == (1, size, size, 3)
    assert expected.dtype == np.uint8
    assert expected.std() > 10  # an image that was scaled twice is black
    for other in ([Image.fromarray(photo)], (photo / 255.0)[None], [(photo / 255).astype(np.float32)]):
        np.testing.assert_array_equal(preprocessing.prepare(other), expected)


@pytest.mark.parametrize("size", [32, 224])
def test_clip_sees_what_open_clip_shows_it(photos, size):
    from open_clip.transform import image_transform

    theirs = image_transform(size, is_train=False, mean=MEAN, std=STD)
    ours = Preprocessing(size, "bicubic", "crop", MEAN, STD)
    for name, photo in photos.items():
        expected = theirs(Image.fromarray(photo)).numpy()
        found = ours.normalize(ours.prepare(photo[None]))[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=name)


def test_images_of_the_right_size_are_left_as_they_are():
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Preprocessing(16).prepare(images), images)
    np.testing.assert_allclose(Preprocessing(16).normalize(images).numpy().transpose(0, 2, 3, 1), images / 255.0)


def test_a_squeezed_image_keeps_its_edges_and_a_cropped_one_its_middle():
    image = np.zeros((20, 60, 3), dtype=np.uint8)
    image[:, :20, 0], image[:, 20:40, 1], image[:, 40:, 2] = 255, 255, 255
    squeezed = Preprocessing(30, "bilinear", "squeeze").prepare([image])[0]
    assert squeezed[15, 2].tolist() == [255, 0, 0]
    assert squeezed[15, 27].tolist() == [0, 0, 255]
    cropped = Preprocessing(20, "bicubic", "crop").prepare([image])[0]
    assert cropped[..., 1].mean() > 250


def test_gray_and_transparent_images():
    gray = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    np.testing.assert_array_equal(pixels(gray), np.repeat(np.asarray(gray)[..., None], 3, axis=2))
    assert pixels(Image.new("RGBA", (4, 5), (1, 2, 3, 0))).tolist() == [[[128, 128, 128]] * 4] * 5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 255), min_size=3, max_size=3), st.sampled_from(["float32", "float64"]))
def test_every_byte_survives_the_way_through_float(color, dtype):
    image = np.array(color, dtype=np.uint8).reshape(1, 1, 3)
    np.testing.assert_array_equal(pixels((image / 255).astype(dtype)), image)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (np.full((4, 4, 3), 128.0), "from 128 to 128"),
        (np.full((4, 4, 3), -0.5), "from -0.5"),
        (np.full((4, 4, 3), np.nan), "nan"),
        (np.full((4, 4, 3), 7), "int64"),
        (np.zeros((3, 4, 4), dtype=np.uint8), r"shape \(3, 4, 4\)"),
        (np.zeros((4, 4), dtype=np.uint8), r"shape \(4, 4\)"),
        (np.zeros((4, 4, 4), dtype=np.uint8), "alpha"),
    ],
)
def test_what_cannot_be_told_is_refused(images, said):
    with pytest.raises(InputError, match=said):
        pixels(images)
