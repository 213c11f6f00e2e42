"""Category target: how much of each category a stimulus shows."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from neurorecon.errors import InputError
from neurorecon.features.base import Extractor, Needs, StimulusBatch

#: Prefix of the labels that hold how much of a category a stimulus shows.
_PREFIX = "category:"


class CategoryExtractor(Extractor):
    """Categories, from the labels of the data set if it has any, else from the table of stimuli.

    Labels named ``category:...`` are interpreted as shares of the image, and the features are their square roots:
    responses of ventral visual areas grow much less than proportionally with the size of an object (compressive
    spatial summation, Kay et al., 2013, J. Neurophysiol.). Binary labels (0 or 1) do not change. Without labels, the
    features are one-hot: one column per category of the store, 1 for stimuli of that category.
    """

    name: ClassVar[str] = "category"
    needs: ClassVar[Needs] = "categories"

    def __call__(self, batch: StimulusBatch) -> np.ndarray:
        """Return the target of a batch, float32, shape (stimulus, feature)."""
        columns = _columns(batch)
        if batch.labels is not None and columns:
            return np.sqrt(np.clip(batch.labels[columns].to_numpy(dtype=np.float32), 0.0, None))
        if not self.categories:
            raise InputError(
                "the stimuli of this store have no categories",
                given="neither labels named 'category:...' nor categories in the table of stimuli",
                expected="one of them",
                todo="omit the target 'category', or add categories to the data set",
            )
        names = batch.table["category"].astype(str).to_numpy()
        return (names[:, None] == np.asarray(self.categories, dtype=str)[None]).astype(np.float32)

    def made_by(self) -> dict[str, Any]:
        """Return how the target is computed."""
        return {
            "model": "categories of the data set",
            "preprocessing": "square root of the visible share of the picture, or 1 for the category's members",
            "source": "annotations",
        }

    def feature_names(self, batch: StimulusBatch) -> list[str]:
        """Return the names of the categories."""
        return [name.removeprefix(_PREFIX) for name in _columns(batch)] or list(self.categories)


def _columns(batch: StimulusBatch) -> list[str]:
    if batch.labels is None:
        return []
    return [str(name) for name in batch.labels.columns if str(name).startswith(_PREFIX)]
