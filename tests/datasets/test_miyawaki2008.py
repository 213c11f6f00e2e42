import gzip
import shutil

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nilearn.datasets.func import miyawaki2008_file_mask
from nilearn.maskers import NiftiMasker

from neurorecon.datasets.miyawaki2008 import FIGURES, Miyawaki2008Reader, figure_name, read_run
from neurorecon.errors import InputError, MissingFileError, UnknownNameError


def options(**values):
    return Miyawaki2008Reader.Options(**values)


class TestExcerpt:
    def test_tables_and_arrays(self, tmp_path, write_excerpt):
        patterns, responses = write_excerpt(tmp_path)
        reader = Miyawaki2008Reader(tmp_path)
        assert reader.stimuli()["id"].tolist() == list(FIGURES)
        data = reader.subject("subj01")
        assert data.samples["run"].tolist() == [1] * 10 + [2] * 10
        assert data.samples["repeat"].tolist() == ([1] * 5 + [2] * 5) * 2
        assert data.samples["split"].unique().tolist() == ["train"]
        np.testing.assert_array_equal(data.read_responses(3, 7), responses.T[3:7].astype(np.float32))
        places = {name: index for index, name in enumerate(reader.stimuli()["id"])}
        images = reader.read_images(0, 10)
        for block, stimulus in enumerate(data.samples["stimulus"]):
            for channel in range(3):
                shown = images[places[stimulus], :, :, channel]
                np.testing.assert_array_equal(shown.ravel(order="F"), patterns[:, block] * 255)

    def test_real_data_are_what_the_paper_shows(self, miyawaki_folder):
        reader = Miyawaki2008Reader(miyawaki_folder)
        data = reader.subject("subj01")
        shapes = ["square", "small_frame", "plus", "x", "large_frame"]
        assert reader.stimuli()["category"].tolist() == [*shapes, "n", "e", "u", "r", "o"]
        assert set(data.samples.loc[data.samples["run"] <= 4, "stimulus"]) == set(shapes)
        assert (data.samples.groupby("stimulus").size() == 8).all()
        assert (data.samples.groupby(["run", "stimulus"]).size() == 2).all()
        assert data.read_responses(0, 80).shape == (80, 797)
        letter = "\n".join("".join("#" if v else "." for v in row) for row in reader.read_images(5, 6)[0, :, :, 0])
        assert "...####...\n...#..#...\n...#..#..." in letter  # upright, not lying on its side

    @pytest.mark.parametrize(
        ("replace", "said"),
        [
            ({"I2": None}, "lacks I2"),
            ({"R2": None}, "lacks R2"),
            ({"I2": np.zeros((81, 20), np.uint8)}, "wrong shape"),
            ({"R2": np.zeros((30, 19))}, "wrong shape"),
            ({"I2": np.zeros((100, 7), np.uint8), "R2": np.zeros((30, 7))}, "wrong shape"),
            ({"I2": np.full((100, 20), 2, np.uint8)}, "not black and white"),
            ({"R2": np.where(np.eye(30, 20), np.nan, 1.0)}, "20 not finite"),
            ({"R2": np.where(np.eye(30, 20), np.inf, 1.0)}, "20 not finite"),
        ],
    )
    def test_bad_contents_are_named(self, tmp_path, write_excerpt, replace, said):
        write_excerpt(tmp_path, **replace)
        with pytest.raises(InputError, match=said) as caught:
            Miyawaki2008Reader(tmp_path)
        assert "V1_mean_figure.mat" in str(caught.value)

    @pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.9, 0.99])
    def test_truncated_file_is_named(self, tmp_path, excerpt, share):
        whole = (excerpt / "V1_mean_figure.mat").read_bytes()
        (tmp_path / "V1_mean_figure.mat").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(InputError, match=r"V1_mean_figure\.mat"):
            Miyawaki2008Reader(tmp_path)


class TestLayout:
    def test_samples(self, layout):
        reader = Miyawaki2008Reader(layout)
        samples = reader.subject("subj01").samples
        assert len(samples) == 3 * 4 + 2 * 4
        assert samples.groupby("split")["session"].unique().map(list).to_dict() == {"train": [1], "test": [2]}
        assert samples["time"].tolist()[:3] == [8.0, 8.0 + 12, 8.0 + 24]  # 4 volumes of rest; 6 s + 6 s
        assert samples.loc[samples["split"] == "test", "time"].tolist()[:2] == [8.0, 8.0 + 24]
        assert reader.stimuli()["id"].tolist()[:2] == ["random0001", "random0002"]
        assert set(reader.stimuli()["category"][12:]) <= set(FIGURES)
        assert "data_random_run04" in reader.description.notes

    @pytest.mark.parametrize("lag", [0, 2])
    @pytest.mark.parametrize(("detrend", "standardize"), [(True, True), (True, False), (False, True), (False, False)])
    def test_volumes_are_those_of_nilearns_examples(self, layout, lag, detrend, standardize):
        """The examples on these data: mask, detrend, standardize by run, drop `lag` volumes, drop rest."""
        masker = NiftiMasker(
            layout / "mask" / "mask.nii.gz",
            detrend=detrend,
            standardize="zscore_sample" if standardize else None,
            dtype=np.float64,
        ).fit()
        responses, patterns = [], []
        for kind, run in (("random", 1), ("random", 2), ("random", 3), ("figure", 1), ("figure", 2)):
            name = f"data_{kind}_run{run:02d}"
            label = np.loadtxt(layout / "label" / f"{name}_label.csv", delimiter=",", dtype=int)
            label = label.reshape(-1, 10, 10, order="F")
            volumes = masker.transform(layout / "func" / f"{name}.nii.gz")
            label, volumes = label[: len(label) - lag], volumes[lag:]
            responses.append(volumes[label[:, 0, 0] != -1])
            patterns.append(label[label[:, 0, 0] != -1])
        reader = Miyawaki2008Reader(
            layout, options(samples="volume", lag=lag, detrend=detrend, standardize=standardize)
        )
        data = reader.subject("subj01")
        expected = np.concatenate(responses)
        np.testing.assert_allclose(data.read_responses(0, len(data.samples)), expected, rtol=1e-4, atol=1e-4)
        place = {name: index for index, name in enumerate(reader.stimuli()["id"])}
        shown = reader.read_images(0, len(place))[[place[name] for name in data.samples["stimulus"]], :, :, 0]
        np.testing.assert_array_equal(shown // 255, np.concatenate(patterns))

    def test_blocks_are_means_of_their_volumes(self, layout):
        block, volume = (
            Miyawaki2008Reader(layout, options(samples=samples)).subject("subj01") for samples in ("block", "volume")
        )
        means, volumes = (data.read_responses(0, len(data.samples)) for data in (block, volume))
        np.testing.assert_allclose(means[0], volumes[:3].mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(means[12], volumes[36:42].mean(axis=0), atol=1e-5)

    def test_rois(self, layout):
        data = Miyawaki2008Reader(layout).subject("subj01")
        rois = data.rois
        assert {"V1", "V2", "V1d", "lh.V1", "rh.V1v", "lag0to1", "visual_cortex"} <= set(rois)
        np.testing.assert_array_equal(rois["V1"], rois["V1d"] | rois["V1v"])
        np.testing.assert_array_equal(rois["V1"], rois["lh.V1"] | rois["rh.V1"])
        image = nibabel.load(layout / "mask" / "LHV1d.nii.gz")
        np.testing.assert_array_equal(
            rois["lh.V1d"], image.get_fdata()[data.voxels["i"], data.voxels["j"], data.voxels["k"]] > 0
        )

    def test_names_of_all_masks_are_understood(self, tmp_path, layout):
        """Every mask that nilearn fetches gives an ROI; only the mask of all voxels is no ROI."""
        shutil.copytree(layout, tmp_path / "m")
        for name in miyawaki2008_file_mask()[1:]:
            shutil.copy(layout / "mask" / "mask.nii.gz", tmp_path / "m" / "mask" / name)
        rois = Miyawaki2008Reader(tmp_path / "m").subject("subj01").rois
        sides = {f"{name[:2].lower()}.{name[2:-7]}" for name in miyawaki2008_file_mask()[1:]}
        assert sides <= set(rois)
        assert {name[3:] for name in sides} | {"V1", "V2"} <= set(rois)

    def test_one_run_in_memory(self, layout, monkeypatch):
        """Reading in order opens each run once; reading a slice opens only the runs that it touches."""
        opened = []
        load = nibabel.load
        data = Miyawaki2008Reader(layout).subject("subj01")
        monkeypatch.setattr(nibabel, "load", lambda path: opened.append(path.name) or load(path))
        for start in range(0, len(data.samples), 2):
            data.read_responses(start, start + 2)
        assert len(opened) == len(set(opened)) == 5
        opened.clear()
        data.read_responses(5, 6)
        assert opened == ["data_random_run02.nii.gz"]

    def test_constant_voxel_is_zero(self, tmp_path, layout):
        folder = shutil.copytree(layout, tmp_path / "m")
        path = folder / "func" / "data_random_run01.nii.gz"
        values = nibabel.load(path).get_fdata()
        values[1, 1, 1] = 1234.5
        nibabel.Nifti1Image(values.astype(np.float32), np.diag([3, 3, 3, 1.0])).to_filename(path)
        first = Miyawaki2008Reader(folder).subject("subj01").read_responses(0, 4)
        assert (first[:, 0] == 0).all()
        assert (first[:, 1:] != 0).all()


def rewrite(path, change):
    """Rewrite a NIfTI file."""
    image = nibabel.load(path)
    values, affine = change(image.get_fdata(), image.affine.copy())
    nibabel.Nifti1Image(values.astype(np.float32), affine).to_filename(path)


def with_value(values, affine, value):
    values[2, 2, 2, 3] = value
    return values, affine


def read_all(folder):
    data = Miyawaki2008Reader(folder).subject("subj01")
    return data.read_responses(0, len(data.samples))


def truncate(path):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * 0.8)])


def edit_labels(path, change):
    label = np.loadtxt(path, delimiter=",")
    np.savetxt(path, change(label), fmt="%g", delimiter=",")


def one_nine(label):
    label[5] = 9
    return label


def one_rest(label):
    label[5, 3] = -1
    return label


RUN, LABEL = "func/data_random_run02.nii.gz", "label/data_random_run02_label.csv"
DAMAGE = {
    "truncated volumes": (RUN, truncate),
    "not gzip": (RUN, lambda path: path.write_bytes(b"not an image of a brain")),
    "gzip of nothing": (RUN, lambda path: path.write_bytes(gzip.compress(b""))),
    "NaN": (RUN, lambda path: rewrite(path, lambda v, a: with_value(v, a, np.nan))),
    "infinite": (RUN, lambda path: rewrite(path, lambda v, a: with_value(v, a, np.inf))),
    "other grid": (RUN, lambda path: rewrite(path, lambda v, a: (v[:-1], a))),
    "missing volumes": (RUN, lambda path: path.unlink()),
    "fewer volumes": (LABEL, lambda path: rewrite(path.parents[1] / RUN, lambda v, a: (v[..., :-1], a))),
    "missing labels": (LABEL, lambda path: path.unlink()),
    "fewer labels": (LABEL, lambda path: edit_labels(path, lambda label: label[:-1])),
    "fewer columns": (LABEL, lambda path: edit_labels(path, lambda label: label[:, :-1])),
    "other values": (LABEL, lambda path: edit_labels(path, one_nine)),
    "half rest": (LABEL, lambda path: edit_labels(path, one_rest)),
    "words": (LABEL, lambda path: path.write_text("pattern,of,words\n")),
    "empty labels": (LABEL, lambda path: path.write_text("")),
    "missing mask": ("mask/mask.nii.gz", lambda path: path.unlink()),
    "truncated mask": ("mask/mask.nii.gz", truncate),
    "empty mask": ("mask/mask.nii.gz", lambda path: rewrite(path, lambda v, a: (v * 0, a))),
    "ROI elsewhere": ("mask/RHV1d.nii.gz", lambda path: rewrite(path, lambda v, a: (v, 2 * a))),
    "truncated ROI": ("mask/RHV1d.nii.gz", truncate),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_layout_names_the_file(tmp_path, layout, case):
    folder = shutil.copytree(layout, tmp_path / "m")
    name, damage = DAMAGE[case]
    damage(folder / name)
    with pytest.raises(InputError) as caught:
        read_all(folder)
    message = str(caught.value)
    assert name.split("/")[1] in message
    assert "to do:" in message


def test_train_and_test_must_not_share_patterns(tmp_path, layout):
    folder = shutil.copytree(layout, tmp_path / "m")
    for part, ending in (("func", ".nii.gz"), ("label", "_label.csv")):
        shutil.copy(folder / part / f"data_random_run01{ending}", folder / part / f"data_figure_run02{ending}")
    with pytest.raises(InputError, match="training and the test split"):
        Miyawaki2008Reader(folder)


@given(
    blocks=st.lists(st.tuples(st.sampled_from([-1, 0, 1, 2]), st.integers(1, 4)), min_size=1, max_size=8),
    lag=st.integers(0, 3),
    samples=st.sampled_from(["block", "volume"]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_any_sequence_of_blocks_is_cut_into_samples(tmp_path, blocks, lag, samples):
    """Against a walk over the volumes, one at a time."""
    patterns = {-1: np.full(100, -1), 0: np.zeros(100), 1: np.eye(10).ravel(), 2: np.tri(10).ravel()}
    shown = [which for which, length in blocks for _ in range(length)]
    (tmp_path / "labels.csv").write_text(
        "\n".join(",".join(f"{value:g}" for value in patterns[which]) for which in shown)
    )
    nibabel.Nifti1Image(np.zeros((2, 2, 2, len(shown)), np.uint8), np.eye(4)).to_filename(tmp_path / "v.nii.gz")
    run = read_run(
        "figure", 1, tmp_path / "v.nii.gz", tmp_path / "labels.csv", (2, 2, 2), options(lag=lag, samples=samples)
    )
    expected = []
    for volume, which in enumerate(shown):
        if which == -1 or volume + lag >= len(shown):
            continue
        starts = volume == 0 or shown[volume - 1] != which or samples == "volume"
        if starts:
            expected.append((which, volume * 2.0, []))
        expected[-1][2].append(volume + lag)
    found = list(zip(run.patterns, run.onsets, run.volumes, strict=True))
    assert len(found) == len(expected)
    for (pattern, onset, volumes), (which, time, members) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(pattern.ravel(order="F"), patterns[which])
        assert onset == time
        assert list(range(len(shown)))[volumes] == members


def test_runs_of_rest_alone_are_refused(tmp_path, layout):
    folder = shutil.copytree(layout, tmp_path / "m")
    for path in (folder / "label").iterdir():
        edit_labels(path, lambda label: 0 * label - 1)
    with pytest.raises(InputError, match="contain no stimuli"):
        Miyawaki2008Reader(folder)


def test_masks_with_a_fourth_axis(tmp_path, layout):
    folder = shutil.copytree(layout, tmp_path / "m")
    for path in (folder / "mask").iterdir():
        rewrite(path, lambda values, affine: (values[..., None], affine))
    one, other = (Miyawaki2008Reader(root).subject("subj01") for root in (layout, folder))
    np.testing.assert_array_equal(one.rois["lh.V1d"], other.rois["lh.V1d"])
    np.testing.assert_array_equal(one.read_responses(0, 5), other.read_responses(0, 5))


def test_wrong_folders(tmp_path, excerpt, layout):
    with pytest.raises(MissingFileError, match="with neither"):
        Miyawaki2008Reader(tmp_path)
    (tmp_path / "func").mkdir()
    shutil.copytree(layout / "mask", tmp_path / "mask")
    with pytest.raises(MissingFileError, match="no run"):
        Miyawaki2008Reader(tmp_path)
    shutil.copy(excerpt / "V1_mean_figure.mat", tmp_path)
    with pytest.raises(MissingFileError, match="with both"):
        Miyawaki2008Reader(tmp_path)
    with pytest.raises(UnknownNameError, match="subj01"):
        Miyawaki2008Reader(excerpt).subject("subj02")


def test_options_are_checked():
    for wrong in ({"lag": -1}, {"samples": "trials"}, {"smooth": 3}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            options(**wrong)


def test_unknown_and_moved_figures():
    pattern = np.zeros((10, 10), dtype=np.uint8)
    assert figure_name(pattern) is None
    pattern[0, :4] = pattern[:4, 0] = 1
    assert figure_name(pattern) is None
    pattern[:] = 0
    pattern[:4, 6:] = 1
    assert figure_name(pattern) == "square"
