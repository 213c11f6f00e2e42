"""Whatever is wrong with tables and headers shows when the reader opens, in one message that names the file."""

import gzip
import json
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest

from neurorecon.datasets.bids.reader import BidsReader
from neurorecon.errors import InputError

NAME = "sub-01_ses-01_task-shapes_run-2"
FUNC = "derivatives/fmriprep/sub-01/ses-01/func"
BOLD = f"{FUNC}/{NAME}_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold"
EVENTS = f"sub-01/ses-01/func/{NAME}_events.tsv"
CONFOUNDS = f"{FUNC}/{NAME}_desc-confounds_timeseries.tsv"

#: More confounds than a run can bear.
NOISE = pd.DataFrame(np.random.default_rng(0).random((76, 60))).add_prefix("noise")


def table(path):
    """Change a table in place."""

    def change(root, edit):
        frame = pd.read_csv(root / path, sep="\t", na_values="n/a")
        edit(frame).to_csv(root / path, sep="\t", index=False, na_rep="n/a")

    return change


def _events(edit):
    return lambda root: table(EVENTS)(root, edit)


def _confounds(edit):
    return lambda root: table(CONFOUNDS)(root, edit)


def _set(frame, row, column, value):
    frame[column] = frame[column].astype(object)
    frame.loc[row, column] = value
    return frame


def _cut(path, share=0.5):
    def change(root):
        data = (root / path).read_bytes()
        (root / path).write_bytes(data[: int(len(data) * share)])

    return change


def _remove(path):
    return lambda root: (root / path).unlink()


def _image(edit, path=BOLD + ".nii.gz"):
    def change(root):
        image = nibabel.load(root / path)
        edit(np.asarray(image.dataobj), image.affine.copy(), image.header).to_filename(root / path)

    return change


def _sidecars(values):
    def change(root):
        for path in root.rglob("*_bold.json"):
            path.write_text(json.dumps(values))

    return change


def _without_time(root):
    _sidecars({})(root)
    for path in root.rglob("*_desc-preproc_bold.nii.gz"):
        image = nibabel.load(path)
        image.header.set_zooms((2, 2, 2, 0))
        image.to_filename(path)


def _volumes_apart(data, affine, header):
    header.set_zooms((2, 2, 2, 0.8))
    return nibabel.Nifti1Image(data, affine, header)


def _second_pipeline(root):
    shutil.copytree(root / "derivatives/fmriprep", root / "derivatives/other")


def _moved(data, affine, header):
    affine[0, 3] += 2
    return nibabel.Nifti1Image(data, affine)


#: What is done to the data set, the options, what the message has to say.
OPENING = [
    (None, {"subjects": ["09"]}, ["unknown subject '09'", "01, 02"]),
    (None, {"tasks": ["shape"]}, ["unknown task 'shape'", "did you mean 'shapes'?"]),
    (None, {"sessions": ["02"]}, ["unknown session '02'"]),
    (None, {"runs": ["3"]}, ["unknown run '3'"]),
    (None, {"space": "fsaverage5"}, ["unknown space", "MNI152NLin2009cAsym res-2 (volume)"]),
    (None, {"resolution": "1"}, ["unknown space", "resolution = '1'"]),
    (None, {"entities": {"acq": "fast"}}, ["no run matches the option entities", "acq-fast"]),
    (None, {"confounds": ["trans_w"]}, ["unknown confound", "did you mean 'trans_"]),
    (None, {"confounds": {"strategy": ["motion", "aroma"]}}, ["nilearn cannot load these confounds", "aroma"]),
    (None, {"confounds": {"strategy": ["compcor", "high_pass"]}}, ["nilearn cannot load these confounds"]),
    (None, {"events": "nowhere"}, ["folder of the events does not exist", "nowhere"]),
    (None, {"stimuli": "nowhere"}, ["stimuli are missing", "nowhere"]),
    (None, {"captions": "none.tsv"}, ["none.tsv is missing"]),
    (None, {"stimulus_column": "image"}, ["unknown column of", "image", "stim_file"]),
    (None, {"split": {"column": "phase"}}, ["unknown column of the events 'phase'"]),
    (None, {"stimulus_column": "trial_type", "split": {"runs": ["2"]}}, ["stimuli are in more than one split"]),
    (None, {"split": {"runs": ["9"]}}, ["unknown run '9'"]),
    (None, {"split": {"stimuli": ["cat*"]}}, ["unknown stimulus 'cat*'"]),
    (None, {"rest": ["*"]}, ["no event of sub-01 shows a stimulus"]),
    (_remove(EVENTS), {}, ["the events of", NAME]),
    (_events(lambda frame: frame.drop(columns="onset")), {}, [f"{NAME}_events.tsv lacks onset"]),
    (_events(lambda frame: frame.drop(columns="duration")), {}, ["lacks duration"]),
    (_events(lambda frame: _set(frame, 3, "onset", "soon")), {}, ["invalid onset", "'soon' in row 4"]),
    (_events(lambda frame: _set(frame, 3, "duration", -2)), {}, ["invalid duration", "'-2' in row 4"]),
    (_events(lambda frame: _set(frame, 3, "duration", None)), {}, ["invalid duration"]),
    (_events(lambda frame: frame.assign(onset=frame["onset"] * 1000)), {}, ["events outside the run", "in seconds"]),
    (_events(lambda frame: frame.assign(onset=frame["onset"] - 140)), {}, ["events outside the run", "0 to 152 s"]),
    (_events(lambda frame: _set(frame, 3, "split", None)), {}, ["does not contain the split of every stimulus"]),
    (_events(lambda frame: _set(frame, 3, "stim_file", "dog.png")), {}, ["1 of", "stimuli are missing", "dog.png"]),
    (lambda root: (root / EVENTS).write_text("onset,duration\n1,2\n"), {}, ["another separator", "by commas", "tabs"]),
    (lambda root: (root / EVENTS).write_text("start\tend\n1\t2\n"), {}, ["lacks onset and duration"]),
    (lambda root: (root / EVENTS).write_text(""), {}, [f"{NAME}_events.tsv cannot be read"]),
    (lambda root: (root / EVENTS).write_bytes(b"\xff\xfe\x00bad"), {}, [f"{NAME}_events.tsv cannot be read"]),
    (_remove(CONFOUNDS), {"confounds": ["trans_x"]}, ["the confounds of", NAME]),
    (_confounds(lambda frame: frame[:-3]), {"confounds": ["trans_x"]}, ["does not match the run", "73 rows for 76"]),
    (
        _confounds(lambda frame: _set(frame, 40, "trans_x", None)),
        {"confounds": ["trans_?"]},
        ["have gaps", "'trans_x' is missing in row 41"],
    ),
    (
        _confounds(lambda frame: pd.concat([frame, NOISE], axis=1)),
        {"confounds": ["*"]},
        ["too many confounds"],
    ),
    (_cut(BOLD + ".nii.gz", 0.002), {}, [f"{NAME}_space", "cannot be read"]),
    (
        _image(lambda data, affine, header: nibabel.Nifti1Image(data[..., 0], affine)),
        {},
        ["is not a time series", "(8, 7, 6)"],
    ),
    (_image(_moved), {}, ["is on a different grid", "run-1"]),
    (
        _image(lambda data, affine, header: nibabel.Nifti1Image(data.transpose(1, 0, 2, 3), affine)),
        {},
        ["is on a different grid", "(7, 8, 6)"],
    ),
    (_image(_volumes_apart), {}, ["contradict each other", "2 s in the sidecar, 0.8 s in the header"]),
    (_without_time, {}, ["the repetition time of", "is unknown", "repetition_time"]),
    (_sidecars({"RepetitionTime": "2 s"}), {}, ["invalid RepetitionTime", "'2 s'"]),
    (lambda root: (root / f"{BOLD}.json").write_text("{"), {}, [f"{NAME}_space", "cannot be read", "JSON"]),
    (_second_pipeline, {}, ["derivatives of several pipelines", "fmriprep, other"]),
    (lambda root: shutil.rmtree(root / "derivatives"), {}, ["no preprocessed runs below"]),
    (lambda root: shutil.rmtree(root / "stimuli"), {}, ["stimuli are missing", 'stimuli = "none"']),
    (_cut("stimuli/circle/circle001.png", 0.1), {}, ["circle001.png cannot be read as an image"]),
    (
        lambda root: (root / "stimuli/stimuli.tsv").write_text("name\tcaption\na\tb\n"),
        {},
        ["stimuli.tsv has no column that identifies the stimuli"],
    ),
]

#: Likewise, for what shows when values are read, still before anything is written.
READING = [
    (_cut(BOLD + ".nii.gz", 0.6), {}, [f"{NAME}_space", "cannot be read", "copy or download"]),
    (_remove(BOLD.replace("preproc_bold", "brain_mask") + ".nii.gz"), {}, ["the brain mask of", NAME]),
    (_image(_moved, BOLD.replace("preproc_bold", "brain_mask") + ".nii.gz"), {}, ["brain_mask", "a different grid"]),
    (
        _image(
            lambda data, affine, header: nibabel.Nifti1Image(data * 0, affine),
            BOLD.replace("preproc_bold", "brain_mask") + ".nii.gz",
        ),
        {},
        ["the mask of sub-01 is empty"],
    ),
    (_image(lambda data, affine, header: nibabel.Nifti1Image(data * 0, affine, header)), {}, ["no voxel of sub-01"]),
    (None, {"mask": "rois"}, ['mask = "rois" requires ROIs']),
    (None, {"mask": "mask.nii.gz"}, ["mask.nii.gz is missing"]),
]


def _name(value):
    return value[0][:40] if isinstance(value, list) else ""


@pytest.mark.parametrize(("change", "options", "said"), OPENING, ids=_name)
def test_what_is_wrong_shows_on_opening(small, own, change, options, said):
    if change is not None:
        change(own)
    with pytest.raises(InputError) as error:
        BidsReader(own if change is not None else small, BidsReader.Options(**options))
    for words in said:
        assert words in str(error.value)
    assert "expected:" in str(error.value)


@pytest.mark.parametrize(("change", "options", "said"), READING, ids=_name)
def test_what_is_wrong_shows_before_anything_is_written(own, change, options, said):
    if change is not None:
        change(own)
    reader = BidsReader(own, BidsReader.Options(**options))
    with pytest.raises(InputError) as error:
        reader.subject("sub-01")
    for words in said:
        assert words in str(error.value)


def test_options_that_contradict_each_other():
    with pytest.raises(ValueError, match="at most one of"):
        BidsReader.Options(split={"runs": ["1"], "column": "phase"})
    with pytest.raises(ValueError, match="frames_per"):
        BidsReader.Options(frames_per=2)


def test_a_cut_surface_and_a_cut_dtseries(tree, tmp_path):
    root = shutil.copytree(tree, tmp_path / "bids")
    _cut(f"{FUNC}/{NAME}_hemi-R_space-fsaverage5_bold.func.gii")(root)
    with pytest.raises(InputError, match=r"hemi-R(.|\n)*cannot be read"):
        BidsReader(root, BidsReader.Options(kind="surface"))
    _cut(f"{FUNC}/{NAME}_space-fsLR_den-91k_bold.dtseries.nii")(root)
    with pytest.raises(InputError, match=r"dtseries(.|\n)*cannot be read"):
        BidsReader(root, BidsReader.Options(kind="grayordinates")).subject("sub-01")


def test_a_file_compressed_in_another_way(own):
    """A name that says gzip and content that is not."""
    path = own / f"{BOLD}.nii.gz"
    path.write_bytes(gzip.decompress(path.read_bytes())[:400])
    with pytest.raises(InputError, match="cannot be read"):
        BidsReader(own)
