"""Videos of the embedded data set, and a data set of a few kilobytes."""

import os
import pickle
import time

import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import StoreLockedError
from neurorecon.registry import DATASETS
from neurorecon.store.writer import WriterLock
from neurorecon.testing.miniature import MiniatureReader


@pytest.fixture(scope="session")
def shared(tmp_path_factory):
    """Return what makes something once for all test processes of this session, and keeps it in a file."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "analyses"
    folder.mkdir(exist_ok=True)

    def once(name, make):
        path = folder / f"{name}.pickle"
        while not path.exists():
            try:
                with WriterLock(folder / name):
                    if not path.exists():
                        partial = path.with_suffix(".partial")
                        partial.write_bytes(pickle.dumps(make(folder)))
                        partial.rename(path)
            except StoreLockedError:
                time.sleep(0.2)  # another process makes it
        return pickle.loads(path.read_bytes())

    return once


@pytest.fixture(scope="session")
def videos(shared):
    """Store of one subject: 300 training videos, one run of 60 test videos, few images, and the default targets."""

    def make(folder):
        options = {"subjects": 1, "train_images": 16, "test_images": 8, "train_videos": 300, "test_videos": 60}
        options["test_video_repeats"] = 10
        targets = list(DATASETS.load("scenes").default_targets)
        recipe = Recipe(name="videos", reader="scenes", targets=targets, options=options)
        return nr.build(recipe, folder / "videos.icechunk", progress=False).location

    return nr.open_store(shared("videos", make))


@pytest.fixture(scope="session")
def images(shared):
    """Store of one subject with 500 training images, no videos, and what the networks make of them."""

    def make(folder):
        options = {"subjects": 1, "voxels": 1200, "train_images": 500, "test_images": 60, "train_videos": 0}
        targets = ["clip_image", "vqvae", "vdvae"]
        recipe = Recipe(name="images", reader="scenes", targets=targets, options={**options, "test_videos": 0})
        return nr.build(recipe, folder / "images.icechunk", progress=False).location

    return nr.open_store(shared("images", make))


@pytest.fixture(scope="session")
def noise_only(videos):
    """Which voxels were given nothing but noise."""
    return videos.truth("subj01")["noise_only"].astype(bool)


@pytest.fixture(scope="session")
def miniature(tmp_path_factory):
    """Return what builds a store of a few kilobytes, by its options."""
    DATASETS.register("miniature", MiniatureReader)
    built = {}

    def build(targets=("gabor", "category", "motion"), **options):
        key = (targets, *sorted(options.items()))
        if key not in built:
            recipe = Recipe(name="miniature", reader="miniature", targets=list(targets), options=options)
            built[key] = nr.build(recipe, tmp_path_factory.mktemp("miniature") / "m.icechunk", progress=False)
        return built[key]

    return build
