"""Hemodynamics against nilearn's, noise against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from nilearn.glm.first_level import spm_hrf

from neurorecon.simulation.voxels import (
    autoregressive,
    canonical_hrf,
    clip_response,
    convolve,
    run_noise,
    shared_patterns,
    slow_drift,
)


def test_the_response_to_an_impulse_is_spms() -> None:
    theirs = spm_hrf(1.0, oversampling=100, time_length=32.0)
    times = np.arange(len(theirs)) * 32.0 / (len(theirs) - 1)
    ours = canonical_hrf(times)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9999
    assert times[ours.argmax()] == pytest.approx(times[theirs.argmax()], abs=0.1)


def test_the_response_to_a_clip_peaks_five_to_seven_seconds_after_its_onset() -> None:
    response = clip_response(2.0)
    middle = (np.arange(len(response)) + 0.5) * 2.0
    assert 5.0 <= middle[response.argmax()] <= 7.0
    assert response[0] < 0.05 * response.max()  # nothing yet in the volume of the clip itself
    assert (response**2).sum() == pytest.approx(1)


def test_the_response_to_a_clip_agrees_with_a_fine_convolution_of_spms() -> None:
    step = 0.05
    hrf = spm_hrf(step, oversampling=1, time_length=32.0)
    boxcar = np.zeros(len(hrf) * 2)
    boxcar[: round(2 / step)] = 1
    fine = np.convolve(boxcar, hrf)[: round(32 / step)]
    expected = fine.reshape(16, -1).mean(axis=1)
    expected /= np.sqrt((expected**2).sum())
    np.testing.assert_allclose(clip_response(2.0), expected, atol=0.02)


def test_convolution_is_causal_and_starts_from_nothing() -> None:
    activity = np.zeros((12, 2))
    activity[3, 0] = 1.0
    response = np.array([0.5, 1.0, -0.25])
    expected = np.zeros((12, 2))
    expected[3:6, 0] = response
    np.testing.assert_allclose(convolve(activity, response), expected)


@pytest.mark.parametrize("coefficient", [0.0, 0.15, 0.35, 0.8])
def test_the_autoregressive_coefficient_is_found_again(coefficient: float) -> None:
    noise = autoregressive(np.random.default_rng(0), 80, 4000, coefficient)
    assert (noise**2).mean() == pytest.approx(1.0, abs=0.03)  # from the first sample on
    assert (noise[0] ** 2).mean() == pytest.approx(1.0, abs=0.08)
    found = (noise[1:] * noise[:-1]).sum() / (noise[:-1] ** 2).sum()
    assert found == pytest.approx(coefficient, abs=0.02)


def test_drift_is_slow_and_has_variance_one() -> None:
    drift = slow_drift(np.random.default_rng(0), 75, 4000)
    assert (drift**2).mean() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(drift.mean(axis=0), 0, atol=1e-8)
    power = (np.abs(np.fft.rfft(drift, axis=0)) ** 2).mean(axis=1)
    assert power[1:4].sum() > 0.85 * power.sum()


def test_neighbors_share_noise_and_distant_voxels_do_less() -> None:
    random = np.random.default_rng(0)
    here = random.uniform(-50, 50, (400, 3))
    patterns = shared_patterns(random, np.concatenate([here, here + 3.0]))
    np.testing.assert_allclose((patterns**2).sum(axis=0), 1)
    near = (patterns[:, :400] * patterns[:, 400:]).sum(axis=0)
    far = (patterns[:, :400] * np.roll(patterns[:, 400:], 200, axis=1)).sum(axis=0)
    assert near.mean() > 0.9
    assert far.mean() < 0.5


def test_the_noise_of_a_run_has_variance_one_and_the_shared_part_asked_for() -> None:
    patterns = np.ones((1, 300))
    parts = [
        run_noise(np.random.default_rng(n), 60, patterns, shared=0.3, drift=0.1, coefficient=0.2) for n in range(40)
    ]
    assert np.mean([part.var() + part.mean() ** 2 for part in parts]) == pytest.approx(1.0, abs=0.05)
    shared = np.mean([part.mean(axis=1).var() for part in parts])
    assert shared == pytest.approx(0.3, abs=0.06)
