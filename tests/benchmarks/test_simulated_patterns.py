"""How often maps of decoders find patterns in noise, by design: the rows of docs/validation.md.

``pytest -m benchmark -s tests/benchmarks/test_simulated_patterns.py`` prints the table.
``NEURORECON_SIMULATED_REPEATS`` (200): experiments of each design.
"""

import importlib.util
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.benchmark

REPEATS = int(os.environ.get("NEURORECON_SIMULATED_REPEATS", "200"))


@pytest.fixture(scope="module")
def simulated():
    """Return the small simulation, which is part of every run of the tests."""
    path = Path(__file__).parents[1] / "stats" / "test_simulated_patterns.py"
    spec = importlib.util.spec_from_file_location("tests.stats.test_simulated_patterns", path)
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_false_positive_rates(simulated):
    design = simulated.Design
    smooth = {"rho": 0.9, "sigma": 5}
    designs = {
        "white noise, 4 x 60": design(4, 60),
        "AR(.9) noise, random order, 4 x 60": design(4, 60, rho=0.9),
        "AR(.9), fixed order, 4 x 120": design(4, 120, **smooth),
        "AR(.9), fixed order, 4 x 60": design(4, 60, **smooth),
        "AR(.9), fixed order, 4 x 30": design(4, 30, **smooth),
        "AR(.9), fixed order, 10 x 60": design(10, 60, **smooth),
        "AR(.9), fixed order, 1 x 120": design(1, 120, **smooth),
        "AR(.9) + white, fixed order, 4 x 60": design(4, 60, white=1.0, **smooth),
        "sessions with offsets, 8 x 20": design(8, 20, sessions=4),
    }
    print(f"\n{'design':<38}{'pattern':<9}{'default':>9}{'maps':>7}{'corr.':>7}{'  stimuli: maps':>16}{'corr.':>7}")
    for name, given in designs.items():
        for pattern in ("haufe", "weights"):
            rate, correlated, error, units = simulated.rates(given, REPEATS, pattern=pattern)
            before = simulated.rates(given, REPEATS, pattern=pattern, unit="stimulus")
            unit = max(set(units), key=units.count)
            print(f"{name:<38}{pattern:<9}{unit:>9}{rate:>7.3f}{correlated:>7.3f}{before[0]:>16.3f}{before[1]:>7.3f}")
            assert rate < 0.085 + 3 * error
