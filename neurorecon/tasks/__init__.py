"""Independent tasks: voxel blocks, target blocks and permutations, in this process or on a cluster."""

from neurorecon.tasks.clusters import check_scheduler, connect
from neurorecon.tasks.results import Results, ResultsFolder, Stored
from neurorecon.tasks.run import BlockError, run
from neurorecon.tasks.threads import default_threads, pinned

__all__ = [
    "BlockError",
    "Results",
    "ResultsFolder",
    "Stored",
    "check_scheduler",
    "connect",
    "default_threads",
    "pinned",
    "run",
]
