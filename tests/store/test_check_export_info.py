import http.server
import json
import shutil
import threading
from functools import partial

import numpy as np
import pytest
import xarray

import neurorecon as nr
from neurorecon.errors import StoreError
from neurorecon.store.check import as_text, describe

#: Attributes of a subject that stores of older versions lack.
COUNTED = ("counts", "roi_voxels", "mean_ceilings")


class _Older:
    """A group of an older store: the same arrays, other attributes."""

    def __init__(self, group, attrs):
        self._group, self.attrs = group, attrs

    def __getitem__(self, name):
        return self._group[name]


def _problems(store):
    return [finding for finding in nr.check_store(store) if finding.problem]


def test_an_intact_store_has_no_problems(store):
    assert _problems(store) == []
    assert len(list(nr.check_store(store))) == len(store.arrays())


def test_a_flipped_byte_is_found_and_named(tmp_path, store):
    nr.export_store(store, tmp_path / "a.zarr", progress=False)
    chunk = tmp_path / "a.zarr" / "subj01" / "responses" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    (problem,) = _problems(nr.open_store(tmp_path / "a.zarr"))
    assert problem.array == "subj01/responses"


def test_a_damaged_chunk_of_the_repository_is_found(tmp_path, built):
    copy = tmp_path / "copy.icechunk"
    shutil.copytree(built, copy)
    largest = max((copy / "chunks").iterdir(), key=lambda item: item.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-20])
    assert _problems(nr.open_store(copy))


def test_an_exported_store_says_the_same(tmp_path, store):
    path = nr.export_store(store, tmp_path / "a.zarr", progress=False)
    copy = nr.open_store(path)
    assert copy.digests() == store.digests()
    assert copy.snapshot is None
    np.testing.assert_array_equal(copy.responses("subj01", roi="V1"), store.responses("subj01", roi="V1"))
    assert _problems(copy) == []
    assert not list(tmp_path.glob("*.partial"))


def test_xarray_opens_an_exported_store_without_us(tmp_path, store):
    path = nr.export_store(store, tmp_path / "a.zarr", progress=False)
    data = xarray.open_zarr(path, group="subj01", consolidated=False)
    np.testing.assert_array_equal(data["responses"][data["task"].values == "images"], store.responses("subj01"))
    assert "stimulus" in data.coords


def test_an_exported_store_is_read_over_http(tmp_path, store):
    nr.export_store(store, tmp_path / "a.zarr", progress=False)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        remote = nr.open_store(f"http://127.0.0.1:{server.server_port}/a.zarr")
        np.testing.assert_array_equal(remote.responses("subj01", roi="MT"), store.responses("subj01", roi="MT"))
    finally:
        server.shutdown()
        server.server_close()


def test_exports_never_overwrite(tmp_path, store):
    nr.export_store(store, tmp_path / "a.zarr", progress=False)
    for place in (tmp_path / "a.zarr", tmp_path / "b.icechunk"):
        with pytest.raises(StoreError, match="cannot be exported"):
            nr.export_store(store, place, progress=False)


def test_a_store_of_a_newer_schema_is_refused(tmp_path, store):
    path = nr.export_store(store, tmp_path / "a.zarr", progress=False)
    meta = json.loads((path / "zarr.json").read_text())
    meta["attributes"]["neurorecon_schema"] = 99
    (path / "zarr.json").write_text(json.dumps(meta))
    with pytest.raises(StoreError, match="newer neurorecon"):
        nr.open_store(path)


def test_a_store_in_which_nothing_was_counted_is_described_the_same(store, monkeypatch):
    counted = describe(store)
    older = nr.open_store(store.location)
    monkeypatch.delitem(older._attributes, "summary")
    for name in older.subjects:
        attributes = dict(older._subject(name).attrs)
        kept = {key: value for key, value in attributes.items() if key not in COUNTED}
        assert len(attributes) == len(kept) + len(COUNTED)
        monkeypatch.setitem(older._nodes, name, _Older(older._node(name), kept))
    assert describe(older) == counted
    assert [*describe(older)["subjects"]["subj01"]["rois"]] == [*counted["subjects"]["subj01"]["rois"]]


def test_the_description_is_json_and_a_text_of_readable_width(store):
    facts = describe(store)
    assert json.loads(json.dumps(facts)) == facts
    text = as_text(facts)
    assert "SIMULATED" in text
    assert max(len(line) for line in text.splitlines()) <= 120
