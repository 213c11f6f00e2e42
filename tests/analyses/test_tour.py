"""The report of the tour: it holds everything, says that it is simulated, and loads nothing."""

import json
import re
from html.parser import HTMLParser

from neurorecon.analyses.maps import voxelwise_maps
from neurorecon.analyses.reconstruct import reconstruct
from neurorecon.analyses.results import record_of
from neurorecon.analyses.tour import tour, write_report
from neurorecon.figures import read_provenance


class _Page(HTMLParser):
    """Collects addresses, headings and tables."""

    def __init__(self):
        super().__init__()
        self.addresses, self.tags = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [
            (tag, name, value) for name, value in attributes if name in ("src", "href", "srcset", "data")
        ]


def _read(path):
    text = path.read_text(encoding="utf-8")
    page = _Page()
    page.feed(text)
    return text, page


def _check_offline(text, page):
    for tag, name, value in page.addresses:
        assert value.startswith(("data:", "#")), (tag, name, value[:80])
    assert not re.findall(r"""(?:src|href)\s*=\s*\\?["']?(?:https?:)?//""", text)
    assert not re.findall(r"""(?:url\(|@import\s+|fetch\(|import\()\s*["']?(?:https?:)?//""", text)


def test_the_tour_writes_everything_beside_one_report(miniature, tmp_path):
    store = miniature(subjects=1, space="none", videos=30)
    said = []
    files, scores = tour(store, tmp_path / "demo", command="neurorecon demo", say=said.append)
    assert files[0] == tmp_path / "demo" / "report.html"
    assert all(path.is_file() for path in files)
    assert {path.parent.name for path in files[1:]} == {"MT", "cortex", "videos", "reconstruction"}
    assert len(said) == 5
    assert {"value", "null_mean", "p", "n", "name"} <= set.intersection(*(set(score) for score in scores))
    text, page = _read(files[0])
    _check_offline(text, page)
    for heading in (
        "Stimuli",
        "What each voxel encodes: videos",
        "What each voxel encodes: images",
        "A closer look at MT",
        "Linear reconstruction",
    ):
        assert heading in text
    assert text.count("<table") >= 3


def test_the_report_of_a_brain_with_a_surface(miniature, tmp_path):
    store = miniature(subjects=1, space="surface", videos=30)
    whole = voxelwise_maps(store, n_permutations=49)
    roi = voxelwise_maps(store, roi="MT", n_permutations=49)
    record = record_of(store, "neurorecon demo", seed=0)
    reconstructed = reconstruct(store, task="images", n_permutations=19)
    path = write_report(tmp_path / "report.html", store, roi, [whole], reconstructed, record)
    text, page = _read(path)
    _check_offline(text, page)
    assert "All responses in this report are simulated" in text
    assert page.tags.count("img") + page.tags.count("svg") >= 6
    assert "iframe" in page.tags
    found = read_provenance(path)
    assert found["simulated"] is True
    assert found["snapshot"] == store.snapshot
    assert json.dumps(str(tmp_path)) not in text
