"""The category target."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from neurorecon.errors import InputError
from neurorecon.features.base import StimulusBatch
from neurorecon.features.category import CategoryExtractor

TABLE = pd.DataFrame({"id": ["a", "b", "c"], "category": ["tool", "face", "tool"]})


def test_labels_come_first() -> None:
    labels = pd.DataFrame({"category:face": [0, 0.25, 0], "layout:indoor": [1, 1, 1], "category:tool": [1, 0, 0.04]})
    batch = StimulusBatch(TABLE, labels=labels)
    extractor = CategoryExtractor(categories=["face", "tool"])
    np.testing.assert_allclose(extractor(batch), [[0, 1], [0.5, 0], [0, 0.2]], atol=1e-6)
    assert extractor(batch).dtype == np.float32
    assert extractor.feature_names(batch) == ["face", "tool"]


@pytest.mark.parametrize("labels", [None, pd.DataFrame({"layout:indoor": [0.0, 1.0, 1.0]})])
def test_without_labels_one_column_a_category_of_the_store(labels: pd.DataFrame | None) -> None:
    batch = StimulusBatch(TABLE, labels=labels)
    extractor = CategoryExtractor(categories=["animal", "face", "tool"])
    np.testing.assert_array_equal(extractor(batch), [[0, 0, 1], [0, 1, 0], [0, 0, 1]])
    assert extractor.feature_names(batch) == ["animal", "face", "tool"]


def test_stimuli_without_categories_are_refused() -> None:
    with pytest.raises(InputError, match="no categories"):
        CategoryExtractor()(StimulusBatch(TABLE))
