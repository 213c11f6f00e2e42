"""Images and video frames: arrays that stay on disk, folders of PNG and JPEG files, GIF and other videos."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.arrays import ArrayFile
from neurorecon.io.files import damaged

#: Endings of image files that are looked for beside a table of stimuli.
SUFFIXES = (".png", ".jpg", ".jpeg")

#: Endings of files of images and videos.
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif")


def is_video(path: Path) -> bool:
    """Return whether a file is a video by its ending."""
    return path.name.lower().endswith(VIDEOS)


@dataclass(frozen=True)
class ImageArray:
    """Images in an array, uint8, shape (stimulus, y, x, rgb) or gray (stimulus, y, x)."""

    array: ArrayFile

    def __len__(self) -> int:
        return self.array.shape[0]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(y, x, rgb)."""
        return (self.array.shape[1], self.array.shape[2], 3)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb)."""
        found = self.array[start:stop]
        return np.repeat(found[..., None], 3, axis=-1) if found.ndim == 3 else np.array(found)


@dataclass(frozen=True)
class ImageFiles:
    """Images in files of their own, read as RGB."""

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

        try:
            with _open_image(path) as image:
                rgb = image.convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:  # Pillow's, for what is cut or damaged
            raise damaged(path, error) from error
        if not self.scaled:
            return np.asarray(rgb)
        side = min(rgb.size)
        left, top = (rgb.width - side) // 2, (rgb.height - side) // 2
        square = rgb.crop((left, top, left + side, top + side))
        return np.asarray(square.resize((self.shape[1], self.shape[0]), Image.Resampling.LANCZOS))


def image_array(array: ArrayFile) -> ImageArray:
    """Take an array as images.

    Raises
    ------
    InputError
        For anything but uint8 of shape (stimulus, y, x, rgb) or (stimulus, y, x).
    """
    shape = array.shape
    _refuse_type(array)
    if len(shape) != 3 and (len(shape) != 4 or shape[3] != 3):
        first = len(shape) == 4 and shape[1] == 3
        raise InputError(
            f"{array.where} has no images in the expected order",
            given=f"shape {shape}",
            expected="(stimulus, y, x, 3), or (stimulus, y, x) for gray",
            todo="the colors come first: images.transpose(0, 2, 3, 1)" if first else "save RGB images without alpha",
        )
    return ImageArray(array)


def video_array(array: ArrayFile) -> ArrayFile:
    """Take an array as videos; refuse anything but uint8 of shape (film, frame, y, x, rgb)."""
    _refuse_type(array)
    if len(array.shape) != 5 or array.shape[4] != 3:
        raise InputError(
            f"{array.where} has no videos in the expected order",
            given=f"shape {array.shape}",
            expected="(film, frame, y, x, 3)",
            todo="save videos of one length and size, RGB last",
        )
    return array


def _refuse_type(array: ArrayFile) -> None:
    if array.dtype != np.uint8:
        raise InputError(
            f"{array.where} has pixels of an unexpected type",
            given=str(array.dtype),
            expected="uint8, from 0 (black) to 255 (white)",
            todo="numpy.round(255 * images).astype('uint8') for images from 0 to 1",
        )


def image_files(folder: Path, ids: Sequence[str], files: Sequence[str], size: int | None) -> ImageFiles:
    """Find the file of each stimulus in a folder; sizes are read, pixels are not.

    Parameters
    ----------
    folder : path
    ids : sequence of str
        A stimulus without a stated file is ``<id>.png`` (.jpg, .jpeg), or `id` itself with an ending.
    files : sequence of str
        Stated files, ``""`` for none.
    size : int, optional
        Pixels on each side, after the middle square was cut out.

    Raises
    ------
    MissingFileError, InputError
        Where a file is missing or damaged, or sizes differ and none was given.
    """
    there = {item.name for item in folder.iterdir()}
    paths = [_find(folder, there, name, file) for name, file in zip(ids, files, strict=True)]
    if size is not None:
        for path in paths:
            _size(path)
        return ImageFiles(paths, (size, size, 3), True)
    width, height = _size(paths[0])
    for path in paths:
        found = _size(path)
        if found != (width, height):
            raise InputError(
                f"the images in {folder} differ in size",
                given=f"{paths[0].name} is {width} x {height}, {path.name} is {found[0]} x {found[1]} pixels",
                expected="one size, or a size to scale them to",
                todo="image_size = 256 in [options] of the recipe cuts squares and scales them",
            )
    return ImageFiles(paths, (height, width, 3), False)


def _find(folder: Path, there: set[str], name: str, file: str) -> Path:
    tried = [file] if file else [name, *(name + suffix for suffix in SUFFIXES)]
    for candidate in tried:
        if candidate in there and Path(candidate).suffix.lower() in SUFFIXES:
            return folder / candidate
        if file and (folder / file).is_file():
            return folder / file
    raise MissingFileError(
        f"the image of the stimulus {name!r} is missing",
        given=f"no {' or '.join(tried)} in {folder}",
        expected="a PNG or JPEG file for each stimulus",
        todo="add it, or name it in a column 'file' of the table of stimuli",
    )


def _open_image(path: Path) -> Any:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return Image.open(path, formats=("PNG", "JPEG"))
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise ValueError(str(error)) from error


def _size(path: Path) -> tuple[int, int]:
    try:
        with _open_image(path) as image:
            found: tuple[int, int] = image.size
            return found
    except (OSError, ValueError, SyntaxError) as error:
        raise damaged(path, error) from error


def video_seconds(path: Path) -> float:
    """Return how long a video is."""
    if path.suffix.lower() == ".gif":
        return float(_gif_onsets(path)[-1])
    with _open(path) as container:
        stream = container.streams.video[0]
        if stream.duration is not None:
            return float(stream.duration * stream.time_base)
        return float(container.duration) / 1e6


def read_video(path: Path, frames: int, start: float = 0.0, seconds: float | None = None) -> list[Any]:
    """Return frames spread evenly over a video, or a clip of it: the middles of as many parts of it.

    Parameters
    ----------
    path : path
    frames : int
    start, seconds : float
        Of the clip; the rest of the video where `seconds` is None.

    Returns
    -------
    list of PIL.Image.Image
    """
    whole = video_seconds(path)
    wanted = start + (np.arange(frames) + 0.5) * (whole - start if seconds is None else seconds) / frames
    wanted = np.minimum(wanted, whole - 1e-3)  # a volume may last a little longer than the video
    return _gif_frames(path, wanted) if path.suffix.lower() == ".gif" else _video_frames(path, wanted)


def _gif_onsets(path: Path) -> np.ndarray:
    """Return the onset of each frame, and the end."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            durations = []
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                durations.append(max(image.info.get("duration", 100), 10) / 1000)
    except (OSError, ValueError, SyntaxError) as error:
        raise _no_video(path, error) from None
    return np.cumsum([0.0, *durations])


def _gif_frames(path: Path, wanted: np.ndarray) -> list[Any]:
    from PIL import Image

    numbers = np.searchsorted(_gif_onsets(path), wanted, side="right") - 1
    found = []
    with Image.open(path) as image:
        for number in numbers:
            image.seek(int(number))
            found.append(image.convert("RGB"))
    return found


def _video_frames(path: Path, wanted: np.ndarray) -> list[Any]:
    """Return what is on the screen at some times, in seconds."""
    images: list[Any] = []
    before = None
    with _open(path) as container:
        container.seek(int(max(wanted[0] - 1.0, 0.0) * 1e6))  # to the key frame before it
        for frame in container.decode(video=0):
            while len(images) < len(wanted) and float(frame.time or 0.0) > wanted[len(images)]:
                images.append((before or frame).to_image())
            before = frame
            if len(images) == len(wanted):
                return images
    if before is None:
        raise _no_video(path, ValueError(f"no frame at {wanted[0]:.2f} s"))
    return images + [before.to_image()] * (len(wanted) - len(images))


def _open(path: Path) -> Any:
    import av

    try:
        return av.open(str(path))
    except Exception as error:  # PyAV has an error class for each code of FFmpeg
        raise _no_video(path, error) from None


def _no_video(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is no film",
        given=f"{type(error).__name__}: {error}",
        expected="a whole film",
        todo="copy it again, or convert it",
    )


@dataclass(frozen=True)
class StimulusFile:
    """The file of a stimulus, an image, a video or a clip of one.

    Parameters
    ----------
    path : path
    start : float
        Of a clip: seconds into the video.
    seconds : float, optional
        Length of the clip; None for a whole video, or an image.
    """

    path: Path
    start: float = 0.0
    seconds: float | None = None


class StimulusFiles:
    """Images and videos, read when they are asked for, in one size.

    Parameters
    ----------
    sources : sequence of StimulusFile
        One for each stimulus; videos last.
    size : int, optional
        Pixels on each side. By default that of the images where all are square and of one size, else 256.
    fit : {"pad", "crop", "stretch"}
        How an image that is not square becomes so.
    frames : int
        Frames of each video, spread evenly.
    """

    def __init__(self, sources: Sequence[StimulusFile], size: int | None, fit: str, frames: int) -> None:
        self.sources = list(sources)
        self.fit = fit
        self.frames = frames
        self.videos = [source for source in sources if is_video(source.path)]
        sizes = {_image_size(source.path) for source in sources if not is_video(source.path)}
        same = len(sizes) == 1 and len(set(next(iter(sizes)))) == 1 and max(next(iter(sizes))) <= 512
        self.size = size or (next(iter(sizes))[0] if same else 256)
        self.rate = _rate(self.videos, frames) if self.videos else None

    def images(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, (stimulus, y, x, rgb); of a video, its middle frame."""
        read = [
            self._video(source)[self.frames // 2] if is_video(source.path) else self._image(source.path)
            for source in self.sources[start:stop]
        ]
        return np.stack(read) if read else np.empty((0, self.size, self.size, 3), dtype=np.uint8)

    def video_frames(self, start: int, stop: int) -> np.ndarray:
        """Return videos ``start:stop``, uint8, (film, frame, y, x, rgb)."""
        read = [self._video(source) for source in self.videos[start:stop]]
        return np.stack(read) if read else np.empty((0, self.frames, self.size, self.size, 3), dtype=np.uint8)

    def _image(self, path: Path) -> np.ndarray:
        from PIL import Image

        try:
            with Image.open(path) as image:
                return fit_square(image, self.size, self.fit)
        except (OSError, ValueError, SyntaxError) as error:
            raise _no_image(path, error) from None

    def _video(self, source: StimulusFile) -> np.ndarray:
        frames = read_video(source.path, self.frames, source.start, source.seconds)
        return np.stack([fit_square(frame, self.size, self.fit) for frame in frames])


def fit_square(image: object, size: int, fit: str) -> np.ndarray:
    """Return an image as a square, uint8 (y, x, rgb); what pads it is gray."""
    from PIL import Image, ImageOps

    assert isinstance(image, Image.Image)
    gray = (128, 128, 128)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, (*gray, 255)), over)
    image = image.convert("RGB")
    if image.size != (size, size):
        methods: Mapping[str, object] = {
            "pad": lambda: ImageOps.pad(image, (size, size), Image.Resampling.LANCZOS, color=gray),
            "crop": lambda: ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS),
            "stretch": lambda: image.resize((size, size), Image.Resampling.LANCZOS),
        }
        image = methods[fit]()  # type: ignore[operator]
    return np.asarray(image, dtype=np.uint8)


def _image_size(path: Path) -> tuple[int, int]:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError, SyntaxError) as error:
        raise _no_image(path, error) from None


def _rate(videos: Sequence[StimulusFile], frames: int) -> float:
    """Return the frames a second that are kept; all videos, or clips of videos, have to be of one length."""
    whole = {path: video_seconds(path) for path in {source.path for source in videos}}
    seconds: dict[str, float] = {}
    for source in videos:
        long = whole[source.path]
        if source.seconds is not None and source.start >= long:
            raise InputError(
                f"{source.path} is shorter than the events say",
                given=f"{long:.2f} s; a volume shows it at {source.start:.2f} s",
                expected="a video at least as long as the duration of its events",
                todo="check duration in the events, and that the video is whole",
            )
        seconds[source.path.name] = long if source.seconds is None else source.seconds
    shortest, longest = min(seconds, key=seconds.__getitem__), max(seconds, key=seconds.__getitem__)
    if seconds[longest] > 1.1 * seconds[shortest]:
        raise InputError(
            "the videos are of different lengths",
            given=f"{shortest}: {seconds[shortest]:.2f} s; {longest}: {seconds[longest]:.2f} s",
            expected="films of one length: a store has the same number of frames, and one rate, for all",
            todo='take samples = "volume", which cuts them into clips of one volume',
        )
    return frames / float(np.mean(list(seconds.values())))


def _no_image(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} is no image",
        given=f"{type(error).__name__}: {error}",
        expected=f"a whole {', '.join(IMAGES[:3])} file",
        todo="copy it again, or convert it",
    )
