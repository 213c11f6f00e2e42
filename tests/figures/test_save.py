import io
import re
import zlib
from xml.etree import ElementTree

import matplotlib
import pytest
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from PIL import Image

from neurorecon.errors import InputError, MissingFileError, UnknownNameError
from neurorecon.figures import journal_style, read_provenance, save_figure
from neurorecon.figures.style import axes_mm, is_tagged, new_figure, text_mm, width_mm, wrap_mm

RECORD = {"command": "neurorecon maps --note 'a (b) \\ c é R² <&>'", "seed": 1, "simulated": False}


def drawing():
    with journal_style():
        figure = new_figure("single", 40)
        axes = axes_mm(figure, 12, 5, 60, 25)
        axes.plot([0, 1, 2], [0.1, -0.3, 0.2])
        axes.scatter([0, 1], [0, 0.1])
        axes.set_xlabel("Split R²")
    return figure


@pytest.fixture
def files(tmp_path):
    return save_figure(drawing(), tmp_path / "sub" / "map.v1", RECORD)


def test_files_open_and_say_how_they_were_made(files):
    assert [path.name for path in files] == ["map.v1.png", "map.v1.svg", "map.v1.pdf"]
    with Image.open(files[0]) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.size[0] == pytest.approx(89 / 25.4 * 300, abs=1)
    assert ElementTree.parse(files[1]).getroot().tag.endswith("svg")
    assert files[2].read_bytes().startswith(b"%PDF")
    for path in files:
        assert read_provenance(path) == RECORD
    assert sorted(path.name for path in files[0].parent.iterdir()) == sorted(path.name for path in files)


def test_same_figure_same_bytes(files, tmp_path, monkeypatch):
    # Another moment and other settings of the caller make no difference.
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "12345678")
    with matplotlib.rc_context({"svg.hashsalt": None, "pdf.fonttype": 3, "savefig.dpi": 50}):
        again = save_figure(drawing(), tmp_path / "again", RECORD)
    for first, second in zip(files, again, strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_fonts_in_the_pdf_are_whole_truetype(files):
    content = files[2].read_bytes()
    assert b"/Subtype /Type3" not in content
    assert b"/FontFile2" in content
    assert re.search(rb"/Subtype /(TrueType|CIDFontType2)", content)
    drawn = b"".join(
        zlib.decompress(part)
        for part in re.findall(rb"stream\n(.*?)\nendstream", content, re.DOTALL)
        if part[:1] == b"x"
    )
    assert b"Tf" in drawn, "text is drawn as outlines"


def test_files_carry_no_time_and_no_path(files):
    svg, pdf = files[1].read_text(), files[2].read_bytes()
    assert "<dc:date>" not in svg
    assert b"CreationDate" not in pdf
    assert b"/home" not in pdf


def test_simulated_data_cannot_be_saved_without_saying_so(tmp_path):
    figure = drawing()
    save_figure(figure, tmp_path / "x", {**RECORD, "simulated": True}, ("png",))
    assert is_tagged(figure)
    save_figure(figure, tmp_path / "x", {**RECORD, "simulated": True}, ("png",))
    assert [text.get_text() for text in figure.texts].count("simulated data") == 1


@pytest.mark.parametrize(("left", "aligned"), [(1.5, "left"), (37.5, "center")])
def test_a_long_title_leaves_room_for_it(tmp_path, left, aligned):
    figure = Figure(figsize=(75 / 25.4, 1))  # any canvas
    text_mm(figure, left, 1.2, "Variance explained by CLIP in each ROI of sub01", fontsize=8, ha=aligned)
    save_figure(figure, tmp_path / "x", {**RECORD, "simulated": True}, ("png",))
    renderer = RendererAgg(*figure.bbox.size, figure.dpi)
    title, tag = (text.get_window_extent(renderer) for text in figure.texts)
    assert 0 < title.x0 < title.x1 < tag.x0


def test_a_failed_drawing_leaves_the_old_file(files, monkeypatch):
    before = files[0].read_bytes()

    def broken(*arguments, **options):
        raise RuntimeError("no space")

    figure = drawing()
    monkeypatch.setattr(figure, "savefig", broken)
    with pytest.raises(RuntimeError, match="no space"):
        save_figure(figure, files[0].with_suffix(""), RECORD, ("png",))
    assert files[0].read_bytes() == before


def test_bad_requests_are_refused(files, tmp_path):
    with pytest.raises(UnknownNameError, match="svg"):
        save_figure(drawing(), tmp_path / "x", RECORD, ("png", "tiff"))
    with pytest.raises(MissingFileError):
        read_provenance(tmp_path / "none.png")
    with pytest.raises(UnknownNameError, match="double"):
        width_mm("wide")
    with pytest.raises(InputError, match="width is out of range"):
        width_mm(1000)


def test_a_foreign_file_says_that_it_has_no_record(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    (tmp_path / "foreign.png").write_bytes(buffer.getvalue())
    (tmp_path / "foreign.pdf").write_bytes(b"%PDF-1.4 nothing")
    for name in ("foreign.png", "foreign.pdf"):
        with pytest.raises(InputError, match="no provenance record"):
            read_provenance(tmp_path / name)


def test_style_leaves_no_traces():
    before = dict(matplotlib.rcParams)
    with journal_style():
        assert matplotlib.rcParams["pdf.fonttype"] == 42
        assert matplotlib.rcParams["font.size"] == 7
    assert dict(matplotlib.rcParams) == before


def test_fonts_are_there(caplog):
    with journal_style():
        drawing().canvas.draw()
    assert "findfont" not in caplog.text


def test_wrapped_text_keeps_its_words():
    figure = new_figure("single", 30)
    text = "one two three four five six seven eight nine ten"
    wrapped = wrap_mm(figure, text, 15, 7)
    assert wrapped.split() == text.split()
    assert "\n" in wrapped
