"""A session of NSD in full size: speed beside merely unpacking the same file, and peak memory. Run by ``make bench``.

``NEURORECON_NSD_TRIALS`` makes the session shorter, to try this file. Processor time is compared, because other work on
the machine does not change it.
"""

import gzip
import json
import os
import subprocess
import sys

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

pytestmark = pytest.mark.benchmark

SHAPE, TRIALS = (81, 104, 83), int(os.environ.get("NEURORECON_NSD_TRIALS", "750"))

#: Voxels of nsdgeneral of subject 1, and about as many as its brain mask holds.
MASK, BRAIN = 15724, 226000

SHARED = 50

BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"

MEASURE = """
import json, resource, sys, time
start = time.process_time()
{work}
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(json.dumps({{"seconds": time.process_time() - start, "gigabytes": peak}}))
"""

UNPACK = """
import gzip
with gzip.open(sys.argv[1]) as file:
    while file.read(2**20):
        pass
"""

BUILD = """
from neurorecon.datasets.recipe import Recipe
from neurorecon.store.build import build_store
options = {"mask": sys.argv[3], "image_size": 64}
build_store(Recipe(name="nsd", reader="nsd", root=sys.argv[1], options=options), sys.argv[2], progress=False)
"""

#: What a build costs apart from data: imports, tables.
IMPORTS = """
import neurorecon.store.build, neurorecon.datasets.nsd.reader
import PIL.Image, h5py, icechunk, nibabel, scipy.io, xarray, zarr
"""


def _measure(work, *arguments):
    script = MEASURE.format(work=work)
    found = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)], check=True, capture_output=True, text=True, timeout=3600
    )
    return json.loads(found.stdout)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """One subject, one session; betas are noise inside the brain and zero outside, as in NSD."""
    root = tmp_path_factory.mktemp("nsd-full")
    rng = np.random.default_rng(0)
    middle = np.argsort(((np.indices(SHAPE).reshape(3, -1).T - np.array(SHAPE) / 2) ** 2).sum(axis=1))
    affine = np.diag([1.8, 1.8, 1.8, 1.0])

    def volume(path, voxels):
        values = np.zeros(SHAPE, dtype=np.int16)
        values.flat[voxels] = 1
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(values, affine).to_filename(root / path)

    volume("nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz", middle[:MASK])
    volume("nsddata/ppdata/subj01/func1pt8mm/brainmask.nii.gz", middle[:BRAIN])
    order = np.arange(1, TRIALS + 1)
    pattern = np.ones((1, 1, TRIALS), dtype=np.uint8)
    (root / "nsddata/experiments/nsd").mkdir(parents=True)
    design = {"masterordering": order[None], "subjectim": np.tile(order, (8, 1)), "sharedix": order[None, :SHARED]}
    savemat(root / "nsddata/experiments/nsd/nsd_expdesign.mat", {**design, "stimpattern": pattern})
    (root / "nsddata_stimuli/stimuli/nsd").mkdir(parents=True)
    with h5py.File(root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", "w") as file:
        file.create_dataset("imgBrick", (73000, 425, 425, 3), np.uint8, chunks=(1, 425, 425, 3))
    (root / BETAS).mkdir(parents=True)
    path = root / BETAS / "betas_session01.nii.gz"
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((*SHAPE, TRIALS))
    header["magic"], header["vox_offset"] = b"n+1", 352
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    places = np.sort(np.ravel_multi_index(np.unravel_index(middle[:BRAIN], SHAPE), SHAPE, order="F"))
    with gzip.open(path, "wb", compresslevel=1) as file:  # written as a stream: it would take 2 GB otherwise
        file.write(header.binaryblock + bytes(4))
        for _ in range(TRIALS):
            values = np.zeros(int(np.prod(SHAPE)), dtype=np.int16)
            values[places] = rng.normal(150, 500, BRAIN)
            file.write(values.tobytes())
    return root


@pytest.mark.parametrize("mask", ["nsdgeneral", "brain"])
def test_build_beside_unpacking(session, tmp_path, mask):
    path = session / BETAS / "betas_session01.nii.gz"
    unpacked, imports = _measure(UNPACK, path), _measure(IMPORTS)
    built = _measure(BUILD, session, tmp_path / "nsd.icechunk", mask)
    work = built["seconds"] - imports["seconds"]
    print(
        f"\n| NSD session, {TRIALS} trials, {mask}: build | {work:.1f} s, peak {built['gigabytes']:.2f} GiB "
        f"| unpacking the file (gzip) | {unpacked['seconds']:.1f} s | {unpacked['seconds'] / work:.0%} of its speed |"
    )
    assert built["gigabytes"] < 3


def test_reading_beside_unpacking(session):
    """The reader alone, first for screening and then for all trials."""
    path = session / BETAS / "betas_session01.nii.gz"
    work = """
from neurorecon.datasets.nsd.reader import NsdReader
data = NsdReader(sys.argv[1]).subject("subj01")
print(data.read_responses(0, len(data.samples)).shape, file=sys.stderr)
"""
    unpacked, imports, read = _measure(UNPACK, path), _measure(IMPORTS), _measure(work, session)
    took = read["seconds"] - imports["seconds"]
    print(
        f"\n| NSD session, {TRIALS} trials, nsdgeneral: read | {took:.1f} s, peak {read['gigabytes']:.2f} GiB "
        f"| unpacking the file (gzip) | {unpacked['seconds']:.1f} s | {unpacked['seconds'] / took:.0%} of its speed |"
    )
    assert read["gigabytes"] < 3


def test_averages(session, tmp_path):
    """The same by means over trials, through a temporary file."""
    work = BUILD.replace('"image_size": 64', '"image_size": 64, "samples": "average"')
    built = _measure(work, session, tmp_path / "nsd.icechunk", "nsdgeneral")
    print(f"\n| NSD session, {TRIALS} trials, averages: build | {built['seconds']:.1f} s "
          f"| | peak {built['gigabytes']:.2f} GiB | |")  # fmt: skip
    assert built["gigabytes"] < 3


def test_opening_all_of_nsd(tmp_path):
    """Captions of all images: annotations are read piece by piece."""
    from neurorecon.datasets.nsd.stimuli import read_captions

    path = tmp_path / "captions_train2017.json"
    rows = [{"image_id": number // 5, "id": number, "caption": "A person rides a horse on the beach."} for number in
            range(590_000)]  # fmt: skip
    path.write_text(json.dumps({"info": {}, "images": [], "annotations": rows}))
    start = pd.Timestamp.now()
    found = read_captions([path], set(range(73_000)))
    seconds = (pd.Timestamp.now() - start).total_seconds()
    print(f"\n| captions of {len(found):,} images, {path.stat().st_size / 1e6:.0f} MB | {seconds:.1f} s | | | |")
