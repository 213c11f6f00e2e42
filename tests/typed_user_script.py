"""A script as users write it, checked with ``mypy --strict`` by ``make typing``: public names are typed."""

from pathlib import Path
from typing import assert_type

import neurorecon as nr
from neurorecon.decoders import MultiSubjectRidge
from neurorecon.errors import InputError
from neurorecon.metrics import Metric
from neurorecon.parallel import Compute
from neurorecon.stats import Interval, bootstrap_interval
from neurorecon.testing import check_system


class Constant(nr.System):
    """A system that is defined in a user's script."""

    name = "constant"


def analyze(location: Path) -> list[Path]:
    """Go through the names that analyses use."""
    store = nr.open_store(location)
    assert_type(store, nr.Store)
    assert_type(store.subjects, list[str])
    assert_type(store.rois("subj01"), dict[str, int])
    found = nr.voxelwise_maps(store, "subj01", roi="MT", bands=["gabor"], n_permutations=99, seed=0)
    files = nr.write([found], store, "results", nr.record_of(store, "script.py"))
    assert_type(files, list[Path])
    system: nr.System = nr.load_system("linear-pixels")  # the class depends on the name
    assert_type(system.fit(store, "subj01", roi="early", compute=Compute(threads=1)), nr.System)
    decoded = system.decode(store.responses("subj01", roi="early", split="test", average="stimulus"))
    assert_type(decoded, nr.Decoded)
    scores = nr.evaluate(system.generate(decoded, seed=0), store, metrics=["pixcorr"])
    for score in scores.scores:
        assert_type(score, nr.Score)
        assert_type(score.value, float)
    result: nr.Result = nr.reconstruct(store, system, "subj01")
    nr.check_store(store)
    check_system(Constant())
    decoders = [nr.RidgeDecoder(alpha=1.0), nr.BandedRidge(), nr.MLPDecoder(), MultiSubjectRidge()]
    print(len(decoders), Metric, Interval, bootstrap_interval, InputError)
    print(result.tables()["scores"])  # a DataFrame; pandas has no types of its own
    return files
