"""Events as people write them: quotes, missing onsets of buttons, events outside the run, several files of one run."""

from __future__ import annotations

import csv
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurorecon.datasets.bids.reader import BidsReader
from neurorecon.datasets.bids.runs import read_events, shown
from neurorecon.errors import InputError, MissingFileError, NeuroreconWarning

FUNC = "sub-01/ses-01/func"
EVENTS = f"{FUNC}/sub-01_ses-01_task-shapes_run-1_events.tsv"
BOLD = f"derivatives/fmriprep/{FUNC}/sub-01_ses-01_task-shapes_run-1_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold"
REST = ["rest"]


def _edit(root, change):
    """Change the events of a run, which pandas reads without any quoting."""
    table = pd.read_csv(root / EVENTS, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)
    table = change(table)
    lines = ["\t".join(table.columns), *("\t".join(row) for row in table.to_numpy())]
    (root / EVENTS).write_text("\n".join(lines) + "\n")
    return table


def _more(table, **values):
    row = dict.fromkeys(table.columns, "n/a") | values
    return pd.concat([table, pd.DataFrame([row])], ignore_index=True)


def _counts(root, **options):
    data = BidsReader(root, BidsReader.Options(subjects=["01"], **options)).subject("sub-01")
    return data.samples["split"].value_counts().to_dict(), data


def test_an_unclosed_quote_loses_no_trial(small, own):
    expected, _ = _counts(small)
    notes = ['"hello', *(["", "fine", 'he said "no"', '"']) * 10]
    table = _edit(own, lambda table: table.assign(note=notes[: len(table)]))
    found, data = _counts(own)
    assert found == expected
    shown = table[table["trial_type"] != "rest"]
    assert data.samples["note"][: len(shown)].tolist() == shown["note"].tolist()


@pytest.mark.parametrize(
    ("onset", "duration"),
    [("n/a", "0"), ("12", "n/a"), ("-8", "8"), ("152", "1")],
)
def test_events_that_are_no_stimuli_may_lie_anywhere(small, own, onset, duration):
    expected, before = _counts(small)
    _edit(own, lambda table: _more(table, onset=onset, duration=duration, trial_type="button"))
    _edit(own, lambda table: _more(table, onset="-8", duration="n/a", trial_type="rest"))
    found, data = _counts(own)
    assert found == expected
    assert data.report["events that are no stimuli, left out"].startswith("1, ")
    pd.testing.assert_frame_equal(data.samples, before.samples)


def test_a_button_press_within_the_run_is_counted(own):
    _edit(own, lambda table: _more(table, onset="12.5", duration="0", trial_type="button"))
    assert _counts(own)[1].report["events that are no stimuli"] == "1 button"


@pytest.mark.parametrize("onset", ["152", "-1"])
def test_a_stimulus_outside_the_run_is_left_out_and_counted(small, own, onset):
    _, before = _counts(small)
    table = _edit(own, lambda table: table.assign(onset=[*table["onset"][:-1], onset]))
    _, data = _counts(own)
    assert data.report["presentations outside the runs, left out"].startswith("1, ")
    assert len(data.samples) == len(before.samples) - 1
    assert table["stim_file"].iloc[-1] not in data.samples["stimulus"][:17].tolist()


@pytest.mark.parametrize("name", ["onset", "duration"])
def test_a_stimulus_without_onset_or_duration_is_refused(own, name):
    _edit(
        own, lambda table: table.assign(**{name: ["n/a" if row == 4 else old for row, old in enumerate(table[name])]})
    )
    with pytest.raises(InputError, match=rf"invalid {name}(.|\n)*row 5 \(line 6\), which shows a stimulus"):
        BidsReader(own)


@pytest.mark.parametrize(
    ("entity", "values"),
    [("part", ("mag", "phase")), ("rec", ("magnitude", ""))],
)
def test_entities_nobody_asked_for_do_not_multiply_runs(small, own, entity, values):
    expected, _ = _counts(small)
    for path in list(own.glob(f"derivatives/fmriprep/sub-*/ses-*/func/*{BOLD[-12:]}.*")):
        for value in values:
            name = path.name.replace("_space-", f"_{entity}-{value}_space-" if value else "_space-")
            if name != path.name:
                shutil.copy(path, path.with_name(name))
        if "" not in values:
            path.unlink()
    with pytest.raises(InputError, match=f"several files of one run, which differ in '{entity}'") as caught:
        BidsReader(own)
    for value in values:
        assert (f"{entity}-{value}" if value else f"without {entity}") in str(caught.value)
    assert _counts(own, entities={entity: values[1]}, mask="all")[0] == expected
    both, _ = _counts(own, entities={entity: "*"}, mask="all")
    assert both == {split: 2 * number for split, number in expected.items()}


def test_runs_that_differ_in_direction_and_number_are_runs(small, own):
    expected, _ = _counts(small)
    for number, direction in (("1", "AP"), ("2", "PA")):
        for path in own.glob(f"derivatives/fmriprep/sub-*/ses-*/func/*_run-{number}_space*_bold.*"):
            path.rename(path.with_name(path.name.replace(f"_run-{number}", f"_dir-{direction}_run-{number}")))
    assert _counts(own, mask="all")[0] == expected


#: What is put in the place of a file, and what the message has to say.
BROKEN = {
    "annex": (lambda path: path.symlink_to("../../../.git/annex/objects/a/b"), "datalad get"),
    "loop": (lambda path: path.symlink_to(path.name), "in a circle"),
    "pipe": (lambda path: os.mkfifo(path), "a named pipe"),
    "empty": (lambda path: path.touch(), "an empty file"),
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("annex", EVENTS),
        ("pipe", EVENTS),
        ("annex", BOLD + ".nii.gz"),
        ("empty", BOLD + ".nii.gz"),
        ("loop", BOLD + ".json"),
        ("annex", "stimuli/circle/circle001.png"),
    ],
)
def test_files_that_are_not_there_are_named(own, kind, name):
    make, words = BROKEN[kind]
    (own / name).unlink()
    make(own / name)
    with pytest.raises(InputError, match=words) as caught:
        BidsReader(own, BidsReader.Options(subjects=["01"]))
    assert name.rpartition("/")[2] in str(caught.value)


def test_a_subject_that_is_a_link_to_nothing_is_not_left_out(own):
    shutil.rmtree(own / "derivatives/fmriprep/sub-02")
    (own / "derivatives/fmriprep/sub-02").symlink_to("../elsewhere/sub-02")
    with pytest.raises(MissingFileError, match="sub-02 is a link that leads nowhere"):
        BidsReader(own)


@pytest.mark.parametrize("name", ["sub-02", "sub-02/ses-01/func", ""])
def test_subjects_that_were_not_installed_are_not_left_out(own, name):
    folder = own / "derivatives/fmriprep" / name
    shutil.rmtree(folder)
    folder.mkdir()
    (own / ".gitmodules").touch()
    with pytest.raises(
        MissingFileError, match="an empty folder; a DataLad subdataset that was not installed"
    ) as caught:
        BidsReader(own)
    assert f"datalad get -n {folder}" in str(caught.value)
    if name:
        assert BidsReader(own, BidsReader.Options(subjects=["01"])).subjects == ["sub-01"]


@pytest.mark.parametrize("name", ["../../secret.png", "a/../../../secret.png"])
def test_events_cannot_name_files_elsewhere(own, name):
    _edit(own, lambda table: table.assign(stim_file=[*table["stim_file"][:-1], name]))
    with pytest.raises(InputError, match="lies outside of its folder"):
        BidsReader(own)


def test_stimuli_without_the_caption_of_their_table_are_reported(own):
    table = pd.read_csv(own / "stimuli/stimuli.tsv", sep="\t")
    table.iloc[2:].to_csv(own / "stimuli/stimuli.tsv", sep="\t", index=False)
    with pytest.warns(NeuroreconWarning, match="2 of 36 stimuli have no caption"):
        reader = BidsReader(own)
    assert "2 of 36 stimuli have no caption: circle/circle001.png" in reader.description.notes


TIME = st.one_of(
    st.floats(-20, 170, allow_nan=False).map("{:.3f}".format), st.sampled_from(["n/a", "", "inf", "soon", "1e3", "nan"])
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TIME, TIME, st.sampled_from(["cat", "dog", "rest", "n/a", "button"])), max_size=12))
def test_every_event_is_shown_left_out_and_counted_or_refused(tmp_path, rows):
    """Against the same rule in pandas: no event disappears without being counted."""
    path = tmp_path / "events.tsv"
    named = [(onset, duration, kind, kind if kind in ("cat", "dog") else "n/a") for onset, duration, kind in rows]
    table = pd.DataFrame(named, columns=["onset", "duration", "trial_type", "stim_file"])
    table.to_csv(path, sep="\t", index=False)
    onset, duration = (pd.to_numeric(table[name], errors="coerce").to_numpy(float) for name in ("onset", "duration"))
    stimulus, rest = table["stim_file"].ne("n/a").to_numpy(), table["trial_type"].eq("rest").to_numpy()
    valid = np.isfinite(onset) & np.isfinite(duration) & (duration >= 0)
    inside = np.isfinite(onset) & (onset >= 0) & (onset < 150)
    if table[["onset", "duration"]].isin(["soon"]).to_numpy().any():
        with pytest.raises(InputError, match=r"invalid (onset|duration)(.|\n)*'soon'"):
            read_events(path, 150.0)
        return
    events = read_events(path, 150.0)
    if (stimulus & ~valid).any() or (stimulus & ~inside).sum() > stimulus.sum() / 2:
        with pytest.raises(InputError, match=r"invalid onset|invalid duration|outside the run"):
            shown(events, "stim_file", "trial_type", REST)
        return
    found = shown(events, "stim_file", "trial_type", REST)
    expected = np.sort(onset[stimulus & inside])
    np.testing.assert_allclose(found.stimuli["onset"].to_numpy(float), expected)
    assert found.outside == (stimulus & ~inside).sum()
    other = ~stimulus & ~rest
    assert len(found.others) == (other & inside & valid).sum()
    assert len(found.others) + found.left_out + found.outside + len(found.stimuli) + rest.sum() == len(rows)


def test_volumes_without_values_are_named(own):
    import nibabel

    path = own / f"{BOLD}.nii.gz"
    image = nibabel.load(path)
    values = image.get_fdata()
    values[..., [7, 8]] = np.nan
    nibabel.Nifti1Image(values.astype(np.float32), image.affine, image.header).to_filename(path)
    with pytest.raises(InputError, match=r"2 volumes of sub-01(.|\n)*no finite value in volume 8, 9 of 76"):
        BidsReader(own, BidsReader.Options(subjects=["01"])).subject("sub-01")
