"""Run independent jobs in this process, in local processes, on a dask cluster, or under ``accelerate launch``."""

from neurorecon.parallel.jobs import Compute, Results, ResultsFolder, Stored, imap, map_threads, prefetch, run
from neurorecon.parallel.workers import (
    JobError,
    check_scheduler,
    choose_device,
    connect,
    default_threads,
    in_processes,
    is_first_process,
    pinned,
)

__all__ = [
    "Compute",
    "JobError",
    "Results",
    "ResultsFolder",
    "Stored",
    "check_scheduler",
    "choose_device",
    "connect",
    "default_threads",
    "imap",
    "in_processes",
    "is_first_process",
    "map_threads",
    "pinned",
    "prefetch",
    "run",
]
