"""Bad input of every kind gives one clear error and exit code 2; neither the folder nor a store is changed.

Each row breaks the miniature of a data set in one way, or asks for something that is not there. What the message has to
say beside what was given, what was expected and what to do stands in the row.
"""

import gzip
import hashlib
import json
import os
import pickle
import shutil
from importlib import import_module

import numpy as np
import pandas as pd
import pytest

import neurorecon as nr
from neurorecon.datasets.recipe import Recipe
from neurorecon.registry import DATASETS
from neurorecon.store.build import build_store
from neurorecon.testing.miniature import MiniatureReader


def _hash(folder):
    """Return a digest of the names and bytes of all files."""
    found = hashlib.sha256()
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        found.update(str(path.relative_to(folder)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


@pytest.fixture(scope="session")
def miniatures(tmp_path_factory):
    """Return what writes the miniature of a data set once; not to be written into."""
    made = {}

    def tree(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            write = getattr(import_module(f"neurorecon.testing.layouts.{name}"), f"write_{name}")
            write(folder)
            made[name] = folder, _hash(folder)
        return made[name]

    return tree


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A finished store; not to be written into."""
    DATASETS.register("miniature", MiniatureReader)
    folder = tmp_path_factory.mktemp("bystander")
    recipe = Recipe(name="bystander", reader="miniature", options={"images": 8, "videos": 0})
    return build_store(recipe, folder / "bystander.icechunk", progress=False)


@pytest.fixture
def bystander(finished, tmp_path_factory):
    """A finished store that is to be replaced by a build that fails, and the digest of its files."""
    copy = shutil.copytree(finished, tmp_path_factory.mktemp("copy") / "bystander.icechunk")
    return copy, _hash(copy)


@pytest.fixture
def refuses(call, miniatures, bystander, tmp_path):
    """Build from a broken miniature and assert that it is refused as it should be."""

    def check(reader, words, options="", broken=None, layout=None):
        tree, digest = miniatures(layout or reader)
        if broken is not None:
            tree = shutil.copytree(tree, tmp_path / "tree")
            broken(tree)
            digest = _hash(tree)
        recipe = tmp_path / "bad.toml"
        recipe.write_text(f'name = "bad"\nreader = "{reader}"\n{options}\n')
        store, before = bystander
        found = call("build", recipe, "--root", tree, "--out", store, "--overwrite", "--json")
        _assert_clear(found, words)
        assert _hash(tree) == digest, "the data set was changed"
        assert _hash(store) == before, "the store was changed"

    return check


def _assert_clear(found, words):
    assert found.exit_code == 2, f"{found.exception!r}\n{found.stderr}"
    assert found.stderr.count("neurorecon: error:") == 1
    assert "Traceback" not in found.stderr
    for part in ("  given:    ", "  expected: ", "  to do:    ", *words):
        assert part in found.stderr, f"{part!r} is not in:\n{found.stderr}"
    assert json.loads(found.stdout)["error"] in found.stderr


# -- ways to break things ---------------------------------------------------------------------------------------------


def _remove(name):
    return lambda root: [path.unlink() for path in _at(root, name)]


def _instead(name, make):
    """Put something else in the place of a file: ``make(path)``."""

    def edit(root):
        for path in _at(root, name):
            path.unlink()
            make(path)

    return edit


def _parts(root):
    """Turn every run into its magnitude and its phase."""
    for path in _at(root, "derivatives/fmriprep/sub-*/ses-*/func/*_desc-preproc_bold.nii.gz"):
        for part in ("mag", "phase"):
            shutil.copy(path, path.with_name(path.name.replace("_space-", f"_part-{part}_space-")))
        path.unlink()


def _cut(name, share=0.5):
    """Keep the first part of a file, as an interrupted download does."""
    return lambda root: [
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)]) for path in _at(root, name)
    ]


def _write(name, content):
    return lambda root: [path.write_bytes(content) for path in _at(root, name)]


def _edit(name, change):
    """Change a table: ``change(table)`` returns the new one."""

    def edit(root):
        for path in _at(root, name):
            separator = "\t" if path.suffix == ".tsv" else ","
            change(pd.read_csv(path, sep=separator)).to_csv(path, sep=separator, index=False)

    return edit


def _array(name, change):
    """Change an array: ``change(values)`` returns the new one."""

    def edit(root):
        for path in _at(root, name):
            np.save(path, change(np.load(path)))

    return edit


def _image(name, change):
    """Change an image: ``change(values, affine)`` returns both anew."""

    def edit(root):
        import nibabel

        for path in _at(root, name):
            image = nibabel.load(path)
            values, affine = change(np.asarray(image.dataobj), image.affine.copy())
            content = nibabel.Nifti1Image(values, affine).to_bytes()
            path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)

    return edit


def _hdf5(name, change):
    """Change an HDF5 file: ``change(file)`` works on it."""

    def edit(root):
        import h5py

        for path in _at(root, name):
            with h5py.File(path, "r+") as file:
                change(file)

    return edit


def _mat(name, **arrays):
    """Replace arrays of a MATLAB file of version 5; None takes one away."""

    def edit(root):
        from scipy.io import loadmat, savemat

        for path in _at(root, name):
            content = {key: values for key, values in loadmat(path).items() if key[0] != "_"}
            new = {key: make(content[key]) if callable(make) else make for key, make in arrays.items()}
            content |= new
            savemat(path, {key: values for key, values in content.items() if values is not None})

    return edit


def _at(root, name):
    found = sorted(root.glob(name))
    assert found, f"the miniature holds no {name}"
    return found


def _assign(**columns):
    return lambda table: table.assign(**columns)


def _first(table, column, value):
    table = table.astype({column: object})
    table.loc[0, column] = value
    return table


def _set(values, where, what):
    values = values.copy()
    values[where] = what
    return values


class _Hostile:
    """Writes a file when it is unpickled."""

    def __reduce__(self):
        return open, ("owned", "w")


_HOSTILE = pickle.dumps(_Hostile())


def _hostile_npy(name):
    return lambda root: [
        np.save(path, np.array([_Hostile()], dtype=object), allow_pickle=True) for path in _at(root, name)
    ]


def _hostile_npz(name):
    def edit(root):
        for path in _at(root, name):
            path.unlink()
            np.savez(path.with_suffix(".npz"), responses=np.array([_Hostile()], dtype=object))

    return edit


def _cut_npz(name):
    def edit(root):
        for path in _at(root, name):
            values = np.load(path)
            path.unlink()
            np.savez_compressed(path.with_suffix(".npz"), responses=values)
            whole = path.with_suffix(".npz").read_bytes()
            path.with_suffix(".npz").write_bytes(whole[: len(whole) // 2])

    return edit


# -- the tables -------------------------------------------------------------------------------------------------------

ONE, ALL = "sub01/responses.npy", "sub0?/responses.npy"

ARRAYS = {
    "no responses": (["contains no responses", "responses.npy"], "", _remove(ALL)),
    "no samples": (["contains no table of samples", "sub01"], "", _remove("sub01/samples.csv")),
    "content that DataLad has not fetched": (
        ["the content of", "sub02/responses.npy", "datalad get"],
        "",
        _instead("sub02/responses.npy", lambda path: path.symlink_to("../.git/annex/objects/a/b/MD5E-s1.npy")),
    ),
    "a subject that is a link to nothing": (
        ["sub03 is a link that leads nowhere"],
        "",
        lambda root: (root / "sub03").symlink_to("../elsewhere/sub03"),
    ),
    "a pipe": (["sub01/samples.csv is not a file", "named pipe"], "", _instead("sub01/samples.csv", os.mkfifo)),
    "a table of Windows": (
        ["stimuli.csv", "0xe4 in line 2", "Windows-1252"],
        "",
        _write("stimuli.csv", "id,category\ns1,B\u00e4r\n".encode("cp1252")),
    ),
    "a table of Excel": (
        ["samples.csv", "semicolons", "decimals with a point"],
        "",
        _write("sub01/samples.csv", b"stimulus;time\ns1;0,5\n"),
    ),
    "a trial of NaN": (
        ["1 samples of sub01 have no responses", "no finite value in row 8", "stimulus"],
        "",
        _array(ONE, lambda values: np.where(np.arange(len(values))[:, None] == 7, np.nan, values)),
    ),
    "a mask of probabilities": (
        ["sub01/mask.nii.gz is not a mask", "fractions", "binarize_img"],
        "",
        _image("sub01/mask.nii.gz", lambda values, affine: (values * 0.3, affine)),
    ),
    "sessions that do not fit": (
        ["2147483648", "2,147,483,647"],
        "",
        _edit("sub01/samples.csv", lambda table: table.assign(session=2**31)),
    ),
    "cut array": (["sub01/responses.npy cannot be read", "copy or download"], "", _cut(ONE)),
    "no array at all": (["sub01/responses.npy cannot be read"], "", _write(ONE, b"")),
    "hostile npy": (["Python objects instead of numbers"], "", _hostile_npy(ONE)),
    "hostile npz": (["Python objects instead of numbers", "could run any code"], "", _hostile_npz(ONE)),
    "a pickle called npy": (["sub01/responses.npy"], "", _write(ONE, _HOSTILE)),
    "cut npz": (["sub01/responses.npz cannot be read"], "", _cut_npz(ONE)),
    "two files of responses": (
        ["contains responses more than once"],
        "",
        lambda root: np.savez(root / "sub01" / "responses.npz", responses=np.ones(3)),
    ),
    "text for numbers": (["does not contain real numbers"], "", _array(ONE, lambda values: values.astype(str))),
    "complex numbers": (
        ["does not contain real numbers", "complex"],
        "",
        _array(ONE, lambda values: values.astype(complex)),
    ),
    "three axes": (["sub01/responses.npy"], "", _array(ONE, lambda values: values[:, :, None])),
    "no rows": (["is empty"], "", _array(ONE, lambda values: values[:0])),
    "axes swapped": (["sub01/responses.npy", "transpose"], "", _array(ONE, lambda values: values.T)),
    "a row too few": (["sub01/responses.npy"], "", _array(ONE, lambda values: values[:-1])),
    "a voxel too few": (
        ["voxels.csv does not match", "50 rows for 49 voxels"],
        "",
        _array(ONE, lambda values: values[:, :-1]),
    ),
    "nothing but NaN": (
        ["no voxel of sub01 can be used", "not finite"],
        "",
        _array(ONE, lambda values: values * np.nan),
    ),
    "nothing but constants": (["no voxel of sub01 can be used", "constant"], "", _array(ONE, np.ones_like)),
    "no column stimulus": (["stimulus"], "", _edit("sub01/samples.csv", lambda table: table.drop(columns="stimulus"))),
    "stimuli nobody knows": (
        ["that are not in the table of stimuli", "nothing"],
        "",
        _edit("sub01/samples.csv", lambda table: _first(table, "stimulus", "nothing")),
    ),
    "a stimulus in train and test": (
        ["split"],
        "",
        _edit(
            "sub01/samples.csv", lambda table: table.assign(split=np.where(np.arange(len(table)) % 2, "train", "test"))
        ),
    ),
    "a sample in no split": (
        ["has no split"],
        "",
        _edit("sub01/samples.csv", lambda table: _first(table, "split", "")),
    ),
    "runs that are no numbers": (["'run'", "first"], "", _edit("sub01/samples.csv", _assign(run="first"))),
    "repeats not numbered consecutively": (
        ["repeats are not numbered consecutively"],
        "",
        _edit("sub01/samples.csv", _assign(repeat=1)),
    ),
    "a table that is none": (["stimuli.csv"], "", _write("stimuli.csv", b"\xff\xfe\x00\x01" * 9)),
    "an empty table": (["samples.csv"], "", _write("sub01/samples.csv", b"")),
    "duplicate stimuli": (
        ["occur more than once"],
        "",
        _edit("stimuli.csv", lambda table: pd.concat([table, table[:1]])),
    ),
    "an image too few": (["images.npy", "table of stimuli"], "", _array("images.npy", lambda values: values[:-1])),
    "images of five colors": (["images.npy"], "", _array("images.npy", lambda values: values[..., [0, 1, 2, 0, 1]])),
    "images cut off": (["images.npy cannot be read"], "", _cut("images.npy")),
    "voxels outside the mask": (
        ["outside the mask"],
        "",
        _image(
            "sub01/mask.nii.gz",
            lambda values, affine: (
                _set(values, values > 0, 0) | (np.arange(values.size).reshape(values.shape) == 0),
                affine,
            ),
        ),
    ),
    "a mask with swapped axes": (
        ["outside the", "axes"],
        "",
        _image("sub01/mask.nii.gz", lambda values, affine: (values.T, affine)),
    ),
    "an empty mask": (
        ["mask.nii.gz is not a usable mask", "0 nonzero voxels"],
        "",
        _image("sub01/mask.nii.gz", lambda values, affine: (values * 0, affine)),
    ),
    "a cut mask": (["mask.nii.gz cannot be read"], "", _cut("sub01/mask.nii.gz")),
    "voxels twice": (
        ["occur more than once"],
        "",
        _edit("sub01/voxels.csv", lambda table: table.assign(i=table["i"][0], j=table["j"][0], k=table["k"][0])),
    ),
    "voxels below zero": (["'i'"], "", _edit("sub01/voxels.csv", _assign(i=-1))),
    "voxels between voxels": (["'i'", "integers"], "", _edit("sub01/voxels.csv", _assign(i=0.5))),
    "an option nobody knows": (["voxel: Extra inputs", "keys: "], "[options]\nvoxel = 3", None),
    "an option out of range": (["test_share"], "[options]\ntest_share = 1.5", None),
    "stimuli to test on nobody knows": (
        ["test_stimuli", "nothing"],
        '[options]\ntest_stimuli = ["nothing"]',
        _edit("sub0?/samples.csv", lambda table: table.drop(columns="split")),
    ),
    "a group of unknown ROIs": (["the group of ROIs 'ventral'", "V9"], '[roi_groups]\nventral = ["V9"]', None),
    "an unknown target": (["unknown target 'clip'"], 'targets = ["clip"]', None),
    "no time series": (["are not consecutive"], "[options]\nrepetition_time = 3.0", None),
    "a mesh nobody knows": (
        ["mesh", "fsaverage5"],
        '[options]\nmesh = "fsaverage9"',
        _edit(
            "sub0?/voxels.csv",
            lambda table: table.drop(columns=["i", "j", "k"]).assign(hemisphere="left", vertex=np.arange(len(table))),
        ),
    ),
    "a hemisphere nobody knows": (
        ["hemisphere", "middle"],
        '[options]\nmesh = "fsaverage5"',
        _edit(
            "sub0?/voxels.csv",
            lambda table: table.drop(columns=["i", "j", "k"]).assign(hemisphere="middle", vertex=np.arange(len(table))),
        ),
    ),
    "a session that does not fit": (
        ["'session'", "2147483648", "to 2,147,483,647"],
        "",
        _edit("sub01/samples.csv", _assign(session=2147483648)),
    ),
    "a run that does not fit": (
        ["'run'", "-3000000000"],
        "",
        _edit("sub01/samples.csv", lambda table: table.assign(run=np.where(table.index == 7, -3_000_000_000, 1))),
    ),
    "times of the clock": (
        ["'time'", "from the onset of each run"],
        "",
        _edit("sub01/samples.csv", lambda table: table.assign(time=1.7e9 + table.index * 4.1)),
    ),
    "an affine of rows of different lengths": (["4 x 4"], "[options]\naffine = [[1, 0], [0, 1, 2]]", None),
    "an affine of text": (["affine"], '[options]\naffine = [["a"]]', None),
    "a header of a negative shape": (
        ["sub01/responses.npy cannot be read"],
        "",
        lambda root: (root / ONE).write_bytes((root / ONE).read_bytes().replace(b"(100, 50), ", b"(-100, 50),", 1)),
    ),
    "a header of two negative sizes": (
        ["sub01/responses.npy cannot be read"],
        "",
        lambda root: (root / ONE).write_bytes(
            (root / ONE).read_bytes().replace(b"(100, 50), }  ", b"(-100, -50), }", 1)
        ),
    ),
    "a header of a huge shape": (
        ["sub01/responses.npy cannot be read"],
        "",
        lambda root: (root / ONE).write_bytes(
            (root / ONE).read_bytes().replace(b"(100, 50), }" + b" " * 30, b"(1" + b"0" * 30 + b", 50), }", 1)
        ),
    ),
    "a circular group": (
        ["the group of ROIs 'a'", "a -> b -> c -> a"],
        '[roi_groups]\na = ["b", "V1"]\nb = ["V1", "c"]\nc = ["a"]',
        None,
    ),
    "a group of itself": (["the group of ROIs 'a'", "a -> a"], '[roi_groups]\na = ["a"]', None),
    "a group that leads into a circle": (["the group of ROIs 'b'"], '[roi_groups]\na = ["b"]\nb = ["b"]', None),
    "an empty group": (["the group of ROIs 'a'", "at least one member"], "[roi_groups]\na = []", None),
    "a group without a name": (["the group of ROIs ''", "printable"], '[roi_groups]\n"" = ["V1"]', None),
    "a group named by a space": (["the group of ROIs ' '"], '[roi_groups]\n" " = ["V1"]', None),
    "a group named by a line": (["printable characters"], '[roi_groups]\n"a\\nb" = ["V1"]', None),
    "a group named as a union": (["'V1+V2'", "joins ROIs"], '[roi_groups]\n"V1+V2" = ["V1"]', None),
    "a group named as a hemisphere": (["'lh.V'", "hemisphere"], '[roi_groups]\n"lh.V" = ["V1"]', None),
    "a group named as an ROI": (["'V1'", "a name that no ROI has"], '[roi_groups]\nV1 = ["V2"]', None),
    "a group of a nameless member": (["members among"], '[roi_groups]\na = [""]', None),
    "a reserved name": (
        ["name of a subject is not allowed", "targets"],
        "",
        lambda root: (root / "sub01").rename(root / "targets"),
    ),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays(refuses, case, tmp_path):
    refuses("arrays", *ARRAYS[case])
    assert not (tmp_path / "owned").exists(), "a pickle was run"


NSD_DESIGN = "nsddata/experiments/nsd/nsd_expdesign.mat"
NSD_TABLE = "nsddata/experiments/nsd/nsd_stim_info_merged"
NSD_BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session02.nii.gz"
NSD_MASK = "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz"
NSD_IMAGES = "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"


def _shift(values, affine):
    affine[0, 3] += 3
    return values, affine


def _swap(values, affine):
    return np.swapaxes(values, 0, 2), affine


def _hostile_pickle(name):
    """Put a hostile pickle in place of the table."""
    return lambda root: (_remove(f"{name}.csv")(root), (root / f"{name}.pkl").write_bytes(_HOSTILE))


NSD = {
    "no design": (["design", "nsd_expdesign.mat"], "", _remove(NSD_DESIGN)),
    "a cut design": (["nsd_expdesign.mat cannot be read"], "", _cut(NSD_DESIGN)),
    "a design without images": (["lacks subjectim"], "", _mat(NSD_DESIGN, subjectim=None)),
    "a design that points nowhere": (
        ["masterordering"],
        "",
        _mat(NSD_DESIGN, masterordering=lambda values: values + np.uint16(60_000)),
    ),
    "a design of other trials": (
        ["do not match the design"],
        "",
        _mat(NSD_DESIGN, stimpattern=lambda values: _set(values, 1, 0)),
    ),
    "no betas": (["no betas in this version", "betas_fithrf"], '[options]\nbetas = "betas_fithrf"', None),
    "cut betas": (["betas_session02.nii.gz cannot be read"], "", _cut(NSD_BETAS)),
    "betas that are none": (["betas_session02.nii.gz"], "", _write(NSD_BETAS, b"no NIfTI")),
    "betas with swapped axes": (["betas_session02.nii.gz", "shape"], "", _image(NSD_BETAS, _swap)),
    "betas of fewer trials": (
        ["do not match the design", "session 2"],
        "",
        _image(NSD_BETAS, lambda values, affine: (values[..., :-1], affine)),
    ),
    "betas of text": (
        ["betas_session02.nii.gz"],
        "",
        _image(NSD_BETAS, lambda values, affine: (values.astype(np.int32), affine)),
    ),
    "constant betas": (
        ["no voxel of subj01 can be used", "constant"],
        "",
        _image(NSD_BETAS, lambda values, affine: (values * 0, affine)),
    ),
    "a mask on a different grid": (["nsdgeneral.nii.gz", "a different grid", "affine"], "", _image(NSD_MASK, _shift)),
    "a mask with swapped axes": (["nsdgeneral.nii.gz", "another order"], "", _image(NSD_MASK, _swap)),
    "an empty mask": (["is empty"], "", _image(NSD_MASK, lambda values, affine: (values * 0, affine))),
    "a cut mask": (["nsdgeneral.nii.gz cannot be read"], "", _cut(NSD_MASK)),
    "a mask nobody knows": (["V9"], '[options]\nmask = "V9"', None),
    "a mask file that is not there": (["mine.nii.gz"], '[options]\nmask = "mine.nii.gz"', None),
    "a subject that is not there": (["unknown subject 'subj03'"], '[options]\nsubjects = ["subj03"]', None),
    "a subject that DataLad did not install": (
        ["there is nothing in", "subj03", "datalad get -n"],
        "",
        lambda root: (root / "nsddata_betas/ppdata/subj03").mkdir(),
    ),
    "a session of imagery that is not there": (
        ["nsdimagerybetas_fithrf_GLMdenoise_RR", "task"],
        '[options]\ntask = ["core", "imagery"]',
        None,
    ),
    "an unknown task": (["task", "resting"], '[options]\ntask = "resting"', None),
    "no task": (["at least one of", "synthetic"], "[options]\ntask = []", None),
    "a task that is a number": (["task"], "[options]\ntask = 3", None),
    "sessions that are not there": (["sessions of subj01 are missing", "4-9"], '[options]\nsessions = "1-9"', None),
    "sessions that are no range": (["sessions"], '[options]\nsessions = "first"', None),
    "an unknown split": (["split"], '[options]\nsplit = "random"', None),
    "a split that is told nothing": (["test_sessions"], '[options]\nsplit = "sessions"', None),
    "test sessions that are not there": (["40"], '[options]\nsplit = "sessions"\ntest_sessions = [40]', None),
    "a category nobody knows": (["sphinx"], '[options]\nsplit = "category"\ntest_category = "sphinx"', None),
    "an unknown space": (["space"], '[options]\nspace = "talairach"', None),
    "no images": (["nsd_stimuli.hdf5"], "", _remove(NSD_IMAGES)),
    "cut images": (["nsd_stimuli.hdf5 cannot be read"], "", _cut(NSD_IMAGES)),
    "images under another name": (
        ["contains no images"],
        "",
        _hdf5(NSD_IMAGES, lambda file: file.move("imgBrick", "images")),
    ),
    "doubles in the table of images": (
        ["nsd_stim_info_merged.csv", "twice"],
        "",
        _edit(f"{NSD_TABLE}.csv", lambda table: pd.concat([table, table[:1]])),
    ),
    "a table that contradicts the design": (
        ["nsd_stim_info_merged.csv", "shared1000"],
        "",
        _edit(f"{NSD_TABLE}.csv", _assign(shared1000=True)),
    ),
    "a hostile pickle": (["nsd_stim_info_merged.pkl"], "", _hostile_pickle(NSD_TABLE)),
    "cut captions": (["captions_train2017.json"], "", _cut("annotations/captions_train2017.json")),
}

BIDS_ONE = "derivatives/fmriprep/sub-01/ses-01/func/*_run-1_*"

BIDS = {
    "magnitude and phase": (
        ["several files of one run, which differ in 'part'", "part-mag, part-phase", "entities"],
        "",
        _parts,
    ),
    "a subject that DataLad did not install": (
        ["there is nothing in", "sub-09", "datalad get -n"],
        "",
        lambda root: (root / "derivatives/fmriprep/sub-09").mkdir(),
    ),
    "captions of other stimuli": (
        ["said.tsv has captions of none of the stimuli", "apple"],
        '[options]\ncaptions = "said.tsv"',
        lambda root: (root / "said.tsv").write_text("stimulus\tcaption\napple\tan apple\n"),
    ),
    "events that DataLad has not fetched": (
        ["the content of", "run-1_events.tsv", "datalad get"],
        "",
        _instead(
            "sub-01/ses-01/func/*_run-1_events.tsv",
            lambda path: path.symlink_to("../../../.git/annex/objects/a/b/MD5E-s1.tsv"),
        ),
    ),
    "images elsewhere": (
        ["lies outside of its folder", "../../secret.png"],
        "",
        _edit(
            "sub-01/ses-01/func/*_run-1_events.tsv",
            lambda table: table.assign(stim_file=table["stim_file"].where(table.index != 5, "../../secret.png")),
        ),
    ),
    "no derivatives": (["no preprocessed runs"], "", lambda root: shutil.rmtree(root / "derivatives")),
    "no events": (["events", "run-1"], "", _remove("sub-01/ses-01/func/*_run-1_events.tsv")),
    "events without onsets": (
        ["lacks onset"],
        "",
        _edit("sub-01/ses-01/func/*_run-1_events.tsv", lambda table: table.drop(columns="onset")),
    ),
    "onsets that are no numbers": (
        ["invalid onset", "soon"],
        "",
        _edit("sub-01/ses-01/func/*_run-1_events.tsv", lambda table: _first(table, "onset", "soon")),
    ),
    "events behind the end": (
        ["outside the run"],
        "",
        _edit("sub-01/ses-01/func/*_run-1_events.tsv", lambda table: table.assign(onset=table["onset"] + 1e4)),
    ),
    "a cut run": (["_bold.nii.gz cannot be read"], "", _cut(f"{BIDS_ONE}desc-preproc_bold.nii.gz")),
    "a run that is none": (["_bold.nii.gz"], "", _write(f"{BIDS_ONE}desc-preproc_bold.nii.gz", b"no NIfTI")),
    "a run on a different grid": (["a different grid"], "", _image(f"{BIDS_ONE}desc-preproc_bold.nii.gz", _shift)),
    "a run with swapped axes": (["another"], "", _image(f"{BIDS_ONE}desc-preproc_bold.nii.gz", _swap)),
    "a run without time": (
        ["_bold.nii.gz"],
        "",
        _image(f"{BIDS_ONE}desc-preproc_bold.nii.gz", lambda values, affine: (values[..., 0], affine)),
    ),
    "no brain mask": (["mask"], "", _remove(f"{BIDS_ONE}desc-brain_mask.nii.gz")),
    "an empty mask": (
        ["mask"],
        "",
        _image("derivatives/**/*desc-brain_mask.nii.gz", lambda values, affine: (values * 0, affine)),
    ),
    "a mask on a different grid": (
        ["mask", "a different grid"],
        "",
        _image(f"{BIDS_ONE}desc-brain_mask.nii.gz", _shift),
    ),
    "a sidecar that is none": (["_bold.json"], "", _write(f"{BIDS_ONE}desc-preproc_bold.json", b"{")),
    "no confounds": (
        ["confounds"],
        '[options]\nconfounds = ["trans_x"]',
        _remove(f"{BIDS_ONE}desc-confounds_timeseries.tsv"),
    ),
    "a confound nobody knows": (["unknown confound", "trans_q"], '[options]\nconfounds = ["trans_q"]', None),
    "confounds of another run": (
        ["confounds_timeseries.tsv"],
        '[options]\nconfounds = ["trans_x"]',
        _edit(f"{BIDS_ONE}desc-confounds_timeseries.tsv", lambda table: table[:-1]),
    ),
    "a subject that is not there": (["unknown subject '09'"], '[options]\nsubjects = ["09"]', None),
    "a task that is not there": (["unknown task 'music'"], '[options]\ntasks = ["music"]', None),
    "a space that is not there": (["unknown space", "T1w"], '[options]\nspace = "T1w"', None),
    "a column nobody knows": (["mood"], '[options]\nstimulus_column = "mood"', None),
    "two rules for the split": (["at most one of"], '[options]\nsplit = { runs = ["1"], sessions = ["01"] }', None),
    "test runs that are not there": (["unknown run", "99"], '[options]\nsplit = { runs = ["99"] }', None),
    "an atlas that is not there": (["mine.nii.gz"], '[options.rois]\nmine = "mine.nii.gz"', None),
    "an atlas on a different grid": (
        ["visual_mask.nii.gz", "a different grid"],
        '[options.rois]\nvisual = "derivatives/fmriprep/atlases/visual_mask.nii.gz"',
        _image("derivatives/fmriprep/atlases/visual_mask.nii.gz", _shift),
    ),
    "no images": (["stimuli"], "", _remove("stimuli/**/*.png")),
    "an image that is none": (
        ["circle001.png cannot be read as an image"],
        "",
        _write("stimuli/**/*.png", b"no image"),
    ),
}

HAXBY = {
    "no subjects": (["haxby2001"], "", lambda root: [shutil.rmtree(path) for path in root.glob("subj*")]),
    "no labels": (["labels.txt is missing"], "", _remove("subj1/labels.txt")),
    "labels that are none": (["labels.txt"], "", _write("subj1/labels.txt", b"\xff\xfe nothing")),
    "labels of other volumes": (
        ["labels do not match", "bold.nii.gz"],
        "",
        lambda root: (root / "subj1" / "labels.txt").write_text("labels chunks\nrest 0\n"),
    ),
    "no volumes": (["bold.nii.gz is missing"], "", _remove("subj1/bold.nii.gz")),
    "cut volumes": (["bold.nii.gz cannot be read"], "", _cut("subj1/bold.nii.gz")),
    "one volume": (
        ["not a series of volumes"],
        "",
        _image("subj1/bold.nii.gz", lambda values, affine: (values[..., 0], affine)),
    ),
    "constant volumes": (
        ["no usable voxel"],
        "",
        _image("subj1/bold.nii.gz", lambda values, affine: (np.ones_like(values), affine)),
    ),
    "no mask": (["mask4_vt.nii.gz is missing"], "", _remove("subj1/mask4_vt.nii.gz")),
    "an empty mask": (
        ["mask4_vt.nii.gz is not a usable mask"],
        "",
        _image("subj1/mask4_vt.nii.gz", lambda values, affine: (values * 0, affine)),
    ),
    "a mask on a different grid": (
        ["mask4_vt.nii.gz", "a different grid"],
        "",
        _image("subj1/mask4_vt.nii.gz", _shift),
    ),
    "a mask with swapped axes": (["mask4_vt.nii.gz", "another order"], "", _image("subj1/mask4_vt.nii.gz", _swap)),
    "an option nobody knows": (["mask: Extra inputs"], '[options]\nmask = "vt"', None),
}

YAMADA = {
    "does not contain the data": (["S2_figureImage.mat"], "", _remove("S2_figureImage.mat")),
    "a cut recording": (["S2_figureImage.mat cannot be read"], "", _cut("S2_figureImage.mat")),
    "a recording that is none": (["S2_figureImage.mat cannot be read"], "", _write("S2_figureImage.mat", _HOSTILE)),
    "no responses": (["without D/data"], "", _hdf5("S2_figureImage.mat", lambda file: file.pop("D/data"))),
    "axes swapped": (
        ["the axes are swapped"],
        "",
        _hdf5("S2_figureImage.mat", lambda file: file["D"].create_dataset("data", data=file["D"].pop("data")[()].T)),
    ),
    "runs beyond the end": (
        ["D/inds_runs"],
        "",
        _hdf5("S2_figureImage.mat", lambda file: file["D/inds_runs"].write_direct(file["D/inds_runs"][()] + 5)),
    ),
    "no list of voxels": (["S2_outlierVoxInd.mat is missing"], "", _remove("S2_outlierVoxInd.mat")),
    "voxels that are not there": (
        ["numbers of voxels"],
        "",
        _mat("S2_outlierVoxInd.mat", afterOutlierVoxInd=np.array([[1, 999]])),
    ),
}

THINGS_TABLE, THINGS_VOXELS = "betas_csv/sub-01_ResponseData.h5", "betas_csv/sub-01_VoxelMetadata.csv"
THINGS_TRIALS, THINGS_MASK = "betas_csv/sub-01_StimulusMetadata.csv", "brainmasks/sub-01_*"
THINGS_RUN = "betas_vol/sub-01/ses-things02/*_run-01_"


def _block(change):
    """Change the block of responses of a table that pandas wrote: ``change(values)`` returns the new one."""

    def edit(file):
        group = file["ResponseData"]
        group.create_dataset("block0_values", data=change(group.pop("block0_values")[()]))

    return _hdf5(THINGS_TABLE, edit)


THINGS = {
    "an empty folder": (["responses of THINGS-fMRI", "betas_csv/"], "", lambda root: shutil.rmtree(root / "betas_csv")),
    "no table of responses": (["sub-01_ResponseData.h5 is missing"], "", _remove(THINGS_TABLE)),
    "cut responses": (["sub-01_ResponseData.h5 cannot be read"], "", _cut(THINGS_TABLE)),
    "trials and voxels swapped": (["does not match the tables", "block0_values (96, 960)"], "", _block(np.transpose)),
    "a trial too few": (["does not match the tables", "(960, 95)"], "", _block(lambda values: values[:, 1:])),
    "no block of responses": (
        ["does not match the tables", "block1_values"],
        "",
        _hdf5(THINGS_TABLE, lambda file: file.pop("ResponseData/block0_values")),
    ),
    "NaN everywhere": (["no voxel of sub-01", "not finite"], "", _block(lambda values: np.full_like(values, np.nan))),
    "voxels in another order": (
        ["another order", "voxel_id"],
        "",
        _edit(THINGS_VOXELS, lambda table: table.assign(voxel_id=table["voxel_id"][::-1].to_numpy())),
    ),
    "a voxel twice": (
        ["lists a voxel twice"],
        "",
        _edit(THINGS_VOXELS, lambda table: table.assign(voxel_z=table["voxel_z"].where(table.index > 1, 3))),
    ),
    "voxels outside of the brain": (
        ["does not match sub-01_space-T1w_brainmask.nii.gz", "outside of the mask"],
        "",
        _edit(THINGS_VOXELS, lambda table: table.assign(voxel_x=table["voxel_x"] + 9)),
    ),
    "no ROI": (
        ["no ROIs to choose", 'voxels = "brain"'],
        "",
        _edit(THINGS_VOXELS, lambda table: table.iloc[:, :13]),
    ),
    "cut table of voxels": (["sub-01_VoxelMetadata.csv"], "", _write(THINGS_VOXELS, b'voxel_id,"voxel_x')),
    "a cut mask": (["brainmask.nii.gz cannot be read"], "", _cut(THINGS_MASK)),
    "catch trials": (
        ["trials of another kind", "'catch'"],
        "",
        _edit(THINGS_TRIALS, lambda table: table.assign(trial_type=table["trial_type"].replace("test", "catch"))),
    ),
    "no concepts": (["concept"], "", _edit(THINGS_TRIALS, lambda table: table.drop(columns="concept"))),
    "an image of two concepts": (
        ["images occur more than once"],
        "",
        _edit(THINGS_TRIALS, lambda table: table.assign(concept=["dog"] * 40 + ["cat"] * 56)),
    ),
    "an image elsewhere": (
        ["lies outside of its folder"],
        "",
        _edit(THINGS_TRIALS, lambda table: table.assign(stimulus="../../../" + table["stimulus"] + "_.jpg")),
    ),
    "an image is missing": (["1 of 80 images are missing"], "", _remove("images_THINGS/object_images/*/*_20s.jpg")),
    "a cut image": (["_20s.jpg"], "", _cut("images_THINGS/object_images/*/*_20s.jpg", 0.02)),
    "an unknown subject": (["sub-07", "sub-01, sub-02"], '[options]\nsubjects = ["sub-07"]', None),
    "means of volumes": (["from the table only"], '[options]\nresponses = "volume"\nsamples = "average"', None),
    "volumes without a mask": (
        ["brainmask.nii.gz is missing"],
        '[options]\nresponses = "volume"',
        _remove(THINGS_MASK),
    ),
    "a volume too few": (
        ["wrong shape", "conditions.tsv"],
        '[options]\nresponses = "volume"',
        _image(THINGS_RUN + "betas.nii.gz", lambda values, affine: (values[..., 1:], affine)),
    ),
    "volumes elsewhere": (
        ["on a different grid than the brain mask"],
        '[options]\nresponses = "volume"',
        _image(THINGS_RUN + "betas.nii.gz", _shift),
    ),
    "a run without conditions": (
        ["conditions.tsv is missing"],
        '[options]\nresponses = "volume"',
        _remove(THINGS_RUN + "conditions.tsv"),
    ),
}

LAION = "derivatives/glmsingle-tedana/sub-01/"
LAION_BETAS = LAION + "ses-02/func/*SingletrialBetas_statmap.nii.gz"
LAION_TRIALS = LAION + "ses-02/func/*_trials.tsv"
LAION_SPLIT = "splits/sub-01/random_0.json"


def _json(name, change):
    """Change a JSON file: ``change(content)`` works on it."""

    def edit(root):
        for path in _at(root, name):
            content = json.loads(path.read_text())
            change(content)
            path.write_text(json.dumps(content))

    return edit


LAION_FMRI = {
    "an empty folder": (
        ["responses of LAION-fMRI", "SingletrialBetas"],
        "",
        lambda root: shutil.rmtree(root / "derivatives"),
    ),
    "cut betas": (["statmap.nii.gz cannot be read"], "", _cut(LAION_BETAS)),
    "a trial too few": (
        ["wrong shape", "a volume for each row"],
        "",
        _image(LAION_BETAS, lambda values, affine: (values[..., 1:], affine)),
    ),
    "betas elsewhere": (["on a different grid than the map of R2"], "", _image(LAION_BETAS, _shift)),
    "no trials": (["_trials.tsv is missing"], "", _remove(LAION_TRIALS)),
    "a beta twice": (
        ["each beta_index from 0 once"],
        "",
        _edit(LAION_TRIALS, lambda table: table.assign(beta_index=1)),
    ),
    "runs without numbers": (
        ["a number in each run"],
        "",
        _edit(LAION_TRIALS, lambda table: table.assign(run="first")),
    ),
    "an image nobody knows": (
        ["lacks images that were shown", "unknown.jpg"],
        "",
        _edit(LAION_TRIALS, lambda table: table.assign(label=table["label"].where(table.index > 0, "unknown.jpg"))),
    ),
    "no R2": (["R2mean_statmap.nii.gz is missing"], "", _remove(LAION + "*R2mean*")),
    "R2 too low": (["no masks of ROIs"], "[options]\nmin_rsquare = 99.0", None),
    "a ceiling elsewhere": (["Noiseceiling12rep", "different grid"], "", _image(LAION + "*12rep*", _shift)),
    "an ROI of fractions": (
        ["not a mask", "fractions"],
        "",
        _image("derivatives/rois/sub-01/face/*", lambda values, affine: (values * np.float32(0.3), affine)),
    ),
    "no ROIs": (["no ROIs of sub-01"], "", lambda root: shutil.rmtree(root / "derivatives/rois")),
    "an ROI twice": (
        ["ROI of the same name", "FFA1"],
        "",
        lambda root: shutil.copytree(root / "derivatives/rois/sub-01/face", root / "derivatives/rois/sub-01/body2"),
    ),
    "no splits": (
        ["splits of LAION-fMRI are missing", "laion_fmri/splits/data"],
        "",
        lambda root: shutil.rmtree(root / "splits"),
    ),
    "a split is missing": (["random_0.json is missing"], "", _remove(LAION_SPLIT)),
    "a split without images": (
        ["is not a split", "test_ids"],
        "",
        _json(LAION_SPLIT, lambda split: split["variants"][0].pop("test_ids")),
    ),
    "a cut split": (["is not a split"], "", _cut(LAION_SPLIT)),
    "train and test overlap": (
        ["images in both parts"],
        "",
        _json(LAION_SPLIT, lambda split: split["variants"][0]["train_ids"].append(split["variants"][0]["test_ids"][0])),
    ),
    "subjects disagree": (["'tau' differs between subjects", 'pool = "shared"'], '[options]\nsplit = "tau"', None),
    "an unknown split": (["split:", "'mu'"], '[options]\nsplit = "mu"', None),
    "an unknown session": (["unknown session of sub-01 '9'"], "[options]\nsessions = [9]", None),
    "no images": (["images = false"], "", _remove("stimuli/*.h5")),
    "cut images": (["stimuli.h5 cannot be read"], "", _cut("stimuli/*.h5")),
    "images too few": (
        ["does not match task-images_metadata.csv"],
        "",
        _hdf5("stimuli/*.h5", lambda file: file.__setitem__("images", file.pop("images")[:9])),
    ),
    "captions without a column": (
        ["caption_idx"],
        "",
        _edit("stimuli/*captions.csv", lambda table: table.drop(columns="caption_idx")),
    ),
}

BOLD = "derivatives/versionB/MNI152/GLM/"
BOLD_TRAIN = BOLD + "sub-01/prepared_betas/*task-train*"


def _pickled(name, change):
    """Change a pickle of a tuple: ``change(values, order)`` returns both anew."""

    def edit(root):
        for path in _at(root, name):
            values, order, *rest = pickle.loads(path.read_bytes())
            path.write_bytes(pickle.dumps((*change(values, order), *rest)))

    return edit


BOLD_MOMENTS = {
    "an empty folder": (
        ["responses of BOLD Moments", "prepared_betas"],
        "",
        lambda root: shutil.rmtree(root / "derivatives/versionB"),
    ),
    "another space": (["responses of BOLD Moments", "fsLR32k"], '[options]\nspace = "fsLR32k"', None),
    "cut responses": (["task-train_normalized.pkl cannot be read"], "", _cut(BOLD_TRAIN)),
    "a pickle with code": (
        ["task-train_normalized.pkl cannot be read", "could run code"],
        "",
        _write(BOLD_TRAIN, pickle.dumps((_Hostile(), []))),
    ),
    "no test responses": (
        ["task-test_normalized.pkl is missing"],
        "",
        _remove(BOLD + "sub-01/prepared_betas/*task-test*"),
    ),
    "no list of videos": (
        ["does not hold responses"],
        "",
        _pickled(BOLD_TRAIN, lambda values, order: (values, order[1:])),
    ),
    "means over repeats": (
        ["does not hold responses"],
        "",
        _pickled(BOLD_TRAIN, lambda values, order: (values[:, 0], order)),
    ),
    "a video twice": (
        ["lists a video twice"],
        "",
        _pickled(BOLD_TRAIN, lambda values, order: (values, [order[1], *order[1:]])),
    ),
    "other videos": (
        ["responses of sub-02 are to other videos"],
        "",
        _pickled(BOLD_TRAIN.replace("sub-01", "sub-02"), lambda values, order: (values[1:], order[1:])),
    ),
    "other voxels in the test": (
        ["do not match", "167"],
        "",
        _pickled(BOLD_TRAIN, lambda values, order: (values[..., 1:], order)),
    ),
    "NaN everywhere": (
        ["no voxel of sub-01"],
        "",
        _pickled(BOLD_TRAIN, lambda values, order: (np.full_like(values, np.nan), order)),
    ),
    "no mask": (["groupMask_space-MNI152.nii is missing"], "", _remove(BOLD + "mask/*")),
    "another mask": (
        ["another number of voxels than groupMask"],
        "",
        _image(BOLD + "mask/*.nii", lambda values, affine: (np.ones_like(values), affine)),
    ),
    "an ROI outside": (
        ["does not hold the voxels of an ROI"],
        "",
        _write(BOLD + "sub-01/ROIs/ROI-lFFA_indices.pkl", pickle.dumps((np.full((4, 3), 99), np.arange(4)))),
    ),
    "no ROIs": (
        ["no ROIs to choose"],
        '[options]\nvoxels = "rois"',
        lambda root: [shutil.rmtree(root / BOLD / name) for name in ("sub-01/ROIs", "parcels")],
    ),
    "no general ROI": (
        ["no ROIs to choose voxels = 'BMDgeneral'"],
        '[options]\nvoxels = "BMDgeneral"',
        _remove(BOLD + "*/*/*BMDgeneral*"),
    ),
    "videos are missing": (
        ["1 of 32 videos are missing", "0003.mp4"],
        "",
        _remove("derivatives/stimuli_metadata/mp4_h264/0003.mp4"),
    ),
    "a cut video": (["0003.mp4"], "", _cut("derivatives/stimuli_metadata/mp4_h264/0003.mp4")),
    "descriptions of another kind": (
        ["annotations.json cannot be used"],
        "",
        _json(
            "derivatives/stimuli_metadata/annotations.json", lambda content: content["0001"].pop("text_descriptions")
        ),
    ),
}

READERS = {
    "things": THINGS,
    "laion_fmri": LAION_FMRI,
    "bold_moments": BOLD_MOMENTS,
    "nsd": NSD,
    "bids": BIDS,
    "haxby2001": HAXBY,
    "yamada2015": YAMADA,
}


@pytest.mark.parametrize(("reader", "case"), [(reader, case) for reader, table in READERS.items() for case in table])
def test_readers(refuses, reader, case, tmp_path):
    refuses(reader, *READERS[reader][case])
    assert not (tmp_path / "owned").exists(), "a pickle was run"


def _excerpt(root, **replace):
    from scipy.io import savemat

    from neurorecon.datasets.miyawaki2008 import FIGURES

    patterns = np.zeros((100, 20), dtype=np.uint8)
    patterns[np.arange(20) % len(FIGURES) * 3, np.arange(20)] = 1
    content = {"I2": patterns, "R2": np.random.default_rng(0).standard_normal((30, 20))} | replace
    savemat(root / "V1_mean_figure.mat", {key: value for key, value in content.items() if value is not None})


MIYAWAKI = {
    "an empty folder": (["one of two layouts", "V1_mean_figure.mat"], lambda root: None),
    "both layouts": (["both"], lambda root: (_excerpt(root), (root / "func").mkdir())),
    "cut": (["V1_mean_figure.mat cannot be read"], lambda root: (_excerpt(root), _cut("*.mat")(root))),
    "a pickle": (
        ["V1_mean_figure.mat cannot be read"],
        lambda root: (root / "V1_mean_figure.mat").write_bytes(_HOSTILE),
    ),
    "no responses": (["lacks R2"], lambda root: _excerpt(root, R2=None)),
    "axes swapped": (["wrong shape"], lambda root: _excerpt(root, R2=np.ones((20, 31)))),
    "NaN": (
        ["not all finite", "1 not finite"],
        lambda root: _excerpt(root, R2=_set(np.ones((30, 20)), (3, 4), np.nan)),
    ),
    "gray figures": (["not black and white"], lambda root: _excerpt(root, I2=np.full((100, 20), 7, dtype=np.uint8))),
    "half a run": (
        ["complete runs"],
        lambda root: _excerpt(root, I2=np.zeros((100, 15), np.uint8), R2=np.ones((30, 15))),
    ),
}


@pytest.mark.parametrize("case", MIYAWAKI)
def test_miyawaki2008(call, bystander, tmp_path, case):
    words, write = MIYAWAKI[case]
    root = tmp_path / "tree"
    root.mkdir()
    write(root)
    store, before = bystander
    digest = _hash(root)
    found = call("build", "miyawaki2008", "--root", root, "--out", store, "--overwrite", "--json")
    _assert_clear(found, words)
    assert (_hash(root), _hash(store)) == (digest, before)
    assert not (tmp_path / "owned").exists(), "a pickle was run"


RECIPES = {
    "no TOML": (["the recipe cannot be read"], "name = "),
    "no reader": (["reader: Field required"], 'name = "a"'),
    "an unknown reader": (["unknown data set 'scene'", "did you mean 'scenes'?"], 'name = "a"\nreader = "scene"'),
    "an unknown key": (["voxels: Extra inputs"], 'name = "a"\nreader = "scenes"\nvoxels = 3'),
    "an unknown option": (["voxel: Extra inputs"], 'name = "a"\nreader = "scenes"\n[options]\nvoxel = 3'),
    "text for a number": (["voxels: Input should be"], 'name = "a"\nreader = "scenes"\n[options]\nvoxels = "many"'),
    "too few voxels": (["voxels: Input should be"], 'name = "a"\nreader = "scenes"\n[options]\nvoxels = 3'),
    "no stimuli": (
        ["has no stimuli"],
        'name = "a"\nreader = "scenes"\n[options]\n'
        + "\n".join(f"{kind} = 0" for kind in ("train_images", "test_images", "train_videos", "test_videos")),
    ),
    "a root for what needs none": (["not read from a folder"], 'name = "a"\nreader = "scenes"\nroot = "."'),
    "no root": (["needs a folder"], 'name = "a"\nreader = "arrays"'),
    "a root that is not there": (["does not exist", "nowhere"], 'name = "a"\nreader = "arrays"\nroot = "nowhere"'),
    "a name that is a path": (["name: String should match"], 'name = "../a"\nreader = "scenes"'),
    "a target that is none": (["unknown target 'clop'"], 'name = "a"\nreader = "scenes"\ntargets = ["clop"]'),
    "nested tables": (
        ["the recipe cannot be read", "nested"],
        'name = "a"\nreader = "scenes"\noptions = ' + "{a = " * 3000 + "1" + "}" * 3000,
    ),
    "nested lists": (
        ["the recipe cannot be read", "nested"],
        'name = "a"\nreader = "scenes"\n[options]\nvoxels = ' + "[" * 3000 + "]" * 3000,
    ),
    "dotted keys": (
        ["the recipe cannot be read", "nested"],
        'name = "a"\nreader = "scenes"\noptions' + ".a" * 3000 + " = 1",
    ),
    "lists of twenty levels": (
        ["the recipe cannot be read", "nested"],
        'name = "a"\nreader = "scenes"\n[options]\nvoxels = ' + "[" * 20 + "]" * 20,
    ),
    "a group that is no list": (["roi_groups"], 'name = "a"\nreader = "scenes"\n[roi_groups]\nearly = "V1"'),
}


@pytest.mark.parametrize("case", RECIPES)
def test_recipes(call, bystander, tmp_path, case):
    words, text = RECIPES[case]
    (tmp_path / "a.toml").write_text(text)
    store, before = bystander
    _assert_clear(call("build", "a.toml", "--out", store, "--overwrite", "--json"), words)
    assert _hash(store) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]


def _attribute(key, value):
    def edit(root):
        path = root / "zarr.json"
        content = json.loads(path.read_text())
        content["attributes"][key] = value
        path.write_text(json.dumps(content))

    return edit


#: Command (STORE stands for a copy of an exported store), words, and what is done to the copy.
STORES = {
    "a newer schema": ("info STORE", ["newer neurorecon", "schema version 99"], _attribute("neurorecon_schema", 99)),
    "a newer schema to check": ("check STORE", ["newer neurorecon"], _attribute("neurorecon_schema", 99)),
    "a newer schema to map": ("maps --store STORE", ["newer neurorecon"], _attribute("neurorecon_schema", 99)),
    "no schema": ("info STORE", ["no finished store"], _attribute("neurorecon_schema", None)),
    "no metadata": ("info STORE", ["cannot read this Zarr hierarchy"], _remove("zarr.json")),
    "cut metadata": ("check STORE", ["zarr.json cannot be read as written"], _cut("zarr.json")),
    "metadata that are none": ("info STORE", ["cannot read this Zarr hierarchy"], _write("zarr.json", b"[]")),
    "a missing chunk": ("check STORE", ["damaged", "subj01/responses"], _remove("subj01/responses/c/0/0")),
    "a cut chunk": ("check STORE", ["damaged", "subj01/responses", "--overwrite"], _cut("subj01/responses/c/0/0")),
    "cut metadata of an array": ("check STORE", ["damaged"], _cut("subj01/responses/zarr.json")),
    "a plain store to write to": ("features --store STORE --target category", ["plain Zarr is read-only"], None),
    "an export onto itself": ("export STORE STORE", ["cannot be exported", "(exists)"], None),
    "more permutations than there are atoms": (
        f"maps --store STORE --permutations {10**30}",
        ["n_permutations is out of range", "1 to 10,000,000"],
        None,
    ),
    "a huge seed": (f"maps --store STORE --seed {10**30}", ["seed is out of range"], None),
    "a GPU that is not there": ("maps --store STORE --device cuda:99", ["device", "cuda:99"], None),
    "a GPU that is not there, for targets": (
        "features --store STORE --target gabor --device cuda:99",
        ["device", "cuda:99"],
        None,
    ),
    "a precision that is none": (
        "features --store STORE --target gabor --precision float8",
        ["unknown precision 'float8'"],
        None,
    ),
    "a target that is none": ("features --store STORE --target clop", ["unknown target 'clop'"], None),
    "results in a store": (
        "maps --store STORE --out STORE/results --no-figures",
        ["files cannot be written inside a store", "outside of any store"],
        None,
    ),
    "results as a store": ("classify --store STORE --out STORE", ["inside a store"], None),
    "a miniature in a store": ("datasets miniature arrays --out STORE/mini", ["inside a store"], None),
    "an export into a store": ("export STORE STORE/copy.zarr", ["inside a store"], None),
    "an older state of a plain store": ("info STORE --snapshot ABC", ["no snapshots"], None),
}


@pytest.fixture(scope="session")
def exported(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "a.zarr"
    return nr.export_store(nr.open_store(finished), folder, progress=False)


@pytest.mark.filterwarnings("ignore:Object at")
@pytest.mark.parametrize("case", STORES)
def test_stores(call, exported, tmp_path, case):
    command, words, broken = STORES[case]
    copy = shutil.copytree(exported, tmp_path / "copy.zarr")
    if broken is not None:
        broken(copy)
    before = _hash(copy)
    found = call(*(part.replace("STORE", str(copy)) for part in command.split()), "--json")
    _assert_clear(found, words)
    assert _hash(copy) == before


@pytest.fixture
def named(tmp_path):
    """A store whose ROIs have names that file systems and spreadsheets take for something else."""
    generator = np.random.default_rng(0)
    rois = {name: np.arange(12) % 4 == number for number, name in enumerate(NAMES)}
    samples = {"stimulus": [f"s{number % 20:02d}" for number in range(60)], "run": np.arange(60) // 20 + 1,
               "split": ["train" if number % 20 < 14 else "test" for number in range(60)]}  # fmt: skip
    labels = pd.DataFrame({"stimulus": [f"s{number:02d}" for number in range(20)], "size": generator.random(20)})
    images = generator.integers(0, 255, (20, 16, 16, 3), dtype=np.uint8)
    path = tmp_path / "named.icechunk"
    nr.build_from_arrays(
        path, generator.random((60, 12)), samples, {"id": sorted(set(samples["stimulus"]))}, images=images,
        labels=labels, rois=rois, progress=False,
    )  # fmt: skip
    nr.extract(nr.open_store(path), "gabor", progress=False)
    return path


NAMES = ("x/../../../escaped", '=HYPERLINK("http://a.b")', "@SUM(1)", "..")


def test_names_of_rois_stay_inside_results_and_are_no_formulas(call, named, tmp_path):
    before = {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents}
    options = ("--permutations", "9", "--no-figures", "--quiet", "--store", named)
    for roi in NAMES:
        found = call("maps", "--roi", roi, *options)
        assert found.exit_code == 0, found.stderr
    assert {path for path in tmp_path.parent.rglob("*") if tmp_path not in path.parents} == before
    assert {path.name for path in tmp_path.iterdir()} <= {
        "named.icechunk",
        "named.icechunk.lock",
        "results",
        ".neurorecon",
    }
    folders = sorted((tmp_path / "results").iterdir())
    assert len(folders) == len(NAMES), "every ROI has a folder of its own"
    tables = [pd.read_csv(path, dtype=str) for path in (tmp_path / "results").rglob("*.csv")]
    cells = [str(cell) for table in tables for cell in table.to_numpy().ravel()]
    assert not [cell for cell in cells if cell.startswith(("=", "@", "+"))]
    assert {"'" + NAMES[1], "'" + NAMES[2], NAMES[0]} <= set(cells)


def test_a_store_without_categories_says_so(call, named):
    _assert_clear(
        call("maps", "--store", named, "--bands", "category", "--json"),
        ["unknown target 'category'", "it cannot be computed, because this store has no categories"],
    )
    _assert_clear(
        call("maps", "--store", named, "--bands", "clip_text", "--json"), ["because this store has no captions"]
    )


def test_a_lock_that_is_no_text(call, named, tmp_path):
    lock = named.with_suffix(".icechunk.lock")
    lock.write_bytes(b"\xff\xfe\x00{")
    np.save(tmp_path / "own.npy", np.ones((20, 2), np.float32))
    _assert_clear(call("features", "--store", named, "--from", "own.npy", "--name", "own", "--json"), [".lock"])
    assert lock.read_bytes() == b"\xff\xfe\x00{"


def test_a_device_is_checked_before_the_embedded_store_is_built(call, tmp_path):
    _assert_clear(call("reconstruct", "--device", "cuda:99", "--json"), ["cuda:99"])
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken(call, miniatures, tmp_path):
    """Folders and files of the user's own are never built over."""
    root, _ = miniatures("arrays")
    mine = tmp_path / "mine.icechunk"
    mine.mkdir()
    (mine / "thesis.docx").write_text("precious")
    (tmp_path / "file.icechunk").write_text("precious")
    for out, named in (
        ("mine.icechunk",) * 2,
        ("file.icechunk",) * 2,
        ("file.icechunk/a.icechunk", "file"),
        ("a.txt",) * 2,
    ):
        _assert_clear(call("build", "arrays", "--root", root, "--out", out, "--overwrite", "--json"), [named])
    assert (mine / "thesis.docx").read_text() == "precious"
    assert (tmp_path / "file.icechunk").read_text() == "precious"


#: The same as users see it: in a process of its own.
USERS = [("arrays", "cut array"), ("arrays", "hostile npz"), ("arrays", "a mask with swapped axes")]


@pytest.mark.parametrize(("reader", "case"), USERS, ids=lambda value: value.replace(" ", "-"))
def test_a_user_reads_one_message(user, miniatures, tmp_path, reader, case):
    words, options, broken = ARRAYS[case]
    root = shutil.copytree(miniatures(reader)[0], tmp_path / "tree")
    broken(root)
    (tmp_path / "bad.toml").write_text(f'name = "bad"\nreader = "{reader}"\n{options}\n')
    found = user("build", "bad.toml", "--root", root, cwd=tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert "Traceback" not in found.stderr
    assert "Warning" not in found.stderr
    assert found.stderr.count("neurorecon: error:") == 1
    for part in words:
        assert part in found.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.toml", "tree"]


def test_html_in_captions_is_text(call, miniatures, tmp_path):
    """What looks like a program in a caption or a category is kept as it is, and never becomes one."""
    nasty = '</script><script>alert(1)</script><img src=x onerror="alert(1)">'
    root = shutil.copytree(miniatures("arrays")[0], tmp_path / "tree")
    _edit("stimuli.csv", _assign(caption1=nasty))(root)
    assert call("build", "arrays", "--root", root, "--out", "html.icechunk", "--quiet").exit_code == 0
    store = nr.open_store(tmp_path / "html.icechunk")
    assert {captions[0] for captions in store.stimuli["captions"]} == {nasty}
    assert call("check", "html.icechunk", "--quiet").exit_code == 0
