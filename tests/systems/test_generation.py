"""Images are generated in parts, which continue an interrupted run and are never mixed with those of other settings."""

import numpy as np
import pytest
import xarray

import neurorecon as nr
from neurorecon.parallel import Compute
from neurorecon.systems.base import as_images, noise_like
from neurorecon.systems.generation import PART, generate_parts, networks_of


class Counting(nr.System):
    """Generates noise, and counts how many images it was asked for at a time."""

    name = "counting"

    def __init__(self, level=0.5, batch_size=1):
        self.level = level
        self.batch_size = batch_size

    def generate(self, decoded, *, seed=0):
        self.asked = [*getattr(self, "asked", []), len(decoded.stimuli)]
        noise = np.stack([noise_like((4, 4, 3), seed, str(name)) for name in decoded.stimuli])
        return as_images(self.level + 0.1 * noise + decoded["code"].values[:, :, None, None], decoded.stimuli)


@pytest.fixture
def decoded():
    codes = np.linspace(0, 0.1, 2 * PART + 3)[:, None].repeat(4, axis=1)
    names = [f"image{number}" for number in range(len(codes))]
    return nr.Decoded({"code": xarray.DataArray(codes, dims=("stimulus", "y"), coords={"stimulus": names})})


def test_parts_equal_one_call(decoded):
    system = Counting()
    found = generate_parts(system, decoded, (3, 5))
    assert system.asked == 2 * [PART, PART, 3]
    for place, seed in enumerate((3, 5)):
        np.testing.assert_array_equal(found[:, place], system.generate(decoded, seed=seed).values)
    large = Counting(batch_size=2 * PART)
    np.testing.assert_array_equal(generate_parts(large, decoded, (3, 5)), found)
    assert large.asked == 2 * [2 * PART, 3]


def test_what_is_there_is_not_generated_again(decoded, tmp_path):
    system, compute = Counting(), Compute(folder=tmp_path)
    found = generate_parts(system, decoded, (0,), compute)
    (folder,) = (path for path in tmp_path.iterdir())
    (folder / f"seed0_{PART:06d}.safetensors").unlink()
    system.asked = []
    np.testing.assert_array_equal(generate_parts(system, decoded, (0, 1), compute)[:, 0], found[:, 0])
    assert system.asked == [PART, PART, PART, 3]


@pytest.mark.parametrize("other", ["level", "decoded", "stimuli", "training"])
def test_parts_of_other_settings_are_not_taken(decoded, tmp_path, other):
    compute = Compute(folder=tmp_path)
    generate_parts(Counting(), decoded, (0,), compute)
    system = Counting(level=0.4) if other == "level" else Counting()
    if other == "decoded":
        decoded = decoded.with_(code=decoded["code"].values + 0.01)
    elif other == "stimuli":
        decoded = decoded.take(np.arange(3))
    elif other == "training":
        decoded = nr.Decoded(dict(decoded), training={"code": (np.zeros(4), np.ones(4))})
    found = generate_parts(system, decoded, (0,), compute)
    assert sum(system.asked) == len(decoded.stimuli)
    np.testing.assert_array_equal(found[:, 0], system.generate(decoded, seed=0).values)


def test_a_damaged_part_is_generated_again(decoded, tmp_path, caplog):
    caplog.set_level("WARNING", logger="neurorecon")
    compute = Compute(folder=tmp_path)
    found = generate_parts(Counting(), decoded, (0,), compute)
    part = next(tmp_path.rglob("seed0_000000.safetensors"))
    part.write_bytes(part.read_bytes()[:-10])
    system = Counting()
    np.testing.assert_array_equal(generate_parts(system, decoded, (0,), compute), found)
    assert system.asked == [PART]
    assert "damaged" in caplog.text


def test_the_weights_of_networks_are_known():
    class WithNetwork(Counting):
        name = "with-network"
        networks = ("autoencoder",)

    found = networks_of(WithNetwork())["autoencoder"]
    assert found["weights"] == "bundled-autoencoder"
    assert found["weights_origin"] == "bundled"
    assert len(found["weights_sha256"]) == 64
