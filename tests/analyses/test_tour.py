"""The report of the tour: it holds everything, says that it is simulated, and loads nothing."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

import neurorecon as nr
from neurorecon.analyses import tour as tour_module
from neurorecon.analyses.tour import MOVING, tour
from neurorecon.datasets.recipe import Recipe
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


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The embedded data set, small."""
    options = {
        "subjects": 1,
        "voxels": 300,
        "train_images": 80,
        "test_images": 12,
        "train_videos": 30,
        "test_videos": 12,
    }
    targets = ["clip_image", "vqvae", "motion", "gabor"]
    recipe = Recipe(name="scenes", reader="scenes", targets=targets, options=options)
    return nr.build(recipe, tmp_path_factory.mktemp("tour") / "scenes.icechunk", progress=False)


def test_the_tour_writes_everything_beside_one_report(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(tour_module, "STEPS", 3)
    monkeypatch.setattr(tour_module, "AUDITED", 8)
    monkeypatch.setattr(tour_module, "CLIPS", 4)
    said = []
    files, scores = tour(
        scenes, tmp_path / "demo", command="neurorecon demo", systems=("takagi", "linear-pixels"), say=said.append
    )
    assert files[0] == tmp_path / "demo" / "report.html"
    assert all(path.exists() for path in files)
    parents = {path.relative_to(tmp_path / "demo").parts[0] for path in files[1:]}
    assert parents == {"cortex", "videos", "reconstructions", "audit", "maps-of-a-system", "shuffle-test"}
    assert len(said) == 9  # what will be done, each of seven parts, the report
    assert [line[:8] for line in said[1:-1]] == [f"{number} of 7 d" for number in range(1, 8)]
    assert {"value", "null_mean", "p", "n", "name"} <= set.intersection(*(set(score) for score in scores))
    text, page = _read(files[0])
    _check_offline(text, page)
    for heading in (
        "Stimuli",
        "What each voxel encodes: videos",
        "What each voxel encodes: images",
        "Reconstructions: takagi",
        "Reconstructions: linear-pixels",
        "Is it the brain or the generator? takagi",
        "Which voxels hold what mind-animator decodes?",
        "Videos, and whether their motion comes from the brain: mind-animator",
        "another trial",
        "oracle",
    ):
        assert heading in text
    assert text.count("<table") >= 7
    assert "All responses in this report are simulated" in text
    assert page.tags.count("img") + page.tags.count("svg") >= 6
    assert "iframe" in page.tags
    moving = [value for tag, name, value in page.addresses if value.startswith("data:image/gif")]
    assert len(moving) == MOVING
    with Image.open(io.BytesIO(base64.b64decode(moving[0].partition(",")[2]))) as video:
        assert video.n_frames > 1
        assert video.width > 3 * video.height * 0.8  # seen, reconstructed, without motion
    found = read_provenance(files[0])
    assert found["simulated"] is True
    assert found["snapshot"] == nr.open_store(scenes.location).snapshot
    assert json.dumps(str(tmp_path)) not in text
