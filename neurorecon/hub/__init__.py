"""What can be fetched: weights and data sets by name, where they lie on this machine, how to get them.

Nothing here imports numpy, torch or a network before it is needed.
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
