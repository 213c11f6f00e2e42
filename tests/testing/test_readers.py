"""The contract suite passes a reader that keeps the contract, and names what is wrong with the others."""

# ruff: noqa: E501  (the table of broken readers has a case a line)
import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

from neurorecon.datasets.base import Description, Options, Reader, SubjectData
from neurorecon.errors import NeuroreconError
from neurorecon.space import Space
from neurorecon.testing import ContractError, check_reader, reader_checks
from neurorecon.testing.miniature import MiniatureOptions, MiniatureReader

N_IMAGES, N_VIDEOS, N_FRAMES, N_VOXELS = 8, 3, 5, 12


class GoodOptions(Options):
    """Options of the good reader."""

    space: str = "volume"


class GoodReader(Reader):
    """Eight images and three videos, twice each, two subjects: keeps the contract."""

    name = "good"
    Options = GoodOptions
    needs_root = False

    @property
    def description(self):
        return Description("a title", True, "a paper", "terms", "units")

    @property
    def subjects(self):
        return ["subj01", "subj02"]

    def stimuli(self):
        n = N_IMAGES + N_VIDEOS
        return pd.DataFrame(
            {
                "id": [f"stimulus{number}" for number in range(n)],
                "kind": ["image"] * N_IMAGES + ["video"] * N_VIDEOS,
                "category": ["face", "house"] * (n // 2) + ["face"] * (n % 2),
                "captions": [["a face", "somebody"] for _ in range(n)],
            }
        )

    def labels(self):
        return pd.DataFrame({"size": np.linspace(0, 1, N_IMAGES + N_VIDEOS)})

    def image_shape(self):
        return (4, 6, 3)

    def video_shape(self):
        return (N_FRAMES, 4, 6, 3)

    def frames_per_second(self):
        return 8.0

    def videos(self):
        return np.random.default_rng(0).integers(0, 256, (N_VIDEOS, *self.video_shape()), dtype=np.uint8)

    def read_images(self, start, stop):
        images = np.random.default_rng(1).integers(0, 256, (N_IMAGES, 4, 6, 3), dtype=np.uint8)
        return np.concatenate([images, self.videos()[:, N_FRAMES // 2]])[start:stop]

    def read_frames(self, start, stop):
        return self.videos()[start:stop]

    def samples(self):
        order = [*range(N_IMAGES), *range(N_IMAGES)]
        images = pd.DataFrame(
            {
                "stimulus": [f"stimulus{number}" for number in order],
                "task": "images",
                "session": 1,
                "run": [1] * N_IMAGES + [2] * N_IMAGES,
                "repeat": [1] * N_IMAGES + [2] * N_IMAGES,
                "split": ["train" if number < 6 else "test" for number in order],
                "time": np.tile(np.arange(N_IMAGES) * 4.0, 2),
            }
        )
        videos = pd.DataFrame(
            {
                "stimulus": [f"stimulus{N_IMAGES + number // 2}" for number in range(2 * N_VIDEOS)],
                "task": "videos",
                "session": 2,
                "run": 1,
                "repeat": 1,
                "split": "train",
                "time": np.arange(2 * N_VIDEOS) * 2.0,
            }
        )
        return pd.concat([images, videos], ignore_index=True)

    def voxels_and_space(self):
        number = np.arange(N_VOXELS)
        if self.options.space == "none":
            return pd.DataFrame(index=number), Space("none")
        if self.options.space == "surface":
            table = pd.DataFrame({"hemisphere": np.where(number % 2, "left", "right"), "vertex": 11 * number})
            return table, Space("surface", mesh="fsaverage5", vertices={"left": 10242, "right": 10242})
        if self.options.space == "grayordinates":
            table = pd.DataFrame(
                {
                    "structure": np.where(number % 2, "CIFTI_STRUCTURE_CORTEX_LEFT", "CIFTI_STRUCTURE_THALAMUS_LEFT"),
                    "vertex": np.where(number % 2, 3 * number, -1),
                    "i": np.where(number % 2, -1, number),
                    "j": np.where(number % 2, -1, 2),
                    "k": np.where(number % 2, -1, 1),
                }
            )
            space = Space("grayordinates", np.eye(4).tolist(), [20, 5, 5], None, {"CIFTI_STRUCTURE_CORTEX_LEFT": 64})
            return table, space
        table = pd.DataFrame({"i": number, "j": number % 3, "k": 1})
        return table, Space("volume", affine=np.diag([2.0, 2, 2, 1]).tolist(), shape=[20, 5, 5])

    def subject(self, name):
        samples = self.samples()
        voxels, space = self.voxels_and_space()
        voxels["ncsnr"] = 0.5
        seed = self.subjects.index(name)
        responses = np.random.default_rng([2, seed]).standard_normal((len(samples), N_VOXELS)).astype(np.float32)
        return SubjectData(
            samples=samples,
            voxels=voxels,
            rois={"V1": np.arange(N_VOXELS) < 6, "all": np.ones(N_VOXELS, bool)},
            space=space,
            read_responses=lambda start, stop: responses[start:stop].copy(),
            repetition_time={"videos": 2.0},
            truth={"gain": np.ones((2, N_VOXELS))},
        )


@pytest.mark.parametrize("check", reader_checks(), ids=str)
@pytest.mark.parametrize("space", ["volume", "surface", "grayordinates", "none"])
def test_good_reader_passes(space, check):
    check(GoodReader(None, GoodOptions(space=space)))


@pytest.mark.parametrize("max_samples", [1, 2, 5, 1000])
def test_all_at_once(max_samples):
    assert len(check_reader(GoodReader(None), max_samples=max_samples)) == len(reader_checks())


def test_reader_with_the_former_name_of_video_shape():
    with pytest.warns(DeprecationWarning, match=r"FormerReader.film_shape\(\) is deprecated: rename it to video_shape"):

        class FormerReader(GoodReader):
            def film_shape(self):
                return (N_FRAMES, 4, 6, 3)

            def videos(self):
                return np.random.default_rng(0).integers(0, 256, (N_VIDEOS, *self.film_shape()), dtype=np.uint8)

    assert FormerReader(None).video_shape() == (N_FRAMES, 4, 6, 3)
    check_reader(FormerReader(None))


def test_video_shape_goes_before_film_shape():
    class BothReader(GoodReader):
        def film_shape(self):
            return (1, 2, 2, 3)

        def video_shape(self):
            return (N_FRAMES, 4, 6, 3)

    assert BothReader(None).video_shape() == (N_FRAMES, 4, 6, 3)


def table(method, change):
    """Return a reader whose table, of stimuli or labels, is changed."""

    def broken(self):
        found = getattr(GoodReader, method)(self)
        changed = change(found)
        return found if changed is None else changed

    return {method: broken}


def recording(change):
    """Return a reader whose recordings of one subject are changed."""

    def subject(self, name):
        data = GoodReader.subject(self, name)
        return change(data) if name == "subj02" else data

    return {"subject": subject}


def samples(change):
    def on(data):
        found = data.samples.copy()
        changed = change(found)
        return replace(data, samples=found if changed is None else changed)

    return recording(on)


def voxels(change):
    def on(data):
        found = data.voxels.copy()
        changed = change(found)
        return replace(data, voxels=found if changed is None else changed)

    return recording(on)


def responses(change):
    def on(data):
        return replace(data, read_responses=lambda a, b: change(data.read_responses, a, b))

    return recording(on)


def reading(method, change):
    return {method: lambda self, a, b: change(lambda c, d: getattr(GoodReader, method)(self, c, d), a, b)}


def put(column, value, row=None):
    """Return a change of a column, or of one of its rows."""

    def change(found):
        if row is None:
            found[column] = value
        else:
            found[column] = [value if number == row else old for number, old in enumerate(found[column])]

    return change


def spoil(rows, index, value):
    rows = rows.copy()
    rows[index] = value
    return rows


def same_array(read, kept={}):  # noqa: B006 - the default is the cache
    """Return one array for all calls, as a reader that forgets to copy does."""
    return kept.setdefault("rows", read(0, 22))


def drifting(read, a, b, calls=[0]):  # noqa: B006 - counts calls
    calls[0] += 1
    return read(a, b) + np.float32(calls[0])


class LooseOptions(BaseModel):
    """Options that accept anything."""


class ThawedOptions(GoodOptions, frozen=False):
    """Options that can be changed."""


class LavishOptions(GoodOptions, extra="ignore"):
    """Options that ignore unknown keys."""


def space(**changes):
    return recording(lambda data: replace(data, space=replace(data.space, **changes)))


BROKEN = {
    "name missing": ("name", "lower-case identifier", {"name": "My Reader"}),
    "needs_root no bool": ("name", "True or False", {"needs_root": 0}),
    "options no Options": ("options", "has to be a subclass", {"Options": LooseOptions}),
    "options not frozen": ("options", "frozen", {"Options": ThawedOptions}),
    "options accept unknown keys": ("options", "refuse unknown keys", {"Options": LavishOptions}),
    "description a dict": ("description", "has to be a Description", {"description": {}}),
    "description empty": ("description", "units has to say", {"description": Description("t", True, "c", "t", "")}),
    "description None": ("description", "terms has to be", {"description": Description("t", True, "c", None, "u")}),
    "description two lines": ("description", "one line", {"description": Description("t\nu", True, "c", "t", "u")}),
    "simulated unknown": ("description", "simulated", {"description": Description("t", None, "c", "t", "u")}),
    "stimuli no table": ("stimuli", "DataFrame", table("stimuli", lambda t: t.to_dict())),
    "stimuli lack a column": ("stimuli", "columns", table("stimuli", lambda t: t.drop(columns="captions"))),
    "stimuli swap columns": ("stimuli", "columns", table("stimuli", lambda t: t[["kind", "id", "category", "captions"]])),
    "no stimuli": ("stimuli", "at least one row", table("stimuli", lambda t: t.iloc[:0])),
    "ids are numbers": ("stimuli", "strings", table("stimuli", put("id", range(11)))),
    "an id is empty": ("stimuli", "none empty", table("stimuli", put("id", "", row=3))),
    "an id twice": ("stimuli", "unique", table("stimuli", put("id", "stimulus0", row=3))),
    "unknown kind": ("stimuli", "'image', 'video' or 'other'", table("stimuli", put("kind", "sound", row=3))),
    "videos first": ("stimuli", "after the images", table("stimuli", lambda t: t[::-1])),
    "six captions": ("stimuli", "at most five", table("stimuli", put("captions", ["c"] * 6, row=3))),
    "one string of captions": ("stimuli", "lists", table("stimuli", put("captions", "a face", row=3))),
    "captions of numbers": ("stimuli", "strings", table("stimuli", put("captions", [1], row=3))),
    "category missing": ("stimuli", "strings", table("stimuli", put("category", np.nan, row=3))),
    "labels too short": ("labels", "a row for each", table("labels", lambda t: t[:-1])),
    "labels of words": ("labels", "numeric", table("labels", put("size", "large"))),
    "labels without end": ("labels", "finite", table("labels", put("size", np.inf, row=3))),
    "labels an array": ("labels", "DataFrame or None", table("labels", lambda t: t.to_numpy())),
    "gray images": ("images", "(y, x, 3)", {"image_shape": lambda self: (4, 6)}),
    "images without shape": ("images", "has to be given", {"image_shape": lambda self: None}),
    "images of floats": ("images", "uint8", reading("read_images", lambda read, a, b: read(a, b) / 255)),
    "images transposed": ("images", "shape", reading("read_images", lambda read, a, b: read(a, b).swapaxes(1, 2))),
    "images too many": ("images", "shape", reading("read_images", lambda read, a, b: read(a, b + 1))),
    "images by position": ("images", "one slice or in several", reading("read_images", lambda read, a, b: read(0, b - a))),
    "images a list": ("images", "NumPy array", reading("read_images", lambda read, a, b: list(read(a, b)))),
    "videos without shape": ("videos", "has to be given", {"video_shape": lambda self: None}),
    "videos without frames": ("videos", "(frame, y, x, 3)", {"video_shape": lambda self: (4, 6, 3)}),
    "videos without rate": ("videos", "positive", {"frames_per_second": lambda self: None}),
    "videos frozen": ("videos", "middle frame", reading("read_frames", lambda read, a, b: read(a, b)[:, [0] * N_FRAMES])),
    "videos shifted": ("videos", "shape", reading("read_frames", lambda read, a, b: read(a + 1, b + 1))),
    "no subjects": ("subjects", "at least one", {"subjects": []}),
    "a subject twice": ("subjects", "once", {"subjects": ["subj01", "subj01"]}),
    "a subject's name is a path": ("subjects", "letters, digits", {"subjects": ["subj/01"]}),
    "samples lack a column": ("samples", "columns", samples(lambda t: t.drop(columns="run"))),
    "no samples": ("samples", "at least one row", samples(lambda t: t[:0])),
    "unknown stimulus": ("samples", "name stimuli of stimuli()", samples(put("stimulus", "face", row=3))),
    "split missing": ("samples", "strings", samples(put("split", None, row=3))),
    "runs from 0": ("samples", "at least 1", samples(lambda t: put("run", t["run"] - 1)(t))),
    "runs are floats": ("samples", "integers", samples(lambda t: put("run", t["run"] * 1.0)(t))),
    "time in integers": ("samples", "floats", samples(lambda t: put("time", t["time"].astype(int))(t))),
    "time NaN": ("samples", "finite", samples(put("time", np.nan, row=3))),
    "time negative": ("samples", "not negative", samples(lambda t: put("time", t["time"] - 1)(t))),
    "test stimulus trained on": ("subjects", "one split only", samples(put("split", "test", row=0))),
    "splits differ between subjects": ("subjects", "for all subjects", samples(lambda t: put("split", t["split"].map({"train": "test", "test": "train"}))(t))),
    "repeats from 0": ("repeats", "from 1 without a gap", samples(lambda t: put("repeat", t["repeat"] - 1)(t))),
    "repeats with a gap": ("repeats", "without a gap", samples(lambda t: put("repeat", t["repeat"].replace(2, 3))(t))),
    "repeats all 1": ("repeats", "one sample", samples(put("repeat", 1))),
    "time series of no task": ("repetition_time", "name tasks", recording(lambda d: replace(d, repetition_time={"rest": 2.0}))),
    "time series of no length": ("repetition_time", "positive", recording(lambda d: replace(d, repetition_time={"videos": 0.0}))),
    "time series off the grid": ("repetition_time", "steps of 2 s", samples(put("time", 9.0, row=20))),
    "voxels lack a column": ("voxels", "lacks k", voxels(lambda t: t.drop(columns="k"))),
    "voxels twice": ("voxels", "once", voxels(lambda t: put("j", 0)(t) or put("i", 0)(t))),
    "voxels outside": ("voxels", "below 20", voxels(put("i", 20, row=3))),
    "voxels before the first": ("voxels", "at least 0", voxels(put("i", -1, row=3))),
    "voxels in millimeters": ("voxels", "integers", voxels(lambda t: put("i", t["i"] * 1.5)(t))),
    "ncsnr NaN": ("voxels", "ncsnr", voxels(put("ncsnr", np.nan, row=3))),
    "no voxels": ("voxels", "at least one row", voxels(lambda t: t[:0])),
    "volume without affine": ("voxels", "affine", space(affine=None)),
    "no ROIs": ("rois", "at least one ROI", recording(lambda d: replace(d, rois={}))),
    "empty ROI": ("rois", "at least one voxel", recording(lambda d: replace(d, rois={"V1": np.zeros(N_VOXELS, bool)}))),
    "area of indices": ("rois", "bool", recording(lambda d: replace(d, rois={"V1": np.arange(N_VOXELS)}))),
    "ROI too short": ("rois", "shape", recording(lambda d: replace(d, rois={"V1": np.ones(N_VOXELS - 1, bool)}))),
    "ROI a list": ("rois", "NumPy array", recording(lambda d: replace(d, rois={"V1": [True] * N_VOXELS}))),
    "group of no ROIs": ("rois", "not empty", {"roi_groups": {"early": []}}),
    "group named as an ROI": ("rois", "not that of a group", {"roi_groups": {"V1": ["all"]}}),
    "space of arrays": ("space", "JSON", space(shape=(20, 5, 5))),
    "responses of doubles": ("responses", "float32", responses(lambda read, a, b: read(a, b).astype(float))),
    "responses transposed": ("responses", "shape", responses(lambda read, a, b: read(a, b).T)),
    "responses NaN": ("responses", "finite", responses(lambda read, a, b: spoil(read(a, b), (slice(None), 0), np.nan))),
    "responses all zero": ("responses", "differ", responses(lambda read, a, b: read(a, b) * 0)),
    "responses depend on the slice": ("responses", "one slice or in several", responses(lambda read, a, b: read(a, b) - read(a, b).mean(0))),
    "responses drift": ("responses", "same", responses(drifting)),
    "responses not their own": ("responses", "array of its own", responses(lambda read, a, b: same_array(read)[a:b])),
    "truth in real data": ("truth", "unless the data are simulated", {"description": Description("t", False, "c", "t", "u")}),
    "truth by voxel first": ("truth", "last axis", recording(lambda d: replace(d, truth={"gain": np.ones((N_VOXELS, 2))}))),
    "another order each time": ("determinism", "same in a second reader", table("samples", lambda t: t.sample(frac=1))),
    "other noise each time": ("determinism", "same in a second reader", responses(lambda read, a, b: np.random.default_rng().random((b - a, N_VOXELS), dtype=np.float32))),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_reader_fails_the_right_check(case):
    failing, said, members = BROKEN[case]
    cls = type("BrokenReader", (GoodReader,), members)
    reader = cls(None)
    check = next(check for check in reader_checks() if str(check) == failing)
    with pytest.raises(ContractError) as caught:
        check(reader)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    with pytest.raises(ContractError, match=f"(?s)does not keep the contract.*{failing}: "):
        check_reader(reader)


def test_surface_off_the_mesh_is_named():
    for column, value, said in (("vertex", 10242, "below 10242"), ("hemisphere", "L", "'left' or 'right'")):
        cls = type("BrokenReader", (GoodReader,), voxels(put(column, value, row=3)))
        check = next(check for check in reader_checks() if str(check) == "voxels")
        with pytest.raises(ContractError, match=said):
            check(cls(None, GoodOptions(space="surface")))


def test_what_a_reader_raises_is_reported_beside_the_other_checks():
    cls = type("BrokenReader", (GoodReader,), {"labels": lambda self: 1 / 0, "name": "Bad Name"})
    with pytest.raises(ContractError) as caught:
        check_reader(cls(None))
    assert "labels: the reader raised ZeroDivisionError" in str(caught.value)
    assert "name: name has to be" in str(caught.value)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_error_is_an_assertion_and_ours():
    assert issubclass(ContractError, AssertionError)
    assert issubclass(ContractError, NeuroreconError)


def test_options_of_the_good_reader_pickle():
    assert pickle.loads(pickle.dumps(GoodOptions(space="none"))) == GoodOptions(space="none")


@pytest.mark.parametrize("videos", [0, 12])
def test_the_miniature_keeps_the_contract(videos):
    check_reader(MiniatureReader(None, MiniatureOptions(videos=videos)))
