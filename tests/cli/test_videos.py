"""Videos on the command line: written beside the stimuli, and those of others scored, frame by frame."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.analyses.evaluate import load_images
from neurorecon.io.videos import gif_bytes, mp4_bytes, read_all_frames, video_length

QUIET = ("--permutations", "9", "--no-figures", "--quiet", "--json")


@pytest.fixture(scope="module")
def made(once, small, user):
    """The folder of a reconstruction of videos by the command line."""

    def build(folder):
        shutil.copytree(small.path, folder / "small.icechunk")
        return user("reconstruct", "--store", "small.icechunk", "--system", "linear-frames", "--task", "videos",
                    "--subject", "subj01", "--metric", "epe", "--metric", "ssim_frames", "--no-controls",
                    "--out", "made", *QUIET, cwd=folder)  # fmt: skip

    return once("videos-of-small", build)[0]


@pytest.fixture(scope="module")
def seen(small):
    store = nr.open_store(small.path)
    ids = store.stimuli.loc[(store.stimuli["kind"] == "video") & (store.stimuli["split"] == "test"), "id"].tolist()
    return store, ids, store.frames(ids).values


def _write(folder, ids, frames, suffix=".mp4", rate=8):
    folder.mkdir(exist_ok=True)
    for name, video in zip(ids, frames, strict=True):
        (folder / f"{name}{suffix}").write_bytes({".mp4": mp4_bytes, ".gif": gif_bytes}[suffix](video, rate))
    return folder


def _blurred(frames):
    """Frames that resemble the stimuli and are no copies: their middle, enlarged, frames in order."""
    return np.clip(frames[:, :, 16:48, 16:48].repeat(2, 2).repeat(2, 3) * 0.8 + 20, 0, 255).astype(np.uint8)


def test_videos_are_written_beside_their_stimuli(made, seen):
    store, ids, frames = seen
    folder = made / "made"
    arrays = np.load(folder / "subj01_linear-frames_reconstructions.npz")
    reconstructed = arrays["stimulus"].tolist()  # the delayed responses to the last clips of a run are not there
    assert set(reconstructed) <= set(ids)
    assert sorted(file.stem for file in (folder / "subj01_linear-frames_videos").iterdir()) == sorted(reconstructed)
    pairs = sorted(file.name for file in (folder / "subj01_linear-frames_pairs").iterdir())
    assert pairs == sorted(f"{name}{suffix}" for name in reconstructed for suffix in (".gif", ".mp4"))
    place = 3
    name = reconstructed[place]
    video = folder / "subj01_linear-frames_videos" / f"{name}.mp4"
    assert video_length(video) == (store.frames_per_second, frames.shape[1])
    exact = np.round(255 * arrays["reconstructed"][place]).astype(int)
    assert np.abs(read_all_frames(video) - exact).mean() < 3
    for suffix in (".mp4", ".gif"):
        pair = read_all_frames(folder / "subj01_linear-frames_pairs" / f"{name}{suffix}").astype(int)
        assert len(pair) == frames.shape[1]
        left, right = pair[:, 20:212:3, 6:198:3], pair[:, 20:212:3, 204:396:3]
        assert np.abs(left - frames[ids.index(name)]).mean() < 6
        assert np.abs(right - exact).mean() < 6
    settings = json.loads((folder / "subj01_linear-frames.json").read_text())
    assert f"subj01_linear-frames_pairs/{name}.gif" in settings["files"]


def test_our_videos_score_as_our_arrays(call, made, small, tmp_path):
    """The same up to the loss of compression, in any of three forms."""
    folder, scores = made / "made", {}
    for where in (folder, folder / "subj01_linear-frames_videos"):
        found = call("evaluate", where, "--store", small.path, "--metric", "ssim_frames", "--metric", "epe",
                     "--out", tmp_path / "scores", *QUIET)  # fmt: skip
        assert found.exit_code == 0, found.exception
        scores[where.name] = {score["name"]: score["value"] for score in json.loads(found.stdout)["scores"]}
    exact, read = scores.values()
    assert read["ssim_frames"] == pytest.approx(exact["ssim_frames"], abs=0.02)
    assert read["epe"] == pytest.approx(exact["epe"], rel=0.05)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_videos_of_others_are_read_frame_by_frame(tmp_path, seen, suffix):
    """Frames in another order are another video; a video that stands still keeps its frames."""
    _, ids, frames = seen
    made = _blurred(frames)
    made[0] = made[0, :1]
    made[1] = made[1, ::-1]
    found = load_images(_write(tmp_path / "theirs", ids, made, suffix))
    assert found.dims == ("stimulus", "frame", "y", "x", "rgb")
    assert found["stimulus"].values.tolist() == sorted(ids)
    found = found.sel(stimulus=ids).values.astype(int)
    assert found.shape == made.shape
    errors = np.abs(found - made).mean(axis=(2, 3, 4))
    assert errors.max() < 6
    exchanged = np.abs(found[1] - made[1, ::-1]).mean(axis=(1, 2, 3))
    assert (exchanged[[0, -1]] > 2 * errors[1, [0, -1]]).all()


def test_an_audit_of_videos_with_a_table(call, small, seen, tmp_path):
    """Two videos of each stimulus, called as somebody else calls them."""
    _, ids, frames = seen
    folder = _write(tmp_path / "theirs", [f"clip_{n}_a" for n in range(len(ids))], _blurred(frames))
    _write(folder, [f"clip_{n}_b" for n in range(len(ids))], _blurred(frames)[:, :, ::-1])
    rows = [(f"clip_{n}_{seed}.mp4", name) for n, name in enumerate(ids) for seed in "ab"]
    pd.DataFrame(rows, columns=["file", "stimulus"]).to_csv(tmp_path / "map.csv", index=False)
    loaded = load_images(folder, tmp_path / "map.csv")
    assert loaded.dims == ("stimulus", "seed", "frame", "y", "x", "rgb")
    for command in ("evaluate", "audit"):
        found = call(command, folder, "--table", tmp_path / "map.csv", "--store", small.path, "--out",
                     tmp_path / command, *QUIET)  # fmt: skip
        assert found.exit_code == 0, found.stderr or found.exception
        scores = {score["name"] for score in json.loads(found.stdout)["scores"]}
        assert any("ssim_frames" in name for name in scores), scores
        assert any("epe" in name for name in scores), scores


def test_copies_of_the_stimuli_are_refused(call, small, seen, tmp_path):
    _, ids, frames = seen
    folder = _write(tmp_path / "theirs", ids, frames)
    found = call("audit", folder, "--store", small.path, *QUIET)
    assert found.exit_code == 2
    assert "copies of the stimuli" in found.stderr


def test_hostile_videos_are_one_error_and_nothing_is_written(call, small, seen, tmp_path):
    _, ids, frames = seen
    made = _blurred(frames)

    def fails(folder, said):
        for command in ("evaluate", "audit"):
            found = call(command, folder, "--store", small.path, *QUIET)
            assert found.exit_code == 2, found.exception
            assert said in found.stderr, found.stderr
            assert not (tmp_path / "results").exists()

    fails(_write(tmp_path / "long", ids, made.repeat(2, axis=1)), f"given:    {2 * made.shape[1]} frames each")
    fails(_write(tmp_path / "one", ids, made[:, :1]), "given:    1 frame each")
    fails(_write(tmp_path / "stills", ids, made[:, :1].repeat(8, axis=1), ".gif"), "write stills as MP4")
    mixed = _write(_write(tmp_path / "mixed", ids[1:], made[1:]), ids[:1], made[:1, :5])
    fails(mixed, f"not videos of one size and length\n  given:    {len(ids)} files")
    both = _write(_write(tmp_path / "both", ids, made), ids[:1], made[:1], ".gif")
    fails(both, "a stimulus has more than one image")
    cut = _write(tmp_path / "cut", ids, made)
    file = cut / f"{ids[2]}.mp4"
    file.write_bytes(file.read_bytes()[:700])
    fails(cut, f"{ids[2]}.mp4 cannot be read as a video")
    from PIL import Image

    Image.fromarray(made[0, 0]).save(both / "notes.png")
    fails(both, "this folder holds images and videos")


def test_cc2017_from_the_folder_to_maps_and_to_a_video(call, tmp_path):
    """The commands of docs/datasets/cc2017.md on the miniature; without captions, there is no text condition."""
    root = Path(__file__).parents[2]
    text = (root / "docs" / "datasets" / "cc2017.md").read_text(encoding="utf-8")
    block = text[text.index("    neurorecon datasets miniature cc2017") :].partition("\n\n")[0]
    commands = [line.split()[1:] for line in block.splitlines()]
    assert [arguments[0] for arguments in commands] == ["datasets", "build", "features", "maps"]
    shutil.copytree(root / "stores", tmp_path / "stores", ignore=shutil.ignore_patterns("*.icechunk*"))
    for arguments in commands:
        found = call(*arguments, "--quiet")
        assert found.exit_code == 0, found.stderr or found.exception
    found = call("reconstruct", "--system", "mind-animator", "--task", "videos", "--roi", "reliable", "--set",
                 'without=["clip_text_20"]', "--set", "steps=2", "--metric", "ssim_frames", "--no-controls", "--out",
                 tmp_path / "made", *QUIET)  # fmt: skip
    assert found.exit_code == 0, found.stderr or found.exception
    pairs = sorted((tmp_path / "made" / "subject1_mind-animator_pairs").glob("*.mp4"))
    assert [file.stem for file in pairs] == [f"test{video:02d}_{clip:03d}" for video in (1, 2) for clip in range(1, 11)]
    assert video_length(pairs[0]) == (3.75, 8)
