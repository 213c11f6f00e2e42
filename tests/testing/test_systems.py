"""The contract suite finds what is wrong with systems that do not keep the contract."""

import numpy as np
import pytest

from neurorecon.decoders import RidgeDecoder
from neurorecon.systems.base import System, TargetSpec, as_images, noise_like
from neurorecon.systems.linear_pixels import LinearPixels
from neurorecon.testing import ContractError, check_system, system_checks
from neurorecon.testing.systems import _simulated_store

CHECKS = {str(check): check for check in system_checks()}


class Good(System):
    """Two targets: images, which may be missing, and Gabor energy, which is not used but for the noise."""

    name = "good"

    def __init__(self, alpha=1000.0, strength=0.1):
        self.alpha = alpha
        self.strength = strength

    @property
    def targets(self):
        ridge = RidgeDecoder(self.alpha)
        return {"images": TargetSpec("images", ridge, required=True), "gabor": TargetSpec("gabor", ridge, roi="early")}

    def generate(self, decoded, *, seed=0):
        images = decoded["images"].values
        gabor = decoded.get("gabor")
        strength = self.strength if gabor is None else self.strength * np.tanh(abs(gabor.values).mean())
        noise = np.stack([noise_like(images.shape[1:], seed, stimulus) for stimulus in decoded.stimuli])
        return as_images(images + self.strength * noise + 0 * strength, decoded.stimuli)


class ChangesItsParameter(Good):
    name = "changes-its-parameter"

    def __init__(self, alpha=1000.0, strength=0.1):
        self.alpha = alpha * 1.0001
        self.strength = strength


class HasNoName(Good):
    name = ""


class DecodesUnfitted(Good):
    name = "decodes-unfitted"

    def decode(self, responses, *, standardized=False):
        return super().decode(responses, standardized=standardized) if hasattr(self, "decoders_") else None


class HasNoSuchTarget(Good):
    name = "has-no-such-target"

    @property
    def targets(self):
        return {**super().targets, "smell": TargetSpec("smell", RidgeDecoder(1.0))}


class ReturnsNothing(Good):
    name = "returns-nothing"

    def fit(self, *arguments, **options):
        super().fit(*arguments, **options)


class IgnoresSamples(Good):
    name = "ignores-samples"

    def fit(self, store, subject, roi=None, *, samples=None, **options):
        return super().fit(store, subject, roi, **options)


class IgnoresStimuli(Good):
    name = "ignores-stimuli"

    def fit(self, store, subject, roi=None, *, stimuli=None, **options):
        return super().fit(store, subject, roi, **options)


class DecodesInOtherUnits(Good):
    name = "other-units"

    def decode(self, responses, *, standardized=False):
        found = super().decode(responses, standardized=standardized)
        return found.with_(images=found["images"].values * 255)


class DecodesWithNoise(Good):
    name = "decodes-with-noise"

    def decode(self, responses, *, standardized=False):
        found = super().decode(responses, standardized=standardized)
        return found.with_(images=found["images"].values + np.random.default_rng().random(found["images"].shape) / 99)


class MixesStimuli(Good):
    name = "mixes-stimuli"

    def decode(self, responses, *, standardized=False):
        found = super().decode(responses, standardized=standardized)
        images = found["images"].values
        return found.with_(images=images - images.mean(axis=0) + 0.5)


class IgnoresStandardized(Good):
    name = "ignores-standardized"

    def decode(self, responses, *, standardized=False):
        return super().decode(responses)


class DecodesOthers(Good):
    name = "decodes-others"

    def decode(self, responses, *, standardized=False):
        found = super().decode(responses, standardized=standardized)
        order = np.roll(np.arange(len(found.stimuli)), 1)
        return found.permute("images", order).permute("gabor", order)


class TakesAnyVoxels(Good):
    name = "any-voxels"

    def decode(self, responses, *, standardized=False):
        values = np.nan_to_num(getattr(responses, "values", responses))
        values = np.resize(values, (len(values), len(self.mean_)))
        return super().decode(values, standardized=standardized)


class Overshoots(Good):
    name = "overshoots"

    def generate(self, decoded, *, seed=0):
        return super().generate(decoded, seed=seed) * 1.5


class ForgetsStimuli(Good):
    name = "forgets-stimuli"

    def generate(self, decoded, *, seed=0):
        return super().generate(decoded, seed=seed).drop_vars("stimulus")


class NeedsWhatIsOptional(Good):
    name = "needs-optional"

    def generate(self, decoded, *, seed=0):
        assert decoded["gabor"] is not None
        return super().generate(decoded, seed=seed)


class DoesWithoutWhatIsRequired(Good):
    name = "without-required"

    def generate(self, decoded, *, seed=0):
        if "images" not in decoded:
            return as_images(np.zeros((len(decoded.stimuli), 64, 64, 3)), decoded.stimuli)
        return super().generate(decoded, seed=seed)


class DrawsForTheBatch(Good):
    name = "draws-for-the-batch"

    def generate(self, decoded, *, seed=0):
        images = decoded["images"].values
        return as_images(images + 0.1 * np.random.default_rng(seed).standard_normal(images.shape), decoded.stimuli)


class DrawsWithoutSeed(Good):
    name = "draws-without-seed"

    def generate(self, decoded, *, seed=0):
        return super().generate(decoded, seed=int(np.random.default_rng().integers(2**31)))


class SeedsTheProcess(Good):
    name = "seeds-the-process"

    def generate(self, decoded, *, seed=0):
        np.random.seed(seed)  # noqa: NPY002
        return super().generate(decoded, seed=seed)


class WritesIntoDecoded(Good):
    name = "writes-into-decoded"

    def generate(self, decoded, *, seed=0):
        found = super().generate(decoded, seed=seed)
        decoded["images"].values[0] += 0.5
        return found


class ForgetsWhatWasSaved(Good):
    name = "forgets-what-was-saved"

    def _load(self, folder, description, arrays):
        found = super()._load(folder, description, arrays)
        found.mean_ = found.mean_ + 0.1
        return found


class NeverResumes(Good):
    name = "never-resumes"

    def fit(self, *arguments, folder=None, **options):
        super().fit(*arguments, **options)
        if folder is not None:
            self.save(folder)
        return self


BROKEN = {
    ChangesItsParameter: "parameters",
    HasNoName: "parameters",
    DecodesUnfitted: "unfitted",
    HasNoSuchTarget: "targets",
    ReturnsNothing: "fit",
    IgnoresSamples: "training_samples",
    IgnoresStimuli: "training_samples",
    DecodesInOtherUnits: "decode",
    DecodesWithNoise: "decode",
    MixesStimuli: "subset",
    IgnoresStandardized: "standardized",
    DecodesOthers: "learns",
    TakesAnyVoxels: "foreign_voxels",
    Overshoots: "images",
    ForgetsStimuli: "images",
    NeedsWhatIsOptional: "missing_targets",
    DoesWithoutWhatIsRequired: "missing_targets",
    DrawsForTheBatch: "seed",
    DrawsWithoutSeed: "seed",
    SeedsTheProcess: "global_state",
    WritesIntoDecoded: "inputs_stay",
    ForgetsWhatWasSaved: "save",
    NeverResumes: "resume",
}


@pytest.fixture(scope="module")
def store():
    return _simulated_store(("gabor",), False)


def test_ours_keep_the_contract():
    assert check_system(LinearPixels((100.0, 1000.0), cv=3)) == list(CHECKS)


@pytest.mark.parametrize("check", system_checks(), ids=str)
def test_a_system_of_two_targets_keeps_it(store, check):
    check(Good(), store)


@pytest.mark.parametrize("kind", BROKEN, ids=lambda kind: kind.__name__)
def test_broken_systems_are_found(store, kind):
    with pytest.raises(Exception) as error:  # noqa: PT011  (what a broken system raises itself is passed through)
        CHECKS[BROKEN[kind]](kind(), store)
    assert isinstance(error.value, ContractError | ValueError | RuntimeError | KeyError), error.value


def test_all_failures_are_told_at_once(store):
    with pytest.raises(ContractError) as error:
        check_system(Overshoots(), store)
    lines = str(error.value).splitlines()
    assert lines[0] == "the system overshoots does not keep the contract"
    assert lines[1].startswith("images: Images have to lie in [0, 1]")


class AllOptional(Good):
    """Gray where nothing was decoded."""

    name = "all-optional"

    @property
    def targets(self):
        ridge = RidgeDecoder(self.alpha)
        return {"images": TargetSpec("images", ridge), "gabor": TargetSpec("gabor", ridge)}

    def generate(self, decoded, *, seed=0):
        images = decoded.get("images")
        shape = (len(decoded.stimuli), 64, 64, 3)
        return as_images(np.full(shape, 0.5) if images is None else images.values, decoded.stimuli)


class RefusesToBeUnconditional(AllOptional):
    name = "refuses-to-be-unconditional"

    def generate(self, decoded, *, seed=0):
        assert len(decoded)
        return super().generate(decoded, seed=seed)


def test_unconditional_generation(store):
    CHECKS["missing_targets"](AllOptional(), store)
    with pytest.raises(ContractError, match="has to work without images, gabor"):
        CHECKS["missing_targets"](RefusesToBeUnconditional(), store)


class LinearFrames(System):
    name = "linear-middle-frames"
    kinds = ("video",)

    def __init__(self, alpha=1000.0):
        self.alpha = alpha

    @property
    def targets(self):
        return {"frames": TargetSpec("frames", RidgeDecoder(self.alpha), required=True)}

    def generate(self, decoded, *, seed=0):
        return as_images(decoded["frames"].values, decoded.stimuli)


@pytest.mark.parametrize("name", ["fit", "training_samples", "decode", "images", "seed", "resume"])
def test_a_system_of_videos_keeps_it(name):
    CHECKS[name](LinearFrames())
