"""The documentation site: links, the API reference, docstrings and their examples.

``make docs-quick`` builds the site, and warnings are errors there. What is checked here needs no Sphinx, or numpydoc
alone.
"""

import doctest
import importlib
import inspect
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

import neurorecon
import neurorecon as nr
from neurorecon import registry
from neurorecon.datasets.recipe import Recipe

ROOT = Path(neurorecon.__file__).parents[1]

if not (ROOT / "docs" / "conf.py").is_file():
    pytest.skip("installed without its documentation", allow_module_level=True)

PAGES = [
    ROOT / "README.md",
    *sorted(path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts),
    ROOT / "stores" / "README.md",
    ROOT / "analyses" / "README.md",
]

#: Packages whose names are public.
PACKAGES = ["neurorecon", *(f"neurorecon.{name}" for name in ("decoders", "figures", "metrics", "stats", "testing"))]


# -- links ------------------------------------------------------------------------------------------------------------


def _text(path):
    """Return a page without its blocks of code."""
    return re.sub(r"^```(?!{).*?^```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def _anchors(path):
    """Return the anchors of a page, as GitHub and MyST make them from its headings."""
    headings = re.findall(r"^#+ (.+)$", _text(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_links_lead_somewhere():
    """Relative links of all pages, in the repository: files exist, and so do the headings that anchors name."""
    wrong, checked = [], 0
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", _text(page)):
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            path = (page.parent / name).resolve() if name else page
            if not path.exists() or (anchor and anchor not in _anchors(path)):
                wrong.append(f"{page.relative_to(ROOT)}: {target}")
            checked += 1
    assert not wrong, "\n".join(wrong)
    assert checked > 150


def test_pages_of_the_site_are_reached():
    """Each page is in a table of contents, so that it can be found without the search."""
    docs = ROOT / "docs"
    pages, listed = [page.relative_to(docs) for page in PAGES if page.is_relative_to(docs)], {"index"}
    for page in pages:
        text = (docs / page).read_text(encoding="utf-8")
        for block in re.findall(r"^```{toctree}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            for line in block.splitlines():
                if line == "*":
                    listed |= {str(page.parent / path.stem) for path in (docs / page).parent.glob("*.md")}
                elif line and not line.startswith(":"):
                    listed.add(os.path.normpath(page.parent / line))
    missing = {str(page.with_suffix("")) for page in pages} - listed
    assert not missing, missing


def test_errors_of_the_troubleshooting_page_exist():
    """Texts in quotes are those of the package, with NAME and NUMBER in place of what differs."""
    files = (ROOT / "neurorecon").rglob("*.py")
    source = "\n".join(re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8")) for path in files)
    quoted = re.findall(r'\*\*"([^"]+)"', (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"))
    parts = {part.strip() for text in quoted for part in re.split(r"\b(?:NAME|NUMBER)\b", text) if part.strip()}
    assert not {part for part in parts if part not in source}
    assert len(quoted) >= 30


# -- API reference ----------------------------------------------------------------------------------------------------


def _listed():
    """Return the names in the API reference."""
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    return re.findall(r"^   ~(neurorecon\.[\w.]+)$", text, re.MULTILINE)


def _load(path):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_reference_lists_every_public_name():
    listed = [_load(path) for path in _listed()]
    missing = []
    for package in PACKAGES:
        for name in importlib.import_module(package).__all__:
            thing = _load(f"{package}.{name}")
            if (inspect.isclass(thing) or inspect.isfunction(thing)) and not any(thing is one for one in listed):
                missing.append(f"{package}.{name}")
    for names in (registry.DATASETS, registry.FEATURES, registry.DECODERS, registry.SYSTEMS, registry.GENERATORS):
        missing += [name for name in names.builtin if not any(names.load(name) is one for one in listed)]
    assert not missing, missing
    assert len(listed) == len({id(thing) for thing in listed}), "listed twice"


def _documented():
    """Yield the path and the object of each listed name, and of the methods and properties of listed classes."""
    for path in _listed():
        thing = _load(path)
        yield path, thing
        own = (
            [kind for kind in inspect.getmro(thing) if "neurorecon" in kind.__module__]
            if inspect.isclass(thing)
            else []
        )
        for name, member in {name: member for kind in reversed(own) for name, member in vars(kind).items()}.items():
            wrapped = isinstance(member, property | classmethod | staticmethod)
            if not name.startswith("_") and (wrapped or inspect.isfunction(member)):
                yield f"{path}.{name}", member


#: Findings of numpydoc that are errors here: sections out of order, no docstring, parameters that do not exist, names
#: of types, descriptions that do not end in a period or are missing, no summary of one line.
FINDINGS = {"GL07", "GL08", "PR02", "PR06", "PR09", "PR10", "SS01", "SS03", "SS04"}

#: Former names of :func:`neurorecon.write`, which only warn and pass everything on.
FORMER = {"neurorecon.write_maps", "neurorecon.write_classification", "neurorecon.write_reconstruction"}


def test_docstrings_are_numpydoc():
    validate = pytest.importorskip("numpydoc.validate").validate
    wrong, checked = [], 0
    for path, _ in _documented():
        found = [(code, text) for code, text in validate(path)["errors"] if code in FINDINGS]
        # Settings of training are documented once, for all networks, as **training.
        wrong += [f"{path}: {code} {text}" for code, text in found if "{'**training'}" not in text]
        checked += 1
    assert not wrong, "\n".join(wrong)
    assert checked > 300


def test_functions_say_what_they_take_return_and_raise():
    """Functions of the reference: every parameter, the shapes of arrays, what is returned, errors that they raise."""
    wrong = []
    for path in _listed():
        thing = _load(path)
        if not inspect.isfunction(thing) or path in FORMER:
            continue
        text, signature = inspect.getdoc(thing), inspect.signature(thing)
        body = text.partition("\nParameters\n")[2].partition("\nReturns\n")[0]
        for name, parameter in signature.parameters.items():
            shown = re.search(rf"^(?:\w+, )*(?:\*\*)?{name}(?:, \w+)*(?: :.*)?\n(?: .*\n|\n(?= ))*", body, re.MULTILINE)
            if shown is None:
                wrong.append(f"{path}: no parameter {name}")
            elif parameter.annotation in ("np.ndarray", "ArrayLike") and "shape" not in shown[0]:
                wrong.append(f"{path}: no shape of {name}")
        returns = signature.return_annotation not in ("None", inspect.Signature.empty)
        if returns and not re.search(r"\n(Returns|Yields)\n", text) and not text.startswith("Return "):
            wrong.append(f"{path}: what is returned?")
        raises = re.search(r"raise \w*(Input|UnknownName|MissingFile|Store)\w*Error\(", inspect.getsource(thing))
        if raises and "\nRaises\n" not in text:
            wrong.append(f"{path}: what is raised?")
    assert not wrong, "\n".join(wrong)


# -- examples of docstrings -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A small store of the embedded data set, where the examples expect it."""
    options = {"subjects": 1, "voxels": 200, "train_images": 24, "test_images": 8, "train_videos": 16, "test_videos": 8}
    recipe = Recipe(name="scenes", reader="scenes", targets=["gabor", "category", "motion"], options=options)
    folder = tmp_path_factory.mktemp("examples")
    nr.build(recipe, folder / "stores" / "scenes.icechunk", progress=False)
    return folder


def test_examples_of_docstrings(scenes, monkeypatch):
    """They run, and print what is printed, with the small store in place of ``stores/scenes.icechunk``."""
    monkeypatch.chdir(scenes)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    with_examples, said = [], []
    for path, thing in _documented():
        for test in finder.find(thing, path, globs={"np": np, "nr": nr}):
            if test.examples:
                runner.run(test, out=said.append, clear_globs=False)
                with_examples.append(path)
    assert runner.failures == 0, "".join(said)
    assert len(with_examples) >= 30


def test_the_tutorial(tmp_path, monkeypatch):
    """``make docs`` executes the notebook; here its cells run one after the other, with fewer stimuli."""
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code[0].startswith("%matplotlib inline\n")
    assert not any(cell.get("outputs") for cell in cells), "outputs are made by the build"
    text = "\n".join(code).removeprefix("%matplotlib inline\n")
    quick = {"300": "60", '"test_images": 60': '"test_images": 12', "n_permutations=200": "n_permutations=19"}
    for old, new in quick.items():
        assert old in text
        text = text.replace(old, new)
    names = {}
    exec(compile(text, "tutorial.ipynb", "exec"), names)
    assert set(names["found"].rois["band"]) == {"gabor", "category"}
    assert len(names["images"].reconstructed) == 12
    assert any(path.suffix == ".json" for path in names["files"])
