"""Images and video frames, read from arrays on disk, folders of PNG and JPEG files, GIFs and other video files."""

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

#: Extensions tried when a table of stimuli does not name the image files.
SUFFIXES = (".png", ".jpg", ".jpeg")

#: Extensions of image files and video files.
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif")


def is_video(path: Path) -> bool:
    """Return whether a file has the extension of a video."""
    return path.name.lower().endswith(VIDEOS)


@dataclass(frozen=True)
class ImageArray:
    """Images in one array, uint8, shape (stimulus, y, x, rgb), or (stimulus, y, x) for grayscale."""

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
        return np.repeat(found[..., None], 3, axis=-1) if found.ndim == 3 else np.array(found)


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

        try:
            with _open_image(path) as image:
                rgb = image.convert("RGB")
        except (OSError, ValueError, SyntaxError) as error:  # raised by Pillow for truncated or damaged files
            raise damaged(path, error) from error
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
        uint8, shape (stimulus, y, x, rgb), or (stimulus, y, x) for grayscale.

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
    """Return the array if it contains videos: uint8, shape (video, frame, y, x, rgb).

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
    if array.dtype != np.uint8:
        raise InputError(
            f"{array.where} has pixels of an unexpected data type",
            given=str(array.dtype),
            expected="uint8, from 0 (black) to 255 (white)",
            todo="convert the pixels, e.g. numpy.round(255 * images).astype('uint8') if they range from 0 to 1",
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
        if file and (folder / file).is_file():
            return folder / file
    raise MissingFileError(
        f"the image of the stimulus {name!r} is missing",
        given=f"no file {' or '.join(tried)} in {folder}",
        expected="a PNG or JPEG file for each stimulus",
        todo="add the file, or name it in a column 'file' of the table of stimuli",
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
    """Return the duration of a video in seconds."""
    if path.suffix.lower() == ".gif":
        return float(_gif_onsets(path)[-1])
    with _open(path) as container:
        stream = container.streams.video[0]
        if stream.duration is not None:
            return float(stream.duration * stream.time_base)
        return float(container.duration) / 1e6


def read_video(path: Path, frames: int, start: float = 0.0, seconds: float | None = None) -> list[Any]:
    """Read evenly spaced frames of a video, or of a clip of it.

    The video is divided into as many equal parts as there are frames; the frame at the middle of each part is read.

    Parameters
    ----------
    path : path
        The video file.
    frames : int
        Number of frames.
    start : float
        Onset of the clip in seconds.
    seconds : float, optional
        Duration of the clip. By default, the clip lasts until the end of the video.

    Returns
    -------
    list of PIL.Image.Image

    Raises
    ------
    InputError
        If the file is not a readable video, or PyAV is not installed.
    """
    whole = video_seconds(path)
    wanted = start + (np.arange(frames) + 0.5) * (whole - start if seconds is None else seconds) / frames
    wanted = np.minimum(wanted, whole - 1e-3)  # the last volume may end slightly after the video
    return _gif_frames(path, wanted) if path.suffix.lower() == ".gif" else _video_frames(path, wanted)


def _gif_onsets(path: Path) -> np.ndarray:
    """Return the onset of each frame in seconds, and the end of the last."""
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
    """Return the frames shown at the given times (s)."""
    images: list[Any] = []
    before = None
    with _open(path) as container:
        container.seek(int(max(wanted[0] - 1.0, 0.0) * 1e6))  # seeks to the preceding key frame
        for frame in container.decode(video=0):
            while len(images) < len(wanted) and float(frame.time or 0.0) > wanted[len(images)]:
                images.append((before or frame).to_image())
            before = frame
            if len(images) == len(wanted):
                return images
    if before is None:
        raise _no_video(path, ValueError(f"no frame at {wanted[0]:.2f} s"))
    return images + [before.to_image()] * (len(wanted) - len(images))


def video_length(path: Path) -> tuple[float, int]:
    """Return the frame rate (Hz) of a video and its number of frames, from its header.

    Raises
    ------
    InputError
        If the file is not a readable video, or its header states no frame rate.
    """
    with _open(path) as container:
        stream = container.streams.video[0] if container.streams.video else None
        if stream is None or not stream.average_rate:
            raise _no_video(path, ValueError("no stream of frames at a constant rate"))
        rate = float(stream.average_rate)
        return rate, int(stream.frames) or round(video_seconds(path) * rate)


def read_frames(path: Path, numbers: Sequence[int]) -> list[Any]:
    """Read frames of a video by their numbers.

    A frame is known by its presentation time, so the number is right whatever the decoder returns first after a seek
    and in whatever order frames were encoded. Neighboring numbers are decoded in one pass.

    Parameters
    ----------
    path : path
        A video file of constant frame rate.
    numbers : sequence of int
        Numbers of the frames, from 0, ascending; numbers may occur more than once.

    Returns
    -------
    list of PIL.Image.Image

    Raises
    ------
    InputError
        If the file is not a readable video, or has no frame of a number.
    """
    found: dict[int, Any] = {}
    rate, _ = video_length(path)
    with _open(path) as container:
        stream = container.streams.video[0]
        step, first = 1 / (rate * float(stream.time_base)), stream.start_time or 0
        container.seek(int(first + max(numbers[0] - 0.5, 0) * step), stream=stream)  # to the preceding key frame
        wanted = set(map(int, numbers))
        try:
            for frame in container.decode(stream):
                number = None if frame.pts is None else round((frame.pts - first) / step)
                if number in wanted:
                    found[number] = frame.to_image()
                if len(found) == len(wanted):
                    break
        except Exception as error:  # PyAV has one exception class per FFmpeg error code
            raise _no_video(path, error) from None
    missing = sorted(wanted - set(found))
    if missing:
        raise _no_video(path, ValueError(f"no frame {missing[0]} ({missing[0] / rate:.2f} s) at {rate:g} frames/s"))
    return [found[int(number)] for number in numbers]


def _open(path: Path) -> Any:
    import av

    try:
        return av.open(str(path))
    except Exception as error:  # PyAV has one exception class per FFmpeg error code
        raise _no_video(path, error) from None


def _no_video(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} cannot be read as a video",
        given=f"{type(error).__name__}: {error}",
        expected="a complete video file",
        todo="copy the file again, or convert it to another format",
    )


@dataclass(frozen=True)
class StimulusFile:
    """The file of a stimulus: an image, a video, or a clip of a video.

    Parameters
    ----------
    path : path
        The image or video file.
    start : float
        Onset of the clip within the video, in seconds.
    seconds : float, optional
        Duration of the clip; None for images and whole videos.
    """

    path: Path
    start: float = 0.0
    seconds: float | None = None


class StimulusFiles:
    """Images and videos in files, read on demand and brought to the same size.

    Parameters
    ----------
    sources : sequence of StimulusFile
        One per stimulus, images first.
    size : int, optional
        Pixels on each side. By default the size of the images if all are square, equal in size and at most 512
        pixels wide, else 256.
    fit : {"pad", "crop", "stretch"}
        How to make images square.
    frames : int
        Number of evenly spaced frames to read from each video.

    Raises
    ------
    InputError
        If a file cannot be read, or the videos differ in duration.
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
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb); for a video, its middle frame."""
        read = [
            self._video(source)[self.frames // 2] if is_video(source.path) else self._image(source.path)
            for source in self.sources[start:stop]
        ]
        return np.stack(read) if read else np.empty((0, self.size, self.size, 3), dtype=np.uint8)

    def video_frames(self, start: int, stop: int) -> np.ndarray:
        """Return videos ``start:stop``, uint8, shape (video, frame, y, x, rgb)."""
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
    """Return the rate (Hz) of the frames that are read; raise if the videos or clips differ in duration."""
    whole = {path: video_seconds(path) for path in {source.path for source in videos}}
    seconds: dict[str, float] = {}
    for source in videos:
        long = whole[source.path]
        if source.seconds is not None and source.start >= long:
            raise InputError(
                f"{source.path} is shorter than its events",
                given=f"a video of {long:.2f} s, shown during a volume at {source.start:.2f} s",
                expected="a video at least as long as the duration of its events",
                todo="check the column duration of the events, and that the video is complete",
            )
        seconds[source.path.name] = long if source.seconds is None else source.seconds
    shortest, longest = min(seconds, key=seconds.__getitem__), max(seconds, key=seconds.__getitem__)
    if seconds[longest] > 1.1 * seconds[shortest]:
        raise InputError(
            "the videos differ in duration",
            given=f"{shortest}: {seconds[shortest]:.2f} s; {longest}: {seconds[longest]:.2f} s",
            expected="videos of the same duration: a store has one number of frames and one frame rate for all",
            todo='set samples = "volume" in [options], which cuts the videos into clips of one volume',
        )
    return frames / float(np.mean(list(seconds.values())))


def _no_image(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path} cannot be read as an image",
        given=f"{type(error).__name__}: {error}",
        expected=f"a complete image file ({', '.join(IMAGES[:3])}, ...)",
        todo="copy the file again, or convert it to another format",
    )
