"""Samples, the stimuli they show and the labels that are left out, checked for cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from neurorecon.errors import InputError
from neurorecon.systems.linear_pixels import check_samples


@dataclass(frozen=True)
class Design:
    """Samples and the stimuli they belong to, checked."""

    responses: np.ndarray  # (sample, voxel), float64
    images: np.ndarray  # (sample, y, x, rgb), float64
    labels: np.ndarray  # (sample,), as str
    fold_names: list[str]
    stimuli: np.ndarray  # (stimulus,), as str
    stimulus_of_sample: np.ndarray  # (sample,)
    seen: np.ndarray  # (stimulus, y, x, rgb), float64

    @classmethod
    def of(cls, responses: Any, images: Any, labels: Any, stimuli: Any) -> Design:
        """Return the design of samples as :func:`neurorecon.systems.cross_validation.cross_validate` is given them."""
        responses, images = check_samples(responses, images)
        labels = np.asarray(labels).astype(str)
        names = labels if stimuli is None else np.asarray(stimuli).astype(str)
        for what, found in (("labels", labels), ("stimuli", names)):
            if found.shape != (len(responses),):
                raise InputError(
                    f"{what} do not match the samples",
                    given=f"shape {found.shape}",
                    expected=f"({len(responses)},), one a sample",
                    todo="take them from the same selection of samples",
                )
        unique, first, index = np.unique(names, return_index=True, return_inverse=True)
        order = np.argsort(first)  # in order of appearance
        design = cls(
            responses,
            images,
            labels,
            list(dict.fromkeys(labels.tolist())),
            unique[order],
            np.argsort(order)[index],
            images[first[order]],
        )
        if len(design.fold_names) < 3:
            raise InputError(
                "leaving one label out needs others to learn from",
                given=f"{len(design.fold_names)} labels",
                expected="three or more: one to test, two to choose alpha by",
                todo="cross-validate by another column",
            )
        design.by_stimulus(labels, "labels")
        if not np.array_equal(design.seen[design.stimulus_of_sample], images):
            raise InputError(
                "a stimulus has more than one image",
                given="samples of one stimulus with different images",
                expected="one image for each stimulus",
                todo="pass stimuli=, the stimulus of each sample, beside the labels",
            )
        return design

    def by_stimulus(self, values: Any, what: str) -> np.ndarray:
        """Return the one value that each stimulus has, shape (stimulus,)."""
        values = np.asarray(values)
        first = np.array([np.argmax(self.stimulus_of_sample == index) for index in range(len(self.stimuli))])
        found = values[first]
        if values.shape != self.stimulus_of_sample.shape or (found[self.stimulus_of_sample] != values).any():
            raise InputError(
                f"a stimulus has more than one value in {what}",
                given="different values in samples of one stimulus",
                expected="one value for each stimulus",
                todo="use a column that depends on the stimulus alone",
            )
        return found


def mean_by(samples: np.ndarray, index: np.ndarray, n: int) -> np.ndarray:
    """Average samples that have the same index."""
    return np.stack([samples[index == number].mean(axis=0) for number in range(n)])
