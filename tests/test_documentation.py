"""The examples of the README, of the docs and of stores/README.md run, and what they claim is checked.

A page is run as it is read: its commands one after the other, in a folder with the recipes. Where a block fetches or
builds a data set, a new folder is made. The embedded data set is a small one, and what an example leaves to its
reader is put in its place (:func:`_prepared`): ``DIR`` becomes the excerpt of real data beside the checkout or else a
miniature, ``STORE`` the embedded store, ``HOST`` this machine. Permutations, seeds, steps and epochs are few, and no
figures are drawn.
"""

import contextlib
import functools
import json
import logging
import re
import shlex
import shutil
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

import neurorecon
import neurorecon as nr
from neurorecon.cli.main import app
from neurorecon.datasets.recipe import Recipe
from neurorecon.figures import panel, save_figure
from neurorecon.registry import DATASETS, FEATURES, METRICS
from neurorecon.simulation.reader import ScenesOptions, ScenesReader
from neurorecon.systems import mind_animator
from neurorecon.systems.brain_diffuser import BrainDiffuser
from neurorecon.systems.gru_two_stage import GRUTwoStage
from neurorecon.systems.mind_animator import MindAnimator
from neurorecon.systems.mind_diffuser import MindDiffuser
from neurorecon.systems.takagi import Takagi
from neurorecon.testing.layouts import layouts, write_layout

#: The stores are made once.
pytestmark = pytest.mark.xdist_group("documentation")

ROOT = Path(neurorecon.__file__).parents[1]

#: Excerpts of public data sets, kept beside the checkout and never committed.
SHARED = ROOT.parent / "shared" / "data"

#: Commands that are parsed, and not run: the page and the command as printed, and why.
NOT_RUN = {
    ("docs/datasets/cc2017.md", "neurorecon reconstruct --system mind-animator --task videos --roi reliable "
     "--models published --device cuda"): "trains networks; run in tests/cli/test_videos.py",
    ("docs/datasets/cc2017.md", "neurorecon shuffle --system mind-animator --task videos --roi reliable "
     "--models published --device cuda --target frames --without vqvae_frames"):
        "trains networks; run on drawn clips, docs/systems/mind-animator.md",
    ("docs/datasets/cc2017.md", "neurorecon maps --system mind-animator --task videos --models published "
     "--device cuda --kind gradient"): "trains networks; run on drawn clips, docs/systems/mind-animator.md",
    ("docs/models.md", "neurorecon features --target vdvae --target ip_adapter --models published"):
        "no image prompt is bundled; run with small networks in tests/systems/test_other_generators.py",
    ("docs/models.md", "neurorecon reconstruct --system brain-diffuser --models published --set "
     "generator=sdxl-ip-adapter"): "run with small networks in tests/systems/test_other_generators.py",
    ("docs/systems/mind-diffuser.md", "neurorecon reconstruct --system mind-diffuser --preset released"):
        "300 iterations; the preset is run in tests/systems",
    ("docs/systems/neurorecon.md", "neurorecon reconstruct --system neurorecon --roi visual --no-controls"):
        "several images of each stimulus; a refinement is run from docs/refinement.md",
    ("docs/validation.md", "neurorecon reconstruct --system neurorecon --models bundled --cross-validate category "
     "--no-controls"): "several images of each figure in ten folds; a refinement is run from docs/refinement.md",
    ("docs/features.md", "accelerate launch --num_processes 4 -m neurorecon.cli features --store STORE --target "
     "clip_vision --models published"): "four graphics cards; two processes run in tests/features/test_processes.py",
    ("docs/features.md", "neurorecon features --store STORE --target clip_vision --scheduler local"):
        "starts a process for each core, seconds each; run in tests/parallel",
    ("docs/scale.md", "neurorecon maps --store STORE --scheduler local --threads 1"):
        "starts a process for each core, seconds each; run in tests/parallel",
    ("README.md", "neurorecon weights pull versatile-diffusion vdvae-imagenet64 clip-vit-l14"):
        "downloads 10 GB; run against a local server in tests/hub",
    ("docs/systems/brain-diffuser.md", "neurorecon weights pull versatile-diffusion vdvae-imagenet64 clip-vit-l14"):
        "downloads 10 GB; run against a local server in tests/hub",
    ("docs/systems/brain-diffuser.md", "neurorecon reconstruct --system brain-diffuser --models published --subject "
     "subj01 --device cuda"): "run on the README's page",
    ("docs/systems/gru-two-stage.md", "neurorecon weights pull versatile-diffusion vdvae-imagenet64 clip-vit-l14"):
        "downloads 10 GB; run against a local server in tests/hub",
    ("docs/systems/gru-two-stage.md", "neurorecon reconstruct --system gru-two-stage --models published --subject "
     "subj01 --device cuda"): "a miniature has too few images to train a network",
    ("docs/systems/takagi.md", "neurorecon weights pull sd-v1-4-text-encoder sd-v1-4-autoencoder sd-v1-4-unet"):
        "downloads 4 GB; run against a local server in tests/hub",
    ("docs/systems/takagi.md", "neurorecon reconstruct --system takagi --models published --subject subj01 --device "
     "cuda"):
        "the same as for brain-diffuser, on the README's page",
    ("docs/systems/mind-diffuser.md", "neurorecon weights pull clip-vit-b32 sd-v1-4-text-encoder sd-v1-4-autoencoder "
     "sd-v1-4-unet"): "downloads 5 GB; run against a local server in tests/hub",
    ("docs/systems/mind-diffuser.md", "neurorecon reconstruct --system mind-diffuser --models published --subject "
     "subj01 --device cuda"): "the same as for brain-diffuser, on the README's page",
    ("docs/validation.md", "neurorecon maps --store OLD.icechunk --subject subj01 --task images --bands "
     "clip_image,vqvae,vdvae"): "a store of an earlier version",
    ("docs/splits.md", "neurorecon split --kind session"):
        "the small store has one session; run in tests/analyses/test_splits.py",
    ("docs/weights.md", "neurorecon weights pull NAME..."): "downloads; run against a local server in tests/hub",
    ("docs/weights.md", "neurorecon weights pull clip-vit-l14 vdvae-imagenet64 --folder weights"):
        "downloads 2 GB; run against a local server in tests/hub",
}  # fmt: skip

#: Python examples that do not run here: the page and what tells the example apart, and why.
NOT_RUN_PYTHON = {
    ("docs/extending.md", "class LatentRidge(System)"): "run in tests/systems/test_extending.py",
    ("docs/extending.md", "system = LatentRidge()"): "run in tests/systems/test_extending.py",
    ("docs/extending.md", "check_system(LatentRidge())"): "run in tests/systems/test_extending.py",
    ("docs/extending.md", 'nr.METRICS.register("brightness"'): "run in tests/systems/test_extending.py",
}

#: Sizes of the embedded data set of these tests.
SMALL = {
    "subjects": 1, "voxels": 200, "train_images": 24, "test_images": 8, "test_image_repeats": 6,  # two runs
    "train_videos": 16, "test_videos": 8, "train_video_repeats": 2, "test_video_repeats": 3,
}  # fmt: skip

#: Real data beside the checkout, by data set.
EXCERPTS = {"miyawaki2008": "miyawaki2008_V1", "yamada2015": "yamada2015_S2", "haxby2001": "haxby2001"}


# -- reading pages ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A block of a page: fenced, with its language, or indented (language "")."""

    page: str
    line: int
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    """A command as printed, without its comment."""

    page: str
    line: int
    text: str
    comment: str = ""

    @property
    def words(self):
        return shlex.split(self.text.rpartition("neurorecon.cli ")[2].removeprefix("neurorecon "))


def _pages():
    if not (ROOT / "README.md").is_file():
        pytest.skip("installed without its documentation", allow_module_level=True)
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "stores" / "README.md"]
    return {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths}


def _blocks(page, text):
    fence, indented, found, before = None, [], [], ""
    for number, line in enumerate([*text.splitlines(), "end"], start=1):
        if fence is not None:
            if line.startswith("```"):
                found.append(Block(page, *fence[:2], "\n".join(fence[2:])))
                fence = None
            else:
                fence.append(line)
        elif line.startswith("    ") and (indented or not before):
            indented = [*(indented or [number]), line[4:]]
        elif line.strip() or not indented:
            if indented:
                found.append(Block(page, indented[0], "", "\n".join(indented[1:])))
            indented = []
            fence = [number, line[3:].strip() or "text"] if line.startswith("```") else None
        else:
            indented.append("")
        before = line.strip()
    return found


def _commands(block):
    if block.language not in ("", "sh", "bash", "console", "shell"):
        return []
    found = []
    for number, line in enumerate(block.text.replace("\\\n", " ").splitlines()):
        text, _, comment = line.strip().removeprefix("$ ").partition(" #")
        if re.match(r"neurorecon [a-z]|accelerate launch .*neurorecon\.cli ", text):
            found.append(Command(block.page, block.line + number, text.strip(), comment.strip()))
    return found


PAGES = _pages()
BLOCKS = [block for page, text in PAGES.items() for block in _blocks(page, text)]


def _stories():
    """Return the commands of a page that follow from one another; the same ones of another page are one story."""
    found = {}
    for page in PAGES:
        stories = [[]]
        for block in BLOCKS:
            commands = _commands(block) if block.page == page else []
            if commands and re.match(r"neurorecon (build|datasets) ", commands[0].text):
                stories.append([])
            stories[-1] += commands
        for story in stories:
            found.setdefault(tuple(command.text for command in story), story)
    return [story for texts, story in found.items() if texts]


def _inline():
    """Yield commands within sentences: of several values that an option may have, the first."""
    for page, text in PAGES.items():
        inside = {
            block.line + line for block in BLOCKS if block.page == page for line in range(block.text.count("\n") + 2)
        }
        for number, line in enumerate(text.splitlines(), start=1):
            for span in () if number in inside else re.findall(r"`(neurorecon [a-z][^`]*)`", line):
                yield Command(page, number, re.sub(r"\|[^ ]+", "", span.replace("\\|", "|")))


# -- shell examples ---------------------------------------------------------------------------------------------------


def _parsed(command):
    """Return the command of the program that an example calls and its parameters; raise where there is none."""
    group = typer.main.get_command(app)
    words = [re.sub(r"^\[|\.*\]?$", "", word) if word.isupper() or "[" in word else word for word in command.words]
    context = group.make_context("neurorecon", words[:1], resilient_parsing=True)
    while hasattr(group, "commands") and words and words[0] in group.commands:
        group, words = group.commands[words[0]], words[1:]
    assert not hasattr(group, "commands") or not words, f"there is no such command: {words[0]}"
    if words:
        group.make_context(group.name, words, parent=context)
    return group


def _examples():
    return [command for block in BLOCKS for command in _commands(block)]


@pytest.mark.parametrize("where", ["blocks", "sentences"])
def test_every_printed_command_is_understood(where):
    """Commands, options and choices exist."""
    commands, wrong = _examples() if where == "blocks" else list(_inline()), []
    for command in commands:
        try:
            _parsed(command)
        except Exception as error:
            wrong.append(f"{command.page}, line {command.line}: {command.text}\n    {error}")
    assert not wrong, "\n".join(wrong)
    assert len(commands) >= 20


def test_every_printed_option_exists():
    """Also those that stand alone in a sentence. (``--nthreads`` is dask's.)"""
    group, known = typer.main.get_command(app), {"--help", "--install-completion", "--nthreads"}

    def collect(command):
        known.update(name for option in command.params for name in (*option.opts, *option.secondary_opts))
        for part in getattr(command, "commands", {}).values():
            collect(part)

    collect(group)
    wrong = []
    for page, text in PAGES.items():
        for span in re.findall(r"`([^`\n]+)`", text):
            if re.match(r"--|neurorecon |(maps|features|classify|reconstruct|evaluate|build|check|datasets) --", span):
                wrong += [
                    f"{page}: {name}" for name in re.findall(r"(?<![\w-])--[a-z][\w-]*", span) if name not in known
                ]
    assert not wrong, wrong


def test_other_programs_of_examples_are_here():
    """Targets of make, scripts and tests of the checkout, and the program that trains the bundled networks."""
    from neurorecon.simulation.training.__main__ import NAMES
    from neurorecon.simulation.training.__main__ import app as training

    makefile, checked = (ROOT / "Makefile").read_text(), set()
    for block in BLOCKS:
        for line in block.text.splitlines() if block.language in ("", "sh") else ():
            words = line.partition(" #")[0].split()
            if words[:1] == ["make"]:
                assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), line
            elif words[:3] == ["python", "-m", "neurorecon.simulation.training"]:
                command = typer.main.get_command(training)
                command.make_context("training", [word.replace("NAME", NAMES[0]) for word in words[3:]])
                assert NAMES[0] in line or f": {', '.join(NAMES)}" in block.text
            elif words[:1] in (["python"], ["pytest"]):
                assert (ROOT / next(word for word in words if word.endswith(".py"))).is_file(), line
            else:
                continue
            checked.add(words[0])
    assert checked == {"make", "python", "pytest"}


def test_what_is_not_run_or_claimed_is_still_printed():
    printed = {(command.page, command.text) for command in _examples()}
    assert not (NOT_RUN.keys() | CLAIMS.keys()) - printed, "these examples are gone: take them off the tables"
    for page, mark in NOT_RUN_PYTHON:
        assert any(mark in block.text for block in BLOCKS if (block.page, block.language) == (page, "python")), mark


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The embedded data set, with few stimuli, as ``neurorecon build scenes`` builds it."""
    folder = tmp_path_factory.mktemp("documentation")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(ScenesReader, "Options", SmallOptions)
        nr.build("scenes", progress=False)
    return folder / "stores" / "scenes.icechunk"


class SmallOptions(ScenesOptions):
    """Other defaults."""

    __annotations__ = dict.fromkeys(SMALL, int)
    locals().update(SMALL)


@pytest.fixture
def world(tiny, tmp_path, monkeypatch):
    """A working folder with the recipes and the embedded store."""
    shutil.copytree(tiny.parent, tmp_path / "stores")
    for recipe in (ROOT / "stores").glob("*.toml"):
        shutil.copy(recipe, tmp_path / "stores")
    recipe = tmp_path / "stores" / "scenes.toml"
    recipe.write_text(recipe.read_text().partition("[options]")[0])
    monkeypatch.setattr(ScenesReader, "Options", SmallOptions)
    for system in (BrainDiffuser, Takagi, MindDiffuser, GRUTwoStage, MindAnimator):
        monkeypatch.setattr(system, "bundled", {**system.bundled, "steps": 2})
        presets = {name: {**preset, "steps": 2} for name, preset in system.presets.items()}
        monkeypatch.setattr(system, "presets", presets)
    networks = {target: (name, {**given, "max_epochs": 2}) for target, (name, given) in mind_animator._NETWORKS.items()}
    monkeypatch.setattr(mind_animator, "_NETWORKS", networks)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cluster():
    """A dask cluster of one worker in this process."""
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "protocol": "tcp"}
    with distributed.LocalCluster(**options, dashboard_address=":0") as running, distributed.Client(running) as client:
        yield client


def _bring(name, folder):
    """Write a data set where an example expects it; return whether it is the real one."""
    real = SHARED / EXCERPTS.get(name, name)
    if real.is_dir():
        shutil.copytree(real, folder)
        return True
    if name not in layouts():
        pytest.skip(f"the excerpt of {name} is not beside the checkout")
    write_layout(name, folder)
    return False


def _prepared(command, request, folder):
    """Return the words to run in place of those printed; None where everything is there without the command."""
    words = command.words
    if words[:2] == ["datasets", "download"]:
        name, out = words[2], Path(words[words.index("--out") + 1])
        out = folder / f"{name}-DIR" if str(out) == "DIR" else folder / out
        whole = name == "haxby2001" and "--excerpt" not in words  # 290 MB: its layout
        if whole:
            write_layout(name, out / name)
        if whole or not _bring(name, out):
            return None
        words = [*words[: words.index("--out") + 1], str(out), *words[words.index("--out") + 2 :]]
    if "DIR" in words:
        name = Path(words[1]).stem
        if not (folder / f"{name}-DIR").exists():
            _bring(name, folder / f"{name}-DIR")
        words[words.index("DIR")] = f"{name}-DIR"
    text = " ".join(words)
    if "tcp://HOST" in text or "scheduler.json" in text:
        client = request.getfixturevalue("cluster")
        Path("scheduler.json").write_text(json.dumps({"address": client.scheduler.address}))
        text = re.sub(r"tcp://HOST:\d+", client.scheduler.address, text)
    if "--from" in text:
        _write_own_features(folder)
    if "stores/nsd.icechunk" in text and not Path("stores/nsd.icechunk").exists():
        shutil.copytree("stores/scenes.icechunk", "stores/nsd.icechunk")
    # What is published is not here, nor is a graphics card.
    text = text.replace("--models published", "--models bundled").replace("_published", "_bundled")
    text = text.replace("--device cuda", "--device cpu")
    text = text.replace("--precision bfloat16", "--precision float32")
    text = re.sub(r"\[?NAME(\.\.\.)?\]?", "bundled-probe", text) if words[0] == "weights" else text
    text = re.sub(r"--permutations \d+", "", text.replace("STORE", "stores/scenes.icechunk"))
    text = re.sub(r"(--seeds|--random-sets) \d+", r"\1 2", re.sub(r"--stimuli \d+", "--stimuli 4", text))
    options = {name for option in _parsed(command).params for name in option.opts}
    quick = {"--permutations": "--permutations 9", "--no-figures": "--no-figures", "--json": "--json"}
    return shlex.split(" ".join([text, *(quick[name] for name in quick if name in options)]))


def _write_own_features(folder):
    """Write the files of docs/features.md, beside the store."""
    ids = nr.open_store("stores/scenes.icechunk").stimuli["id"]
    random = np.random.default_rng(0)
    for name in ("alexnet.npy", "dinov2.npy"):
        np.save(folder / name, random.standard_normal((len(ids), 20)))
    (folder / "ids.txt").write_text("\n".join(ids[::-1]))
    ratings = pd.DataFrame(random.standard_normal((len(ids), 3)), columns=["eyes", "mouth", "age"])
    ratings.assign(stimulus=ids).to_csv(folder / "ratings.csv", index=False)


@contextlib.contextmanager
def _loggers_kept():
    root, own = logging.getLogger(), logging.getLogger("neurorecon")
    handlers, levels = root.handlers[:], (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


@pytest.mark.parametrize("story", _stories(), ids=lambda story: f"{story[0].page}:{story[0].line}")
def test_shell_examples(story, world, request, monkeypatch):
    for command in story:
        if (command.page, command.text) in NOT_RUN:
            continue
        words = _prepared(command, request, world)
        if words is None:
            continue
        # The record of a result holds the command as it was typed.
        monkeypatch.setattr(sys, "argv", ["neurorecon", *words])
        with _loggers_kept():
            done = CliRunner().invoke(app, words)
        said = f"{command.page}, line {command.line}: {command.text}\nrun as: {shlex.join(words)}\n{done.output}"
        assert done.exit_code == 0, f"{said}\n{done.exception!r}"
        assert done.stdout.strip(), said
        answer = json.loads(done.stdout) if "--json" in words else {}
        if answer:
            _check(words, answer, said)
        for (page, text), claim in CLAIMS.items():
            if (page, text) == (command.page, command.text):
                assert claim(answer), f"{said}\nnot so: {command.comment}"


def _bands(answer):
    (record,) = (path for path in answer["files"] if path.endswith("_encoding.json"))
    return json.loads(Path(record).read_text())["settings"]["bands"]


def _columns(answer, ending):
    return set(pd.read_csv(next(path for path in answer["files"] if path.endswith(ending)), comment="#").columns)


def _all_targets(answer):
    """Check the column "bundled" of the table of targets."""
    store, compared = nr.open_store(answer["store"]), 0
    rows = re.findall(r"^\| (`[^|]+) \|[^|]+\|[^|]+\| ([\dx, ]+) \|", PAGES["docs/features.md"], re.MULTILINE)
    for names, shapes in rows:
        for name, shape in zip(re.findall(r"`(\w+)`", names), shapes.split(", "), strict=True):
            assert store.targets(name).shape[1:] == tuple(map(int, shape.split(" x "))), name
            compared += 1
    from neurorecon.features.extract import all_targets

    return set(all_targets(store)) <= set(store.targets_available) and compared >= 8


#: What comments beside commands, and sentences about them, say; of what ``--json`` prints.
CLAIMS = {
    ("README.md", "neurorecon maps --roi MT --task videos"): lambda answer: (
        _bands(answer) == ["clip_image", "vqvae", "gabor", "motion"] and answer["store"] == "stores/scenes.icechunk"
    ),
    ("README.md", "neurorecon maps --bands category,gabor,motion"): lambda answer: (
        _bands(answer) == ["category", "gabor", "motion"]
        # docs/statistics.md
        and {"r2", "r2_sklearn", "r", "margin", "margin_low", "p_gabor", "q_gabor", "significant_gabor"}
        <= _columns(answer, "_encoding_voxels.csv")
        and {"joint", "r", "r2_sklearn", "q", "p_band", "q_band", "joint_low", "joint_high"}
        <= _columns(answer, "_encoding_rois.csv")
    ),
    ("docs/features.md", "neurorecon features --target all"): _all_targets,
    ("docs/features.md", "neurorecon maps --bands alexnet,faces --no-zscore"): lambda answer: (
        _bands(answer) == ["alexnet", "faces"]
    ),
    ("docs/datasets/README.md", "neurorecon datasets show nsd --subject subj01 --sessions 1-37"): lambda answer: (
        "betas_session37" in str(answer["commands"])
        and not re.search("betas_session38|subj02", str(answer["commands"]))
        and answer["bytes_known"] > 1e9
        and bool(answer["terms"])
    ),
    # "results/classify_NAME holds scores and settings (JSON), samples, confusions and voxels (CSV), the map"
    ("docs/datasets/README.md", "neurorecon classify --roi V1 --permutations 1000"): lambda answer: (
        {str(Path(path).parent) for path in answer["files"]} == {"results/classify_scenes_V1"}
        and {"classify.json", "samples.csv", "confusion.csv", "voxels.csv"}
        <= {path.rpartition("subj01_")[2].removeprefix("classify_") for path in answer["files"]}
    ),
    ("docs/weights.md", "neurorecon weights list"): lambda answer: (
        set(re.findall(r"^\| `([\w-]+)` \|", PAGES["docs/weights.md"], re.MULTILINE))
        == {row["name"] for row in answer["weights"] if row["origin"] == "published"}
    ),
    ("docs/scale.md", "neurorecon maps --store stores/nsd.icechunk --scheduler scheduler.json --threads 8 "
     "--out results/nsd"): lambda answer: {str(Path(path).parent) for path in answer["files"]} == {"results/nsd"},
}  # fmt: skip


#: Types of JSON values, as docs/json.md calls them.
JSON_TYPES = {
    "string": str, "number": int | float, "boolean": bool, "null": type(None), "object": dict, "any": object,
    "array of strings": list, "array of numbers": list, "array of objects": list,
}  # fmt: skip


def _json_keys(heading, commands=False):
    """Return the types of the keys that a table of docs/json.md lists, by command where it has a column of these."""
    table, found = PAGES["docs/json.md"].partition(f"{heading}\n\n| ")[2].partition("\n\n")[0], {}
    for row in table.splitlines()[2:]:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        types = tuple(JSON_TYPES[name] for name in cells[1 + commands].split(" or "))
        keys = dict.fromkeys(re.findall(r"`([^`]+)`", cells[commands]), types)
        for command in re.findall(r"`([^`]+)`", cells[0]) if commands else [""]:
            found.setdefault(command, {}).update(keys)
    return found


def _check_json(answer, said):
    """Check that an object has the keys of docs/json.md, and no others."""
    always, further = _json_keys("## Keys of every command")[""], _json_keys("## Further keys", commands=True)
    known = always | further.get(answer["command"], {})
    assert set(always) - {"split_column"} <= set(answer) <= set(known), said
    assert not [key for key in answer if not isinstance(answer[key], known[key])], said
    scores = _json_keys("A score:")[""]
    for score in answer["scores"]:
        assert set(scores) - {"n_undefined", "baseline"} <= set(score), said
        assert not [key for key in scores if key in score and not isinstance(score[key], scores[key])], said


def _check(words, answer, said):
    """Check what the pages say that commands leave behind."""
    _check_json(answer, said)
    files = [Path(name) for name in answer["files"]]
    assert all(path.exists() for path in files), said
    if words[0] == "build":
        assert files == [Path("stores") / f"{Path(words[1]).stem}.icechunk"], said
    if words[0] in ("maps", "classify", "reconstruct") and "--dry-run" not in words:
        assert {".json", ".csv"} <= {path.suffix for path in files}, said
        assert {"value", "null_mean", "p", "n"} <= set.intersection(*map(set, answer["scores"])), said
        assert all(json.loads(path.read_text())["settings"] for path in files if path.suffix == ".json"), said


# -- Python examples --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The embedded data set, large enough for the decoder of the README."""
    options = {"subjects": 1, "voxels": 1200, "train_images": 200, "test_images": 40, "train_videos": 80}
    recipe = Recipe(
        name="scenes", reader="scenes", targets=["gabor", "category", "motion", "vdvae"],
        options={**options, "test_videos": 30},
    )  # fmt: skip
    return nr.build(recipe, tmp_path_factory.mktemp("docs") / "scenes.icechunk", progress=False)


def _python(page):
    """Return the Python examples of a page that run here."""
    found = [block for block in BLOCKS if (block.page, block.language) == (page, "python")]
    return [block for block in found if not any(page == name and mark in block.text for name, mark in NOT_RUN_PYTHON)]


def _run(block, names):
    """Run an example, with its own lines in tracebacks."""
    exec(compile("\n" * block.line + block.text, ROOT / block.page, "exec"), names)


def test_the_readme(scenes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nr, "build", lambda name: {"scenes": scenes}[name])
    (example,) = _python("README.md")
    names = {}
    _run(example, names)
    assert names["X"].dims == ("sample", "voxel")
    assert set(names["X"]["task"].values) == {"images"}  # trial estimates alone, not joined with volumes of the videos
    assert names["X"]["stimulus"].values.tolist() == names["Y"]["stimulus"].values.tolist()
    assert len(names["X"]) == 200
    # The decoder works: early visual cortex of the simulation is driven by Gabor energy.
    assert names["decoder"].score(names["X_test"].values, names["Y_test"].values) > 0.15
    assert {"joint", "low", "high", "p", "ceiling"} <= set(names["found"].rois)
    assert (tmp_path / "results" / "MT").is_dir()
    assert {len(part) for part in names["image"].data.parts.values()} == {10242}  # vertices of fsaverage5


def test_features(world):
    """Of docs/features.md."""
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    first, groups = _python("docs/features.md")
    names = {"images": images}
    _run(Block(first.page, first.line, "python", first.text.replace('"published"', '"bundled"')), names)
    assert names["store"].targets("clip_vision").dims == ("stimulus", "token", "channel")
    assert len(names["store"].targets("vdvae").attrs["group_shapes"]) == 15
    _run(groups, names)
    assert 0 <= names["start"] < names["stop"] <= names["latents"].sizes["feature"]


def test_statistics(world, capsys):
    """Of docs/statistics.md: a system beside its controls."""
    (example,) = _python("docs/statistics.md")
    names = {"store": nr.open_store("stores/scenes.icechunk"), "nr": nr}
    _run(example, names)
    assert "linear-pixels - another trial" in capsys.readouterr().out
    differences = names["found"].differences.set_index(["control", "metric"])["difference"]
    assert differences["another trial", "pixcorr"] > 0
    assert (differences["oracle"] < 0).all()
    assert Path("results/controls/subj01_comparison_scores.tex").is_file()


def test_splits(world):
    """Of docs/splits.md: a store that follows a held-out cluster."""
    (example,) = _python("docs/splits.md")
    names = {}
    _run(example, names)
    tested = set(names["hard"].stimuli.query("kind == 'image' and split == 'test'")["id"])
    assert set(names["found"].stimuli) == tested
    assert tested < set(names["store"].stimuli["id"])


def test_roi_optimal(scenes):
    """Of docs/roi-optimal.md: an external judge."""
    (example,) = _python("docs/roi-optimal.md")
    names = {"store": scenes}
    _run(example, names)
    table = names["found"].table
    assert set(table["roi"]) == {"FFA", "PPA"}
    assert table["external"].between(0, 1).all()


def test_reconstruction(scenes, tmp_path, monkeypatch):
    """Of docs/reconstruction.md."""
    monkeypatch.chdir(tmp_path)
    Path("stores").mkdir()
    Path("stores/scenes.icechunk").symlink_to(scenes.location, target_is_directory=True)
    (example,) = _python("docs/reconstruction.md")
    names = {}
    _run(example, names)
    assert names["images"].dims == ("stimulus", "y", "x", "rgb")
    # The two ways give the same images and the same scores.
    found, images = names["found"], names["images"]
    assert images["stimulus"].values.tolist() == found.stimuli
    np.testing.assert_allclose(images.values, found.reconstructed, atol=1e-5)
    assert names["scores"].scores[0].value == pytest.approx(found.scores[0].value, abs=1e-4)
    assert found.scores[0].p < 0.05
    written = {path.name for path in (tmp_path / "results" / "pixels").iterdir()}
    page = (ROOT / "docs" / "reconstruction.md").read_text(encoding="utf-8")
    for name in ("_reconstructions.zarr", "_reconstructions.npz", "_images", "_panel.png", "_report.html", ".json"):
        assert name in page
        assert f"subj01_linear-pixels{name}" in written


def test_systems(world, monkeypatch):
    """Of docs/systems/README.md."""
    (example,) = _python("docs/systems/README.md")
    names = {}
    _run(example, names)
    assert set(names["decoded"]) == {"vdvae", "clip_vision", "clip_text"}
    assert names["images"].dims == ("stimulus", "y", "x", "rgb")
    assert names["images"].shape == names["without_text"].shape == names["first_stage"].shape
    assert np.abs(names["images"] - names["without_text"]).max() > 0.05
    assert {score.name for score in names["scores"].scores} == {"pixcorr", "two_way"}


def test_mind_diffuser(world, capsys):
    """Of docs/systems/mind-diffuser.md: the tables of the replication."""
    (example,) = _python("docs/systems/mind-diffuser.md")
    names = {}
    _run(example, names)
    assert set(names["table"]) == set(names["ROWS"])
    assert all(np.isfinite(values).all() and len(values) == 3 for values in names["table"].values())
    assert len({tuple(values) for values in names["table"].values()}) == 6  # each row is another system
    assert "(0.765)" in capsys.readouterr().out


def test_weight_maps(world, capsys):
    """Of docs/weight-maps.md."""
    (example,) = _python("docs/weight-maps.md")
    names = {}
    _run(example, names)
    assert set(names["found"].rois["band"]) == set(names["found"].bands)
    assert names["found"].parts["part"].str.startswith(("token", "channel")).all()
    assert "significant" in capsys.readouterr().out


def test_guide(world):
    """Of docs/guide.md: the data behind a figure, after the store has changed."""
    store = nr.open_store("stores/scenes.icechunk")
    figure = panel({"seen": store.images(store.stimuli["id"].tolist()[:3]).values})
    save_figure(figure, "figure", nr.record_of(store, "a command", seed=3))
    nr.add_target(store, "later", np.ones((len(store.stimuli), 1)), made_by={"model": "ones", "source": "none"})
    (example,) = _python("docs/guide.md")
    names = {}
    _run(example, names)
    assert names["record"]["seed"] == 3
    assert "later" in nr.open_store("stores/scenes.icechunk").targets_available
    assert "later" not in names["store"].targets_available


def test_arrays(tmp_path, monkeypatch):
    """Of docs/datasets/arrays.md: a store from arrays in memory, and its map."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nr, "voxelwise_maps", functools.partial(nr.voxelwise_maps, n_permutations=19))
    random = np.random.default_rng(0)
    ids = [f"scene{number:02d}" for number in range(40)]
    images = random.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    names = {
        "ids": ids, "images": images, "shown": np.repeat(ids, 2), "in_v1": np.arange(12) < 5,
        "responses": random.standard_normal((80, 12)).astype(np.float32),
    }  # fmt: skip
    (example,) = _python("docs/datasets/arrays.md")
    _run(example, names)
    assert names["store"].rois("subj01")["V1"] == 5
    np.testing.assert_array_equal(names["store"].images(ids[3:4]).values[0], images[3])
    assert names["found"].bands == ["gabor"]
    assert (tmp_path / "results" / "lab" / "subj01_encoding_voxels.csv").is_file()


def test_clusters(world, cluster, monkeypatch):
    """Of docs/scale.md, with a cluster of this machine in place of SLURM's."""
    import distributed

    class Adaptive(distributed.LocalCluster):
        def __init__(self):
            super().__init__(n_workers=1, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=":0")

        def adapt(self, *, minimum_jobs, maximum_jobs):
            """Take the limits of dask-jobqueue."""

    monkeypatch.setitem(sys.modules, "dask_jobqueue", SimpleNamespace(SLURMCluster=Adaptive))
    shutil.copytree("stores/scenes.icechunk", "stores/nsd.icechunk")
    Path("scheduler.json").write_text(json.dumps({"address": cluster.scheduler.address}))
    monkeypatch.setattr(nr, "maps", functools.partial(nr.maps, n_permutations=9, bands=["gabor"]))
    monkeypatch.setattr(nr, "write", functools.partial(nr.write, figures=False))
    first, encoding, last = _python("docs/scale.md")
    for block in (first, last):
        names = {"__name__": "__main__"}
        _run(block, names)
        assert [found.subject for found in names["found"]] == ["subj01"]
    assert list(Path("results/nsd").glob("*.csv"))
    here = {"laion_fmri": "nsd", 'ceiling("sub-01"': 'ceiling("subj01", task="images"', "sub-01": "subj01",
            "clip_bigg": "gabor"}  # fmt: skip
    text = functools.reduce(lambda text, name: text.replace(name, here[name]), here, encoding.text)
    names = {}
    _run(Block(encoding.page, encoding.line, "python", text), names)
    maps = nr.maps(names["store"], subjects=["subj01"])[0].table["r"]
    assert np.corrcoef(names["r"], maps)[0, 1] > 0.9
    ceiling = names["store"].noise_ceiling("subj01", task="images")
    usable = np.isfinite(names["normalized"])
    np.testing.assert_allclose(names["normalized"][usable], names["r"][usable] / np.sqrt(ceiling[usable]))


def test_extending(world, monkeypatch):
    """Of docs/extending.md: reader, targets, decoder and generator; systems and metrics are run in tests/systems."""
    for registry in (DATASETS, FEATURES):
        monkeypatch.setattr(registry, "_added", dict(registry._added))
    reader, numbers, spectrum, suite, decoder, decoders_suite, generator = _python("docs/extending.md")
    with pytest.raises(TypeError, match="abstract methods description, stimuli, subject, subjects"):  # a sketch
        _run(reader, {})
    store = nr.open_store("stores/scenes.icechunk")
    np.save("dinov2.npy", np.random.default_rng(0).standard_normal((len(store.stimuli), 5)))
    script = ModuleType("example")  # a module, so that its classes can be pickled
    monkeypatch.setitem(sys.modules, "example", script)
    names = vars(script)
    _run(numbers, names)
    assert names["store"].about_target("dinov2")[1]["layer"] == "CLS token, last block"
    _run(spectrum, names)
    _run(suite, names)
    FEATURES.register("spectrum", names["SpectrumExtractor"])
    found = nr.extract(names["store"], ["spectrum"], bands=8, progress=False)
    assert found.targets("spectrum").shape == (len(store.stimuli), 8)
    X, Y = store.pairs("subj01", "gabor", split="train")
    names |= {"X": X.values, "Y": Y.values, "stimulus": X["stimulus"].values}
    _run(decoder, names)
    assert names["decoder"].predict(X.values).shape == Y.shape
    assert list(Path("runs/gated").iterdir())
    _run(decoders_suite, names)
    _run(generator, names)
    assert names["images"][:, 0, 0].tolist() == [[1, 0, 0], [0, 0, 1]]


def test_every_python_example_is_run():
    tested = {
        "README.md": 1,
        "docs/datasets/arrays.md": 1,
        "docs/features.md": 2,
        "docs/guide.md": 1,
        "docs/scale.md": 3,
        "docs/extending.md": 7,
        "docs/roi-optimal.md": 1,
        "docs/splits.md": 1,
        "docs/statistics.md": 1,
        "docs/reconstruction.md": 1,
        "docs/systems/README.md": 1,
        "docs/systems/mind-diffuser.md": 1,
        "docs/weight-maps.md": 1,
    }
    assert {page: len(_python(page)) for page in PAGES if _python(page)} == tested


# -- what else pages show ---------------------------------------------------------------------------------------------


def _shown(page, mark):
    (text,) = (block.text for block in BLOCKS if block.page == page and mark in block.text)
    return text


def test_the_layout_of_a_store(tiny):
    """Of docs/store-format.md: the arrays of the embedded store are those that are listed, group by group."""
    layout, group, listed = _shown("docs/store-format.md", "<name>.icechunk"), None, {}
    for line in layout.splitlines()[1:]:
        group = re.match(r"  (\w+)", line).group(1) if line[2] != " " and line[:4] != "    " else group
        names = re.sub(r"\([^)]*\)", "", line[15:].partition("  ")[0])
        listed.setdefault("targets" if line.startswith("    gabor") else group, set()).update(re.findall(r"\w+", names))
    for path, _ in nr.open_store(tiny).arrays():
        where, name = path.partition("/")[0], path.rpartition("/")[2]
        assert name in listed[where] or (where == "subj01" and name.startswith("truth_")), path


def test_folders_of_data_sets(tmp_path):
    """Of docs/datasets: what is listed is what the miniatures have, and what they have is listed."""
    write_layout("arrays", tmp_path / "arrays")
    listed = {line.split()[0] for line in _shown("docs/datasets/arrays.md", "lab/").splitlines()}
    files = {path.name for path in (tmp_path / "arrays").rglob("*") if path.is_file()}
    assert files <= listed
    assert listed - files <= {"lab/", "sub01/", "sub02/", "...", "labels.csv", "frames.npy"}
    write_layout("bids", tmp_path / "bids")
    shown = _shown("docs/datasets/bids.md", "derivatives/fmriprep/\n")
    names = re.findall(r"[\w-]+_task-shapes_run-1_\S+", shown)
    files = {path.name for path in (tmp_path / "bids").rglob("*")}
    assert len(names) >= 6
    assert {name for name in names if "fs" not in name} <= files  # those of surfaces and grayordinates are others
    assert "dataset_description.json" in shown
    assert "dataset_description.json" in files


def test_defaults_of_recipes():
    """Of stores/README.md: the tables of options list those of their reader, with their defaults."""
    compared = 0
    for section in PAGES["stores/README.md"].split("\n## Options of ")[1:]:
        fields = DATASETS.load(section.split("`")[1]).Options.model_fields
        rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \|", section, re.MULTILINE)
        documented = [key for cell, _ in rows for key in re.findall(r"`\[?(?:options\.)?(\w+)\]?`", cell)]
        assert sorted(documented) == sorted(fields), section[:40]
        for cell, default in rows:
            keys = re.findall(r"`\[?(?:options\.)?(\w+)\]?`", cell)
            if not re.fullmatch(r"none|(true|false|[\d.]+|`[\[\"][^`]*`)(, .*)?", default):
                continue  # in words
            values = [default] if len(keys) == 1 else default.split(", ")
            for key, value in zip(keys, values, strict=True):
                found = fields[key].get_default(call_default_factory=True)
                found = list(found) if isinstance(found, tuple) else found
                assert not found if value == "none" else found == json.loads(value.strip("`")), f"{section[:20]}: {key}"
                compared += 1
    assert compared >= 60


def test_the_recipe_with_rois():
    """Of stores/README.md."""
    text = _shown("stores/README.md", "[options.rois]")
    recipe = Recipe(name="b", reader="bids", **tomllib.loads(text))
    assert list(recipe.checked_options().rois) == ["V1", "kastner", "streams", "ffa", "glasser", "destrieux"]


def test_the_error_of_a_damaged_store(world, monkeypatch):
    """Of docs/reliability.md, with the name of this store."""
    shown = _shown("docs/reliability.md", "neurorecon: error: subj01/responses")
    Path("stores/scenes.icechunk").rename("nsd.icechunk")
    for path in Path("nsd.icechunk/chunks").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 255
        path.write_bytes(content)
    with _loggers_kept():
        done = CliRunner().invoke(app, ["maps", "--store", "nsd.icechunk", "--bands", "category"])
    assert done.exit_code == 2
    wanted = re.escape(" ".join(shown.split())).replace(re.escape("subj01/responses"), r"\S+").replace(
        re.escape("ValueError, Stored and computed checksum do not match. ..."), ".+"
    )  # fmt: skip
    assert re.search(wanted, " ".join(done.stderr.split())), done.stderr


def test_names_in_tables():
    """Data sets and targets that tables list are registered."""
    readme, features = PAGES["README.md"], PAGES["docs/features.md"]
    listed = re.search(r"^\| targets \| ([^;]+);", readme, re.MULTILINE).group(1)
    assert set(re.findall(r"`(\w+)`", listed)) <= set(FEATURES.builtin)
    table = features.partition("## What there is")[2].partition("\n\n**")[0]
    cells = re.findall(r"^\| (`[^|]+`) \|", table, re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(FEATURES.builtin)
    table = PAGES["docs/statistics.md"].partition("**Metrics.**")[2].partition("\n\n*Names")[0]
    cells = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == set(METRICS.builtin)
    sets = re.search(r"^\| data sets \| ([^;]+);", readme, re.MULTILINE).group(1)
    assert set(re.findall(r"`(\w+)`", sets)) == set(DATASETS.builtin)
