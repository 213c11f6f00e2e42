"""Clips of videos, their pairing with volumes, and the selection of voxels by the reliability of their responses."""

import mpmath
import numpy as np
import pytest
from scipy import stats

from neurorecon.datasets.videos import Clip, Clips, VideoOptions, log_p_of_reliability, pair_clips
from neurorecon.errors import InputError, MissingFileError, NeuroreconWarning
from neurorecon.testing.layouts.cc2017 import frame_number, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("videos") / "numbered.mp4"
    write_video(path, np.random.default_rng(0).integers(0, 256, (5, 6, 8, 3)), 60, 30)
    return path


def test_frames_are_those_of_their_numbers(video):
    seconds = [tuple(start + np.arange(4) * 8 / 30) for start in (8.0, 0.0, 2.0, 2.1)]
    clips = Clips([Clip(str(n), video, one) for n, one in enumerate(seconds)], VideoOptions(image_size=64))
    found = clips.frames(0, 4)
    assert found.shape == (4, 4, 64, 64, 3)
    assert [[frame_number(frame) for frame in clip] for clip in found] == [
        [240, 248, 256, 264], [0, 8, 16, 24], [60, 68, 76, 84], [63, 71, 79, 87],
    ]  # fmt: skip
    assert [frame_number(image) for image in clips.images(1, 3)] == [16, 76]
    np.testing.assert_array_equal(clips.frames(2, 3), found[2:3])
    assert clips.frames(4, 9).shape == (0, 4, 64, 64, 3)


def test_frames_beyond_the_end_are_an_error(video):
    clips = Clips([Clip("late", video, (9.0, 11.0))], VideoOptions())
    with pytest.raises(InputError, match="no frame 330"):
        clips.frames(0, 1)


@pytest.mark.parametrize("text", ["clip,caption\na,b\n", "stimulus,caption\nother,b\n"])
def test_captions_that_fit_nothing(video, tmp_path, text):
    clips = Clips([Clip("a", video, (0.0,))], VideoOptions(captions="captions.csv"))
    with pytest.raises(MissingFileError, match=r"captions\.csv is missing"):
        clips.table(tmp_path)
    (tmp_path / "captions.csv").write_text(text)
    with pytest.raises(InputError, match=r"captions\.csv has"):
        clips.table(tmp_path)


def test_captions_are_those_of_the_table(video, tmp_path):
    (tmp_path / "captions.tsv").write_text("stimulus\tcaption1\tcaption2\na\tone\ttwo\nc\tthree\t\n")
    clips = Clips([Clip(name, video, (0.0,)) for name in "abc"], VideoOptions(captions="captions.tsv"))
    with pytest.warns(NeuroreconWarning, match="1 of 3 stimuli have no caption: b"):
        table = clips.table(tmp_path)
    assert table["captions"].tolist() == [["one", "two"], [], ["three"]]


@pytest.mark.parametrize(("delay", "volumes"), [(-2, [0, 1, 2]), (0, [0, 1, 2, 3]), (4, [2, 3, 4])])
def test_clips_and_volumes(delay, volumes):
    table = pair_clips(list("abcd"), np.arange(4) * 2.0, "train", delay, 2.0, 5)
    first = volumes[0] - delay // 2
    assert table["volume"].tolist() == volumes
    assert table["stimulus"].tolist() == list("abcd")[first : first + len(volumes)]
    assert table["time"].tolist() == [2.0 * place for place in range(first, first + len(volumes))]
    with pytest.raises(InputError, match="a multiple of the repetition time, 2 s"):
        pair_clips(list("abcd"), np.arange(4) * 2.0, "train", 3.0, 2.0, 5)


def test_log_p_is_that_of_scipy_and_does_not_saturate():
    rng = np.random.default_rng(0)
    correlations = np.clip(rng.normal([[0.0, 0.3, -0.4, 0.9]], 0.1, (18, 4)), -0.99, 0.99)
    found = log_p_of_reliability(correlations)
    test = stats.ttest_1samp(np.arctanh(correlations), 0, alternative="greater")
    np.testing.assert_allclose(found, np.log(test.pvalue), rtol=1e-9, atol=1e-15)
    assert found[2] > -1e-3  # an anticorrelation is not reliable
    many = rng.normal([[0.9, 0.95]], 0.001, (400, 2))
    test = stats.ttest_1samp(np.arctanh(many), 0, alternative="greater")
    assert not test.pvalue.any()  # p itself saturates
    x = [mpmath.mpf(399) / (399 + mpmath.mpf(t) ** 2) for t in test.statistic]
    exact = [float(mpmath.log(mpmath.betainc(199.5, 0.5, 0, one, regularized=True) / 2)) for one in x]
    np.testing.assert_allclose(log_p_of_reliability(many), exact, rtol=1e-9)
    assert log_p_of_reliability(np.full((18, 1), np.nan)).tolist() == [0.0]
