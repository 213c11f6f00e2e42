"""What each data set needs is what its reader reads, and what its distributor has."""

import re
import shlex

import pytest

from neurorecon.datasets.catalog import CHOICES, Request, catalog, find, readable
from neurorecon.datasets.catalog_nsd import SESSIONS
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.registry import DATASETS
from neurorecon.testing.layouts.haxby2001 import write_haxby2001
from neurorecon.testing.layouts.nsd import write_nsd
from neurorecon.testing.layouts.yamada2015 import write_yamada2015


def test_every_reader_has_an_entry():
    assert set(DATASETS.builtin) <= set(catalog())


@pytest.mark.parametrize("name", catalog())
def test_entries_say_terms_citation_and_what_to_do(name):
    entry = find(name)
    assert entry.terms
    assert entry.citation
    assert set(entry.choices) <= set(CHOICES)
    plan = entry.request(Request())
    assert plan.commands or plan.steps
    for need in plan.needs:
        assert not need.path.startswith("/")
        assert need.size is None or need.size > 0
    for command in plan.commands:
        shlex.split(command, comments=True)


def _pattern(path):
    """Turn a path of the catalog, with stars and {a,b} and {1..3}, into a regular expression."""
    text = re.escape(path).replace(r"\*", "[^/]*")
    return re.compile(re.sub(r"\\\{(.+?)\\\}", lambda found: f"({found[1].replace(',', '|')})", text))


@pytest.mark.parametrize(
    ("name", "write", "wanted"),
    [
        ("nsd", lambda folder: write_nsd(folder, subjects=("subj01",)), {"subjects": ["subj01"]}),
        ("yamada2015", write_yamada2015, {}),
        ("haxby2001", lambda folder: write_haxby2001(folder / "haxby2001"), {"subjects": ["subj2"]}),
    ],
)
def test_what_is_needed_is_in_a_tree_that_can_be_read(tmp_path, name, write, wanted):
    write(tmp_path)
    files = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    for need in find(name).request(Request(**wanted)).needs:
        if not need.optional:
            assert any(_pattern(need.path).fullmatch(file) for file in files), need.path


def test_nsd_commands_fetch_the_files_of_the_request_and_no_others():
    plan = find("nsd").request(
        Request(folder="nsd", subjects=["subj01", "subj04"], sessions=[1, 2], file_format="hdf5")
    )
    for command in plan.commands:
        words = shlex.split(command)
        if words[0] != "aws":
            continue
        assert words[1] == "s3"
        assert "--no-sign-request" in words
        source, target = [word for word in words if word.startswith(("s3://", "nsd/"))]
        assert source.removeprefix("s3://natural-scenes-dataset/") == target.removeprefix("nsd/")
    betas = [command for command in plan.commands if "nsddata_betas" in command]
    assert len(betas) == 2
    included = [word for word in shlex.split(betas[1]) if word.startswith(("betas_", "ncsnr"))]
    assert included == ["ncsnr.nii.gz", "betas_session01.hdf5", "betas_session02.hdf5"]
    needs = [need for need in plan.needs if "betas_session" in need.path]
    assert [need.number for need in needs] == [2, 2]
    assert needs[0].size == 2 * 81 * 104 * 83 * 750 * 2


def test_nsd_sizes_follow_from_shapes():
    needs = find("nsd").request(Request(space="fsaverage", subjects=["subj08"])).needs
    surface = next(need for need in needs if "betas_session" in need.path)
    assert surface.number == 2 * SESSIONS["subj08"]
    assert surface.size == 163_842 * 750 * 4 * 60
    pictures = next(need for need in needs if need.path.endswith("nsd_stimuli.hdf5"))
    assert readable(pictures.size, pictures.about) == "~39.6 GB"


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("nsd", {"subjects": ["subj09"]}, "unknown subject 'subj09'"),
        ("nsd", {"subjects": ["subj04"], "sessions": [31]}, "subj04 has no such sessions"),
        ("nsd", {"space": "mni"}, "unknown space 'mni'"),
        ("nsd", {"betas": "b3"}, "unknown version of the betas 'b3'"),
        ("nsd", {"space": "fsaverage", "file_format": "hdf5"}, "one file format"),
        ("haxby2001", {"space": "func1mm"}, "haxby2001 offers no choice of --space"),
        ("yamada2015", {"subjects": ["S2"]}, "yamada2015 offers no choice of --subject"),
        ("hcp7t", {"subjects": ["one"]}, "subjects of the HCP are numbers"),
        ("cc2017", {"subjects": ["4"]}, "unknown subject '4'"),
    ],
)
def test_what_a_data_set_does_not_have(name, wanted, said):
    with pytest.raises(InputError, match=said):
        find(name).request(Request(**wanted))


def test_unknown_data_set():
    with pytest.raises(UnknownNameError, match="did you mean 'nsd'"):
        find("nds")


def test_sizes_as_people_say_them():
    assert [readable(size) for size in (None, 12, 1_597, 494_782, 39_556_875_000)] == [
        "?", "12 B", "1.6 kB", "495 kB", "39.6 GB",
    ]  # fmt: skip
