"""What the reader gives is what plain arithmetic gives: block averages, time series, betas, finite responses."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel, make_first_level_design_matrix

from neurorecon.errors import InputError
from neurorecon.testing.layouts.bids import REPETITION_TIME, START_TIME, VOLUMES, volume_mask

TIMES = START_TIME + REPETITION_TIME * np.arange(VOLUMES)
RAW = {"detrend": False, "standardize": "none"}


def _run(tree, number=1):
    """Return the values (volume, voxel) and the events of a run."""
    name = f"sub-01_ses-01_task-shapes_run-{number}"
    folder = tree / "derivatives/fmriprep/sub-01/ses-01/func"
    image = nibabel.load(folder / f"{name}_space-MNI152NLin2009cAsym_res-2_desc-preproc_bold.nii.gz")
    events = pd.read_csv(tree / f"sub-01/ses-01/func/{name}_events.tsv", sep="\t", na_values="n/a")
    confounds = pd.read_csv(folder / f"{name}_desc-confounds_timeseries.tsv", sep="\t", na_values="n/a")
    return image.get_fdata()[volume_mask()].T, events[events["trial_type"] != "rest"], confounds


def _read(reader):
    data = reader.subject("sub-01")
    return data, data.read_responses(0, len(data.samples))


def test_blocks_are_means_of_raw_volumes(tree, open_tree):
    data, found = _read(open_tree(lag=4.0, window=6.0, **RAW))
    values, events, _ = _run(tree)
    assert data.samples["stimulus"][: len(events)].tolist() == events["stim_file"].tolist()
    assert data.samples["time"][: len(events)].tolist() == events["onset"].tolist()
    for row, onset in enumerate(events["onset"]):
        inside = (onset + 4 <= TIMES) & (onset + 10 > TIMES)
        assert inside.sum() == 3
        np.testing.assert_allclose(found[row], values[inside].mean(axis=0), rtol=1e-6)


def test_further_columns_of_the_events_belong_to_the_samples(tree, open_tree):
    data = open_tree(**RAW).subject("sub-01")
    _, events, _ = _run(tree)
    first = data.samples[: len(events)]
    assert data.samples.columns[7:].tolist() == ["response_time", "response"]
    assert first["response_time"].tolist() == events["response_time"].tolist()
    assert first["response"].tolist() == events["response"].fillna("").tolist()
    assert "" in data.samples["response"].tolist()
    averaged = open_tree(samples="fir", stimulus_column="trial_type", split="none", runs=["1"], fir_seconds=18)
    assert len(averaged.subject("sub-01").samples.columns) == 7


def test_a_window_between_volumes_takes_the_nearest_one(tree, open_tree):
    _, found = _read(open_tree(lag=5.2, window=0.5, **RAW))
    values, events, _ = _run(tree)
    nearest = [np.abs(TIMES - onset - 5.45).argmin() for onset in events["onset"]]
    np.testing.assert_allclose(found[: len(events)], values[nearest], rtol=1e-6)


def test_blocks_after_cleaning_are_least_squares_residuals(tree, open_tree):
    _, found = _read(open_tree(confounds=["trans_?", "trans_x_derivative1"], standardize="psc", lag=5.0))
    values, events, confounds = _run(tree)
    columns = confounds[["trans_x", "trans_y", "trans_z", "trans_x_derivative1"]].bfill().to_numpy()
    design = np.column_stack([np.ones(VOLUMES), np.arange(VOLUMES), columns])
    residual = values - design @ np.linalg.lstsq(design, values, rcond=None)[0]
    wanted = 100 * residual / values.mean(axis=0)
    for row, onset in enumerate(events["onset"]):
        inside = (onset + 5 <= TIMES) & (onset + 7 > TIMES)
        np.testing.assert_allclose(found[row], wanted[inside].mean(axis=0), atol=1e-4)


def test_volumes_are_a_time_series_of_what_is_shown(tree, open_tree):
    data, found = _read(open_tree(samples="volume", **RAW))
    values, events, _ = _run(tree)
    assert data.repetition_time == {"shapes": REPETITION_TIME}
    first = data.samples[data.samples["run"] == 1]
    volumes = np.round(first["time"] / REPETITION_TIME).astype(int)
    np.testing.assert_allclose(found[: len(first)], values[volumes], rtol=1e-6)
    for volume, stimulus in zip(volumes, first["stimulus"], strict=True):
        shown = events[(events["onset"] <= TIMES[volume]) & (events["onset"] + events["duration"] > TIMES[volume])]
        assert shown["stim_file"].tolist() == [stimulus]


def _model(tree, separate, **options):
    """Return single-trial betas by nilearn's own path: a first-level model on the images."""
    _, events, _ = _run(tree)
    folder = tree / "derivatives/fmriprep/sub-01/ses-01/func"
    stem = "sub-01_ses-01_task-shapes_run-1_space-MNI152NLin2009cAsym_res-2_desc"
    mask = nibabel.load(folder / f"{stem}-brain_mask.nii.gz")
    names = [f"trial{number:02d}" for number in range(len(events))]
    found = []
    for number, name in enumerate(names if separate else ["all"]):
        types = [trial if trial == name else "others" for trial in names] if separate else names
        model = FirstLevelModel(
            t_r=REPETITION_TIME,
            slice_time_ref=START_TIME / REPETITION_TIME,
            mask_img=mask,
            signal_scaling=False,
            minimize_memory=True,
            **options,
        )
        table = events[["onset", "duration"]].assign(trial_type=types)
        model.fit(folder / f"{stem}-preproc_bold.nii.gz", events=table)
        for trial in [names[number]] if separate else names:
            effect = model.compute_contrast(trial, output_type="effect_size")
            found.append(effect.get_fdata()[volume_mask()])
    return np.array(found)


@pytest.mark.filterwarnings("ignore:.*Generation of a mask:RuntimeWarning")
@pytest.mark.parametrize("least_squares", ["all", "separate"])
def test_betas_are_those_of_nilearns_first_level_model(tree, open_tree, least_squares):
    data, found = _read(
        open_tree(samples="glm", least_squares=least_squares, high_pass=0.01, runs=["1"], standardize="none")
    )
    wanted = _model(
        tree, least_squares == "separate", hrf_model="glover", noise_model="ols", drift_model="cosine", high_pass=0.01
    )
    assert found.shape == wanted.shape == (len(data.samples), 96)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_betas_are_least_squares_estimates(tree, open_tree):
    _, found = _read(open_tree(samples="glm", least_squares="all", runs=["1"], confounds=["rot_?"], standardize="none"))
    values, events, confounds = _run(tree)
    names = [f"trial{number:02d}" for number in range(len(events))]
    design = make_first_level_design_matrix(
        TIMES, events[["onset", "duration"]].assign(trial_type=names), drift_model=None
    )[names].to_numpy()
    nuisance = np.column_stack([np.ones(VOLUMES), np.arange(VOLUMES), confounds[["rot_x", "rot_y", "rot_z"]]])
    wanted = np.linalg.lstsq(np.hstack([design, nuisance]), values, rcond=None)[0][: len(events)]
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)


def test_finite_responses_are_found_without_knowing_their_shape(tree, open_tree):
    """Images of a shape share a response; that of the miniature is known."""
    reader = open_tree(
        samples="fir", stimulus_column="trial_type", split="none", runs=["1"], standardize="none", fir_seconds=18
    )
    data, found = _read(reader)
    values, events, _ = _run(tree)
    assert sorted(data.samples["stimulus"]) == sorted(events["trial_type"].unique())
    assert reader.image_shape() is None
    # Onsets lie half-way between volumes: delays are 1 s before, 1 s after, 3 s after ... the onset.
    columns = []
    for name in data.samples["stimulus"]:
        onsets = events["onset"][events["trial_type"] == name].to_numpy()
        for delay in range(9):
            columns.append(np.isclose(TIMES[:, None], onsets - 1.0 + delay * REPETITION_TIME).sum(axis=1))
    design = np.column_stack([*columns, np.ones(VOLUMES), np.arange(VOLUMES)])
    estimates = np.linalg.lstsq(design, values, rcond=None)[0][: len(columns)].reshape(len(data.samples), 9, -1)
    # From 5 s after the onset on for 2 s: the volume at 5 s alone.
    np.testing.assert_allclose(found, estimates[:, 3], rtol=0.05, atol=0.5)
    assert np.corrcoef(found.ravel(), estimates[:, 3].ravel())[0, 1] > 0.999


def test_ar_noise_is_nilearns(open_tree):
    _, white = _read(open_tree(samples="glm", runs=["1"]))
    _, colored = _read(open_tree(samples="glm", runs=["1"], noise_model="ar1"))
    assert 0.9 < np.corrcoef(white.ravel(), colored.ravel())[0, 1] < 1


def test_a_design_that_cannot_be_solved_is_refused(open_tree):
    with pytest.raises(InputError, match="cannot be told apart"):
        open_tree(samples="fir")
    with pytest.raises(InputError, match=r'cannot be told apart(.|\n)*least_squares = "separate"'):
        open_tree(samples="glm", least_squares="all", confounds=["*"], high_pass=0.1)


def test_scrubbed_volumes_are_left_out(tree, open_tree):
    strategy = {"strategy": ["motion", "scrub"], "motion": "basic", "fd_threshold": 0.15, "scrub": 0}
    reader = open_tree(confounds=strategy, samples="volume")
    assert "volumes scrubbed" in reader.subject("sub-01").report
    whole = open_tree(samples="volume").subject("sub-01")
    assert len(reader.subject("sub-01").samples) < len(whole.samples)
    assert np.isfinite(_read(open_tree(confounds=strategy, samples="glm"))[1]).all()
