"""Videos in files, read and written, and stimuli that are images or videos in files.

PyAV decodes everything but GIFs, which Pillow reads, and a frame is known by the time at which it is shown:
decoders return frames after a seek in an order of their own. Written are MP4 (H.264), which plays everywhere and takes
any frame rate, and GIF, which counts time in hundredths of a second and has 256 colors a frame: read numbers from
arrays, and look at these files.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from neurorecon.errors import InputError, NeuroreconWarning
from neurorecon.io.files import AGAIN, require_file
from neurorecon.io.images import fit_square, image_sizes, read_image, to_rgb

#: Extensions of video files.
VIDEOS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".gif")

#: Encoders of MP4 files, the best first: H.264 plays in browsers and slides, MPEG-4 part 2 in video players alone.
ENCODERS = ("libx264", "libopenh264", "mpeg4")


def is_video(path: Path) -> bool:
    """Return whether a file has the extension of a video."""
    return path.name.lower().endswith(VIDEOS)


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

    require_file(path, "a GIF file", AGAIN)
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
            found.append(to_rgb(image, warn=False))
    return found


def _video_frames(path: Path, wanted: np.ndarray) -> list[Any]:
    """Return the frames shown at the given times (s)."""
    images: list[Any] = []
    before = None
    with _open(path) as container:
        container.seek(int(max(wanted[0] - 1.0, 0.0) * 1e6))  # seeks to the preceding key frame
        for frame in _decoded(container, path):
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
        stream = container.streams.video[0]
        if not stream.average_rate:
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
        for frame in _decoded(container, path):
            number = None if frame.pts is None else round((frame.pts - first) / step)
            if number in wanted:
                found[number] = frame.to_image()
            if len(found) == len(wanted):
                break
    missing = sorted(wanted - set(found))
    if missing:
        raise _no_video(path, ValueError(f"no frame {missing[0]} ({missing[0] / rate:.2f} s) at {rate:g} frames/s"))
    return [found[int(number)] for number in numbers]


def read_all_frames(path: Path, step: float | None = None) -> np.ndarray:
    """Read all frames of a short video, in the order in which they are shown.

    Writers of GIFs join equal frames into one that is shown longer. So each frame of a GIF is repeated as often as it
    is shown for `step` seconds.

    Parameters
    ----------
    path : path
        The video file.
    step : float, optional
        Of GIFs: for how long a frame is shown (s); by default, as long as the shortest one.

    Returns
    -------
    array, uint8, shape (frame, y, x, rgb)

    Raises
    ------
    InputError
        If the file is not a complete video: no stream of frames, no frames, or fewer than its header says.
    """
    if path.suffix.lower() == ".gif":
        durations = np.diff(_gif_onsets(path))
        times = np.maximum(np.rint(durations / (step or durations.min())), 1).astype(int)
        images = _gif_frames(path, np.cumsum(durations) - durations / 2)
        return np.repeat(np.stack([np.asarray(image) for image in images]), times, axis=0)
    with _open(path) as container:
        stated = container.streams.video[0].frames  # 0 where the format has no such header
        frames = [frame.to_ndarray(format="rgb24") for frame in _decoded(container, path)]
    if len(frames) < max(stated, 1):
        raise _no_video(path, ValueError(f"{len(frames)} of {stated or 'an unknown number of'} frames are there"))
    return np.stack(frames)


def shortest_frame(path: Path) -> float:
    """Return for how long the shortest frame of a GIF is shown (s)."""
    return float(np.diff(_gif_onsets(path)).min())


def mp4_bytes(frames: np.ndarray, rate: float) -> bytes:
    """Return frames as an MP4 file, by the first of :data:`ENCODERS` that this build of PyAV has.

    The video is for viewing: colors are stored at half the resolution (4:2:0) unless a side has an odd number of
    pixels, and compressed with little loss.

    Parameters
    ----------
    frames : uint8 array, shape (frame, y, x, rgb)
    rate : float
        Frames per second.

    Returns
    -------
    bytes

    Raises
    ------
    InputError
        If no encoder works.

    Warns
    -----
    NeuroreconWarning
        If the video cannot be played in browsers, because there is no encoder of H.264.
    """
    import av

    height, width = frames.shape[1:3]
    failed = []
    for encoder in ENCODERS:
        buffer = io.BytesIO()
        try:
            with av.open(buffer, "w", format="mp4") as container:
                stream: Any = container.add_stream(encoder, rate=Fraction(rate).limit_denominator(1001))
                stream.height, stream.width = height, width
                stream.pix_fmt = "yuv444p" if encoder == "libx264" and (height % 2 or width % 2) else "yuv420p"
                stream.options = {"crf": "12"} if encoder == "libx264" else {"qscale": "2"}
                stream.codec_context.thread_count = 1  # the same bits on any machine
                if encoder != "libx264":
                    stream.bit_rate = int(8 * height * width * max(rate, 1.0))
                for frame in frames:
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
                container.mux(stream.encode())
        except Exception as error:  # PyAV has one exception class per FFmpeg error code
            failed.append(f"{encoder}: {type(error).__name__}")
            continue
        if "264" not in encoder:
            warnings.warn(
                f"this build of PyAV cannot write H.264 ({'; '.join(failed)}), so videos are written as MPEG-4 part 2: "
                "video players show them, browsers do not. PyAV from PyPI (pip install av) has it",
                NeuroreconWarning,
                stacklevel=2,
            )
        return buffer.getvalue()
    raise InputError(
        "this build of PyAV cannot write videos",
        given="; ".join(failed),
        expected=f"one of the encoders {', '.join(ENCODERS)}",
        todo="install PyAV from PyPI: pip install av",
    )


def gif_bytes(frames: np.ndarray, rate: float) -> bytes:
    """Return frames as a GIF that repeats forever.

    Parameters
    ----------
    frames : uint8 array, shape (frame, y, x, rgb)
    rate : float
        Frames per second; each frame is shown for a whole number of hundredths of a second, at least two, as browsers
        slow down what is quicker.

    Returns
    -------
    bytes
    """
    from PIL import Image

    first, *others = [Image.fromarray(frame) for frame in frames]
    buffer, shown = io.BytesIO(), 10 * max(2, round(100 / rate))
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=shown, loop=0)
    return buffer.getvalue()


def _decoded(container: Any, path: Path) -> Iterator[Any]:
    """Yield the frames of a video from where it was sought."""
    try:
        yield from container.decode(video=0)
    except Exception as error:  # PyAV has one exception class per FFmpeg error code
        raise _no_video(path, error) from None


def _open(path: Path) -> Any:
    import av

    require_file(path, "a video file", AGAIN)
    try:
        found = av.open(str(path))
    except Exception as error:  # PyAV has one exception class per FFmpeg error code
        raise _no_video(path, error) from None
    if not found.streams.video:
        found.close()
        raise _no_video(path, ValueError("no stream of frames"))
    return found


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
        sizes = set(image_sizes([source.path for source in sources if not is_video(source.path)]))
        same = len(sizes) == 1 and len(set(next(iter(sizes)))) == 1 and max(next(iter(sizes))) <= 512
        self.size = size or (next(iter(sizes))[0] if same else 256)
        self.rate = _rate(self.videos, frames) if self.videos else None

    def images(self, start: int, stop: int) -> np.ndarray:
        """Return images ``start:stop``, uint8, shape (stimulus, y, x, rgb); for a video, its middle frame."""
        read = [
            self._video(source)[self.frames // 2]
            if is_video(source.path)
            else fit_square(read_image(source.path), self.size, self.fit)
            for source in self.sources[start:stop]
        ]
        return np.stack(read) if read else np.empty((0, self.size, self.size, 3), dtype=np.uint8)

    def video_frames(self, start: int, stop: int) -> np.ndarray:
        """Return videos ``start:stop``, uint8, shape (video, frame, y, x, rgb)."""
        read = [self._video(source) for source in self.videos[start:stop]]
        return np.stack(read) if read else np.empty((0, self.frames, self.size, self.size, 3), dtype=np.uint8)

    def _video(self, source: StimulusFile) -> np.ndarray:
        frames = read_video(source.path, self.frames, source.start, source.seconds)
        return np.stack([fit_square(frame, self.size, self.fit) for frame in frames])


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
