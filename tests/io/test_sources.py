"""The files that readers name as their sources are those that they open."""

import sys
from pathlib import Path

import pytest

from neurorecon.datasets.recipe import Recipe
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

#: Each data set: what writes it, options, and files that lie in it and are not read with these options.
LAYOUTS = {
    "arrays": (write_arrays, {}, ["notes.txt"]),
    "haxby2001": (write_haxby2001, {}, []),
    "yamada2015": (write_yamada2015, {}, []),
    "cc2017": (
        lambda folder: write_cc2017(folder, subjects=(1, 2), segments=1, tests=1),
        {"subjects": ["subject1"], "image_size": 32},
        ["Subject02/video_fmri_dataset/subject2/fmri/seg1/cifti/seg1_1_Atlas.dtseries.nii"],
    ),
    "algonauts2021": (
        lambda folder: write_algonauts2021(folder, videos=4),
        {"subjects": ["sub01"], "image_size": 32},
        ["participants_data_v2021/mini_track/sub02/V1.pkl"],
    ),
    "hcp7t": (
        lambda folder: write_hcp7t(folder, movies=(1, 2)),
        {"subjects": ["100610"], "image_size": 32},
        ["102311/MNINonLinear/Results/tfMRI_MOVIE1_7T_AP/tfMRI_MOVIE1_7T_AP_Atlas_MSMAll_hp2000_clean.dtseries.nii"],
    ),
    "laion_fmri": (
        write_laion_fmri,
        {"subjects": ["sub-01"], "sessions": [1, 2], "image_size": 32},
        [
            "splits/sub-03/random_0.json",
            "splits/sub-01/tau.json",
            "derivatives/glmsingle-tedana/sub-01/ses-03/func/sub-01_ses-03_task-images_desc-SingletrialBetas_trials.tsv",
        ],
    ),
    "bold_moments": (
        lambda folder: write_bold_moments(folder, videos=(4, 2)),
        {"subjects": ["sub-02"], "image_size": 32},
        ["derivatives/versionB/MNI152/GLM/sub-01/ROIs/ROI-lEBA_indices.pkl"],
    ),
    "things": (
        write_things,
        {"subjects": ["sub-01"], "image_size": 32},
        ["betas_csv/sub-02_ResponseData.h5", "betas_vol/sub-01/ses-things01/sub-01_ses-things01_run-01_betas.nii.gz"],
    ),
    "bids": (
        lambda folder: write_bids(folder, subjects=["01", "02"], sessions=["01"], runs=["1", "2"], kinds=["volume"]),
        {"subjects": ["01"], "confounds": ["trans_?"]},
        ["sub-02/ses-01/func/sub-02_ses-01_task-shapes_run-1_events.tsv"],
    ),
    "nsd": (
        lambda folder: write_nsd(folder, subjects=["subj01", "subj02"], sessions=2),
        {"subjects": ["subj02"], "sessions": [1], "mask": "V1"},
        ["nsddata/ppdata/subj01/behav/responses.tsv"],
    ),
}


class _Opened:
    """Notes the files that are opened, as long as it is switched on; Python knows no way to take such a hook off."""

    def __init__(self):
        self.paths = None
        sys.addaudithook(self)

    def __call__(self, event, arguments):
        if self.paths is not None and event == "open" and isinstance(arguments[0], str | Path):
            self.paths.add(Path(arguments[0]).absolute())


@pytest.fixture(scope="module")
def opened():
    return _Opened()


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_a_reader_opens_it_names(tmp_path, name, opened):
    write, options, others = LAYOUTS[name]
    root = tmp_path / name
    write(root)
    (root / "notes.txt").write_text("of another matter")
    recipe = Recipe(name=name, reader=name, root=str(root), options=options)
    named = {path.absolute() for path in recipe.sources()}
    opened.paths = set()
    try:
        reader = recipe.open()
        reader.stimuli()
        for subject in reader.subjects:
            reader.subject(subject).read_responses(0, 2)
        if reader.image_shape() is not None:
            reader.read_images(0, 1)
    finally:
        found, opened.paths = opened.paths, None
    below = {path for path in found if root in path.parents and path.is_file()}
    assert below
    assert below <= named
    for other in others:
        assert (root / other).is_file()
        assert (root / other).absolute() not in named
