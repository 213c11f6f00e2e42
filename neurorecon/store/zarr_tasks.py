"""Keep Zarr's other tasks quiet where one of them has failed and the user is told so."""

from __future__ import annotations

import logging
import traceback


def hush_other_tasks() -> None:
    """Drop what asyncio prints about reads and writes of Zarr that failed beside the one that is reported.

    Zarr moves many chunks at once. Where the disk is full several of them fail; the first becomes one clear error,
    and for each of the others asyncio would print a traceback whenever it is collected, also after the last line of
    a command. Tasks that are not Zarr's are heard as before.
    """
    logging.getLogger("asyncio").addFilter(_heard)  # the same filter is added once only


def _heard(record: logging.LogRecord) -> bool:
    if "never retrieved" not in record.msg or not record.exc_info or record.exc_info[1] is None:
        return True
    frames = traceback.walk_tb(record.exc_info[1].__traceback__)
    return not any(str(frame.f_globals.get("__name__")).startswith("zarr.") for frame, _ in frames)
