"""Every reader that neurorecon ships keeps the contract."""

import pytest

from neurorecon.datasets.miyawaki2008 import Miyawaki2008Reader
from neurorecon.registry import DATASETS
from neurorecon.testing import reader_checks
from neurorecon.testing.layouts.algonauts2021 import write_algonauts2021
from neurorecon.testing.layouts.arrays import write_arrays
from neurorecon.testing.layouts.bids import write_bids
from neurorecon.testing.layouts.bold_moments import write_bold_moments
from neurorecon.testing.layouts.cc2017 import write_cc2017
from neurorecon.testing.layouts.haxby2001 import write_haxby2001
from neurorecon.testing.layouts.hcp7t import write_hcp7t
from neurorecon.testing.layouts.laion_fmri import write_laion_fmri
from neurorecon.testing.layouts.nsd import write_nsd
from neurorecon.testing.layouts.things import write_things
from neurorecon.testing.layouts.yamada2015 import write_yamada2015

#: Small options by which a reader without files is checked.
SMALL_SCENES = {
    "subjects": 1,
    "voxels": 300,
    "train_images": 12,
    "test_images": 4,
    "train_videos": 0,
    "test_videos": 6,
    "train_video_repeats": 1,
    "test_video_repeats": 2,
    "image_size": 32,
}


@pytest.fixture(scope="module")
def readers(excerpt, layout, tmp_path_factory):
    """Readers by name, opened when a test first asks for them."""
    opened = {}

    def scenes():
        cls = DATASETS.load("scenes")
        return cls(None, cls.Options(**SMALL_SCENES))

    def yamada2015():
        cls = DATASETS.load("yamada2015")
        return cls(write_yamada2015(tmp_path_factory.mktemp("yamada2015")))

    def arrays():
        cls = DATASETS.load("arrays")
        return cls(write_arrays(tmp_path_factory.mktemp("arrays")))

    def bids(kind, **options):
        def make():
            folder = tmp_path_factory.mktemp("bids")
            cls = DATASETS.load("bids")
            return cls(write_bids(folder, subjects=["01"], runs=["1", "2"], kinds=[kind]), cls.Options(**options))

        return make

    def cc2017(**options):
        def make():
            cls = DATASETS.load("cc2017")
            folder = write_cc2017(tmp_path_factory.mktemp("cc2017"), files=("cifti", "mni"), segments=2, tests=1)
            return cls(folder, cls.Options(image_size=32, **options))

        return make

    def algonauts2021(**options):
        def make():
            cls = DATASETS.load("algonauts2021")
            folder = write_algonauts2021(tmp_path_factory.mktemp("algonauts2021"), videos=8)
            return cls(folder, cls.Options(image_size=32, **options))

        return make

    def hcp7t(**options):
        def make():
            cls = DATASETS.load("hcp7t")
            folder = write_hcp7t(tmp_path_factory.mktemp("hcp7t"), subjects=["100610"])
            return cls(folder, cls.Options(image_size=32, **options))

        return make

    def things(**options):
        def make():
            cls = DATASETS.load("things")
            return cls(write_things(tmp_path_factory.mktemp("things")), cls.Options(image_size=32, **options))

        return make

    def laion_fmri(**options):
        def make():
            cls = DATASETS.load("laion_fmri")
            return cls(write_laion_fmri(tmp_path_factory.mktemp("laion_fmri")), cls.Options(image_size=32, **options))

        return make

    def bold_moments(space="MNI152", **options):
        def make():
            cls = DATASETS.load("bold_moments")
            folder = tmp_path_factory.mktemp("bold_moments")
            write_bold_moments(folder, subjects=(1,), spaces=[space], videos=(5, 3), repeats=(3, 4))
            return cls(folder, cls.Options(image_size=32, space=space, **options))

        return make

    def nsd(space, subjects=("subj02",), file="nii.gz", **options):
        def make():
            folder = tmp_path_factory.mktemp("nsd")
            cls = DATASETS.load("nsd")
            write_nsd(folder, subjects=subjects, sessions=2, spaces=[space], formats=[file])
            return cls(folder, cls.Options(space=space, **options))

        return make

    def haxby2001(layout="nilearn", images=True, **options):
        def make():
            cls = DATASETS.load("haxby2001")
            folder = tmp_path_factory.mktemp("haxby2001")
            return cls(write_haxby2001(folder, layout=layout, images=images), cls.Options(**options))

        return make

    makers = {
        "arrays": arrays,
        "bids (volume, blocks)": bids("volume", confounds=["trans_?"]),
        "bids (volume, time series)": bids("volume", samples="volume", standardize="psc"),
        "bids (volume, betas)": bids("volume", samples="glm", sessions=["01"]),
        "bids (surface)": bids("surface", high_pass=0.01),
        "bids (grayordinates)": bids("grayordinates"),
        "cc2017": cc2017(),
        "cc2017 (volumes, averages)": cc2017(files="mni", samples="average"),
        "algonauts2021": algonauts2021(),
        "algonauts2021 (whole brain, averages)": algonauts2021(track="full", samples="average", frame_step=3),
        "hcp7t": hcp7t(),
        "hcp7t (averages, all grayordinates)": hcp7t(samples="average", voxels="all"),
        "miyawaki2008 (excerpt)": lambda: Miyawaki2008Reader(excerpt),
        "miyawaki2008 (NIfTI, blocks)": lambda: Miyawaki2008Reader(layout),
        "miyawaki2008 (NIfTI, volumes)": lambda: Miyawaki2008Reader(
            layout, Miyawaki2008Reader.Options(samples="volume", lag=0, detrend=False)
        ),
        "nsd (func1pt8mm)": nsd("func1pt8mm", ("subj01", "subj02")),
        "nsd (func1mm, HDF5, averages)": nsd("func1mm", file="hdf5", samples="average", image_size=32),
        "nsd (fsaverage, standardized)": nsd("fsaverage", scaling="session"),
        "scenes": scenes,
        "laion_fmri": laion_fmri(),
        "laion_fmri (averages, brain)": laion_fmri(samples="average", voxels="brain", split="tau", pool="shared"),
        "laion_fmri (standardized, no images)": laion_fmri(scaling="session", split="ood", images=False),
        "bold_moments": bold_moments(),
        "bold_moments (averages, ROIs)": bold_moments(samples="average", voxels="rois"),
        "bold_moments (fsaverage)": bold_moments("fsaverage"),
        "things": things(),
        "things (averages, ROIs)": things(samples="average", voxels="rois", test_concepts="leave_out"),
        "things (volumes, brain)": things(responses="volume", voxels="brain"),
        "haxby2001": haxby2001(),
        "haxby2001 (excerpt)": haxby2001("excerpt"),
        "haxby2001 (brain, volumes, no images)": haxby2001(images=False, voxels="brain", samples="volume"),
        "yamada2015": yamada2015,
    }

    def get(name):
        if name not in opened:
            opened[name] = makers[name]()
        return opened[name]

    return get


@pytest.mark.parametrize("check", reader_checks(), ids=str)
@pytest.mark.parametrize(
    "name",
    [
        "miyawaki2008 (excerpt)",
        "miyawaki2008 (NIfTI, blocks)",
        "miyawaki2008 (NIfTI, volumes)",
        "nsd (func1pt8mm)",
        "nsd (func1mm, HDF5, averages)",
        "nsd (fsaverage, standardized)",
        "scenes",
        "haxby2001",
        "haxby2001 (excerpt)",
        "haxby2001 (brain, volumes, no images)",
        "yamada2015",
        "arrays",
        "bids (volume, blocks)",
        "bids (volume, time series)",
        "bids (volume, betas)",
        "bids (surface)",
        "bids (grayordinates)",
        "cc2017",
        "cc2017 (volumes, averages)",
        "algonauts2021",
        "algonauts2021 (whole brain, averages)",
        "hcp7t",
        "hcp7t (averages, all grayordinates)",
        "things",
        "things (averages, ROIs)",
        "things (volumes, brain)",
        "laion_fmri",
        "laion_fmri (averages, brain)",
        "laion_fmri (standardized, no images)",
        "bold_moments",
        "bold_moments (averages, ROIs)",
        "bold_moments (fsaverage)",
    ],
)
def test_contract(readers, name, check):
    check(readers(name), max_samples=4 if name == "scenes" else 8)  # drawing and filming takes time


@pytest.mark.parametrize("check", reader_checks(), ids=str)
def test_contract_on_real_data(miyawaki_folder, check):
    check(Miyawaki2008Reader(miyawaki_folder))


def test_every_registered_reader_is_checked_here():
    """A reader that is added to the registry has to be added to the tests above."""
    images = {"scenes", "miyawaki2008", "nsd", "haxby2001", "yamada2015", "arrays", "bids"}
    images |= {"things", "laion_fmri", "bold_moments"}
    assert images | {"cc2017", "hcp7t", "algonauts2021"} == set(DATASETS._builtin)
