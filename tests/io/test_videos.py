"""Videos by PyAV: which frame is taken for which time, in a video whose frames carry their number."""

import io

import av
import numpy as np
import pytest
from PIL import Image

from neurorecon.errors import InputError, NeuroreconWarning
from neurorecon.io.videos import (
    gif_bytes,
    mp4_bytes,
    read_all_frames,
    read_frames,
    read_video,
    shortest_frame,
    video_length,
    video_seconds,
)

RATE, FRAMES = 10, 40


@pytest.fixture(scope="module")
def numbered(tmp_path_factory):
    """A video of 4 s; frame i is gray of the level 4 i + 30."""
    path = tmp_path_factory.mktemp("videos") / "numbered.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=RATE)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for number in range(FRAMES):
            pixels = np.full((64, 64, 3), 4 * number + 30, dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def _numbers(images):
    return [round((float(np.asarray(image).mean()) - 30) / 4) for image in images]


def test_length(numbered):
    assert video_seconds(numbered) == pytest.approx(FRAMES / RATE)


def test_frames_are_the_middles_of_equal_parts(numbered):
    # The middles of 8 parts of 4 s: .25 s, .75 s, ...; at .25 s frame 2 (.2 to .3 s) is on the screen.
    assert _numbers(read_video(numbered, 8)) == [2, 7, 12, 17, 22, 27, 32, 37]


def test_a_clip_in_the_middle(numbered):
    # 4 parts of the second from 1.5 to 2.5 s: 1.625, 1.875, 2.125 and 2.375 s.
    assert _numbers(read_video(numbered, 4, start=1.5, seconds=1.0)) == [16, 18, 21, 23]


def test_a_damaged_video_is_one_error(tmp_path):
    path = tmp_path / "cut.mp4"
    path.write_bytes(b"0" * 100)
    with pytest.raises(InputError, match=r"cut\.mp4"):
        read_video(path, 4)


# -- whole videos, read and written -----------------------------------------------------------------------------------


def _binary(number, side=64):
    """A frame that carries its number as eight black or white columns, of whatever parity."""
    digits = [number >> place & 1 for place in range(8)]
    return np.repeat(np.array(digits, dtype=np.uint8) * 255, side // 8)[None, :, None] * np.ones((side, 1, 3), np.uint8)


def _carried(frames):
    places = (np.arange(8) + 0.5) * frames.shape[2] / 8
    return [int(sum((frame[10, int(x)].mean() > 127) << n for n, x in enumerate(places))) for frame in frames]


@pytest.mark.parametrize("rate", [8.0, 3.75, 29.97])
@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_every_frame_that_is_written_is_read(tmp_path, rate, suffix):
    """In order, with repeated frames, and at the rate that was asked for."""
    numbers = [0, 1, 5, 5, 5, 200, 17, 17, 255, 3]
    frames = np.stack([_binary(number) for number in numbers])
    path = tmp_path / f"video{suffix}"
    encode = {".mp4": mp4_bytes, ".gif": gif_bytes}[suffix]
    path.write_bytes(encode(frames, rate))
    assert path.read_bytes() == encode(frames, rate)
    found = read_all_frames(path)
    assert _carried(found) == numbers
    assert np.abs(found.astype(int) - frames).mean() < 3
    whole = len(numbers) / rate if suffix == ".mp4" else len(numbers) * round(100 / rate) / 100
    assert video_seconds(path) == pytest.approx(whole, abs=1e-3)
    if suffix == ".mp4":
        assert video_length(path) == (pytest.approx(rate), len(numbers))
        assert _carried(np.stack([np.asarray(image) for image in read_frames(path, [2, 5, 9])])) == [5, 200, 3]


def test_odd_sides_keep_their_size(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (3, 5, 7, 3)).repeat(9, 1).repeat(9, 2).astype(np.uint8)
    path = tmp_path / "odd.mp4"
    path.write_bytes(mp4_bytes(frames, 4))
    assert read_all_frames(path).shape == (3, 45, 63, 3)
    assert np.abs(read_all_frames(path).astype(int) - frames).mean() < 3


def test_frames_of_different_duration_are_repeated(tmp_path):
    """A GIF that another program wrote: its frames are shown for one, three and two times the shortest time."""
    frames = [Image.fromarray(_binary(number)) for number in (1, 2, 3)]
    path = tmp_path / "theirs.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 120, 80], loop=0)
    assert _carried(read_all_frames(path)) == [1, 2, 2, 2, 3, 3]
    assert shortest_frame(path) == pytest.approx(0.04)
    assert _carried(read_all_frames(path, 0.02)) == [1] * 2 + [2] * 6 + [3] * 4
    still = tmp_path / "still.gif"
    still.write_bytes(gif_bytes(np.stack([_binary(9)] * 4), 25))
    assert _carried(read_all_frames(still, shortest_frame(path))) == [9] * 4


def test_without_h264_a_video_is_written_otherwise_and_says_so(tmp_path, monkeypatch):
    frames = np.stack([_binary(number) for number in range(12)])
    monkeypatch.setattr("neurorecon.io.videos.ENCODERS", ("no-such-encoder", "mpeg4"))
    path = tmp_path / "video.mp4"
    with pytest.warns(NeuroreconWarning, match=r"cannot write H\.264 \(no-such-encoder: "):
        path.write_bytes(mp4_bytes(frames, 8))
    assert _carried(read_all_frames(path)) == list(range(12))
    monkeypatch.setattr("neurorecon.io.videos.ENCODERS", ("no-such-encoder",))
    with pytest.raises(InputError, match="cannot write videos"):
        mp4_bytes(frames, 8)


def _hostile(kind, path):
    """Write a file that is no complete video."""
    whole = mp4_bytes(np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8), 8)
    if kind == "end is missing":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("<html>Not found</html>")
    elif kind == "sound alone":
        with av.open(str(path), "w", format="mp4") as container:
            stream = container.add_stream("aac", rate=44100)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
            sound.sample_rate = 44100
            container.mux(stream.encode(sound))
            container.mux(stream.encode())
    elif kind == "frames are missing":  # the header comes first, so the file opens
        with av.open(io.BytesIO(whole)) as given, av.open(
            str(path), "w", format="mp4", options={"movflags": "faststart"}
        ) as container:  # fmt: skip
            stream = container.add_stream_from_template(given.streams.video[0])
            for packet in given.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    container.mux(packet)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


@pytest.mark.parametrize("kind", ["end is missing", "empty", "text", "sound alone", "frames are missing"])
def test_what_is_no_complete_video_is_one_error(tmp_path, kind):
    path = tmp_path / "theirs.mp4"
    _hostile(kind, path)
    with pytest.raises(InputError, match=r"theirs\.mp4 cannot be read"):
        read_all_frames(path)
    if kind != "frames are missing":
        for read in (
            video_length,
            video_seconds,
            lambda file: read_video(file, 4),
            lambda file: read_frames(file, [0]),
        ):
            with pytest.raises(InputError, match=r"theirs\.mp4 cannot be read"):
                read(path)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<html>"])
def test_what_is_no_gif_is_one_error(tmp_path, content):
    path = tmp_path / "theirs.gif"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"theirs\.gif cannot be read"):
        read_all_frames(path)
