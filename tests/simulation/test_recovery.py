"""Whether a plain analysis finds in the simulated responses what was planted: cross-validated ridge, no noise."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from neurorecon.features.base import StimulusBatch
from neurorecon.features.category import CategoryExtractor
from neurorecon.features.gabor import GaborExtractor
from neurorecon.features.motion import MotionExtractor
from neurorecon.simulation.cortex import build_cortex
from neurorecon.simulation.reader import ScenesReader
from neurorecon.simulation.voxels import ForwardModel

IMAGES, VIDEOS = 128, 56


@pytest.fixture(scope="module")
def scores() -> dict[tuple[str, str], dict[str, float]]:
    """Mean cross-validated correlation, by task and ROI, then by target."""
    options = ScenesReader.Options(
        train_images=IMAGES, test_images=0, train_videos=VIDEOS, test_videos=0, voxels=400, seed=1
    )
    reader = ScenesReader(None, options)
    stimuli = reader._stimuli
    videos = range(IMAGES, IMAGES + VIDEOS)
    model = ForwardModel(1, 1, build_cortex(1, 1, 400), stimuli, range(IMAGES), videos)
    batch = StimulusBatch(
        reader.stimuli(), reader.labels(), reader.read_images(0, IMAGES + VIDEOS), reader.read_frames(0, VIDEOS), 4.0
    )
    targets = {"gabor": GaborExtractor()(batch), "category": CategoryExtractor()(batch)}
    result: dict[tuple[str, str], dict[str, float]] = {}
    for task, numbers in (("images", range(IMAGES)), ("videos", videos)):
        signals = np.stack([model.signal(number, task) for number in numbers])
        used = {name: values[numbers.start : numbers.stop] for name, values in targets.items()}
        if task == "videos":
            used["motion"] = MotionExtractor()(batch)
        for roi in ("V1", "MT", "FFA", "PPA"):
            inside = model.roi == roi
            result[task, roi] = {name: _score(values, signals[:, inside]) for name, values in used.items()}
    return result


def _score(features: np.ndarray, signals: np.ndarray) -> float:
    ridge = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(0, 5, 6)))
    predicted = cross_val_predict(ridge, features, signals, cv=KFold(6))
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, signals.T, strict=True)]))


@pytest.mark.parametrize(
    ("task", "roi", "planted"),
    [
        ("images", "V1", "gabor"),
        ("images", "FFA", "category"),
        ("images", "PPA", "category"),
        ("videos", "MT", "motion"),
    ],
)
def test_the_planted_target_predicts_best(
    scores: dict[tuple[str, str], dict[str, float]], task: str, roi: str, planted: str
) -> None:
    found = scores[task, roi]
    others = [score for name, score in found.items() if name != planted]
    assert found[planted] > 0.4, found
    assert found[planted] > max(others) + 0.08, found
