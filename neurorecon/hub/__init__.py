"""The catalog of weights and data sets: find them by name, locate them on this machine, download them.

Importing this package loads neither numpy nor torch, so that commands that only list the catalog start quickly.
"""

from neurorecon.hub.catalog import BUNDLED, Choice, File, Item, Need, commands, find, for_role, items, needs, readable
from neurorecon.hub.download import downloadable, fetch
from neurorecon.hub.local import (
    FileState,
    fingerprint,
    locate,
    locate_role,
    missing_from,
    part,
    record_bundled,
    search,
    verify,
)

__all__ = [
    "BUNDLED",
    "Choice",
    "File",
    "FileState",
    "Item",
    "Need",
    "commands",
    "downloadable",
    "fetch",
    "find",
    "fingerprint",
    "for_role",
    "items",
    "locate",
    "locate_role",
    "missing_from",
    "needs",
    "part",
    "readable",
    "record_bundled",
    "search",
    "verify",
]
