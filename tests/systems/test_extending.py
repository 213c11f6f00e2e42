"""The examples of docs/extending.md run as they are printed."""

import re
from pathlib import Path

import numpy as np
import pytest

import neurorecon
import neurorecon as nr
from neurorecon.registry import SYSTEMS

PAGE = Path(neurorecon.__file__).parents[1] / "docs" / "extending.md"


def examples(section):
    """Return the Python blocks of a section."""
    if not PAGE.is_file():
        pytest.skip("installed without its documentation")
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert found, section
    return found


@pytest.fixture
def folder(scenes, tmp_path, monkeypatch):
    """A working folder with the small store where the page has its own; what is registered is forgotten again."""
    (tmp_path / "stores").mkdir()
    (tmp_path / "stores" / "scenes.icechunk").symlink_to(scenes.location, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nr.METRICS, "_added", dict(nr.METRICS._added))
    monkeypatch.setattr(SYSTEMS, "_added", dict(SYSTEMS._added))
    monkeypatch.setattr(nr.System, "classes", dict(nr.System.classes))


def test_a_system_and_a_metric_of_ones_own(folder, scenes, monkeypatch):
    definition, experiment, suite = examples("A system of your own")
    names = {"__name__": "example"}
    exec(definition, names)
    exec(experiment, names)
    assert names["images"].dims == ("stimulus", "y", "x", "rgb")
    assert names["images"].shape == (16, 64, 64, 3)
    # The suite itself runs in test_third_party.py, on the same system; here, that the page calls it as it is.
    called = []
    monkeypatch.setattr("neurorecon.testing.systems.run_all", lambda checks, trial, **about: called.append(about))
    monkeypatch.setattr("neurorecon.testing.systems._simulated_store", lambda targets, videos: scenes)
    exec(suite, names)
    assert called == [{"what": "system", "name": "latent-ridge"}]

    for block in examples("A metric of your own"):
        exec(block, names)
    found = names["found"]
    difference = np.abs(found.seen.mean(axis=(1, 2, 3)) - found.reconstructed.mean(axis=(1, 2, 3)))
    scores = {score.name: score for score in found.scores}
    assert list(scores) == ["subj01 pixcorr", "subj01 brightness"]
    assert scores["subj01 brightness"].value == pytest.approx(difference.mean())
    assert scores["subj01 brightness"].value < scores["subj01 brightness"].null_mean

    SYSTEMS.register("latent-ridge", names["LatentRidge"])
    assert isinstance(nr.load_system("latent-ridge", alpha=10.0), names["LatentRidge"])
