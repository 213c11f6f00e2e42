"""The zoo: which pretrained weights exist, where they lie on this machine, whether they are what they should be.

Nothing here imports torch or a network before it is needed.
"""

from neurorecon.models.zoo.files import load_state
from neurorecon.models.zoo.fingerprints import FileState, fingerprint, record_bundled, verify
from neurorecon.models.zoo.places import bundled_folder, locate, locate_role, missing_from, part, search
from neurorecon.models.zoo.pull import pull
from neurorecon.models.zoo.table import ZOO, WeightFile, Weights, find, for_role

__all__ = [
    "ZOO",
    "FileState",
    "WeightFile",
    "Weights",
    "bundled_folder",
    "find",
    "fingerprint",
    "for_role",
    "load_state",
    "locate",
    "locate_role",
    "missing_from",
    "part",
    "pull",
    "record_bundled",
    "search",
    "verify",
]
