"""Every mistake a user can make gives one clear message and exit code 2, and changes nothing."""

import json

import pytest

from neurorecon.store.writer import WriterLock


class _Store:
    """Stands for the path of the small store."""

    def __repr__(self):
        return "STORE"


STORE = _Store()

#: Command, and what its message has to say.
MISTAKES = [
    (["maps", "--store", STORE, "--roi", "M"], ["unknown ROI 'M'", "MT", "early (group)"]),
    (["maps", "--store", STORE, "--roi", "lh.V1+NONE"], ["unknown ROI 'NONE'"]),
    (["maps", "--store", STORE, "--roi", ""], ["no ROI is given"]),
    (["maps", "--store", STORE, "--subject", "subj09"], ["unknown subject 'subj09'", "subj01, subj02"]),
    (["maps", "--store", STORE, "--subject", "subj01", "--subject", "nobody"], ["unknown subject 'nobody'"]),
    (["maps", "--store", STORE, "--bands", "gabor,clip"], ["unknown target 'clip'", "features --target clip"]),
    (["maps", "--store", STORE, "--kind", "encodin"], ["unknown kind of map", "did you mean 'encoding'?"]),
    (["maps", "--store", STORE, "--task", "music"], ["the task 'music' cannot be analyzed", "one of: videos"]),
    (["maps", "--store", STORE, "--bands", "motion", "--task", "images"], ["cannot be analyzed with these bands"]),
    (["maps", "--store", STORE, "--fdr", "5"], ["fdr is out of range", "fdr=5.0", "above 0 and below 1"]),
    (["maps", "--store", STORE, "--bands", "nope"], ["unknown target 'nope'", "--from FILE --name NAME"]),
    (["maps", "--store", "nowhere.icechunk", "--device", "tpu"], ["unknown device 'tpu'", "cpu, torch, cuda, cuda:N"]),
    (["maps", "--store", STORE, "--kind", "haufe", "--no-zscore"], ["raw features are options of encoding maps"]),
    (["maps", "--store", STORE, "--system", "pixels"], ["unknown system 'pixels'", "linear-pixels"]),
    (["maps", "--store", STORE, "--system", "linear-pixels", "--kind", "encoding"], ["kind of map of a system"]),
    (["maps", "--store", STORE, "--system", "linear-pixels", "--bands", "gabor"], ["not for maps of a system"]),
    (["maps", "--store", STORE, "--preset", "released"], ["not for maps without a system", "add --system"]),
    (["maps", "--store", STORE, "--system", "linear-pixels", "--models", "published"], ["unknown parameter"]),
    (["maps", "--store", STORE, "--system", "linear-pixels", "--kind", "output", "--exchange", "run"], ["--exchange"]),
    (["maps", "--store", STORE, "--system", "linear-pixels", "--roi", "MTT"], ["unknown ROI 'MTT'"]),
    (["maps", "--store", STORE, "--kind", "importance"], ["unknown kind of map 'importance'"]),
    (["classify", "--store", STORE, "--C", "0"], ["C is out of range", "C=0.0", "above 0"]),
    (["classify", "--store", STORE, "--fdr", "2"], ["fdr is out of range", "fdr=2.0", "above 0 and below 1"]),
    (["classify", "--store", STORE, "--center", "sesion"], ["unknown column to center", "did you mean 'session'?"]),
    (["classify", "--store", STORE, "--scale", "stimulus"], ["unknown column to center or scale within 'stimulus'"]),
    (["maps", "--store", "nothing.icechunk"], ["no store at this location", "neurorecon build"]),
    (["reconstruct", "--store", STORE, "--system", "pixels"], ["unknown system 'pixels'", "linear-pixels"]),
    (["reconstruct", "--store", STORE, "--task", "music"], ["unknown task 'music'", "images, videos"]),
    (["reconstruct", "--store", STORE, "--cross-validate", "mood"], ["unknown column", "category, stimulus"]),
    (["reconstruct", "--store", STORE, "--subject", "nobody"], ["unknown subject 'nobody'"]),
    (["reconstruct", "--store", STORE, "--models", "published"], ["unknown parameter", "'models'"]),
    (["reconstruct", "--store", STORE, "--preset", "released"], ["unknown parameter", "'preset'"]),
    (["reconstruct", "--store", STORE, "--set", "guidance=5"], ["unknown parameter", "'guidance'"]),
    (["reconstruct", "--store", STORE, "--set", "cv"], ["not KEY=VALUE"]),
    (["reconstruct", "--store", STORE, "--center", "day"], ["within 'day'", "session, run"]),
    (["reconstruct", "--store", STORE, "--controls", "--single-trials"], ["averaged test responses"]),
    (["fit", "--store", STORE, "--system", "pixels"], ["unknown system 'pixels'", "linear-pixels"]),
    (["fit", "--store", STORE, "--models", "published"], ["unknown parameter", "'models'"]),
    (["fit", "--store", STORE, "--roi", "MTT"], ["unknown ROI 'MTT'", "did you mean 'MT'?"]),
    (["fit", "--store", STORE, "--subject", "nobody"], ["unknown subject 'nobody'"]),
    (["fit", "--store", STORE, "--scale", "day"], ["within 'day'", "session, run"]),
    (["evaluate", "nowhere", "--store", STORE], ["there are no images here"]),
    (["systems", "pixels"], ["unknown system 'pixels'", "linear-pixels"]),
    (["reconstruct", "--store", STORE, "--roi", "MTT"], ["unknown ROI 'MTT'", "did you mean 'MT'?"]),
    (["features", "--store", STORE, "--target", "clip"], ["unknown target 'clip'", "gabor, category, motion"]),
    (["build", "nothing.toml"], ["the recipe does not exist", "nothing.toml"]),
    (["build", "miyawaki2008"], ["needs a folder", "--root DIR"]),
    (["build", "miyawaki2008", "--root", "nowhere"], ["does not exist", "nowhere"]),
    (["info", "nothing.icechunk"], ["no store at this location"]),
    (["info", STORE, "--snapshot", "ABC"], ["unknown snapshot 'ABC'"]),
    (["check", "nothing.zarr"], ["no store at this location"]),
    (["reconstruct", "--store", STORE, "--set", "alphas=x"], ["alphas must be positive numbers", "'x'"]),
    (["export", STORE, "somewhere"], ["cannot be exported", "somewhere"]),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=lambda value: " ".join(map(str, value[:1] + value[-1:])))
def test_a_mistake_gives_one_message(call, small, state, tmp_path, arguments, said):
    before = state(small.path)
    arguments = [small.path if item is STORE else item for item in arguments]
    found = call(*arguments, "--json")
    assert found.exit_code == 2, found.exception
    for words in said:
        assert words in found.stderr
    assert found.stderr.count("neurorecon: error:") == 1
    assert "  given:    " in found.stderr
    assert "  expected: " in found.stderr
    assert "Traceback" not in found.stderr
    answer = json.loads(found.stdout)
    assert answer["command"] == arguments[0]
    assert answer["error"] in found.stderr
    assert state(small.path) == before
    assert list(tmp_path.iterdir()) == []


def test_a_message_stands_on_a_line_of_its_own(user, small, tmp_path):
    found = user("maps", "--store", small.path, "--roi", "NONE", cwd=tmp_path)
    assert found.returncode == 2
    assert found.stdout == ""
    assert "Traceback" not in found.stderr
    # A progress bar clears its line with a carriage return.
    assert ("\n" + found.stderr.replace("\r", "\n")).count("\nneurorecon: error: unknown ROI 'NONE'") == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = ", "cannot be read"),
        ('name = "a"\nreader = "scene"', "did you mean 'scenes'?"),
        ('name = "a"\nreader = "scenes"\nvoxels = 3', "voxels: Extra inputs"),
        ('name = "a"\nreader = "scenes"\n[options]\nvoxel = 3', "voxel: Extra inputs"),
        ('name = "a"\nreader = "scenes"\ntargets = ["clip"]\n', "unknown target 'clip'"),
        ('name = "a"\nreader = "scenes"\n[roi_groups]\nall = ["V9"]\n', "group of ROIs 'all'"),
    ],
)
def test_wrong_recipes(call, tmp_path, text, said):
    (tmp_path / "a.toml").write_text(text)
    found = call("build", "a.toml", "--quiet")
    assert found.exit_code == 2
    assert said in found.stderr
    assert found.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]


@pytest.mark.parametrize("arguments", [["--permutations", "0"], ["--seed", "-1"], ["--permutations", "1.5"]])
@pytest.mark.parametrize("command", ["maps", "reconstruct"])
def test_numbers_out_of_range(call, small, command, arguments):
    found = call(command, "--store", small.path, *arguments)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert arguments[0] in found.stderr


@pytest.mark.parametrize("command", ["maps", "reconstruct", "fit"])
def test_a_file_in_place_of_the_folder_for_results(call, small, tmp_path, command):
    (tmp_path / "taken").write_text("precious")
    for out in ("taken", "taken/below"):
        few = [] if command == "fit" else ["--permutations", "5"]
        found = call(command, "--store", small.path, "--roi", "MT", *few, "--out", out, "--quiet")
        assert found.exit_code == 2
        assert "taken" in found.stderr
        assert "Traceback" not in found.stderr
    assert (tmp_path / "taken").read_text() == "precious"


def test_a_second_writer(call, own, state):
    before = state(own.path)
    with WriterLock(own.path):
        found = call("build", own.recipe, "--overwrite", "--quiet", "--json")
        assert found.exit_code == 2
        assert "another process is writing to this store" in found.stderr
        assert "one writer at a time" in json.loads(found.stdout)["error"]
        assert call("info", own.path).exit_code == 0  # reading is always possible
    assert state(own.path) == before


def test_another_recipe_does_not_replace_a_store(call, own, state):
    before = state(own.path)
    own.recipe.write_text(own.recipe.read_text().replace("voxels = 200", "voxels = 201"))
    found = call("build", own.recipe, "--quiet")
    assert found.exit_code == 2
    assert "already a different store" in found.stderr
    assert state(own.path) == before
