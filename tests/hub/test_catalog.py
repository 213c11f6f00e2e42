"""The tables of weights and data sets say what a user needs: what readers read, and what distributors have."""

import re
import shlex
from pathlib import Path

import pytest

from neurorecon.errors import InputError, UnknownNameError
from neurorecon.hub import commands, find, for_role, items, needs, readable
from neurorecon.hub.catalog import CHOICES
from neurorecon.registry import DATASETS
from neurorecon.testing.layouts.algonauts2021 import write_algonauts2021
from neurorecon.testing.layouts.bold_moments import write_bold_moments
from neurorecon.testing.layouts.cc2017 import write_cc2017
from neurorecon.testing.layouts.haxby2001 import write_haxby2001
from neurorecon.testing.layouts.hcp7t import write_hcp7t
from neurorecon.testing.layouts.laion_fmri import write_laion_fmri
from neurorecon.testing.layouts.nsd import write_nsd
from neurorecon.testing.layouts.things import write_things
from neurorecon.testing.layouts.yamada2015 import write_yamada2015


def test_every_reader_has_an_entry():
    assert set(DATASETS.builtin) <= {item.name for item in items("data set")}


@pytest.mark.parametrize("name", [item.name for item in items("data set")])
def test_entries_say_terms_citation_and_what_to_do(name):
    entry = find(name)
    assert entry.license
    assert entry.citation
    assert set(entry.choices) <= set(CHOICES)
    assert commands(entry) or entry.steps
    for need in needs(entry):
        assert not need.path.startswith("/")
        assert need.size is None or need.size > 0
    for command in commands(entry):
        shlex.split(command, comments=True)


def _pattern(path):
    """Turn a path of the catalog, with stars and {a,b} and {1..3}, into a regular expression."""
    text = re.escape(path).replace(r"\*", "[^/]*")
    return re.compile(re.sub(r"\\\{(.+?)\\\}", lambda found: f"({found[1].replace(',', '|')})", text))


@pytest.mark.parametrize(
    ("name", "write", "wanted"),
    [
        ("nsd", lambda folder: write_nsd(folder, subjects=("subj01",)), {"subjects": ["subj01"]}),
        (
            "nsd",
            lambda folder: write_nsd(folder, subjects=("subj01",), tasks=("synthetic", "imagery")),
            {"subjects": ["subj01"], "task": "synthetic"},
        ),
        (
            "nsd",
            lambda folder: write_nsd(folder, subjects=("subj01",), tasks=("synthetic", "imagery")),
            {"subjects": ["subj01"], "task": "imagery"},
        ),
        ("yamada2015", write_yamada2015, {}),
        ("cc2017", write_cc2017, {"subjects": ["1"]}),
        ("algonauts2021", lambda folder: write_algonauts2021(folder, videos=2), {"subjects": ["sub01"]}),
        ("laion_fmri", lambda folder: write_laion_fmri(folder, subjects=(1,)), {"subjects": ["sub-01"]}),
        (
            "bold_moments",
            lambda folder: write_bold_moments(folder, subjects=(1,), videos=(2, 1)),
            {"subjects": ["sub-01"], "space": "MNI152"},
        ),
        (
            "bold_moments",
            lambda folder: write_bold_moments(folder, subjects=(1,), videos=(2, 1), spaces=["fsaverage"]),
            {"subjects": ["sub-01"], "space": "fsaverage"},
        ),
        ("things", lambda folder: write_things(folder, subjects=(1,)), {"subjects": ["sub-01"]}),
        ("hcp7t", lambda folder: write_hcp7t(folder, subjects=["100610"]), {"subjects": ["100610"]}),
        ("haxby2001", lambda folder: write_haxby2001(folder / "haxby2001"), {"subjects": ["subj2"]}),
    ],
)
def test_what_is_needed_is_in_a_tree_that_can_be_read(tmp_path, name, write, wanted):
    write(tmp_path)
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    for need in needs(find(name), **wanted):
        if not need.optional:
            assert any(_pattern(need.path).fullmatch(file) for file in files), need.path


def test_nsd_commands_fetch_the_files_of_the_request_and_no_others():
    wanted = {"subjects": ["subj01", "subj04"], "sessions": [1, 2], "file_format": "hdf5"}
    how = commands(find("nsd"), "nsd", **wanted)
    for command in how:
        words = shlex.split(command)
        if words[0] != "aws":
            continue
        assert words[1] == "s3"
        assert "--no-sign-request" in words
        source, target = [word for word in words if word.startswith(("s3://", "nsd/"))]
        assert source.removeprefix("s3://natural-scenes-dataset/") == target.removeprefix("nsd/")
    betas = [command for command in how if "nsddata_betas" in command]
    assert len(betas) == 2
    included = [word for word in shlex.split(betas[1]) if word.startswith(("betas_", "ncsnr"))]
    assert included == ["ncsnr.nii.gz", "betas_session01.hdf5", "betas_session02.hdf5"]
    files = [need for need in needs(find("nsd"), **wanted) if "betas_session" in need.path]
    assert [need.number for need in files] == [2, 2]
    assert files[0].size == 2 * 81 * 104 * 83 * 750 * 2


def test_nsd_needs_these_files_by_default():
    betas = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    prepared = "nsddata/ppdata/subj01"
    found = [(need.path, need.number, need.size, need.optional) for need in needs(find("nsd"))]
    assert found == [
        ("nsddata/experiments/nsd/nsd_expdesign.mat", 1, None, False),
        ("nsddata/experiments/nsd/nsd_stim_info_merged.csv", 1, None, False),
        ("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", 1, 39_556_875_000, False),
        ("annotations/*_{train,val}2017.json", 4, None, True),
        (f"{prepared}/behav/responses.tsv", 1, None, True),
        (f"{prepared}/func1pt8mm/roi/*.nii.gz", 1, None, False),
        (f"{prepared}/func1pt8mm/brainmask.nii.gz", 1, None, True),
        ("nsddata/freesurfer/subj01/label/*.mgz.ctab", 1, None, True),
        (f"{betas}/betas_session*.nii.gz", 40, 41_951_520_000, False),
        (f"{betas}/ncsnr.nii.gz", 1, None, False),
    ]
    what = {need.path: need.what for need in needs(find("nsd"), sessions=[3, 1, 2, 9])}
    assert what[f"{betas}/betas_session*.nii.gz"] == "betas of sessions 1, 2, 3, 9 (before compression)"


def test_further_tasks_of_nsd_need_their_own_files_and_the_rois():
    found = {need.path: need for need in needs(find("nsd"), task="imagery", file_format="hdf5")}
    betas = "nsddata_betas/ppdata/subj01/func1pt8mm/nsdimagerybetas_fithrf_GLMdenoise_RR/betas_nsdimagery.hdf5"
    assert found[betas].size == 81 * 104 * 83 * 720 * 2
    assert "nsddata/ppdata/subj01/func1pt8mm/roi/*.nii.gz" in found
    assert not any("nsd_expdesign" in path or "session" in path for path in found)
    assert found["nsddata/bdata/nsdimagery/nsdimagery_subj01_*.tsv"].number == 12


def test_files_on_the_average_surface_are_needed_once_for_all_subjects():
    wanted = {"space": "fsaverage", "subjects": ["subj02", "subj05"], "sessions": [7]}
    paths = [need.path for need in needs(find("nsd"), **wanted)]
    assert len(set(paths)) == len(paths) == 11
    how = commands(find("nsd"), **wanted)
    assert len(set(how)) == len(how)
    included = [word for word in shlex.split(how[-1]) if word.endswith(".mgh")]
    assert included == ["lh.ncsnr.mgh", "rh.ncsnr.mgh", "lh.betas_session07.mgh", "rh.betas_session07.mgh"]


def test_subjects_stand_in_paths_and_commands_as_their_data_set_writes_them():
    paths = [(need.path, need.number) for need in needs(find("cc2017"), subjects=["3", "1"])]
    assert [number for _, number in paths] == [23, 36, 49, 36, 50]
    assert paths[2][0] == "Subject03/video_fmri_dataset/subject3/fmri/test*/cifti/test*_*_Atlas.dtseries.nii"
    how = commands(find("haxby2001"), "my data", subjects=["subj1", "subj6"])
    assert how[0] == "neurorecon datasets download haxby2001 --out my data --subject subj1 --subject subj6"
    assert commands(find("hcp7t"), "{path}", subjects=["100610"])[0].endswith(
        " {path}/100610/MNINonLinear/Results/tfMRI_MOVIE1_7T_AP/"
        "tfMRI_MOVIE1_7T_AP_Atlas_MSMAll_hp2000_clean.dtseries.nii"
    )


@pytest.mark.parametrize("name", ["miyawaki2008", "haxby2001"])
def test_commands_state_the_size_of_an_excerpt(name):
    size = sum(file.size for file in find(name).excerpt)
    assert commands(find(name))[1].endswith(f"--excerpt    # {size / 1e6:.1f} MB for a first try")


def test_nsd_sizes_follow_from_shapes():
    files = needs(find("nsd"), space="fsaverage", subjects=["subj08"])
    surface = next(need for need in files if "betas_session" in need.path)
    assert surface.number == 2 * 30
    assert surface.size == 163_842 * 750 * 4 * 60
    images = next(need for need in files if need.path.endswith("nsd_stimuli.hdf5"))
    assert readable(images.size, images.about) == "~39.6 GB"


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("nsd", {"subjects": ["subj09"]}, "unknown subject 'subj09'"),
        ("nsd", {"subjects": ["subj04"], "sessions": [31]}, "subj04 has no such sessions"),
        ("nsd", {"space": "mni"}, "unknown space 'mni'"),
        ("nsd", {"task": "resting"}, "unknown task 'resting'"),
        ("nsd", {"betas": "b3"}, "unknown version of the betas 'b3'"),
        ("nsd", {"space": "fsaverage", "file_format": "hdf5"}, "nsd does not take --format with --space fsaverage"),
        ("haxby2001", {"space": "func1mm"}, "haxby2001 does not take --space"),
        ("yamada2015", {"subjects": ["S2"]}, "yamada2015 does not take --subject"),
        ("hcp7t", {"subjects": ["one"]}, "hcp7t has no such subject"),
        ("cc2017", {"subjects": ["4"]}, "unknown subject '4'"),
    ],
)
def test_what_a_data_set_does_not_have(name, wanted, said):
    with pytest.raises(InputError, match=said):
        needs(find(name), **wanted)


def test_unknown_data_set():
    with pytest.raises(UnknownNameError, match="did you mean 'nsd'"):
        find("nds", "data set")
    with pytest.raises(UnknownNameError, match="unknown data set or set of weights 'nds'"):
        find("nds")


def test_sizes_as_people_say_them():
    assert [readable(size) for size in (None, 12, 1_597, 494_782, 39_556_875_000)] == [
        "?", "12 B", "1.6 kB", "495 kB", "39.6 GB",
    ]  # fmt: skip


def test_weights_say_what_a_user_needs():
    names = [item.name for kind in ("weights", "data set") for item in items(kind)]
    assert len(names) == len(set(names))
    for weights in items("weights"):
        assert weights.files
        assert weights.license
        assert weights.citation
        assert weights.systems
        assert weights.origin in ("bundled", "published")
        if weights.origin == "published":
            assert [weights.repository, weights.url, weights.home or None].count(None) == 2
            assert bool(weights.home) == bool(weights.steps) == (weights.download == "by hand")
            assert weights.about > 1e7
        for file in weights.files:
            assert file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16) > 0)
            assert not Path(file.path).is_absolute()
            assert ".." not in file.path


def test_the_sizes_known_agree_with_the_numbers_of_parameters():
    weights = find("clip-vit-b32")
    # 4 bytes a parameter, and a header that names 302 tensors.
    assert 0 < weights.size - 4 * weights.parameters < 50_000


def test_unknown_names_are_answered_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="did you mean 'clip-vit-l14'"):
        find("clip-vit-l-14")
    with pytest.raises(UnknownNameError, match="one of: clip, clip-b32"):
        for_role("klip", "bundled")
    with pytest.raises(UnknownNameError, match="one of: bundled, published"):
        for_role("clip", "home-made")


@pytest.mark.parametrize(
    ("role", "published", "bundled"),
    [
        ("clip", "clip-vit-l14", "bundled-clip"),
        ("clip-b32", "clip-vit-b32", "bundled-clip"),
        ("text-encoder", "sd-v1-4-text-encoder", "bundled-clip"),
        ("autoencoder", "sd-v1-4-autoencoder", "bundled-autoencoder"),
        ("vdvae", "vdvae-imagenet64", "bundled-vdvae"),
        ("text-diffusion", "sd-v1-4-unet", "bundled-text-diffusion"),
        ("dual-diffusion", "versatile-diffusion", "bundled-dual-diffusion"),
    ],
)
def test_every_role_has_published_and_bundled_weights(role, published, bundled):
    assert for_role(role, "published").name == published
    assert for_role(role, "bundled").name == bundled


def test_the_probe_was_never_published():
    assert for_role("probe", "bundled").name == "bundled-probe"
    with pytest.raises(InputError, match="no published weights for this role"):
        for_role("probe", "published")
