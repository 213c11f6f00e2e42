"""Ablations, on a system and a subject whose parts carry known scores."""

from types import SimpleNamespace

import numpy as np
import pytest
import xarray

import neurorecon as nr
from neurorecon.analyses.ablate import VARIATIONS, Cell, ablate, plan_cells
from neurorecon.analyses.ablation_result import FULL
from neurorecon.analyses.controls import published_ablations
from neurorecon.decoders.ridge import RidgeDecoder
from neurorecon.decoders.samples import Recordings
from neurorecon.errors import InputError, UnknownNameError
from neurorecon.metrics import METRICS, Metric
from neurorecon.parallel import Compute
from neurorecon.systems.base import System, TargetSpec, as_images, noise_like
from neurorecon.systems.decoded import Decoded

TRAIN, TEST = 60, 20
FAST = {"n_permutations": 19, "n_bootstraps": 400}


class Halves(System):
    """The left half of the image comes from one target, the right half from the other; gray without them."""

    name = "halves"
    first_stage = "left"

    def __init__(self, noise=0.02, contrast=1.0, alpha=5.0):
        self.noise = noise
        self.contrast = contrast
        self.alpha = alpha

    @property
    def targets(self):
        return {name: TargetSpec(name, RidgeDecoder(self.alpha)) for name in ("left", "right")}

    def generate(self, decoded, *, seed=0):
        shape = (len(decoded.stimuli), 12, 6, 3)
        halves = [
            decoded[name].values.reshape(shape) if name in decoded else np.full(shape, 0.5) for name in self.targets
        ]
        noise = np.stack([noise_like((12, 12, 3), seed, str(name)) for name in decoded.stimuli])
        image = 0.5 + self.contrast * (np.concatenate(halves, axis=2) - 0.5)
        return as_images(image + self.noise * noise, decoded.stimuli)

    def stages(self, decoded, *, seed=0):
        return {"left": self.generate(decoded.drop("right"), seed=seed)} if "left" in decoded else {}


def half(columns):
    """The correlation of one half of the image."""

    def correlation(seen, made):
        pairs = zip(seen[:, :, columns].reshape(len(seen), -1), made[:, :, columns].reshape(len(made), -1), strict=True)
        return np.array([np.corrcoef(one, other)[0, 1] for one, other in pairs])

    return Metric(correlation)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Voxels of the ROI ``L`` respond to the left half, those of ``R`` to the right half; test stimuli have repeats."""
    rng = np.random.default_rng(0)
    sides = rng.standard_normal((2, TRAIN + TEST, 6))
    images = np.concatenate([np.tensordot(weights, rng.standard_normal((6, 12, 6, 3)), 1) for weights in sides], axis=2)
    images = np.clip(128 + 25 * images, 0, 255).astype(np.uint8)
    rows = np.concatenate([np.arange(TRAIN), np.tile(np.arange(TRAIN, TRAIN + TEST), 3)])
    signal = np.concatenate([weights @ rng.standard_normal((6, 20)) for weights in sides], axis=1)[rows]
    ids = np.array([f"image{number:02d}" for number in range(TRAIN + TEST)])
    table = {
        "stimulus": ids[rows], "split": np.where(rows < TRAIN, "train", "test"),
        "session": np.where(np.arange(len(rows)) % 2 == 0, 1, 2), "run": 1,
    }  # fmt: skip
    store = nr.build_from_arrays(
        tmp_path_factory.mktemp("ablate") / "halves.icechunk",
        {
            "subj01": (signal + 2 * rng.standard_normal(signal.shape)).astype(np.float32),
            "subj02": (signal + 6 * rng.standard_normal(signal.shape)).astype(np.float32),
        },
        {"subj01": table, "subj02": table}, {"id": ids}, images=images, progress=False, simulated=True,
        rois={"L": np.arange(40) < 20, "R": np.arange(40) >= 20},
    )  # fmt: skip
    pixels = images / np.float32(255)
    made_by = {"model": "half of the image", "source": "tests"}
    for name, values in (("left", pixels[:, :, :6]), ("right", pixels[:, :, 6:])):
        store = nr.add_target(store, name, values.reshape(len(ids), -1), made_by=made_by)
    return store


@pytest.fixture(scope="module", autouse=True)
def metrics():
    METRICS.register("left_half", half(slice(0, 6)))
    METRICS.register("right_half", half(slice(6, 12)))
    yield
    for name in ("left_half", "right_half"):
        del METRICS._added[name]


BOTH = ["left_half", "right_half"]


@pytest.fixture(scope="module")
def found(store):
    vary = ["targets", "stages", "rois", "noise=0,1", "contrast=0.5", "trials=1", "subjects"]
    return ablate(store, Halves(), "subj01", vary=vary, metrics=BOTH, center=None, scale=None, **FAST)


def cell(found, name, metric):
    return found.table.set_index(["cell", "metric"]).loc[(name, metric)]


def test_a_target_that_is_left_out_takes_its_half_along(found):
    for target, own, other in (("left", "left_half", "right_half"), ("right", "right_half", "left_half")):
        lost = cell(found, f"without {target}", own)
        assert lost["difference"] < -0.4
        assert lost["difference high"] < -0.2
        assert lost["difference p"] == pytest.approx(2 / 401)
        assert lost["p"] > 0.05
        still = cell(found, f"without {target}", other)
        assert still["mean"] == pytest.approx(cell(found, FULL, other)["mean"], abs=1e-6)
        assert still["difference"] == pytest.approx(0, abs=1e-6)
        assert still["p"] == 1 / 20


def test_a_stage_is_what_the_system_says(found):
    for metric in BOTH:
        assert cell(found, "left alone", metric)["mean"] == cell(found, "without right", metric)["mean"]


def test_an_roi_carries_what_its_voxels_respond_to(found):
    for roi, own, other in (("L", "left_half", "right_half"), ("R", "right_half", "left_half")):
        kept, lost = cell(found, f"{roi} alone", own), cell(found, f"{roi} alone", other)
        assert kept["mean"] > cell(found, FULL, own)["mean"] - 0.05
        assert abs(lost["mean"]) < 0.25
        assert kept["voxels"] == 20
        assert cell(found, FULL, own)["voxels"] == 40


def test_noise_in_place_of_the_first_stage(found):
    np.testing.assert_allclose(cell(found, "0% noise in left", "left_half")["difference"], 0, atol=1e-6)
    assert abs(cell(found, "100% noise in left", "left_half")["mean"]) < 0.25
    assert cell(found, "100% noise in left", "right_half")["difference"] == pytest.approx(0, abs=1e-6)


def test_mixed_noise_has_the_moments_of_training():
    rng = np.random.default_rng(1)
    mean, deviation = np.array([1.0, -2.0, 0.0]), np.array([0.5, 3.0, 0.0])
    values = mean + deviation * rng.standard_normal((20_000, 3))
    stimuli = [str(number) for number in range(len(values))]
    array = xarray.DataArray(values, dims=("stimulus", "feature"), coords={"stimulus": stimuli})
    decoded = Decoded({"left": array}, training={"left": (mean, deviation)})
    for share in (0.25, 0.75):
        mixed = Cell("noise", "", noise=("left", share)).changed(decoded, 0)["left"].values
        np.testing.assert_allclose(mixed.mean(axis=0), mean, atol=0.06)
        np.testing.assert_allclose(mixed.std(axis=0), deviation, rtol=0.03)
        correlation = [np.corrcoef(mixed[:, one], values[:, one])[0, 1] for one in range(2)]
        np.testing.assert_allclose(correlation, np.sqrt(1 - share), atol=0.02)


def test_first_groups_are_what_the_generator_gets():
    array = xarray.DataArray(
        np.arange(12.0).reshape(2, 6), dims=("stimulus", "feature"), coords={"stimulus": ["a", "b"]}
    )
    decoded = Decoded({"vdvae": array})
    np.testing.assert_array_equal(
        Cell("groups", "", groups=("vdvae", 2)).changed(decoded, 0)["vdvae"], [[0, 1], [6, 7]]
    )


def test_single_trials_and_other_subjects_against_reconstructions_by_hand(found, store):
    train = Recordings.read(store, "subj01", task="images", split="train")
    system = Halves().fit(store, "subj01", samples=train)
    samples = store.samples("subj01")
    rows = samples[samples["split"] == "test"]
    ids = found.stimuli.loc[found.stimuli["cell"] == FULL, "stimulus"].tolist()
    seen = store.images(ids).values / 255.0
    by_hand = []
    for repeat in range(3):
        chosen = rows.groupby("stimulus").nth(repeat)
        test = Recordings.read(store, "subj01", task="images", rows=chosen.index.to_numpy())
        made = system.reconstruct(test.labeled_responses()).sel(stimulus=ids).values
        by_hand.append(METRICS.load("left_half").values(seen, made).mean())
    trials = cell(found, "1 of 3 test repeats", "left_half")
    assert trials["mean"] == pytest.approx(np.mean(by_hand), abs=1e-6)
    assert trials["difference"] < 0
    other = nr.reconstruct(
        store, Halves(), "subj02", metrics=["left_half"], n_permutations=9, controls=False, center=None, scale=None
    )
    row = cell(found, "subj02", "left_half")
    assert row["mean"] == pytest.approx(other.scores[0].value)
    assert row["noise ceiling"] == pytest.approx(np.nanmean(store.noise_ceiling("subj02")))
    assert row["noise ceiling"] < cell(found, FULL, "left_half")["noise ceiling"]


def test_differences_are_those_of_the_values_of_each_stimulus(found):
    values = found.stimuli.pivot(index="stimulus", columns="cell", values="right_half")
    for name in ("without right", "contrast=0.5", "subj02"):
        apart = (values[name] - values[FULL]).to_numpy()
        row = cell(found, name, "right_half")
        assert row["difference"] == pytest.approx(apart.mean())
        draws = np.random.default_rng(5).integers(0, len(apart), (4000, len(apart)))
        low, high = np.percentile(apart[draws].mean(axis=1), [2.5, 97.5])
        width = high - low
        assert row["difference low"] == pytest.approx(low, abs=0.15 * width)
        assert row["difference high"] == pytest.approx(high, abs=0.15 * width)


def test_training_on_less(store):
    vary = ["stimuli=10,30", "sessions"]
    found = ablate(store, Halves(), "subj01", vary=vary, metrics=["left_half"], center=None, scale=None, **FAST)
    rows = found.table.set_index("cell")
    assert rows["samples"].to_dict() == {
        FULL: 60, "10 training stimuli": 10, "30 training stimuli": 30, "1 of 2 sessions": 30
    }  # fmt: skip
    means = [rows.loc[name, "mean"] for name in ("10 training stimuli", "30 training stimuli", FULL)]
    assert means == sorted(means)
    samples = store.samples("subj01")
    chosen = np.flatnonzero((samples["split"] == "train") & (samples["session"] == 1))
    system = Halves().fit(store, "subj01", samples=Recordings.read(store, "subj01", task="images", rows=chosen))
    ids = found.stimuli["stimulus"].drop_duplicates().tolist()
    test = Recordings.read(store, "subj01", task="images", split="test").labeled_responses()
    made = system.reconstruct(test).sel(stimulus=ids).values
    by_hand = METRICS.load("left_half").values(store.images(ids).values / 255.0, made)
    assert rows.loc["1 of 2 sessions", "mean"] == pytest.approx(by_hand.mean(), abs=1e-6)


def test_it_resumes_by_cell_also_if_more_is_varied(store, tmp_path):
    made = []

    class Counted(Halves):
        name = ""

        def generate(self, decoded, *, seed=0):
            made.append(1)
            if len(made) == 8:
                raise KeyboardInterrupt
            return super().generate(decoded, seed=seed)

    settings = {"metrics": ["left_half"], "center": None, "scale": None, **FAST}
    compute = Compute(folder=tmp_path, progress=False)
    with pytest.raises(KeyboardInterrupt):
        ablate(store, Counted(), "subj01", vary="targets", **settings, compute=compute)
    found = ablate(store, Counted(), "subj01", vary="targets", **settings, compute=compute)
    assert len(made) == 3 * 3 + 1  # full and two targets in three parts each, and the one that was cut off
    more = ablate(store, Counted(), "subj01", vary=["targets", "contrast=0.5"], **settings, compute=compute)
    assert len(made) == 4 * 3 + 1
    assert more.table["cell"].tolist() == [*found.table["cell"], "contrast=0.5"]
    whole = ablate(store, Halves(), "subj01", vary="targets", **settings)
    np.testing.assert_array_equal(found.table["mean"], whole.table["mean"])


def test_a_cluster_computes_the_same(store, tmp_path):
    distributed = pytest.importorskip("distributed")
    settings = {"vary": "alpha=1,100", "metrics": ["left_half"], "center": None, "scale": None, **FAST}
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "protocol": "tcp"}
    with distributed.LocalCluster(**options, dashboard_address=":0") as cluster, distributed.Client(cluster) as client:
        elsewhere = ablate(store, Halves(), **settings, compute=Compute(client, 1, tmp_path))
    here = ablate(store, Halves(), **settings, compute=Compute(threads=1))
    np.testing.assert_array_equal(elsewhere.table["mean"], here.table["mean"])
    assert len(list(tmp_path.rglob("alpha*.safetensors"))) == 2


def test_a_fitted_system_is_varied_in_what_takes_no_other_fit(store):
    settings = {"metrics": ["left_half"], "center": None, "scale": None, **FAST}
    fitted = Halves().fit(store, "subj01", samples=Recordings.read(store, "subj01", task="images", split="train"))
    found = ablate(store, fitted, "subj01", vary=["targets", "contrast=0.5"], **settings)
    fresh = ablate(store, Halves(), "subj01", vary=["targets", "contrast=0.5"], **settings)
    np.testing.assert_allclose(found.table["mean"], fresh.table["mean"], atol=1e-6)
    for vary in ("rois=L", "alpha=1", "stimuli=10"):
        with pytest.raises(InputError, match="fitted system"):
            ablate(store, fitted, "subj01", vary=vary, **settings)


def test_several_seeds_are_averaged(store):
    settings = {"vary": "targets=left", "metrics": ["right_half"], "center": None, "scale": None, **FAST}
    means = [ablate(store, Halves(0.3), seed=seed, **settings).table["mean"][0] for seed in (0, 1)]
    both = ablate(store, Halves(0.3), seeds=2, **settings).table["mean"][0]
    assert both == pytest.approx(np.mean(means))
    assert means[0] != means[1]


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("colors", "colors"), ("targets=middle", "middle"), ("targets=left+right", "cannot do without"),
        ("stages=third", "third"), ("rois=V9", "V9"), ("noise=2", "from 0 to 1"), ("noise=", "values are missing"),
        ("alpha", "values of 'alpha' are missing"), ("groups", "does not consist of groups"), ("k", "parameter"),
        ("stimuli=1000", "whole numbers from 2 to 60"), ("stimuli=2.5", "whole numbers"), ("sessions=3", "from 1 to 2"),
        ("trials=4", "from 1 to 3"), ("trials=train", "shown once"), ("subjects=subj09", "subj09"),
        ("subjects=subj01", "nothing to vary"),
    ],
)  # fmt: skip
def test_what_cannot_be_varied_is_one_clear_error(store, vary, said, tmp_path):
    with pytest.raises((InputError, UnknownNameError), match=said):
        ablate(store, Halves(), "subj01", vary=vary, metrics=["left_half"], compute=Compute(folder=tmp_path), **FAST)
    assert not list(tmp_path.iterdir())


def test_names_stand_for_parameters_of_systems():
    gru = SimpleNamespace(system=nr.load_system("gru-two-stage"))
    cells = plan_cells(gru, ["first-stage", "guidance", "guidance=1,2.5"])
    assert [cell.parameters for cell in cells[1:]] == [
        *({"first_stage_decoder": name} for name in ("ridge", "mlp", "gru", "cnn", "transformer")),
        {"guidance_by": "clip"}, {"guidance_by": "category"}, {"guidance": 1}, {"guidance": 2.5},
    ]  # fmt: skip
    mind = SimpleNamespace(system=nr.load_system("mind-diffuser"))
    assert {"k": 0.25} in [cell.parameters for cell in plan_cells(mind, ["k"])]
    assert {"targets", "rois", "noise", "groups", "trials", "subjects"} < set(VARIATIONS)


def test_groups_by_resolution():
    attrs = {"group_boundaries": [0, 2, 4, 12, 20], "group_shapes": [[2, 1, 1], [2, 1, 1], [2, 2, 2], [2, 2, 2]]}
    store = SimpleNamespace(about_target=lambda name: ((5, 20), attrs))
    brain = SimpleNamespace(system=nr.load_system("brain-diffuser"), store=store)
    cells = plan_cells(brain, ["groups", "groups=3"])[1:]
    assert [cell.groups for cell in cells] == [("vdvae", 4), ("vdvae", 20), ("vdvae", 12)]
    gru = SimpleNamespace(system=nr.load_system("gru-two-stage"), store=store)
    assert [cell.parameters for cell in plan_cells(gru, ["groups"])[1:]] == [{"groups": 2}, {"groups": 4}]


def test_published_ablations_stand_beside_those_of_measured_nsd_alone():
    nsd = SimpleNamespace(reader="nsd", simulated=False)
    scores, source = published_ablations(nsd, "mind-diffuser", ["pixcorr", "probe"], {})
    assert scores["without clip_text_15"] == {"pixcorr": 0.218}
    assert "2308.04249" in source
    names = {f"without {name}" for name in nr.load_system("mind-diffuser").targets}
    assert set(scores) == {FULL, "LVC alone", "HVC alone"} | names
    assert published_ablations(nsd, "takagi", ["pixcorr"], {}) == ({}, "")
    assert published_ablations(SimpleNamespace(reader="nsd", simulated=True), "mind-diffuser", ["pixcorr"], {}) == (
        {},
        "",
    )


def test_published_values_are_printed_beside_ours(store, monkeypatch):
    import neurorecon.analyses.ablate as module

    monkeypatch.setattr(
        module, "published_ablations", lambda *_: ({"without left": {"left_half": 0.125}}, "a paper; subject 1")
    )
    found = ablate(store, Halves(), vary="targets", metrics=BOTH, center=None, scale=None, **FAST)
    assert found.wide.loc["without left", "left_half (published)"] == 0.125
    assert "right_half (published)" not in found.wide
    text = found.text(store)
    assert "0.125" in text
    assert "published: a paper; subject 1" in text


def test_files(found, store, tmp_path):
    files = nr.write(found, store, tmp_path, nr.record_of(store, "test"))
    names = {path.name.removeprefix("subj01_halves_ablation") for path in files}
    assert {"_cells.csv", "_cells.tex", "_stimuli.csv", "_scores.png", "_images.png", ".json"} <= names
    assert "SIMULATED" in found.text(store)
    assert found.shown["seen"].dtype == np.uint8
    assert "subj02" not in found.shown or len(found.shown["subj02"]) == len(found.shown["seen"])
