"""Splits of NSD: as published, by session, by cluster, by category."""

import pandas as pd
import pytest

from neurorecon.datasets.nsd.layout import NsdOptions
from neurorecon.datasets.nsd.reader import NsdReader


def _samples(folder, **options):
    reader = NsdReader(folder, NsdOptions(**options))
    return {name: reader.subject(name).samples for name in reader.subjects}, reader


def _images(samples, split):
    return set().union(*(table["stimulus"][table["split"] == split] for table in samples.values()))


def test_shared_images_shown_often_enough(nsd):
    """With two of three sessions, some images were shown less than three times: as the 982 of 1,000 in NSD."""
    every, _ = _samples(nsd)
    shown = every["subj02"].query("split == 'test'")["stimulus"].value_counts()
    assert set(shown) == {1, 2, 3}
    found, reader = _samples(nsd, test_repeats=2)
    assert _images(found, "test") == set(shown.index[shown >= 2])
    assert _images(found, "train") == _images(every, "train")
    once = shown[shown == 1]
    assert reader.subject("subj02").report["trials left out"] == (
        f"{len(once)} of {len(once)} shared images shown less than 2 times"
    )
    assert len(found["subj02"]) == len(every["subj02"]) - len(once)


def test_sessions(nsd):
    every, _ = _samples(nsd)
    found, reader = _samples(nsd, split="sessions", test_sessions=(2,))
    assert not _images(found, "train") & _images(found, "test")
    for name, table in found.items():
        assert set(table["session"][table["split"] == "test"]) == {2}
        assert (table["session"] == 2).sum() == 120
        left_out = len(every[name]) - len(table)
        assert left_out > 0
        assert reader.subject(name).report["trials left out"].startswith(f"{left_out} of ")
    # Responses stay with their trials where others are left out.
    kept = every["subj02"].merge(found["subj02"][["session", "run", "time"]].reset_index(), how="inner")
    whole = NsdReader(nsd, NsdOptions()).subject("subj02").read_responses(0, 240)
    rows = every["subj02"].set_index(["session", "run", "time"]).index.get_indexer(
        pd.MultiIndex.from_frame(found["subj02"][["session", "run", "time"]]))  # fmt: skip
    assert len(kept) == len(rows)
    assert (reader.subject("subj02").read_responses(0, len(rows)) == whole[rows]).all()


def test_a_category_is_left_out_wherever_it_is_to_be_seen(nsd, tmp_path):
    for name, members in (("pizza", {"pizza"}), ("animal", {"bird", "dog"})):
        found, reader = _samples(nsd, split="category", test_category=name)
        stimuli = reader.stimuli().set_index("id")["category"]
        assert set(stimuli[sorted(_images(found, "test"))]) == members
        assert not set(stimuli[sorted(_images(found, "train"))]) & members


def test_tables_of_categories_and_clusters(nsd, tmp_path):
    _, reader = _samples(nsd)
    ids = [int(name[3:]) for name in reader.stimuli()["id"]]
    table = pd.DataFrame({"nsdId": ids, "category": ["odd" if number % 2 else "even" for number in ids]})
    table.to_csv(tmp_path / "categories.csv", index=False)
    found, _ = _samples(nsd, split="category", test_category="odd", category_table=str(tmp_path / "categories.csv"))
    assert {int(name[3:]) % 2 for name in _images(found, "test")} == {1}
    table.rename(columns={"category": "cluster"}).assign(cluster=[number % 7 for number in ids]).to_csv(
        tmp_path / "clusters.csv", index=False
    )
    found, _ = _samples(nsd, split="clusters", cluster_table=str(tmp_path / "clusters.csv"), test_share=0.2)
    tested = {int(name[3:]) % 7 for name in _images(found, "test")}
    assert len(tested) == 2
    assert not tested & {int(name[3:]) % 7 for name in _images(found, "train")}


def test_clusters_of_captions(nsd):
    found, reader = _samples(nsd, split="clusters", clusters=6, test_share=0.1)
    assert not _images(found, "train") & _images(found, "test")
    share = len(_images(found, "test")) / len(reader.stimuli())
    assert 0.1 <= share < 0.6


@pytest.mark.parametrize(("sessions", "expected"), [("2", {2}), ("1-2", {1, 2}), ((1,), {1})])
def test_sessions_that_are_read(nsd, sessions, expected):
    found, _ = _samples(nsd, sessions=sessions, subjects=("subj05",))
    assert set(found["subj05"]["session"]) == expected
