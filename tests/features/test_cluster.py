"""Workers of a dask cluster compute the same numbers; one process writes them."""

from __future__ import annotations

import shutil

import pytest

import neurorecon as nr
from neurorecon.errors import InputError, StoreError

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0", protocol="inproc"
        ) as cluster,
        distributed.Client(cluster) as connected,
    ):
        yield connected


def test_the_same_numbers_to_the_bit(store, client, random_models, tmp_path):
    targets = ["clip_vision", "vqvae_frames", "category"]
    shutil.copytree(store.location, tmp_path / "alone.icechunk")
    alone = nr.extract(
        nr.open_store(tmp_path / "alone.icechunk"), targets, models=random_models, batch=4, progress=False
    )
    told = []
    shared = nr.extract(
        store, targets, models=random_models, batch=4, progress=False, scheduler=client, report=told.append
    )
    assert [speed.stimuli for speed in told] == [30, 6, 30]
    for name in targets:
        assert shared.digests()[f"targets/{name}/values"] == alone.digests()[f"targets/{name}/values"]


def test_an_extractor_of_a_script_travels_to_the_workers(store, client, mean_color):
    after = nr.extract(store, [mean_color()], batch=5, progress=False, scheduler=client)
    assert after.targets("mean_color").shape == (30, 3)
    assert max(mean_color.sizes) <= 5


def test_what_a_worker_raises_reaches_the_caller(store, client, mean_color, monkeypatch):
    class Broken(mean_color):
        def compute(self, prepared):
            if len(prepared.table) > 1:  # the first stimulus alone is computed by the caller
                raise StoreError("broken in a worker")
            return super().compute(prepared)

    with pytest.raises(StoreError, match="broken in a worker"):
        nr.extract(store, [Broken()], batch=5, progress=False, scheduler=client)
    assert nr.open_store(store.location).targets_available == []


def test_a_worker_with_other_weights_is_refused(store, client, mean_color):
    class Elsewhere(mean_color):
        travelled = False

        def __setstate__(self, state):
            self.__dict__.update(state, travelled=True)

        def made_by(self):
            return {**super().made_by(), "weights_sha256": "other" if self.travelled else "ours"}

    with pytest.raises(
        StoreError, match=r"would compute this target with other settings[\s\S]*weights_sha256 = 'other'"
    ):
        nr.extract(store, [Elsewhere()], progress=False, scheduler=client)


@pytest.mark.parametrize("scheduler", ["dask", "localhost"])
def test_schedulers_that_do_not_exist(store, scheduler):
    with pytest.raises(InputError, match=r"no such scheduler[\s\S]*tcp://host:8786"):
        nr.extract(store, ["gabor"], scheduler=scheduler, progress=False)
