"""Videos by PyAV: which frame is taken for which time, in a video whose frames carry their number."""

import av
import numpy as np
import pytest

from neurorecon.errors import InputError
from neurorecon.io.videos import read_video, video_seconds

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
