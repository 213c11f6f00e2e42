"""NSD-synthetic and NSD-imagery: trials beside the files, images, stimuli without an image, splits of the store."""

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import loadmat, savemat

import neurorecon as nr
from neurorecon.datasets.nsd.layout import NsdOptions
from neurorecon.datasets.nsd.reader import NsdReader
from neurorecon.datasets.recipe import Recipe
from neurorecon.errors import InputError, MissingFileError
from neurorecon.store.build import build_store
from neurorecon.testing import check_reader
from neurorecon.testing.layouts.nsd import IMAGERY_REPEATS, SYNTHETIC_SHARED, write_nsd

ALL = ("core", "synthetic", "imagery")
BETAS = "nsddata_betas/ppdata/subj02/func1pt8mm/nsd{0}betas_fithrf_GLMdenoise_RR/betas_nsd{0}.{1}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """One subject, one session of NSD and both further sessions; not to be written into, but renamed and back."""
    return write_nsd(tmp_path_factory.mktemp("tasks"), subjects=("subj02",), sessions=1, tasks=ALL)


@pytest.fixture(scope="module")
def reader(tree):
    return NsdReader(tree, NsdOptions(task=ALL))


def _betas(tree, task, data):
    values = np.asarray(nibabel.load(tree / BETAS.format(task, "nii.gz")).dataobj).astype(np.float32) / 300
    i, j, k = data.voxels[["i", "j", "k"]].to_numpy().T
    return values[i, j, k].T


def test_trials_of_nsd_synthetic_are_those_of_its_design(tree, reader):
    data = reader.subject("subj02")
    rows = np.flatnonzero(data.samples["task"] == "synthetic")
    table = data.samples.iloc[rows]
    design = loadmat(tree / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat")
    order = design["masterordering"].ravel() - 1
    expected = [f"synthetic{n:03d}" + ("" if n < SYNTHETIC_SHARED else "_subj02") for n in order]
    assert table["stimulus"].tolist() == expected
    assert set(table["split"]) == {"synthetic"}
    run, slot = np.nonzero(design["stimpattern"][0])
    np.testing.assert_array_equal(table["run"], run + 1)
    np.testing.assert_array_equal(table["time"], 4.0 * slot)
    assert (table["condition"] == np.where(run % 2 == 0, "fixation", "one-back")).all()
    found = data.read_responses(int(rows[0]), int(rows[-1]) + 1)
    np.testing.assert_allclose(found, _betas(tree, "synthetic", data), rtol=1e-6)


def test_seen_and_imagined_trials_are_found_among_the_betas(tree, reader):
    """Beta by beta: each trial of an attention run has two, of which none is read."""
    data = reader.subject("subj02")
    betas = _betas(tree, "imagery", data)
    runs = ("visA", "attA", "imgA_1", "visB", "attB", "imgB_1", "visC", "attC", "imgC_1", "imgA_2", "imgB_2", "imgC_2")
    place, rows = 0, {"vision": [], "imagery": []}
    for number, run in enumerate(runs, start=1):
        table = pd.read_csv(tree / f"nsddata/bdata/nsdimagery/nsdimagery_subj02_{run}.tsv", sep="\t")
        for cue, onset in zip(table["CONDITION"], table["TRIALONSET"], strict=True):
            if run.startswith("att"):
                place += 2
                continue
            task = "vision" if run.startswith("vis") else "imagery"
            rows[task].append((f"imagery{run[3]}_{cue}", number, onset, place))
            place += 1
    assert place == len(betas)
    for task, expected in rows.items():
        here = np.flatnonzero(data.samples["task"] == task)
        names, numbers, onsets, places = map(list, zip(*expected, strict=True))
        table = data.samples.iloc[here]
        assert table["stimulus"].tolist() == names
        assert table["run"].tolist() == numbers
        np.testing.assert_allclose(table["time"], onsets)
        assert set(table["split"]) == {"imagery"}
        assert table["repeat"].max() == IMAGERY_REPEATS * (2 if task == "imagery" else 1)
        found = np.concatenate([data.read_responses(int(row), int(row) + 1) for row in here])
        np.testing.assert_allclose(found, betas[places], rtol=1e-6)
    assert data.report["betas left out"] == f"{3 * 2 * 6 * IMAGERY_REPEATS} of attention (NSD-imagery)"


def test_images_have_the_extent_and_the_coding_of_nsd(tree, reader):
    table = reader.stimuli()
    place = table["id"].tolist()
    with h5py.File(tree / "nsddata_stimuli/stimuli/nsdsynthetic/nsdsynthetic_stimuli.hdf5") as file:
        linear = file["imgBrick"][7]
    height, width = linear.shape[:2]
    square = linear[:, (width - height) // 2 : (width - height) // 2 + height]
    coded = np.round(np.sqrt(square / 255.0) * 255).astype(np.uint8)
    expected = np.asarray(Image.fromarray(coded).resize((64, 64), Image.Resampling.BICUBIC))
    row = place.index("synthetic007")
    np.testing.assert_array_equal(reader.read_images(row, row + 1)[0], expected)
    rows = loadmat(tree / "nsddata/experiments/nsdimagery/B_pair_list.mat")["pair_list"]
    file, cue = (str(np.asarray(cell).squeeze()) for cell in rows[2][1:])
    with Image.open(tree / "nsddata/experiments/nsdimagery/rawtargetimages/setB" / file) as image:
        row = place.index(f"imageryB_{cue}")
        np.testing.assert_array_equal(reader.read_images(row, row + 1)[0], np.asarray(image))
    other = table[table["kind"] == "other"]
    assert sorted(other["id"].str[-1]) == sorted("SZMYNF")  # concepts
    assert (other.index >= len(table) - 6).all()


def test_the_contract_is_kept(tree, reader):
    assert check_reader(reader, max_samples=8)
    alone = NsdReader(tree, NsdOptions(task="imagery", image_size=16, samples="average"))
    assert alone.image_shape() == (16, 16, 3)
    assert len(alone.subject("subj02").samples) == 2 * 18
    assert check_reader(alone, max_samples=8)


def test_recipes_of_nsd_alone_have_the_digest_they_had():
    assert "task" not in NsdOptions().model_dump(mode="json")
    assert NsdOptions(task=["synthetic", "core"]).model_dump(mode="json")["task"] == ["core", "synthetic"]


def test_without_images_all_stimuli_are_legal(tree):
    reader = NsdReader(tree, NsdOptions(task=ALL, images="none"))
    assert reader.image_shape() is None
    assert reader.stimuli()["kind"].value_counts().to_dict() == {"image": len(reader.stimuli()) - 6, "other": 6}


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        (BETAS.format("synthetic", "nii.gz"), {}, ["NSD-synthetic of subj02", "option task"]),
        ("nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat", {}, ["nsdsynthetic_expdesign.mat is missing"]),
        ("nsddata_stimuli/stimuli/nsdsynthetic/nsdsynthetic_colorstimuli_subj02.hdf5", {}, ["colorstimuli_subj02"]),
        ("nsddata/experiments/nsdimagery/A_pair_list.mat", {}, ["A_pair_list.mat is missing"]),
        ("nsddata/bdata/nsdimagery/nsdimagery_subj02_imgB_2.tsv", {}, ["nsdimagery_subj02_imgB_2.tsv is missing"]),
        (None, {"betas": "betas_assumehrf"}, ["nsdimagerybetas_assumehrf", "nsdsyntheticbetas_fithrf_GLMdenoise_RR"]),
        (None, {"task": ("synthetic", "resting")}, ["resting"]),
    ],
)
def test_what_is_missing_is_named(tree, name, options, words):
    path = None if name is None else tree / name
    if path is not None:
        path.rename(path.with_name("away"))
    try:
        with pytest.raises(ValueError, match=r"[\s\S]*") as caught:
            NsdReader(tree, NsdOptions(**{"task": ALL, **options}))
    finally:
        if path is not None:
            path.with_name("away").rename(path)
    for word in words:
        assert word in str(caught.value)


SYNTHETIC = "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"
CLASSES = "nsddata/experiments/nsdsynthetic/nsdsyntheticimageinformation.csv"
BRICKS = "nsddata_stimuli/stimuli/nsdsynthetic/nsdsynthetic_stimuli.hdf5"
PAIRS = "nsddata/experiments/nsdimagery/A_pair_list.mat"
SEEN = "nsddata/bdata/nsdimagery/nsdimagery_subj02_visA.tsv"


def _mat(**change):
    def do(path):
        content = {key: value for key, value in loadmat(path).items() if key[0] != "_"}
        savemat(path, content | {key: value(content[key]) for key, value in change.items()})

    return do


def _brick(change):
    def do(path):
        with h5py.File(path, "r+") as file:
            change(file)

    return do


def _replaced(change):
    def do(file):
        values = change(file["imgBrick"][:])
        del file["imgBrick"]
        file["imgBrick"] = values

    return _brick(do)


def _lines(change):
    return lambda path: path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def _column(name, change):
    def do(path):
        table = pd.read_csv(path, sep="\t")
        table.assign(**{name: change(table[name])}).to_csv(path, sep="\t", index=False)

    return do


#: A file, what is done to it, the task, and words of the message.
HOSTILE = {
    "images from 0": (SYNTHETIC, _mat(masterordering=lambda v: v - 1), "synthetic", ["from 0", "integers from 1"]),
    "halves": (SYNTHETIC, _mat(masterordering=lambda v: v + 0.5), "synthetic", ["masterordering", "float64"]),
    "images that do not exist": (
        SYNTHETIC,
        _mat(masterordering=lambda v: v.astype(int) + 900),
        "synthetic",
        ["nsdsyntheticimageinformation.csv lacks images", "224 rows"],
    ),
    "no slots": (SYNTHETIC, _mat(stimpattern=lambda v: v * 0), "synthetic", ["contradicts itself", "0 in stimpattern"]),
    "classes of some": (CLASSES, _lines(lambda rows: rows[:50]), "synthetic", ["lacks images", "49 rows"]),
    "classes with semicolons": (
        CLASSES,
        lambda path: path.write_text(path.read_text().replace(",", ";")),
        "synthetic",
        ["another separator", "semicolons"],
    ),
    "images of floats": (BRICKS, _replaced(lambda v: v / 255.0), "synthetic", ["wrong data type", "float64"]),
    "channels first": (BRICKS, _replaced(lambda v: v.transpose(0, 3, 1, 2)), "synthetic", ["(220, 3, 51, 97)"]),
    "a group of images": (
        BRICKS,
        _brick(lambda file: (file.move("imgBrick", "old"), file.create_group("imgBrick"))),
        "synthetic",
        ["contains no images", "imgBrick is a group"],
    ),
    "images under another name": (
        BRICKS,
        _brick(lambda file: file.move("imgBrick", "images")),
        "synthetic",
        ["contains no images", "datasets images"],
    ),
    "a list of numbers": (PAIRS, _mat(pair_list=lambda v: np.arange(6).reshape(2, 3)), "imagery", ["image file"]),
    "a list that lacks a cue": (PAIRS, _mat(pair_list=lambda v: v[:-1]), "imagery", ["'E'", "stands for no image"]),
    "a cue twice": (PAIRS, _mat(pair_list=lambda v: np.concatenate([v, v[:1]])), "imagery", ["lists a cue twice"]),
    "a trial less": (SEEN, _lines(lambda rows: rows[:-1]), "imagery", ["do not match the design", "180", "179"]),
    "an unknown cue": (SEEN, _column("CONDITION", lambda c: c.where(c != c[0], "Q")), "imagery", ["'Q'"]),
    "no cue": (SEEN, _column("CONDITION", lambda c: c.where(c != c[0])), "imagery", ["CONDITION", "row 1 (line 2)"]),
    "onsets backwards": (SEEN, _column("TRIALONSET", lambda c: c[::-1].to_numpy()), "imagery", ["not in the order"]),
    "onsets of text": (SEEN, _column("TRIALONSET", lambda c: "soon"), "imagery", ["TRIALONSET", "'soon'"]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_one_clear_error(tree, name):
    file, change, task, words = HOSTILE[name]
    content = (tree / file).read_bytes()
    try:
        change(tree / file)
        with pytest.raises(InputError) as caught:
            NsdReader(tree, NsdOptions(task=task))
    finally:
        (tree / file).write_bytes(content)
    for part in ("given:", "expected:", "to do:", *words):
        assert part in str(caught.value), str(caught.value)


def test_only_both_together_need_the_betas_of_both(tree):
    folder = (tree / BETAS.format("imagery", "nii.gz")).parent
    folder.rename(folder.with_name("away"))
    try:
        with pytest.raises(MissingFileError, match="of these tasks"):
            NsdReader(tree, NsdOptions(task=ALL))
        assert NsdReader(tree, NsdOptions(task="synthetic")).subjects == ["subj02"]
    finally:
        folder.with_name("away").rename(folder)


@pytest.fixture(scope="module")
def store(tree, tmp_path_factory):
    options = {"task": list(ALL), "image_size": 16, "mask": "V1"}
    recipe = Recipe(name="all", reader="nsd", root=str(tree), options=options)
    return nr.open_store(build_store(recipe, tmp_path_factory.mktemp("built") / "all.icechunk", progress=False))


def test_each_task_can_be_tested_on(store):
    assert store.tasks("subj02") == ["images", "synthetic", "vision", "imagery"]
    assert store.default_task("subj02") == "images"
    assert store.split_columns == ["imagery", "synthetic", "vision"]
    table = store.samples("subj02")
    train = table[(table["task"] == "images") & (table["split"] == "train")].index
    for task in store.split_columns:
        followed = store.with_split(task)
        found = followed.samples("subj02")
        own = found[found["task"] == "images"]
        assert own.index[own["split"] == "train"].equals(train)
        concepts = table["stimulus"].str.startswith("imageryC")
        assert own.index[own["split"] == "test"].equals(table.index[(table["task"] == task) & ~concepts])
        left = own.index[own["split"] == ""]
        assert set(table["split"][left[~concepts[left]]]) == {"test"}  # the test images of NSD
        assert followed.digest != store.digest
        np.testing.assert_array_equal(
            followed.noise_ceiling("subj02", task="images", of="single"),
            store.noise_ceiling("subj02", task=task, of="single"),
        )
        sizes = store.about_split(task)["sizes"]
        assert sizes["other"]["left_out"] == 6
    assert len(store.with_split("imagery").responses("subj02", split="test", average="stimulus")) == 12
    assert len(store.responses("subj02", task="imagery", average="stimulus")) == 18


def test_ncsnr_is_about_nsd_alone(store, tree):
    ncsnr = nibabel.load(tree / BETAS.format("x", "y").rpartition("/")[0].replace("nsdx", "") / "ncsnr.nii.gz")
    i, j, k = store.voxels("subj02")[["i", "j", "k"]].to_numpy().T
    stated = ncsnr.get_fdata()[i, j, k]
    np.testing.assert_allclose(store.ncsnr("subj02", task="images"), stated, rtol=1e-5)
    assert not np.allclose(store.ncsnr("subj02", task="synthetic"), stated, rtol=0.01)


def test_images_of_stimuli_that_have_none_are_refused(store):
    with pytest.raises(InputError, match=r"stimuli without an image[\s\S]*imageryC_Z"):
        store.images(["imageryC_Z"])
    assert len(store.images()) == len(store.stimuli) - 6
    assert "imageryC_Z" not in store.stimuli_with("images")


def test_images_of_nsd_itself_in_training_are_found(store):
    """The photographs of NSD-imagery are shared images, which a split by category may train on."""
    assert store.cautions("subj02", "images") == []
    shared = [name for name in store.stimuli["id"] if name.startswith("imageryB")]
    assert len(shared) == 6
