"""Record everything that must stay equal while the package is reorganized, and compare two recordings.

    python tests/yardstick.py collect BEFORE.json --package CHECKOUT
    python tests/yardstick.py compare BEFORE.json AFTER.json [--tolerance 1e-6] [--all]

``collect`` builds small stores (simulated scenes, miniatures of the data sets on disk, arrays in memory), runs the
commands on them, and writes one JSON file with the digest of every array, every number of the CSV, JSON, npz and brain
image files, the public names with their parameters, the commands with their options, and the registered names. It
takes three minutes of processor time. The process and its commands run on one thread, so that two recordings of the
same code are equal. ``compare`` lists every difference but the renamings in the tables below, and exits with 1 where
there is one. Prose, versions, times and metadata digests are listed apart, as informational. Only the command line and
public names are used, so the script also runs on a checkout that does not hold it (``--package``).
"""

from __future__ import annotations

import argparse
import base64
import csv
import importlib
import inspect
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: Where the typer application is: module and attribute.
APPLICATION = ("neurorecon.cli.main", "app")

#: Old file name to new; regular expressions.
FILES = [
    (r"_areas\.csv$", "_rois.csv"),
    (r"_rebuilt\.npz$", "_reconstructions.npz"),
]

#: Old place of a value to new, as the comparison prints it; regular expressions, tried after WORDS.
PATHS = [
    (r"^runs/(.*\.json)/extra/", r"runs/\1/settings/"),
    (r"^runs/(partition[^/]*)/(.*)settings/level$", r"runs/\1/\2settings/confidence"),
    (r"^runs/(.*)settings/level$", r"runs/\1settings/fdr"),
    (r"^runs/(classify.*)settings/alpha$", r"runs/\1settings/C"),
    (r"^runs/(reconstruct.*\.npz)/reconstructed$", r"runs/\1/reconstructed"),
    (r"^names/maps/parameters/level$", "names/maps/parameters/fdr"),
    (r"^names/partition_variance/parameters/level$", "names/partition_variance/parameters/confidence"),
    (r"^names/classify/parameters/alpha$", "names/classify/parameters/C"),
]

#: Old word to new, in names of values and in text; regular expressions.
WORDS = [
    (r"(?<![A-Za-z])film(s?)(?![A-Za-z])", r"video\1"),
    (r"(?<![A-Za-z])image(s?)(?![A-Za-z])", r"image\1"),
    (r"(?<![A-Za-z])ROIs(?![A-Za-z])", "rois"),
    (r"pixel_correlation", "pixcorr"),
    (r"pairwise_identification_among_reconstructed", "two_way_among_reconstructions"),
    (r"pairwise_identification", "two_way"),
    (r"(?<![A-Za-z])licen[cs]e(?![A-Za-z])", "license"),
]

#: Values that may differ between recordings of equal results; regular expressions of their place.
INFORMATIONAL = [
    r"^informational/",
    r"^stores/[^/]*/(metadata/.*|snapshot|all)$",
    r"^commands/.*/help$",
    r"\.json/(command|time)$",
    r"\.json/(.*/)?(versions|python|platform|store|snapshot|location|files|digests|digest)(/|$)",
    r"\.json/(.*/)?(title|citation|terms|notes|seconds|stimuli_per_second|neurorecon_version)$",
]

#: Data sets of which there is a miniature; `features` and `maps` run on those that have train and test stimuli.
MINIATURES = ("nsd", "bids", "arrays", "haxby2001", "yamada2015")

SCENES = """
name = "small"
reader = "scenes"
targets = ["clip_image", "vqvae", "vdvae", "motion", "category", "gabor"]
[options]
subjects = 2
voxels = 200
train_images = 24
test_images = 8
train_videos = 30
test_videos = 12
test_video_repeats = 3
"""

#: Runs of commands on the stores: name to arguments. {videos} is the task of the moving stimuli of `small`.
RUNS = {
    "maps-images": "maps --store small.icechunk --task images --permutations 40 --no-figures --threads 1",
    "maps-videos": "maps --store small.icechunk --task {videos} --permutations 40 --no-figures --threads 1",
    "maps-blocks": "maps --store small.icechunk --task images --subject subj02 --roi early --bands gabor,category"
    " --permutations 20 --voxel-block 16 --no-figures --threads 1 --seed 3",
    "maps-scheduler": "maps --store small.icechunk --task images --subject subj01 --roi MT --bands gabor"
    " --permutations 20 --scheduler local --no-figures --threads 1",
    "maps-decoding": "maps --store small.icechunk --task images --kind decoding --permutations 40 --no-figures"
    " --threads 1",
    "maps-haufe": "maps --store small.icechunk --task images --kind haufe --permutations 40 --no-figures --threads 1",
    "maps-decoding-videos": "maps --store small.icechunk --task {videos} --kind decoding --subject subj01"
    " --bands motion,gabor --permutations 20 --no-figures --threads 1",
    "maps-nsd": "maps --store nsd.icechunk --permutations 20 --no-figures --threads 1",
    "maps-bids": "maps --store bids.icechunk --permutations 20 --no-figures --threads 1",
    "maps-arrays": "maps --store arrays.icechunk --permutations 20 --no-figures --threads 1",
    "classify-yamada2015": "classify --store yamada2015.icechunk --permutations 40 --no-figures",
    "classify-haxby2001": "classify --store haxby2001.icechunk --roi vt --permutations 40 --no-figures",
    "classify-scenes": "classify --store small.icechunk --task images --cross-validate stimulus --permutations 20"
    " --no-figures",
    "reconstruct-images": "reconstruct --store small.icechunk --task images --roi early --permutations 40 --no-figures",
    "reconstruct-videos": "reconstruct --store small.icechunk --task {videos} --subject subj01 --permutations 40"
    " --no-figures",
    "reconstruct-category": "reconstruct --store small.icechunk --task images --roi V1 --cross-validate category"
    " --permutations 20 --no-figures",
    "reconstruct-stimulus": "reconstruct --store haxby2001.icechunk --cross-validate stimulus --permutations 20"
    " --no-figures",
}

#: Threads of every library; they decide the last bits.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


# -- collect ------------------------------------------------------------------------------------------------------


class Yardstick:
    """Commands of one checkout, run in one folder, and what they gave.

    Parameters
    ----------
    package : Path
        The checkout whose code is measured.
    folder : Path
        Where stores and results go.
    """

    def __init__(self, package: Path, folder: Path) -> None:
        self.package, self.folder = package, folder
        self.environment = {**os.environ, **THREADS, "PYTHONPATH": str(package)}
        self.options = {name: command["options"] for name, command in commands().items()}
        self.runs: dict[str, Any] = {}
        self.seconds: dict[str, float] = {}

    def call(self, name: str, arguments: list[str], files: Path | None = None) -> None:
        """Run a command; keep its answer, and the content of the files that it wrote into a folder."""
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "neurorecon.cli", *arguments, "--json", "--quiet"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        self.seconds[name] = round(time.perf_counter() - began, 1)
        print(f"{self.seconds[name]:6.1f} s  {name}", file=sys.stderr)
        found: dict[str, Any] = {"exit code": done.returncode}
        if done.returncode:
            found["error"] = (done.stdout + done.stderr)[-2000:]
            print(found["error"], file=sys.stderr)
        else:
            found["answer.json"] = by_name(json.loads(done.stdout))
        for path in sorted(files.rglob("*") if files is not None and files.is_dir() else []):
            content = read(path)
            if content is not None:
                found[str(path.relative_to(files))] = content  # type: ignore[arg-type]
        self.runs[name] = found

    def results(self, name: str, line: str) -> None:
        """Run a command that writes results."""
        out = self.folder / "results" / name
        arguments = [*line.split(), "--out", str(out.relative_to(self.folder))]
        known = self.options[arguments[0]]
        self.call(name, [part for part in arguments if part != "--no-figures" or part in known], out)

    def step(self, name: str, function: Callable[[Path], dict[str, Any]]) -> None:
        """Call public functions in this process; what fails is a difference, not the end of the recording."""
        began = time.perf_counter()
        try:
            self.runs[name] = {"exit code": 0, **function(self.folder)}
        except Exception:
            self.runs[name] = {"exit code": 1, "error": traceback.format_exc()[-2000:]}
            print(self.runs[name]["error"], file=sys.stderr)
        self.seconds[name] = round(time.perf_counter() - began, 1)
        print(f"{self.seconds[name]:6.1f} s  {name}", file=sys.stderr)


def collect(package: Path) -> dict[str, Any]:
    """Return a recording of the code of a checkout."""
    sys.path.insert(0, str(package))
    os.environ |= THREADS
    began = time.perf_counter()
    import neurorecon as nr

    if Path(nr.__file__).parents[1] != package:
        raise SystemExit(f"neurorecon was imported from {Path(nr.__file__).parents[1]}, not from {package}")
    folder = Path(tempfile.mkdtemp(prefix="yardstick-"))
    try:
        yardstick = Yardstick(package, folder)
        stores = _build(yardstick)
        for name in ("list", *_data_sets(yardstick)):
            yardstick.call(f"datasets-{name}", ["datasets", "list"] if name == "list" else ["datasets", "show", name])
        yardstick.call("weights-list", ["weights", "list"])
        (videos,) = set(nr.open_store(folder / "small.icechunk").tasks("subj01")) - {"images"}
        for name, line in RUNS.items():
            yardstick.results(name, line.format(videos=videos))
        yardstick.step("partition", _partition)
        yardstick.step("decoders", _decoders)
        packages = ("numpy", "scipy", "scikit-learn", "himalaya", "torch", "zarr", "icechunk", "xarray", "pandas")
        return {
            "stores": stores,
            "runs": yardstick.runs,
            "names": names(),
            "commands": commands(),
            "registries": registries(),
            "informational": {
                "versions": {name: version(name) for name in packages},
                "seconds": {**yardstick.seconds, "all": round(time.perf_counter() - began, 1)},
            },
        }
    finally:
        shutil.rmtree(folder)


def _build(yardstick: Yardstick) -> dict[str, Any]:
    """Build all stores; return their digests."""
    import neurorecon as nr

    folder = yardstick.folder
    (folder / "small.toml").write_text(SCENES)
    yardstick.call("build-small", ["build", "small.toml", "--out", "small.icechunk"])
    for name in MINIATURES:
        yardstick.call(f"miniature-{name}", ["datasets", "miniature", name, "--out", name])
        recipe = str(yardstick.package / "stores" / f"{name}.toml")
        yardstick.call(f"build-{name}", ["build", recipe, "--root", name, "--out", f"{name}.icechunk"])
    for name in ("nsd", "bids", "arrays"):
        yardstick.call(f"features-{name}", ["features", "--store", f"{name}.icechunk", "--target", "clip_image"])
    yardstick.call("features-sampled", ["features", "--store", "arrays.icechunk", "--target", "vdvae", "--seed", "3"])
    yardstick.call("features-layers", ["features", "--store", "arrays.icechunk", "--target", "clip_vision",
                                       "--target", "clip_layers"])  # fmt: skip
    yardstick.step("memory", _from_memory)
    stores = {}
    for path in sorted(folder.glob("*.icechunk")):
        name = path.stem
        yardstick.call(f"info-{name}", ["info", path.name])
        yardstick.call(f"check-{name}", ["check", path.name])
        yardstick.call(f"export-{name}", ["export", path.name, f"{name}.zarr"])
        store = nr.open_store(path)
        plain = folder / f"{name}.zarr"
        stores[name] = {
            "arrays": store.digests(),
            "arrays of the export": nr.open_store(plain).digests() if plain.is_dir() else {},
            "all": store.digest,
            "snapshot": store.snapshot,
            **_metadata(plain),
        }
    return stores


def _metadata(folder: Path) -> dict[str, Any]:
    """Return type, shape and dimensions of each array of a plain Zarr folder, and all attributes."""
    arrays, metadata = {}, {}
    for path in sorted(folder.rglob("zarr.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        place = str(path.parent.relative_to(folder))
        metadata[place] = content.get("attributes", {})
        if content["node_type"] == "array":
            described = [content["data_type"], content["shape"], content.get("dimension_names")]
            arrays[place] = [str(item) for item in described]
    return {"layout": arrays, "metadata": metadata}


def _from_memory(folder: Path) -> dict[str, Any]:
    """Build a store from arrays in memory, and add a target of your own; return the mean responses."""
    import numpy as np

    import neurorecon as nr

    generator = np.random.default_rng(0)
    shown = [f"image{number % 20:02d}" for number in range(40)]
    images = generator.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    store = nr.build_from_arrays(
        folder / "memory.icechunk",
        generator.standard_normal((40, 30)).astype(np.float32),
        {"stimulus": shown, "run": np.repeat(np.arange(1, 5), 10)},
        {"id": shown[:20], "category": ["face", "place"] * 10},
        images=images,
        rois={"V1": np.arange(30) < 12, "V2": np.arange(30) >= 12},
        progress=False,
    )
    store = nr.add_target(store, "own", generator.standard_normal((20, 5)).astype(np.float32), stimuli=shown[:20],
                          made_by={"model": "random", "source": "yardstick"})  # fmt: skip
    responses, targets = store.pairs("subj01", "own", "V1")
    return {"responses": array(responses.values), "targets": array(targets.values)}


def _data_sets(yardstick: Yardstick) -> list[str]:
    done = subprocess.run([sys.executable, "-m", "neurorecon.cli", "datasets", "list", "--json"], check=True,
                          env=yardstick.environment, cwd=yardstick.folder, capture_output=True, text=True)  # fmt: skip
    return [entry["name"] for entry in json.loads(done.stdout)["datasets"]]


def _partition(folder: Path) -> dict[str, Any]:
    """Return the tables of a variance partitioning."""
    import neurorecon as nr

    store = nr.open_store(folder / "small.icechunk")
    found: Any = nr.partition_variance(
        store, "subj01", "early", bands=["gabor", "category"], task="images", n_bootstraps=100
    )
    tables = found.tables() if hasattr(found, "tables") else {"voxels": found.table, "rois": found.rois}
    return {name: {str(column): _plain(table[column]) for column in table} for name, table in tables.items()}


def _decoders(folder: Path) -> dict[str, Any]:
    """Return predictions of decoders fitted to random data."""
    import numpy as np

    import neurorecon as nr

    generator = np.random.default_rng(1)
    x, noise = generator.standard_normal((60, 25)), generator.standard_normal((60, 8))
    y = x[:, :8] @ generator.standard_normal((8, 8)) + noise
    groups = np.arange(60) // 3
    decoders = {
        "ridge": nr.RidgeDecoder(alpha=[1.0, 10.0, 100.0]),
        "ridge by target": nr.RidgeDecoder(alpha=[1.0, 10.0, 100.0], alpha_per="target", renorm="train"),
        "banded": nr.BandedRidge(bands={"one": slice(0, 10), "two": slice(10, 25)}, n_iter=10),
        "mlp": nr.MLPDecoder(hidden=(16,), max_epochs=5),
    }
    predictions = {}
    for name, decoder in decoders.items():
        decoder.fit(x[:45], y[:45], groups=groups[:45])
        predictions[name] = array(decoder.predict(x[45:]))
    return predictions


# -- what the code offers -----------------------------------------------------------------------------------------


def names() -> dict[str, Any]:
    """Return the public names; of functions and classes the parameters with their defaults, of classes the members."""
    import neurorecon as nr

    found = {}
    for name in nr.__all__:
        thing = getattr(nr, name)
        if inspect.isclass(thing):
            members = {key: getattr(thing, key) for key in dir(thing) if not key.startswith("_")}
            found[name] = {"kind": "class", "parameters": _parameters(thing)} | {
                "members": {key: _parameters(item) if callable(item) else "value" for key, item in members.items()}
            }
        elif callable(thing):
            found[name] = {"kind": "function", "parameters": _parameters(thing)}
        else:
            found[name] = {"kind": type(thing).__name__}
    return found


def _parameters(thing: Callable[..., Any]) -> dict[str, str]:
    try:
        parameters = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError):  # of a built-in function
        return {}
    return {
        item.name: f"{item.kind.description}, "
        + ("required" if item.default is item.empty else re.sub(r" at 0x\w+", "", repr(item.default)))
        for item in parameters
    }


def commands() -> dict[str, Any]:
    """Return the commands, and of each its options and arguments, from the application itself."""
    import typer

    module, attribute = APPLICATION
    top: Any = typer.main.get_command(getattr(importlib.import_module(module), attribute))

    def walk(command: Any, path: str) -> Iterator[tuple[str, Any]]:
        parameters = {}
        for item in command.params:
            spelled = [*item.opts, *item.secondary_opts]
            parameters[max(spelled, key=len)] = {
                "spelled": " ".join(spelled),
                "type": _type(item),
                "default": re.sub(r" at 0x\w+", "", repr(item.default)),
                "required": item.required,
                "several": item.nargs != 1 or bool(getattr(item, "multiple", False)),
                "hidden": bool(getattr(item, "hidden", False)),
                "help": getattr(item, "help", None),
            }
        yield path, {"options": parameters, "hidden": command.hidden, "help": command.help}
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(below, f"{path} {name}".strip())

    return dict(walk(top, ""))


def _type(item: Any) -> str:
    """Return the type of an option; where typer keeps it depends on its version."""
    annotation = item.type_descriptor.annotation if hasattr(item, "type_descriptor") else item.type
    limits = [str(getattr(item, name, None)) for name in ("min", "max")]
    return f"{getattr(annotation, '__name__', annotation)} from {limits[0]} to {limits[1]}"


def registries() -> dict[str, Any]:
    """Return the registered names by registry, and whether each can be loaded."""
    module = importlib.import_module("neurorecon.registry")
    found = {}
    for registry in vars(module).values():
        if not inspect.isclass(registry) and hasattr(registry, "names") and hasattr(registry, "load"):
            found[registry.group] = {name: registry.load(name) is not None for name in registry.names()}
    return found


# -- files as values ----------------------------------------------------------------------------------------------


def read(path: Path) -> Any:
    """Return the numbers and texts of a file, or None where it is of no kind that is compared."""
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
        return {name: [row[column] for row in rows] for column, name in enumerate(header)}
    if path.suffix == ".json":
        return by_name(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            return {name: array(arrays[name]) for name in arrays.files}
    if path.name.endswith((".nii", ".nii.gz", ".gii")):
        return _brain_image(path)
    return None


def _brain_image(path: Path) -> dict[str, Any]:
    import nibabel
    import numpy as np

    image: Any = nibabel.load(path)
    if path.suffix == ".gii":
        return {item.meta["Name"]: array(item.data) for item in image.darrays}
    named = {"affine": image.affine} if hasattr(image, "affine") else {"maps": np.array(image.header.get_axis(0).name)}
    return {"values": array(np.asarray(image.dataobj)), **{name: array(item) for name, item in named.items()}}


def array(values: Any) -> Any:
    """Return an array as JSON: numbers compressed, to the bit; text as a list."""
    import numpy as np

    values = np.asarray(values)
    if values.dtype.kind not in "biufc":
        return values.astype(str).tolist()
    data = base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()
    return {"dtype": str(values.dtype), "shape": list(values.shape), "data": data}


def by_name(value: Any) -> Any:
    """Return lists of named things (scores, data sets) as dicts by name, so that one more or less moves no other."""
    if isinstance(value, dict):
        return {str(key): by_name(item) for key, item in value.items()}
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        names = [str(item.get("name", number)) for number, item in enumerate(value)]
        unique = names if len(set(names)) == len(names) else [str(number) for number in range(len(value))]
        return {name: by_name(item) for name, item in zip(unique, value, strict=True)}
    return value


def _plain(column: Any) -> list[Any]:
    return [item.item() if hasattr(item, "item") else item for item in column]


# -- compare ------------------------------------------------------------------------------------------------------


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the place and value of every leaf: a number, a text, a list, an array."""
    if isinstance(value, dict) and not {"dtype", "shape", "data"} <= set(value):
        for key, item in value.items():
            yield from flat(item, f"{path}/{key}" if path else key)
    else:
        yield path, value


def renamed(recording: dict[str, Any]) -> dict[str, Any]:
    """Return all leaves by their place, with the new names."""
    found: dict[str, Any] = {}
    for old, value in flat(recording):
        head, _, rest = old.partition("/")
        parts = [_replaced(part, FILES) for part in rest.split("/")]
        # A command says in words what it does, and how its options were spelled before matters.
        place = f"{head}/{_replaced('/'.join(parts), [] if head == 'commands' else WORDS)}"
        place = _replaced(place, PATHS)
        value = [_word(item) for item in value] if isinstance(value, list) else _word(value)
        # Where two old names became one, the values were the same.
        found[old if place in found and found[place] != value else place] = value
    return found


def _word(value: Any) -> Any:
    return _replaced(value, WORDS) if isinstance(value, str) else value


def _replaced(text: str, table: list[tuple[str, str]]) -> str:
    for old, new in table:
        text = re.sub(old, new, text)
    return text


def difference(before: Any, after: Any, tolerance: float) -> str | None:
    """Say how two values differ, or return None."""
    if before == after:
        return None
    if isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            return f"{len(before)} values, now {len(after)}"
        unequal = [
            (number, a, b)
            for number, (a, b) in enumerate(zip(before, after, strict=True))
            if not _equal(a, b, tolerance)
        ]
        if not unequal:
            return None
        number, a, b = unequal[0]
        sizes = [abs(float(a) - float(b)) for _, a, b in unequal if _number(a) and _number(b)]
        most = f", at most by {max(sizes):.2g}" if sizes else ""
        return f"{len(unequal)} of {len(before)} values differ{most}; first in row {number}: {a!r}, now {b!r}"
    if isinstance(before, dict) and isinstance(after, dict):
        return _array_difference(before, after, tolerance)
    return None if _equal(before, after, tolerance) else f"{before!r}, now {after!r}"


def _array_difference(before: dict[str, Any], after: dict[str, Any], tolerance: float) -> str | None:
    import numpy as np

    arrays = [
        np.frombuffer(zlib.decompress(base64.b64decode(item["data"])), item["dtype"]).reshape(item["shape"])
        for item in (before, after)
    ]
    old, new = arrays
    if old.shape != new.shape or old.dtype != new.dtype:
        return f"{old.dtype} {old.shape}, now {new.dtype} {new.shape}"
    equal = np.isclose(old, new, rtol=tolerance, atol=tolerance, equal_nan=True)
    if equal.all():
        return None
    gap = np.abs(old.astype(float) - new.astype(float))
    return f"{int((~equal).sum())} of {equal.size} values differ, at most by {np.nanmax(gap):.2g}"


def _number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _equal(before: Any, after: Any, tolerance: float) -> bool:
    if before == after or (before != before and after != after):
        return True
    if not tolerance or not (_number(before) and _number(after)):
        return False
    a, b = float(before), float(after)
    if not (math.isfinite(a) and math.isfinite(b)):
        return a == b or (a != a and b != b)
    size = max(abs(a), abs(b))
    # Tables hold six digits, the last of which may be rounded up or down.
    digit = 10.0 ** (math.floor(math.log10(size)) - 5) if isinstance(before, str) and size > 0 else 0.0
    return abs(a - b) <= max(tolerance * max(1.0, size), 1.01 * digit)


def compare(before: dict[str, Any], after: dict[str, Any], tolerance: float) -> tuple[list[str], list[str]]:
    """Return the differences of two recordings, and those that are informational, a line each."""
    old, new = renamed(before), renamed(after)
    found: list[tuple[str, str]] = []
    for place, value in old.items():
        if place in new:
            said = difference(value, new[place], tolerance)
            if said is not None:
                found.append((place, said))
    for own, other, word in ((old, new, "only before"), (new, old, "only after")):
        there = {above for place in other for above in _above(place)}
        missing: dict[str, int] = {}
        for place in own:
            if place not in other:
                # A file or a command that is missing as a whole takes one line.
                top = next((above for above in _above(place) if above not in there), place)
                missing[top] = missing.get(top, 0) + 1
        found += [(top, word if count == 1 else f"{word} ({count} values)") for top, count in sorted(missing.items())]
    unimportant = re.compile("|".join(INFORMATIONAL))
    real = [f"{place}: {said}" for place, said in found if not unimportant.search(place)]
    other = [f"{place}: {said}" for place, said in found if unimportant.search(place)]
    return real, other


def _above(place: str) -> list[str]:
    """Return the places that hold a place, from the top."""
    return [place[: match.start()] for match in re.finditer("/", place)]


def main() -> int:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(dest="action", required=True)
    collecting = actions.add_parser("collect", help="record what the code gives")
    collecting.add_argument("out", type=Path)
    collecting.add_argument("--package", type=Path, default=Path(__file__).parents[1], help="another checkout")
    comparing = actions.add_parser("compare", help="compare two recordings")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--tolerance", type=float, default=0.0, help="of numbers, absolute below 1, else relative")
    comparing.add_argument("--all", action="store_true", help="list what is informational in full")
    chosen = parser.parse_args()
    if chosen.action == "collect":
        recording = collect(chosen.package.resolve())
        chosen.out.write_text(json.dumps(recording, indent=0))
        failed = [name for name, run in recording["runs"].items() if run.get("exit code", 0)]
        print(f"{chosen.out}: {len(recording['runs'])} runs, {recording['informational']['seconds']['all']} s"
              + (f"; failed: {', '.join(failed)}" if failed else ""))  # fmt: skip
        return int(bool(failed))
    real, other = compare(*(json.loads(path.read_text()) for path in (chosen.before, chosen.after)), chosen.tolerance)
    print(f"informational: {len(other)} differences" + ("" if chosen.all else " (--all lists them)"))
    print("\n".join(f"  {line}" for line in other) if chosen.all else "", end="\n" if chosen.all else "")
    print(f"differences: {len(real)}")
    print("\n".join(f"  {line}" for line in real), end="\n" if real else "")
    return int(bool(real))


if __name__ == "__main__":
    raise SystemExit(main())
