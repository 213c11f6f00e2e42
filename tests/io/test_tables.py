"""Tables are read as they are written, or refused with encoding and separator; pandas reads them a second time."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurorecon.errors import InputError, MissingFileError
from neurorecon.io.tables import as_table, as_text, is_missing, read_table, read_text_table


@pytest.fixture
def written(tmp_path):
    """Return what writes a file and returns its path."""

    def write(content, name="table.tsv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_an_unclosed_quote_in_a_tsv_swallows_no_row(written):
    table = read_table(written('onset\tnote\n1\t"hello\n2\tok\n3\tsays "no"\n4\t5" wide\n5\t"done"\n'))
    assert table.text("onset").tolist() == ["1", "2", "3", "4", "5"]
    assert table.text("note").tolist() == ['"hello', "ok", 'says "no"', '5" wide', "done"]


def test_quoted_cells_of_a_line_are_read_as_pandas_writes_them(written):
    frame = pd.DataFrame({"a": ['say "hi"', "x,y", "tab\there"], "b": ["1", '"', "é"]})
    for name, separator in (("t.csv", ","), ("t.tsv", "\t")):
        table = read_table(written(frame.to_csv(sep=separator, index=False), name))
        pd.testing.assert_frame_equal(table.frame, frame, check_dtype=False)


@pytest.mark.parametrize(
    ("content", "name", "said"),
    [
        ("id;size\ns1;0,5\ns2;1,5\n", "t.csv", ["separated by semicolons", "commas", "with a point"]),
        ("id\tsize\ns1\t1\n", "t.csv", ["separated by tabs", "commas"]),
        ("id,size\ns1,1\n", "t.tsv", ["separated by commas", "tabs", "rename it to .csv"]),
        ("id,size\ns1,Bär\n".encode("cp1252"), "t.csv", ["0xe4 in line 2", "Windows-1252", "'s1,Bär'", "UTF-8"]),
        ("id,size\ns1,1\n".encode("utf-16"), "t.csv", ["UTF-16", "UTF-8"]),
        ("id,size\ns1,1\n".encode("utf-16-le"), "t.csv", ["UTF-16", "UTF-8"]),
        ("id,size\ns1,0,5\n", "t.csv", ["3 cells in line 2, for 2 columns", "separated by commas", "a point"]),
        ("id\tsize\ns1\t1\n\ns2\n", "t.tsv", ["1 cells in line 4, for 2 columns", "separated by tabs"]),
        ('id,size\ns1,"a\ncat"\n', "t.csv", ["line 2", "closed on the same line"]),
        ("\n \n", "t.csv", ["only blank lines"]),
        ("", "t.csv", ["an empty file"]),
        ("id,id\n1,2\n", "t.csv", ["two columns 'id'"]),
        ("id,size\n", "t.csv", ["no rows"]),
    ],
)
def test_what_cannot_be_told_is_refused_with_its_reason(written, content, name, said):
    with pytest.raises(InputError) as caught:
        read_table(written(content, name))
    for words in (*said, name, "expected:", "to do:"):
        assert words in str(caught.value)
    assert "download" not in str(caught.value)


def test_a_table_without_rows_where_it_is_allowed(written):
    assert len(read_text_table(written("onset\tduration\n"), empty=True)) == 0


def test_line_ends_marks_and_trailing_separators(written):
    for end in ("\n", "\r\n", "\r"):
        content = b"\xef\xbb\xbf" + end.join(["a,b", " 1 , x ", "2,y,,", "", ""]).encode()
        table = read_table(written(content, "t.csv"))
        assert table.text("a").tolist() == ["1", "2"]
        assert table.text("b").tolist() == ["x", "y"]


def test_messages_name_the_line(written):
    table = read_table(written("session\n1\n\n2\nthree\n"))
    with pytest.raises(InputError, match=r"'three' in row 3 \(line 5\)"):
        table.integers("session", 1)
    with pytest.raises(InputError, match=r"decimals with a point"):
        read_table(written("time\n0,5\n")).numbers("time")


@pytest.mark.parametrize("value", [2**31, 2**40, -1, 1.5, np.inf, None])
def test_integers_that_a_store_cannot_keep_are_refused(value):
    with pytest.raises(InputError, match=r"2,147,483,647|0 or more"):
        as_table({"session": [1, value]}, "the samples").integers("session", 0)


MISSING = [
    None,
    np.nan,
    float("nan"),
    pd.NA,
    pd.NaT,
    np.datetime64("NaT"),
    np.ma.masked,
    "",
    " ",
    "n/a",
    "N/A",
    " n/a ",
]


@pytest.mark.parametrize("value", MISSING, ids=repr)
def test_what_is_missing(value):
    assert is_missing(value)
    column = pd.Series(["s1", value], dtype=object)
    assert as_text(column).tolist() == ["s1", ""]
    with pytest.raises(InputError, match="row 2"):
        as_table({"id": column}, "the stimuli").names("id")


@pytest.mark.parametrize("value", ["NA", "nan", "None", "null", "-", "?", "0", 0, False, "n / a"], ids=repr)
def test_what_is_not_missing(value):
    assert not is_missing(value)
    assert as_text(pd.Series([value], dtype=object)).tolist() == [str(value)]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.array([1, pd.NA, 3], dtype="Int64"), ["1", "", "3"]),
        (pd.array(["a", pd.NA], dtype="string"), ["a", ""]),
        (pd.array([True, pd.NA], dtype="boolean"), ["True", ""]),
        (pd.Categorical(["b", None, "a"]), ["b", "", "a"]),
        (np.array([1.0, np.nan, 2.5]), ["1", "", "2.5"]),
        (np.array([1, 258], dtype=">i4"), ["1", "258"]),
        (np.array([b"cat", b"n/a"]), ["cat", ""]),
    ],
)
def test_columns_of_every_type_become_text(column, expected):
    assert as_text(pd.Series(column)).tolist() == expected


def test_a_missing_table_is_missing(tmp_path):
    with pytest.raises(MissingFileError, match="is missing"):
        read_table(tmp_path / "t.csv")


#: Text of one line without anything that splits lines, and not blank at its ends.
CELL = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="\x85"), max_size=8).map(
    str.strip
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.tuples(CELL.filter(bool), CELL), min_size=1, max_size=8),
    separator=st.sampled_from([",", "\t"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_whatever_csv_writes_comes_back(tmp_path, rows, separator, quoting):
    """The csv module writes, and pandas reads, the same cells."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator, quoting=quoting, lineterminator="\n")
    writer.writerows([("key", "value"), *rows])
    path = tmp_path / ("t.csv" if separator == "," else "t.tsv")
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    found = read_table(path)
    assert list(map(tuple, found.frame.to_numpy())) == rows
    theirs = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, skip_blank_lines=True)
    assert [tuple(map(str.strip, row)) for row in theirs.to_numpy()] == rows


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(CELL.filter(bool), CELL.filter(lambda cell: not cell.endswith('"'))), min_size=1))
def test_no_row_of_a_tsv_is_ever_lost(tmp_path, rows):
    """As many rows as lines, whatever quotation marks are in them."""
    path = tmp_path / "t.tsv"
    path.write_text("".join("\t".join(row) + "\n" for row in [("key", "value"), *rows]), encoding="utf-8", newline="")
    found = read_table(path)
    assert len(found) == len(rows)
    quoted = [row for row in found.frame.to_numpy() if '"' in "".join(row)]
    plain = [row for row in found.frame.to_numpy() if '"' not in "".join(row)]
    assert len(quoted) + len(plain) == len(rows)
    theirs = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
    assert len(theirs) == len(rows)
