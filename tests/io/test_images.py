"""Whatever an image comes as, its colors are the same; Pillow and NumPy compute them a second time."""

from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from neurorecon.errors import InputError, MissingFileError, NeuroreconWarning
from neurorecon.io.arrays import ArrayFile
from neurorecon.io.images import image_array, image_files, image_sizes, pixels, read_image
from neurorecon.io.videos import StimulusFile, StimulusFiles
from neurorecon.registry import FEATURES

RAMP = np.linspace(0, 65535, 24 * 24).round().astype(np.uint16).reshape(24, 24)
EIGHT = np.rint(RAMP / 257).astype(np.uint8)
MAGENTA = (255, 0, 255)

#: What EXIF says of where the first row and the first column lie, in NumPy.
UPRIGHT = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: image[::-1].swapaxes(0, 1),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: image[:, ::-1].swapaxes(0, 1),
}


@pytest.fixture
def saved(tmp_path):
    """Return what saves an image and returns its path."""

    def save(image, name="s0.png", **keywords):
        image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
        image.save(tmp_path / name, **keywords)
        return tmp_path / name

    return save


def of_arrays(path):
    return image_files(path.parent, [path.stem], [path.name], None).read(0, 1)[0]


def of_bids(path):
    files = StimulusFiles([StimulusFile(path)], None, "pad", 4)
    return files.images(0, 1)[0]


READERS = {"arrays": of_arrays, "BIDS": of_bids, "extractor": lambda path: pixels(Image.open(path))}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", ["s0.png", "s0.tif"])
def test_sixteen_bits_are_divided_by_257(saved, reader, name):
    path = saved(RAMP, name)
    if name.endswith("tif"):
        path = path.rename(path.with_suffix(".png"))  # the content says what it is
    found = READERS[reader](path)
    np.testing.assert_array_equal(found, np.repeat(EIGHT[..., None], 3, axis=2))


def test_an_extractor_sees_a_16_bit_image_as_its_8_bit_version(saved):
    gabor = FEATURES.load("gabor")()
    found = gabor.transform([Image.open(saved(RAMP))])
    np.testing.assert_array_equal(found, gabor.transform(np.repeat(EIGHT[None, ..., None], 3, axis=3)))
    assert found.std() > 0  # of a white image all energies would be 0


def _png(values, alpha=False):
    """Return a PNG of 16-bit color, which Pillow cannot write."""
    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def part(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, 6 if channels == 4 else 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


@pytest.mark.parametrize("reader", READERS)
def test_sixteen_bit_color(tmp_path, reader):
    color = np.stack([RAMP, RAMP.T, RAMP[::-1]], axis=-1)
    (tmp_path / "s0.png").write_bytes(_png(color))
    found = READERS[reader](tmp_path / "s0.png")
    assert np.abs(found.astype(int) - np.rint(color / 257)).max() <= 1  # Pillow keeps the higher byte
    (tmp_path / "s0.png").write_bytes(_png(EIGHT[..., None].repeat(3, axis=2).astype(np.uint16) * 257))
    np.testing.assert_array_equal(READERS[reader](tmp_path / "s0.png"), EIGHT[..., None].repeat(3, axis=2))


@pytest.mark.parametrize("reader", READERS)
def test_transparent_pixels_are_gray(saved, reader):
    image = Image.new("RGBA", (16, 16), (*MAGENTA, 0))
    image.paste((10, 20, 30, 255), (4, 4, 12, 12))
    found = READERS[reader](saved(image))
    assert found[0, 0].tolist() == [128, 128, 128]
    assert found[8, 8].tolist() == [10, 20, 30]


@pytest.mark.parametrize("reader", READERS)
def test_transparent_palettes_colors_and_grays(saved, reader):
    image = Image.new("RGB", (16, 16), MAGENTA)
    image.paste((10, 20, 30), (4, 4, 12, 12))
    for path in (
        saved(image.quantize(4), transparency=image.quantize(4).getpixel((0, 0))),
        saved(image, transparency=MAGENTA),
    ):
        found = READERS[reader](path)
        assert found[0, 0].tolist() == [128, 128, 128]
        assert found[8, 8].tolist() == [10, 20, 30]
    gray = np.full((16, 16), 40 * 257, dtype=np.uint16)
    gray[:4] = 65535
    found = READERS[reader](saved(gray, transparency=65535))
    assert found[0, 0].tolist() == [128, 128, 128]
    assert found[8, 8].tolist() == [40, 40, 40]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV"])
def test_pillow_agrees_on_every_mode(mode):
    source = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    image = source if mode != "LAB" else Image.fromarray(np.asarray(source), "LAB")
    image = image if mode == "LAB" else image.convert(mode)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroreconWarning)
        found = pixels(image)
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_upright_with_a_warning(saved, orientation):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    path = saved(image, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
    np.testing.assert_array_equal(np.asarray(read_image(path)), expected)
    for reader in (of_arrays, lambda path: [image_sizes([path])], lambda path: pixels(Image.open(path))):
        if orientation == 1:
            reader(path)
            continue
        with pytest.warns(NeuroreconWarning, match=r"stored turned(.|\n)*PsychoPy"):
            reader(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroreconWarning)
        np.testing.assert_array_equal(of_arrays(path), expected)
        assert image_sizes([path]) == [expected.shape[1::-1]]


def test_cmyk_warns(saved):
    path = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "s0.jpg")
    with pytest.warns(NeuroreconWarning, match="1 images are CMYK"):
        found = of_arrays(path)
    np.testing.assert_allclose(found[0, 0], (255, 0, 0), atol=3)


def test_floats_go_from_0_to_1(saved):
    values = (EIGHT / 255).astype(np.float32)
    np.testing.assert_array_equal(np.asarray(read_image(saved(values, "a.tif")))[..., 0], EIGHT)
    with pytest.raises(InputError, match="from 0 to 255"):
        read_image(saved(EIGHT.astype(np.float32), "b.tif"))
    with pytest.raises(InputError, match="ambiguous"):
        read_image(saved(EIGHT.astype(np.int32), "c.tif"))
    array = image_array(ArrayFile("the images", np.repeat(values[None, ..., None], 3, axis=3)))
    np.testing.assert_array_equal(array.read(0, 1)[0, ..., 1], EIGHT)
    wrong = image_array(ArrayFile("the images", np.repeat(EIGHT[None, ..., None], 3, axis=3).astype(float)))
    with pytest.raises(InputError, match=r"the images is ambiguous(.|\n)*from 0 to 255"):
        wrong.read(0, 1)


def test_what_is_no_single_image_is_refused(saved, tmp_path):
    pages = [Image.new("L", (8, 8), level) for level in (0, 255)]
    with pytest.raises(InputError, match="contains several images"):
        read_image(saved(pages[0], "a.tif", save_all=True, append_images=pages[1:]))
    with pytest.raises(InputError, match="contains several images"):
        read_image(saved(pages[0], "a.png", save_all=True, append_images=pages[1:]))
    (tmp_path / "a.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")  # Ghostscript would run it
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_image(tmp_path / "a.eps")
    with pytest.raises(MissingFileError, match="is missing"):
        read_image(tmp_path / "b.png")
    cut = saved(RAMP, "cut.png")
    cut.write_bytes(cut.read_bytes()[:-40])
    with pytest.raises(InputError, match="damaged, incomplete"):
        read_image(cut)


def test_a_table_cannot_name_images_elsewhere(saved, tmp_path):
    saved(EIGHT, "secret.png")
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("../secret.png", str(tmp_path / "secret.png"), "a/../../secret.png"):
        with pytest.raises(InputError, match="lies outside of its folder"):
            image_files(folder, ["s0"], [name], None)
    (folder / "link.png").symlink_to(tmp_path / "secret.png")  # the user put it there
    assert image_files(folder, ["s0"], ["link.png"], None).shape == (24, 24, 3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 3, 4]))),
    orientation=st.integers(0, 9),
    kind=st.sampled_from(["PNG", "TIFF", "WEBP"]),
)
def test_every_image_is_blended_and_turned_as_by_hand(tmp_path, values, orientation, kind):
    """A lossless file of any size, mode and orientation against the same computed by NumPy and exif_transpose."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[values.shape[2]]
    image = Image.fromarray(values[..., 0] if mode == "L" else values, mode=None)
    assert image.mode == mode
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "image"
    on_its_side = kind == "TIFF" and 5 <= orientation <= 8
    image.save(path, format=kind, exif=exif, **({"lossless": True, "exact": True} if kind == "WEBP" else {}))
    if on_its_side:  # Pillow garbles them
        with pytest.raises(InputError, match="on its side"):
            read_image(path)
        return
    color = np.asarray(image.convert("RGBA"), dtype=float)
    alpha = color[..., 3:] / 255
    expected = color[..., :3] * alpha + 128 * (1 - alpha)
    found = np.asarray(read_image(path), dtype=float)
    assert np.abs(found - UPRIGHT.get(orientation, UPRIGHT[1])(expected)).max() <= 1  # Pillow blends in integers
