"""Layout of a store: names, dimensions, chunks, digests and counts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from neurorecon.io.tensors import combine, dtype_name

if TYPE_CHECKING:
    import pandas as pd


#: Version of the layout. Stores of a newer version are refused.
SCHEMA_VERSION = 2

#: Words of version 1 that have changed since: a kind of stimuli and the array of their ids, a task, a ground truth.
FORMER_WORDS = {"film": "video", "films": "videos", "film_snr": "video_snr"}

#: Chunks of responses, (sample, voxel). Measured on 30,000 trials: reading one ROI for all trials and one session for
#: all voxels both take at most twice as long as with the best layout for either.
RESPONSE_CHUNKS = (750, 1024)

#: Maximum size in bytes of a chunk of stimuli or targets, and of a block (the unit of writing and of digests).
CHUNK_BYTES = 4 * 2**20

BLOCK_BYTES = 8 * 2**20

STIMULI = "stimuli"

TARGETS = "targets"

SOURCES = "sources"

#: Group of the split columns, see :mod:`neurorecon.store.splits`.
SPLITS = f"{STIMULI}/splits"

#: What the split that a store was built with is called where a split column can be named.
BUILT_IN = "built-in"

RESERVED_GROUPS = (STIMULI, TARGETS, SOURCES)

#: Attribute of the root that summarizes all arrays: ``digest`` and ``bytes``.
SUMMARY = "summary"

#: Text columns of the sample table; the others are numeric.
TEXT_COLUMNS = ("stimulus", "task", "split")

#: Kind of the stimuli that are neither an image nor a video, e.g. a word that somebody imagines. They come last in the
#: table of stimuli, and their rows of the images are zeros that nothing reads.
OTHER = "other"


def compressors(dtype: np.dtype) -> list[Any]:
    """Return the codecs of an array: blosc-lz4 (zstd, the default, writes 2-4 times slower), and a checksum.

    LZ4 decodes most flipped bits to other numbers without an error. The checksum takes 4 bytes a chunk. With it, 200 MB
    of responses are written (read back, digested, committed) in 0.95 s instead of 0.87, and read in 0.32 s instead of
    0.30.

    Parameters
    ----------
    dtype : dtype
        Type of the array. Text is compressed by zstd.
    """
    from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

    number = dtype.kind in "biufc"
    return [BloscCodec(cname="lz4", clevel=5, shuffle="shuffle") if number else ZstdCodec(), Crc32cCodec()]


def chunks_of(shape: tuple[int, ...], dtype: np.dtype) -> tuple[int, ...]:
    """Return chunks of about :data:`CHUNK_BYTES` that keep the trailing axes whole.

    Two-dimensional floating-point arrays, responses and flat targets alike, take :data:`RESPONSE_CHUNKS`.
    """
    if len(shape) == 2 and dtype.kind == "f":
        return tuple(max(1, min(size, chunk)) for size, chunk in zip(shape, RESPONSE_CHUNKS, strict=True))
    row = max(1, math.prod(shape[1:]) * dtype.itemsize)
    rows = max(1, min(shape[0], CHUNK_BYTES // row)) if shape else 1
    return tuple(max(1, size) for size in (rows, *shape[1:])) if shape else ()


def block_rows(shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype) -> int:
    """Return the number of rows written, read back and digested at a time: whole chunks, about 8 MiB."""
    row = max(1, math.prod(shape[1:]) * dtype.itemsize)
    return max(1, BLOCK_BYTES // (row * chunks[0])) * chunks[0]


#: What findings and errors call everything but the values of arrays.
METADATA = "names and attributes"

#: Attribute of the root that holds :func:`metadata_digest`.
METADATA_DIGEST = "metadata_digest"

#: Attributes of the root that do not describe the data and may differ between copies.
_OF_THE_COPY = (METADATA_DIGEST, "exported_from_snapshot")


def digests_of(arrays: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """Return the stored digest of each array, by path; empty if the array is not complete."""
    return {path: str(array.attrs.get("digest", "")) for path, array in arrays}


def content_digest(arrays: Iterable[tuple[str, Any]]) -> str:
    """Return the digest of all arrays but split columns, which are ways to use the content."""
    return combine(digests_of((path, array) for path, array in arrays if not path.startswith(f"{SPLITS}/")))


def metadata_digest(root: Any, members: Iterable[tuple[str, Any]] | None = None) -> str:
    """Return the digest of all metadata of a store: names, types, shapes, dimensions and attributes.

    It detects, for instance, a changed affine or unit, which the digests of arrays do not cover.

    Parameters
    ----------
    root : zarr.Group or StoredGroup
        Root group.
    members : iterable of (path, group or array), optional
        All members of the root, if they have been listed already.

    Returns
    -------
    str
    """
    own = {key: value for key, value in root.attrs.items() if key not in _OF_THE_COPY}
    entries: list[list[Any]] = [["", own]]
    everything: Iterable[tuple[str, Any]] = root.members(max_depth=None) if members is None else members
    for path, item in everything:
        facts: list[Any] = [path, dict(item.attrs)]
        metadata = item.metadata
        if hasattr(metadata, "dimension_names"):
            facts += [dtype_name(item.dtype), list(item.shape), list(metadata.dimension_names or [])]
        entries.append(facts)
    text = json.dumps(sorted(entries, key=lambda entry: entry[0]), sort_keys=True)
    return "blake2b:" + blake2b(text.encode(), digest_size=16).hexdigest()


def count_bytes(arrays: Iterable[tuple[str, Any]]) -> int:
    """Return the uncompressed size of arrays in bytes; text is counted by its references.

    Parameters
    ----------
    arrays : iterable of (path, Zarr array)
    """
    return sum(math.prod(array.shape) * max(array.dtype.itemsize, 1) for _, array in arrays)


def count_voxels(rois: Mapping[str, np.ndarray]) -> list[tuple[str, int]]:
    """Return the number of voxels of each ROI.

    Parameters
    ----------
    rois : mapping of str to bool array, shape (voxel,)
    """
    return [(name, int(np.count_nonzero(mask))) for name, mask in rois.items()]


def count_stimuli(stimuli: pd.DataFrame, neither: str = "not shown") -> list[dict[str, Any]]:
    """Return the number of stimuli of each kind and split.

    Parameters
    ----------
    stimuli : DataFrame
        With columns ``kind`` and ``split``. Stimuli that no subject saw have an empty split.
    neither : str
        What an empty split is called.
    """
    found = stimuli.groupby(["kind", "split"], sort=False).size()
    return [
        {"kind": str(kind), "split": str(split) or neither, "number": int(number)}
        for (kind, split), number in found.items()
    ]


def count_samples(samples: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the numbers of samples, stimuli, repeats and runs of each task and split of a subject.

    Parameters
    ----------
    samples : DataFrame
        Sample table.
    """
    return [
        {
            "task": str(task),
            "split": str(split) or "left out",
            "samples": len(part),
            "stimuli": int(part["stimulus"].nunique()),
            "repeats": int(part["repeat"].max()),
            "runs": int(part.groupby(["session", "run"]).ngroups),
        }
        for (task, split), part in samples.groupby(["task", "split"], sort=False)
    ]
