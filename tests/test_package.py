"""What is installed, and how quickly it is imported."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import neurorecon

ROOT = Path(neurorecon.__file__).parents[1]

#: Slow to import, or only needed by some functions.
HEAVY = {
    *("torch", "himalaya", "nilearn", "sklearn", "scipy", "pandas"),
    *("matplotlib", "icechunk", "zarr", "xarray", "dask"),
}

_IMPORTED = """
import json, sys
import neurorecon
first = set(sys.modules)
import neurorecon.cli.main
second = set(sys.modules)
print(json.dumps([sorted({name.partition(".")[0] for name in part}) for part in (first, second)]))
"""


def test_imports_are_light():
    found = subprocess.run([sys.executable, "-c", _IMPORTED], capture_output=True, text=True, check=True, timeout=120)
    package, command_line = (set(names) for names in json.loads(found.stdout))
    assert "neurorecon" in package
    assert not package & HEAVY
    assert not package & {"numpy", "typer"}
    assert not command_line & HEAVY


def test_public_names_resolve():
    for name in neurorecon.__all__:
        assert getattr(neurorecon, name) is not None
    assert dir(neurorecon) == sorted(neurorecon.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        neurorecon.nothing  # noqa: B018


def test_public_names_are_those_told_to_type_checkers():
    source = Path(neurorecon.__file__).read_text(encoding="utf-8")
    block = next(node for node in ast.parse(source).body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    told = {alias.name: node.module for node in imports for alias in node.names}
    assert told == neurorecon._PUBLIC


def test_every_public_thing_is_documented():
    for name in set(neurorecon.__all__) - {"__version__"}:
        assert getattr(neurorecon, name).__doc__, name


def _source_tree():
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("installed without its source tree")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_wheel_holds_the_package_alone():
    settings = _source_tree()["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert settings == {"packages": ["neurorecon"]}


def test_the_wheel_as_it_is_built(tmp_path):
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling builds wheels; it is not installed")
    _source_tree()
    import zipfile

    wheel = next(builder.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "neurorecon",
        f"neurorecon-{neurorecon.__version__}.dist-info",
    }
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "neurorecon").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }
    assert {name for name in names if name.startswith("neurorecon/")} == expected


def test_templates_are_read_from_the_package():
    from importlib import resources

    names = {item.name for item in (resources.files("neurorecon.figures") / "templates").iterdir()}
    assert any(name.endswith((".html", ".j2", ".jinja")) for name in names)


#: Folders of the machine that something was written on: home folders, work folders, temporary ones.
_MACHINE = re.compile(r"(?<![\w.:/])/(?:home|root|Users|work|mnt|tmp|var)/[\w.-]+")


def test_no_machine_paths():
    _source_tree()
    found = []
    files = [ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "Makefile", ROOT / "constraints.txt"]
    for folder in ("neurorecon", "stores", "analyses", "docs"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".toml", ".html", ".js")]
    built = [ROOT / "docs" / name for name in ("_build", "gallery", "api")]  # the site, if it was built here
    files = [path for path in files if not any(path.is_relative_to(folder) for folder in built)]
    assert len(files) > 100
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if _MACHINE.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert not found


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_clean_removes_packages_of_which_only_compiled_files_are_left(tmp_path):
    _source_tree()
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("was_a_package/__pycache__/old.pyc", "was_a_package/part/__pycache__/old.pyc", "package/module.py"):
        (tmp_path / "neurorecon" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "neurorecon" / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    assert [path.name for path in (tmp_path / "neurorecon").rglob("*")] == ["package", "module.py"]
