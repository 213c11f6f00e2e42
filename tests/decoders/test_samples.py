"""Recordings are centered and scaled as the store does it, whichever of its samples are read."""

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.decoders.samples import Recordings
from neurorecon.errors import UnknownNameError
from neurorecon.features.own import add_target
from neurorecon.store.responses import choose_centering

SESSIONS, FEATURES, VOXELS = 6, 3, 25


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Sessions of 40 trials that show different stimuli, ten of them for testing, with large offsets and gains."""
    generator = np.random.default_rng(0)
    shown = [f"s{number:03d}" for number in range(SESSIONS * 40)]
    session = np.repeat(np.arange(SESSIONS), 40)
    features = generator.standard_normal((len(shown), FEATURES)).astype(np.float32)
    responses = features @ generator.standard_normal((FEATURES, VOXELS)) + generator.standard_normal((240, VOXELS))
    responses *= np.linspace(0.5, 2, SESSIONS)[session, None]
    responses += 30 * generator.standard_normal((SESSIONS, VOXELS))[session]
    samples = {"stimulus": shown, "session": session + 1, "split": np.where(np.arange(240) % 4 == 0, "test", "train")}
    path = tmp_path_factory.mktemp("sessions") / "sessions.icechunk"
    built = nr.build_from_arrays(path, responses.astype(np.float32), samples, progress=False)
    return add_target(built, "mine", features, stimuli=shown, made_by={"model": "random", "source": "a test"})


def _task(store):
    return store.tasks("subj01")[0]


def _decoded(store, **options):
    """Return the correlation of decoded features of the last session with the true ones, trained on the others."""
    samples = store.samples("subj01")
    rows = {held: np.flatnonzero((samples["session"] == SESSIONS) == held) for held in (False, True)}
    train, test = (
        Recordings.read(store, "subj01", task=_task(store), rows=rows[held], **options) for held in (False, True)
    )
    decoder = nr.RidgeDecoder(alpha=[0.1, 1.0, 10.0, 100.0]).fit(
        train.responses, train.target("mine").values, groups=train.stimuli
    )
    predicted, seen = decoder.predict(test.responses), test.target("mine").values
    return decoder.score(test.responses, seen), np.mean(
        [np.corrcoef(predicted[:, column], seen[:, column])[0, 1] for column in range(FEATURES)]
    )


def test_another_session_is_decoded_once_responses_are_centered(store):
    assert _decoded(store)[0] < 0  # offsets of a session that was not trained on
    r2, correlation = _decoded(store, center="session", scale="session")
    assert r2 > 0.6
    assert correlation > 0.8
    assert _decoded(store, center="auto", scale="auto") == (r2, correlation)


def test_they_are_centered_over_all_samples_of_the_session(store):
    """So the rows that are read do not change how a row is centered, and both splits are treated alike."""
    samples, task = store.samples("subj01"), _task(store)
    raw = store.responses("subj01").values.astype(float)
    for session in range(1, SESSIONS + 1):
        rows = samples["session"] == session
        raw[rows] = (raw[rows] - raw[rows].mean(axis=0)) / raw[rows].std(axis=0)
    options = {"task": task, "center": "session", "scale": "session"}
    np.testing.assert_allclose(Recordings.read(store, "subj01", **options).responses, raw, atol=1e-4)
    some = np.array([3, 50, 100])
    np.testing.assert_allclose(Recordings.read(store, "subj01", rows=some, **options).responses, raw[some], atol=1e-4)
    test = Recordings.read(store, "subj01", split="test", **options)
    np.testing.assert_allclose(test.responses, raw[(samples["split"] == "test").to_numpy()], atol=1e-4)


def test_as_they_were_recorded_unless_asked(store):
    found = Recordings.read(store, "subj01", task=_task(store))
    np.testing.assert_array_equal(found.responses, store.responses("subj01").values)
    with pytest.raises(UnknownNameError, match="column to center or scale within"):
        Recordings.read(store, "subj01", task=_task(store), center="stimulus")


def test_what_is_chosen_and_why(store, tmp_path):
    task = _task(store)
    found = choose_centering(store, "subj01", task)
    assert (found.center, found.scale, found.warnings) == ("session", "session", ())
    assert found.reason == "sessions are confounded: 240 of 240 stimuli were shown in one session only"
    none = choose_centering(store, "subj01", task, None, None)
    assert (none.center, none.scale) == (None, None)
    assert none.reason.startswith("asked for; sessions are confounded: ")
    assert "responses are not centered" in none.warnings[0]
    runs = choose_centering(store, "subj01", task, "run", None)
    assert (runs.center, runs.scale, runs.warnings) == ("run", None, ())
    # A session of one sample has no mean but the sample itself.
    names = [f"s{number}" for number in range(9)]
    samples = {"stimulus": names, "session": [1, *[2] * 4, *[3] * 4], "split": ["train"] * 7 + ["test"] * 2}
    responses = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    few = nr.build_from_arrays(tmp_path / "few.icechunk", responses, samples, progress=False)
    alone = choose_centering(few, "subj01", _task(few))
    assert (alone.center, alone.scale) == (None, None)
    assert "1 of them hold one sample" in alone.warnings[0]
