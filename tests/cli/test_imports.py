"""Commands that answer at once import nothing that takes longer than their answer: no clock, but what is imported."""

import subprocess
import sys

import pytest

#: Each takes longer to import than these commands to answer.
HEAVY = {
    "dask",
    "diffusers",
    "distributed",
    "h5py",
    "himalaya",
    "joblib",
    "matplotlib",
    "nibabel",
    "nilearn",
    "pandas",
    "scipy",
    "skimage",
    "sklearn",
    "torch",
    "transformers",
    "xarray",
}

#: What a store is read with.
STORE = {"icechunk", "numpy", "zarr"}


def _imported(*arguments, cwd):
    """Return the packages that a command imports, in a process of its own."""
    command = [sys.executable, "-X", "importtime", "-m", "neurorecon.cli", *map(str, arguments)]
    found = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    lines = [line for line in found.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


def test_what_a_store_holds_is_told_without_lazy_arrays(small, tmp_path):
    """Cautions need the table of samples, everything else is counted at the build."""
    found = _imported("info", small.path, cwd=tmp_path)
    assert found >= STORE
    assert not found & (HEAVY - {"pandas"})


@pytest.mark.parametrize(
    "command", ["--help", "check --help", "maps --help", "datasets list", "datasets show nsd", "weights list"]
)
def test_commands_that_open_no_store_import_no_arrays(command, tmp_path):
    found = _imported(*command.split(), cwd=tmp_path)
    assert "typer" in found
    assert not found & (HEAVY | STORE)
