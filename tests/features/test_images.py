"""Images of other sizes come out the same in every process."""

from __future__ import annotations

import os
import subprocess
import sys

#: As many orientations as cells: einsum cannot tell these axes apart by their length.
CODE = """
import numpy as np
from neurorecon.features.images import pool
maps = np.random.default_rng(0).random((8, 32, 32), dtype=np.float32)
print(pool(maps, 8).tobytes().hex())
"""


def test_the_hash_seed_of_python_changes_no_bit() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", CODE], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("0", "3")
    }
    assert len(found) == 1
    assert len(found.pop()) > 8 * 8 * 8 * 8
