"""Of many chunks that cannot be written one is reported; asyncio prints no traceback for the others."""

import asyncio
import gc
import logging

from zarr.core.common import concurrent_map

from neurorecon.store.backend import hush_other_tasks


async def _full(chunk):
    raise OSError("No space left on device")


def _forgotten(task, caplog):
    """Run a task that fails and that nobody waits for, and return what asyncio logged."""

    async def run():
        begun = asyncio.ensure_future(task())
        await asyncio.sleep(0.05)
        del begun
        gc.collect()

    caplog.clear()
    asyncio.run(run())
    return [record.getMessage() for record in caplog.records if record.name == "asyncio"]


def test_tasks_of_zarr_are_quiet_and_all_others_are_heard(caplog):
    hush_other_tasks()
    hush_other_tasks()
    assert _forgotten(lambda: concurrent_map([(1,)], _full), caplog) == []
    assert "never retrieved" in _forgotten(lambda: _full(1), caplog)[0]


def test_without_it_asyncio_prints_what_zarr_left(caplog, monkeypatch):
    """The check above can fail: this is what a user would see."""
    monkeypatch.setattr(logging.getLogger("asyncio"), "filters", [])
    assert "never retrieved" in _forgotten(lambda: concurrent_map([(1,)], _full), caplog)[0]
