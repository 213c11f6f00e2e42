"""How many threads a task computes with: the same wherever it runs, because they decide the last bits of a product."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Beyond these, matrix products of the size of a block gain little.
MOST_THREADS = 16

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def default_threads() -> int:
    """Return the threads of a task where none are asked for: the cores of this machine, or ``OMP_NUM_THREADS``.

    The process that hands out the tasks decides, and its workers follow, so that a map computed on a cluster has the
    bits of one computed here.
    """
    from joblib import cpu_count

    asked = os.environ.get("OMP_NUM_THREADS", "")
    cores = int(cpu_count())
    return max(1, min(MOST_THREADS, cores, int(asked) if asked.isdigit() else cores))


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Let BLAS, OpenMP and torch compute with so many threads, neither more nor fewer.

    Libraries that are loaded meanwhile find the number in the environment. Lazy arrays are read by threads of this
    process: in a worker dask would else hand them to the cluster, and wait for it in the place of a worker.

    Parameters
    ----------
    threads : int
        Of each library.
    """
    import dask.config
    from threadpoolctl import threadpool_limits

    before = {name: os.environ.get(name) for name in _VARIABLES}
    os.environ.update({name: str(threads) for name in _VARIABLES})
    torch = sys.modules.get("torch")
    earlier = None if torch is None else torch.get_num_threads()
    try:
        with threadpool_limits(threads), dask.config.set(scheduler="threads", num_workers=threads):
            if torch is not None:  # its MKL is linked into it, out of sight of threadpoolctl
                torch.set_num_threads(threads)
            yield
    finally:
        if torch is not None and earlier is not None:
            torch.set_num_threads(earlier)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
