import base64
import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import neurorecon.figures as figures
from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.figures import Figure, Page, Section, Table, interactive, read_provenance, report
from neurorecon.figures.style import axes_mm, band_label, new_figure
from neurorecon.figures.viewer import script_json

NASTY = '</script><script>alert(1)</script><img src=x onerror=alert(1)> & "quotes" \''
RECORD = {"command": f"neurorecon maps --roi {NASTY}", "seed": 0, "simulated": True, "versions": {"numpy": "2"}}


class Elements(HTMLParser):
    """Collects all elements and their attributes."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def count(self, tag):
        return sum(name == tag for name, _ in self.found)


def check_offline(html):
    elements = Elements(html)
    assert not {"link", "object", "embed", "base", "audio", "video"} & {tag for tag, _ in elements.found}
    for tag, attributes in elements.found:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "action", "srcset", "data", "poster"):
            address = attributes.get(name, "#")
            assert address.startswith(("#", "data:image/")), (tag, name, address)
        for inner in [attributes["srcdoc"]] if "srcdoc" in attributes else []:
            check_offline(inner)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    for text in (*scripts, *styles):
        assert not re.search(r"https?:|fetch\(|XMLHttpRequest|import\(|@import|url\(|WebSocket|eval\(", text)
    policy = [a["content"] for tag, a in elements.found if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policy) == 1
    assert policy[0].startswith("default-src 'none'")
    return elements


@pytest.fixture(scope="module")
def page(brain):
    maps = {
        "joint R²": brain.values,
        NASTY: {side: part - 0.2 for side, part in brain.values.items()},
        "winning band": {side: np.where(part < 0, np.nan, part) for side, part in brain.winner.items()},
    }
    options = {
        "joint R²": {"label": "Joint R²", "quantity": "encoding"},
        NASTY: {"quantity": "haufe"},
        "winning band": {"categories": list(brain.bands)},
    }
    return interactive(maps, options=options, outlines={**brain.rois, NASTY: brain.rois["V1"]}, title=NASTY,
                       note=NASTY, provenance=RECORD)  # fmt: skip


def scene_of(html):
    return json.loads(re.search(r'id="scene">(.*?)</script>', html, re.DOTALL).group(1))


def decode(text, kind):
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def test_page_opens_offline_and_obeys_nobody(page, tmp_path):
    elements = check_offline(page)
    assert elements.count("script") == 3
    assert elements.count("img") == 0
    assert "simulated data" in page
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    assert read_provenance(tmp_path / "page.html") == RECORD
    assert len(page) < 3e6


def test_page_holds_the_numbers_themselves(page, brain):
    scene = scene_of(page)
    assert [entry["name"] for entry in scene["maps"]] == ["joint R²", NASTY, "winning band"]
    for side in ("left", "right"):
        entry = scene["maps"][0]["values"][side]
        values = np.full(10242, np.nan, dtype="f4")
        values[decode(entry["vertices"], "<u4")] = decode(entry["values"], "<f4")
        np.testing.assert_array_equal(values, brain.values[side].astype("f4"))
        member = decode(scene["hemispheres"][side]["rois"][1]["vertices"], "<u4")
        np.testing.assert_array_equal(member, np.flatnonzero(brain.rois["MT"][side]))
        nearest = decode(scene["hemispheres"][side]["nearest"], "<i4")
        voxels = np.isfinite(brain.values[side])
        np.testing.assert_array_equal(nearest[voxels], np.flatnonzero(voxels))
    assert scene["maps"][1]["limits"][0] == -scene["maps"][1]["limits"][1]
    assert [band["name"] for band in scene["maps"][2]["categories"]] == list(map(band_label, brain.bands))


def test_page_holds_the_surfaces(page):
    left = scene_of(page)["hemispheres"]["left"]
    from neurorecon.figures.mesh import load_mesh

    for name in ("inflated", "pial", "flat"):
        data = left["surfaces"][name]
        coordinates = decode(data["coordinates"], "<i2").reshape(-1, 3) * data["step"]
        mesh = load_mesh("fsaverage5", name, "left")
        np.testing.assert_allclose(coordinates, mesh.coordinates, atol=0.01)
        kept = 20480
        if data["faces"] is not None:
            kept = np.unpackbits(decode(data["faces"], "u1"), bitorder="little").sum()
        assert kept == len(mesh.faces)


def test_bad_maps_are_refused(brain):
    with pytest.raises(InputError, match="no map"):
        interactive({})
    with pytest.raises(UnknownNameError, match="joint"):
        interactive({"joint": brain.values}, options={"split": {}})
    with pytest.raises(UnknownNameError, match="vmax"):
        interactive({"joint": brain.values}, options={"joint": {"max": 1}})


@pytest.fixture
def small():
    figure = new_figure("single", 30)
    axes_mm(figure, 10, 3, 60, 20).plot([0, 1])
    return figure


def test_report_is_one_safe_file(tmp_path, small, page):
    Image.new("RGB", (8, 8)).save(tmp_path / "seen.png")
    sections = [
        Section("Maps", NASTY, [Figure(small, NASTY), Figure(small, "as vectors", format="svg"), small]),
        Section(NASTY, ["One.", "Two."], [Figure(tmp_path / "seen.png", "A file.")]),
        Section("Numbers", "", [Table(["roi", "R²"], [["MT", 0.4], [NASTY, -0.1]], NASTY), Page(page, "Turn it.")]),
    ]
    path = report(tmp_path / "out" / "report.html", NASTY, sections, RECORD, lead=NASTY)
    html = path.read_text(encoding="utf-8")
    elements = check_offline(html)
    assert elements.count("img") == 4
    assert elements.count("iframe") == 1
    assert elements.count("table") == 1
    assert elements.count("b") == 4 + 1
    assert "Simulated data" in html
    assert "−0.100" in html
    assert "Figure 4." in html
    assert read_provenance(path) == RECORD
    frame = next(attributes for tag, attributes in elements.found if tag == "iframe")
    assert frame["sandbox"] == "allow-scripts"
    assert frame["srcdoc"] == page
    addresses = [attributes["src"] for tag, attributes in elements.found if tag == "img"]
    assert addresses[0].startswith("data:image/png;base64,iVBOR")
    assert b"<svg" in base64.b64decode(addresses[1].split(",")[1])


def test_report_without_pages_runs_no_script_and_measured_data_are_not_called_simulated(tmp_path, small):
    path = report(tmp_path / "r.html", "T", [Section("A", "b", [small])], {**RECORD, "simulated": False})
    html = path.read_text(encoding="utf-8")
    check_offline(html)
    assert "script-src" not in html
    assert "Simulated data" not in html


def test_same_report_same_bytes(tmp_path, small):
    sections = [Section("A", "b", [small, Figure(small, format="svg")])]
    first, second = (report(tmp_path / name, "T", sections, RECORD).read_bytes() for name in ("a.html", "b.html"))
    assert first == second


def test_what_a_report_cannot_hold_is_refused(tmp_path, small):
    with pytest.raises(InputError, match="cannot be embedded"):
        report(tmp_path / "r.html", "T", [Section("A", "", ["text"])], {})
    with pytest.raises(MissingFileError, match="does not exist"):
        report(tmp_path / "r.html", "T", [Section("A", "", [Figure(tmp_path / "none.png")])], {})
    with pytest.raises(InputError, match="not supported in reports"):
        report(tmp_path / "r.html", "T", [Section("A", "", [Figure(small, format="gif")])], {})
    assert not (tmp_path / "r.html").exists()


def test_tables_line_up():
    frame = pd.DataFrame({"roi": ["V1", "MT"], "n": [210, 37], "R²": [0.1234, -0.5], "p": [0.0002, 0.04]})
    table = Table.from_frame(frame, "Scores", {"n": "d"})
    assert table.cells == [["V1", "210", "0.123", "0.0002"], ["MT", "37", "−0.500", "0.04"]]
    lines = table.to_text().splitlines()
    assert lines[0] == "Scores"
    assert len({len(line) for line in lines[1:]}) == 1
    assert table.numeric == [False, True, True, True]
    assert Table(["a", "b"], [[None, True], [float("nan"), False]]).cells == [["", "yes"], ["", "no"]]


def test_bad_tables_are_refused():
    with pytest.raises(InputError, match="wrong number of cells"):
        Table(["a", "b"], [[1]])
    with pytest.raises(UnknownNameError, match="column"):
        Table(["a"], [[1]], formats={"b": ".2f"})


def test_every_public_name_is_there_and_not_a_module():
    for name in figures.__all__:
        assert type(getattr(figures, name)).__name__ != "module"
    with pytest.raises(AttributeError, match="nothing_here"):
        _ = figures.nothing_here


def test_importing_figures_is_quick_and_light():
    code = "import sys, neurorecon.figures; print([m for m in ('matplotlib', 'nilearn', 'pandas') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_json_in_a_page_cannot_end_its_script():
    record = {"x": f"<!-- <script> {NASTY} \u2028"}
    text = str(script_json(json.dumps(record, ensure_ascii=False)))
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == record
