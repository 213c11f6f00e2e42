"""Volumes of a 4-D file one after the other, in the memory of one: what is in ``.nii.gz`` is never unpacked whole."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from neurorecon.datasets.images import damaged
from neurorecon.datasets.nsd.layout import DOWNLOAD

#: Bytes read from the disk at a time, and unpacked at a time (a megabyte of packed zeros is a gigabyte).
PIECE, UNPACKED = 2**20, 2**22

#: zlib's window for data with a gzip header; it then checks length and checksum at the end by itself.
GZIP = 31


def pieces(path: Path) -> Iterator[bytes]:
    """Yield the content of a file, unpacked where it is gzip.

    zlib is called directly, because Python's ``gzip`` passes everything through small buffers, which takes longer.

    Raises
    ------
    InputError
        Where the file ends too early, or its checksum is wrong.
    """
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        source = iter(lambda: file.read(PIECE), b"")
        try:
            yield from _unpacked(source) if packed else source
        except (zlib.error, EOFError) as error:
            raise damaged(path, error, DOWNLOAD) from error


def _unpacked(source: Iterator[bytes]) -> Iterator[bytes]:
    unpack = zlib.decompressobj(GZIP)
    waiting = b""
    while True:
        if unpack.eof:
            waiting = unpack.unused_data or next(source, b"")
            if not waiting.strip(b"\0"):  # nothing but padding may follow
                return
            unpack = zlib.decompressobj(GZIP)  # several gzips in a row are one file
        found = unpack.decompress(waiting, UNPACKED)
        waiting = unpack.unconsumed_tail
        if found:
            yield found
        elif not waiting and not unpack.eof:
            waiting = next(source, b"")
            if not waiting:
                raise EOFError("the compressed data end too early")


def volumes(path: Path, offset: int, size: int, number: int, whole: bool = True) -> Iterator[memoryview]:
    """Yield volumes; each is valid until the next one is asked for.

    Parameters
    ----------
    path : path
        An uncompressed or gzipped file.
    offset : int
        Bytes before the first volume.
    size : int
        Bytes of a volume.
    number : int
        Volumes to yield.
    whole : bool
        Whether they are all that the file holds: what is behind them (the checksum) is checked then as well.

    Raises
    ------
    InputError
        Where the file holds fewer, or is damaged.
    """
    view = memoryview(bytearray(size))
    filled, done, skip = 0, 0, offset
    for piece in pieces(path):
        part = memoryview(piece)[skip:]
        skip = max(0, skip - len(piece))
        while len(part) and done < number:
            take = min(len(part), size - filled)
            view[filled : filled + take] = part[:take]
            part, filled = part[take:], filled + take
            if filled == size:
                yield view
                filled, done = 0, done + 1
        if done == number and not whole:
            return
    if done < number:
        raise damaged(path, EOFError(f"{done} of {number} volumes"), DOWNLOAD)
