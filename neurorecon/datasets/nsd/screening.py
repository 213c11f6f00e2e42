"""Which voxels can be used, found without unpacking the sessions twice.

What costs time in building a store of NSD is unpacking ``.nii.gz``, so screening must not read the files as a whole
before they are read for the store. It need not: betas that are int16 are finite, and a voxel that is constant in a
session is constant in its first trials too. So only the first trials are unpacked (2 % of a session). Voxels that are
zero in all of them are NSD's way of saying "no data in this session"; for the rare others that do not vary there,
the session is read on. Betas that are floating-point numbers may hold a NaN anywhere and are read as a whole; NSD's
own (``.mgh``) are not compressed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from neurorecon.datasets.nsd.betas import Betas
from neurorecon.datasets.parts import Screened, screen

#: Trials that are looked at first.
HEAD = 16


def screen_sessions(sessions: Iterable[Betas], voxels: np.ndarray) -> Screened:
    """Find the voxels that are not finite, or constant, in any session.

    Parameters
    ----------
    sessions : iterable of Betas
        One is read at a time.
    voxels : int array, shape (voxel,)
        As in :meth:`Betas.read`.
    """
    return screen(_telling(betas, voxels) for betas in sessions)


def _telling(betas: Betas, voxels: np.ndarray) -> np.ndarray:
    """Return trials that tell as much of every voxel as the whole session does."""
    if betas.dtype.kind == "f":
        return betas.read(voxels)
    head = betas.read(voxels, stop=HEAD)
    doubtful = np.flatnonzero((head == head[0]).all(axis=0) & (head[0] != 0))
    if len(doubtful) and len(head) < betas.trials:
        rest = betas.read(voxels[doubtful])
        varied = (rest != rest[0]).any(axis=0)
        head[-1, doubtful[varied]] = head[0, doubtful[varied]] + 1
    return head
