"""Images, read from arrays on disk and folders of image files; :mod:`neurorecon.io.videos` reads videos.

One rule turns whatever an image comes as into red, green and blue from 0 to 255, for every reader and every extractor
(:func:`to_rgb` for images of Pillow, :func:`pixels` for arrays as well):

- *Bit depth*: 16-bit values are divided by 257 and rounded; of 16-bit color files Pillow keeps the higher byte, which
  is the same for values that are multiples of 257. 1-bit images are black and white. Files of floats go from 0 to 1,
  and other ranges are refused, as are integers of 32 bits: nothing says what is white.
- *Alpha*: transparent pixels are shown on gray (128, 128, 128), as NSD shows its images and as images are padded.
- *Palette, gray, YCbCr, Lab, HSV, CMYK*: converted to RGB by Pillow. Embedded color profiles are ignored, as programs
  that show stimuli do; CMYK needs one, so it is read with a warning.
- *EXIF orientation*: applied, so that images are as a viewer shows them, with a warning: programs that show stimuli,
  such as PsychoPy, ignore it.
- *Pages*: files of several images (TIFF, APNG, WebP) are refused.
- *Arrays*: the last axis is red, green, blue; uint8, or floats from 0 to 1.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.errors import InputError, MissingFileError, NeuroreconWarning
from neurorecon.io.arrays import ArrayFile, as_array
from neurorecon.io.files import AGAIN, first_line, inside, require_file

#: Extensions tried when a table of stimuli does not name the image files.
SUFFIXES = (".png", ".jpg", ".jpeg")

#: Extensions of image files.
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")

#: Formats of images that are read, whatever the extension says. Pillow knows more, and would run Ghostscript for some.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")

#: The color behind transparent pixels, and of padding.
GRAY = (128, 128, 128)

#: Float images may exceed 0..1 by this much, e.g. after resampling in float.
OUTSIDE = 1e-4

#: EXIF tag of the orientation; 1 is upright, from 5 on width and height are swapped.
ORIENTATION = 0x0112


@dataclass(frozen=True)
class ImageArray:
    """Images in one array, uint8 or float, shape (stimulus, y, x, rgb), or (stimulus, y, x) for grayscale."""

    array: ArrayFile

    def __len__(self) -> int:
        return self.array.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of an image, (y, x, rgb)."""
        return (self.array.shape[1], self.array.shape[2], 3)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        found = self.array[start:stop]
        found = np.repeat(found[..., None], 3, axis=-1) if found.ndim == 3 else np.array(found)
        return pixels(found, self.array.where)


@dataclass(frozen=True)
class ImageFiles:
    """Images in one file each, read as RGB.

    Parameters
    ----------
    paths : list of Path
        One file per stimulus.
    shape : (int, int, int)
        Shape of every image, (y, x, rgb).
    scaled : bool
        Whether to crop the central square of each image and scale it to `shape`.
    """

    paths: list[Path]
    shape: tuple[int, int, int]
    scaled: bool

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        found = np.empty((max(0, stop - start), *self.shape), dtype=np.uint8)
        for place, path in enumerate(self.paths[start:stop]):
            found[place] = self._one(path)
        return found

    def _one(self, path: Path) -> np.ndarray:
        from PIL import Image

        rgb = read_image(path)
        if not self.scaled:
            return np.asarray(rgb)
        side = min(rgb.size)
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        square = rgb.crop((left, top, left + side, top + side))
        return np.asarray(square.resize((self.shape[1], self.shape[0]), Image.Resampling.LANCZOS))


def image_array(array: ArrayFile) -> ImageArray:
    """Check that an array contains images, and wrap it.

    Parameters
    ----------
    array : ArrayFile
        uint8, or float from 0 to 1, shape (stimulus, y, x, rgb), or (stimulus, y, x) for grayscale.

    Returns
    -------
    ImageArray

    Raises
    ------
    InputError
        If the array has another dtype or shape.
    """
    shape = array.shape
    _refuse_type(array)
    if len(shape) != 3 and (len(shape) != 4 or shape[3] != 3):
        first = len(shape) == 4 and shape[1] == 3
        raise InputError(
            f"{array.where} does not have the shape of images",
            given=f"shape {shape}",
            expected="(stimulus, y, x, 3), or (stimulus, y, x) for grayscale",
            todo="move the color axis to the end: images.transpose(0, 2, 3, 1)"
            if first
            else "save RGB images without an alpha channel",
        )
    return ImageArray(array)


def video_array(array: ArrayFile) -> ArrayFile:
    """Return the array if it contains videos: uint8, or float from 0 to 1, shape (video, frame, y, x, rgb).

    Raises
    ------
    InputError
        If the array has another dtype or shape.
    """
    _refuse_type(array)
    if len(array.shape) != 5 or array.shape[4] != 3:
        raise InputError(
            f"{array.where} does not have the shape of videos",
            given=f"shape {array.shape}",
            expected="(video, frame, y, x, 3)",
            todo="save videos of the same length and size, with RGB as the last axis",
        )
    return array


def _refuse_type(array: ArrayFile) -> None:
    """Refuse integers that are not bytes; the range of floats is checked when they are read."""
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(
            f"{array.where} has pixels of an unexpected data type",
            given=str(array.dtype),
            expected="uint8 from 0 (black) to 255 (white), or float from 0 to 1",
            todo="convert the pixels: (images / 257).round().astype('uint8') if they range from 0 to 65535, "
            "images.astype('uint8') if they range from 0 to 255",
        )


def image_files(folder: Path, ids: Sequence[str], files: Sequence[str], size: int | None) -> ImageFiles:
    """Find the image file of each stimulus in a folder. Only the headers are read.

    Parameters
    ----------
    folder : path
        The folder of the images.
    ids : sequence of str
        Ids of the stimuli. If no file is given for a stimulus, its file is ``<id>.png`` (``.jpg``, ``.jpeg``), or
        the id itself if it has such an extension.
    files : sequence of str
        File of each stimulus, or ``""``.
    size : int, optional
        Crop the central square of each image and scale it to this many pixels on each side. By default, all images
        must have the same size.

    Returns
    -------
    ImageFiles

    Raises
    ------
    MissingFileError, InputError
        If a file is missing or damaged, or the images differ in size and no `size` is given.
    """
    there = {item.name for item in folder.iterdir()}
    paths = [_find(folder, there, name, file) for name, file in zip(ids, files, strict=True)]
    sizes = image_sizes(paths)
    if size is not None:
        return ImageFiles(paths, (size, size, 3), True)
    width, height = sizes[0]
    for path, found in zip(paths, sizes, strict=True):
        if found != (width, height):
            raise InputError(
                f"the images in {folder} differ in size",
                given=f"{paths[0].name} has {width} x {height} pixels, {path.name} has {found[0]} x {found[1]}",
                expected="images of the same size, or a size to scale them to",
                todo="set image_size in [options] of the recipe, e.g. image_size = 256, to crop and scale them",
            )
    return ImageFiles(paths, (height, width, 3), False)


def _find(folder: Path, there: set[str], name: str, file: str) -> Path:
    tried = [file] if file else [name, *(name + suffix for suffix in SUFFIXES)]
    for candidate in tried:
        if candidate in there and Path(candidate).suffix.lower() in SUFFIXES:
            return folder / candidate
    if file:
        return inside(folder, file, f"the image of the stimulus {name!r}")
    raise MissingFileError(
        f"the image of the stimulus {name!r} is missing",
        given=f"no file {' or '.join(tried)} in {folder}",
        expected="a PNG or JPEG file for each stimulus",
        todo="add the file, or name it in a column 'file' of the table of stimuli",
    )


def read_image(path: Path, todo: str | None = None) -> Any:
    """Read an image file by the rule of this module.

    Parameters
    ----------
    path : path
        The file. Its format follows from its content.
    todo : str, optional
        What the message advises if the file is missing or damaged.

    Returns
    -------
    PIL.Image.Image
        In the mode RGB, upright.

    Raises
    ------
    MissingFileError, InputError
        If the file is missing or damaged, is not an image, or nothing says how bright its pixels are.
    """
    with _opened(path, todo) as image:
        return to_rgb(image, str(path), warn=False)


def decode_image(content: bytes, where: str, todo: str) -> Any:
    """Decode the bytes of an image file by the rule of this module.

    Parameters
    ----------
    content : bytes
        The content of an image file, e.g. a JPEG in an HDF5 file.
    where : str
        What error messages call it.
    todo : str
        What the message advises if it is damaged.

    Returns
    -------
    PIL.Image.Image
        In the mode RGB, upright.

    Raises
    ------
    InputError
        If it cannot be decoded.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            return to_rgb(image, where, warn=False)
    except InputError:
        raise
    except Exception as error:  # as for files
        raise InputError(
            f"{where} cannot be decoded",
            given=f"{len(content):,} bytes; {type(error).__name__}: {error}",
            expected=f"a complete image ({', '.join(IMAGES)})",
            todo=todo,
        ) from error


def image_sizes(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the width and height of image files, upright, from their headers; warn of what the rule changes.

    Raises
    ------
    MissingFileError, InputError
        If a file is missing or not an image.
    """
    sizes, turned, printed = [], [], []
    for path in paths:
        with _opened(path) as image:
            orientation, (width, height) = _orientation(image), image.size
            sizes.append((height, width) if orientation >= 5 else (width, height))
            turned += [path.name] if orientation != 1 else []
            printed += [path.name] if image.mode == "CMYK" else []
    _warn(turned, printed)
    return sizes


def _warn(turned: Sequence[str], printed: Sequence[str]) -> None:
    if turned:
        warnings.warn(
            f"{len(turned)} images are stored turned, e.g. {turned[0]} (EXIF orientation). They are read "
            "upright, as image viewers show them. If the program that showed them ignored the tag, as PsychoPy does, "
            "remove it from the files",
            NeuroreconWarning,
            stacklevel=3,
        )
    if printed:
        warnings.warn(
            f"{len(printed)} images are CMYK, e.g. {printed[0]}. They are converted to RGB without a color profile, so "
            "their colors are only close to those shown; save them as RGB to be sure",
            NeuroreconWarning,
            stacklevel=3,
        )


def to_rgb(image: Any, where: str = "an image", *, warn: bool = True) -> Any:
    """Convert an image of Pillow to RGB by the rule of this module.

    Parameters
    ----------
    image : PIL.Image.Image
        In any mode.
    where : str
        What messages call it.
    warn : bool
        Whether to warn if the image is turned, or CMYK.

    Returns
    -------
    PIL.Image.Image
        In the mode RGB, upright.

    Raises
    ------
    InputError
        If its file has several pages, or nothing says how bright its pixels are.
    """
    from PIL import Image

    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format not in ("GIF", "MPO"):  # frames of a GIF are read one by one; MPO adds previews
        raise InputError(
            f"{where} contains several images",
            given=f"{frames} pages or frames ({image.format})",
            expected="a single image",
            todo="save the page that was shown as PNG, or an animation as a video",
        )
    if warn:
        _warn([where] if _orientation(image) != 1 else [], [where] if image.mode == "CMYK" else [])
    if image.format == "TIFF" and _orientation(image) >= 5:
        raise InputError(
            f"{where} is a TIFF file that is stored on its side",
            given=f"orientation {_orientation(image)}; Pillow confuses the rows and columns of such files",
            expected="an image that is stored upright",
            todo="save it as PNG with another program",
        )
    image.load()  # Pillow turns TIFF files itself, and then says so
    orientation = _orientation(image)
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_bytes(image, where)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, (*GRAY, 255)), over)
    image = image.convert("RGB")
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    return image.transpose(turn[orientation]) if orientation in turn else image


def _to_bytes(image: Any, where: str) -> Any:
    """Return a gray image of 16 bits, or of floats, as bytes, with its transparent gray value as alpha."""
    from PIL import Image

    values = np.asarray(image)
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG")
    if sixteen:
        gray = np.rint(values / 257.0)
    elif image.mode == "F" and _in_range(values):
        gray = np.rint(np.clip(values, 0.0, 1.0) * 255.0)
    else:
        raise _ambiguous(values, where)
    found = Image.fromarray(gray.astype(np.uint8))
    clear = image.info.get("transparency")
    if isinstance(clear, int):
        found.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return found


def pixels(images: Any, where: str = "images") -> np.ndarray:
    """Convert images to uint8 by the rule of this module.

    Parameters
    ----------
    images : array of shape (..., y, x, rgb), or PIL image
        uint8, float from 0 to 1, or PIL in any mode.
    where : str
        What messages call them.

    Returns
    -------
    array, uint8, shape (..., y, x, rgb)

    Raises
    ------
    InputError
        If the dtype, the range or the color axis is not one of these. Float images on the scale 0 to 255 raise an
        error too.
    """
    if hasattr(images, "convert"):
        return np.asarray(to_rgb(images))
    values = as_array(images)
    if values.ndim < 3 or values.shape[-1] != 3:
        raise InputError(
            f"the last axis of {where} must be color",
            given=f"an array of shape {values.shape}",
            expected="shape (..., y, x, 3): red, green, blue",
            todo="move the color axis to the end, repeat a gray image three times, or drop the alpha channel",
        )
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind != "f" or not _in_range(values):
        raise _ambiguous(values, where)
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)


def _ambiguous(values: np.ndarray, where: str) -> InputError:
    found = f" from {values.min():g} to {values.max():g}" if values.size and values.dtype.kind in "iuf" else ""
    return InputError(
        f"the range of the pixel values of {where} is ambiguous",
        given=f"{values.dtype}{found}",
        expected="uint8 from 0 to 255, float from 0 to 1, or a gray image file of 16 bits",
        todo="convert the images, e.g. with images.astype('uint8') if they range from 0 to 255",
    )


def _in_range(values: np.ndarray) -> bool:
    return not values.size or bool(values.min() >= -OUTSIDE and values.max() <= 1.0 + OUTSIDE)


def _orientation(image: Any) -> int:
    try:
        found = int(image.getexif().get(ORIENTATION, 1))
        return found if 1 <= found <= 8 else 1
    except Exception:  # Pillow raises many types of exceptions for damaged EXIF blocks, which say nothing then
        return 1


@contextmanager
def _opened(path: Path, todo: str | None = None) -> Iterator[Any]:
    """Open an image file; whatever Pillow raises within the ``with`` block becomes one error that names it."""
    from PIL import Image

    require_file(path, "an image file", todo or AGAIN)
    Image.init()  # else only the formats that were needed so far are known
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd EXIF blocks and palettes
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=FORMATS) as image:
                yield image
        except InputError:
            raise
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise InputError(
                f"{path} is too large for an image",
                given=first_line(error),
                expected="the image that was shown, at most 89 million pixels",
                todo="scale it down",
            ) from error
        except Exception as error:  # OSError, ValueError, SyntaxError and struct.error for damaged files
            raise InputError(
                f"{path} cannot be read as an image",
                given=f"{path.stat().st_size:,} bytes; {type(error).__name__}: {error}",
                expected=f"a complete image file ({', '.join(IMAGES)})",
                todo=todo or "the file is damaged, incomplete or in another format: copy it again, or save it as PNG",
            ) from error


def fit_square(image: Any, size: int, fit: str) -> np.ndarray:
    """Return an image as a square, uint8, shape (y, x, rgb). Padding and transparency become gray.

    Parameters
    ----------
    image : PIL.Image.Image
        The image, in any mode.
    size : int
        Pixels on each side.
    fit : {"pad", "crop", "stretch"}
        How to make the image square.
    """
    from PIL import Image, ImageOps

    image = to_rgb(image)
    if image.size != (size, size):
        methods: Mapping[str, Callable[[], Any]] = {
            "pad": lambda: ImageOps.pad(image, (size, size), Image.Resampling.LANCZOS, color=GRAY),
            "crop": lambda: ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS),
            "stretch": lambda: image.resize((size, size), Image.Resampling.LANCZOS),
        }
        image = methods[fit]()
    return np.asarray(image, dtype=np.uint8)
