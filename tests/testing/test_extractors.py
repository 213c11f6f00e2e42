"""The contract suite passes extractors that keep the contract, and names what is wrong with the others."""

from __future__ import annotations

import random

import numpy as np
import pytest

from neurorecon.features.base import Extractor
from neurorecon.features.category import CategoryExtractor
from neurorecon.features.gabor import GaborExtractor
from neurorecon.features.motion import MotionExtractor
from neurorecon.testing import ContractError, Examples, check_extractor, extractor_checks


class Good(Extractor):
    """The mean color, times a factor."""

    name = "good"
    needs = "images"

    def __init__(self, categories=None, *, factor=2.0):
        super().__init__(categories)
        self.factor = factor

    def __call__(self, batch):
        return np.float32(self.factor) * batch.images.mean(axis=(1, 2)).astype(np.float32)

    def made_by(self):
        return {"model": "mean", "preprocessing": "none", "source": "a test", "factor": self.factor}

    def feature_names(self, batch):
        return ["red", "green", "blue"]


class NotJson(Good):
    def made_by(self):
        return {**super().made_by(), "grid": (1, 2)}


class Silent(Good):
    def made_by(self):
        return {"model": "mean", "preprocessing": "none", "source": "a test"}


class Nameless(Good):
    def made_by(self):
        return {"model": "mean", "factor": self.factor}


class Drifting(Good):
    calls = 0

    def __call__(self, batch):
        self.calls += 1
        return super().__call__(batch)

    def made_by(self):
        return {**super().made_by(), "calls": self.calls}


class Noisy(Good):
    def __call__(self, batch):
        return super().__call__(batch) + np.random.default_rng().random((1, 3)).astype(np.float32)


class Centered(Good):
    def __call__(self, batch):
        values = super().__call__(batch)
        return values - values.mean(axis=0) + values / 9


class Double(Good):
    def __call__(self, batch):
        return super().__call__(batch).astype(np.float64)


class Infinite(Good):
    def __call__(self, batch):
        return super().__call__(batch) * np.float32(np.inf)


class Constant(Good):
    def __call__(self, batch):
        return np.ones((len(batch.images), 3), dtype=np.float32)


class Few(Good):
    def __call__(self, batch):
        return super().__call__(batch)[:1]


class Overwriting(Good):
    """Reads a list of videos, whose arrays are handed on as they are, and blackens them."""

    def transform(self, stimuli, **settings):
        values = super().transform(stimuli, **settings)
        stimuli[0][...] = 0
        return values


class Keeping(Good):
    kept = np.empty((5, 3), dtype=np.float32)

    def transform(self, stimuli, **settings):
        self.kept[...] = super().transform(stimuli, **settings)
        return self.kept


class Seeding(Good):
    def __call__(self, batch):
        random.seed(0)
        return super().__call__(batch)


class Threading(Good):
    def __call__(self, batch):
        import torch

        torch.manual_seed(1)
        return super().__call__(batch)


class Stuck(Good):
    def __getstate__(self):
        raise TypeError("cannot be pickled")


class Misnamed(Good):
    name = "Good One"


class Unnamed(Good):
    def feature_names(self, batch):
        return ["red", "red", "blue"]


class Tokens(Good):
    dims = ("token", "channel")


class Hungry(Good):
    needs = "pictures"


def test_ours_and_a_good_one_pass():
    names = check_extractor(Good(), others=[Good(factor=3.0)])
    assert names == [str(check) for check in extractor_checks()]
    assert "batches" in names
    check_extractor(GaborExtractor(), examples=Examples(images=Examples().images[:3]))
    check_extractor(MotionExtractor(), examples=Examples(videos=Examples().videos[:3]))
    check_extractor(CategoryExtractor(categories=["animal", "person", "tool"]))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (NotJson(), "made_by: made_by has to survive a round trip through JSON"),
        (Nameless(), "made_by: made_by has to have 'preprocessing'"),
        (Drifting(), "made_by: made_by has to be the same before and after"),
        (Noisy(), "determinism: A target has to be the same, bit for bit"),
        (Centered(), "batches: A target may not depend on the batch size"),
        (Double(), "values: A target has to be float32, but is float64"),
        (Infinite(), "values: A target has to hold finite numbers"),
        (Constant(), "values: A target has to differ between different stimuli"),
        (Few(), "values: A target has to have the shape"),
        (Overwriting(), "inputs_stay: An extractor may not write into its input"),
        (Keeping(), "inputs_stay: A target has to be an array of its own"),
        (Seeding(), "global_state: An extractor may not change the random numbers of Python"),
        (Threading(), "global_state: An extractor may not change the random numbers of torch"),
        (Stuck(), "pickle: the extractor raised TypeError: cannot be pickled"),
        (Misnamed(), "class: name has to be a lower-case identifier"),
        (Unnamed(), "dims: feature_names has to return 3 different strings"),
        (Tokens(), "dims: dims has to be None or 1 different names"),
        (Hungry(), "class: needs has to be one of images"),
        (object(), "class: An extractor has to be an instance"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_one_is_told_what_is_wrong(broken, said):
    with pytest.raises(ContractError) as caught:
        check_extractor(broken)
    assert said in str(caught.value)
    assert "does not keep the contract" in str(caught.value).splitlines()[0]


def test_settings_that_are_not_said():
    with pytest.raises(ContractError, match="settings: made_by has to differ"):
        check_extractor(Silent(), others=[Silent(factor=3.0)])


@pytest.mark.parametrize("check", extractor_checks(), ids=str)
def test_checks_can_be_run_one_by_one(check):
    check(Good(), others=[Good(factor=1.0)])
