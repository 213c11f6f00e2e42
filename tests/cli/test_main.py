import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import neurorecon
from neurorecon.cli.common import run_command
from neurorecon.errors import NeuroreconWarning

COMMANDS = ["build", "info", "check", "export", "features", "maps", "classify", "systems", "fit", "reconstruct", "demo"]

#: Commands that have commands of their own.
GROUPS = {
    "datasets": ["list", "show", "download", "miniature"],
    "weights": ["list", "where", "verify", "pull"],
}


def test_help_lists_all_commands(user, tmp_path):
    found = user("--help", cwd=tmp_path)
    assert found.returncode == 0
    assert found.stderr == ""
    listed = [line.split()[0] for line in found.stdout.partition("Commands:")[2].splitlines() if line[:3].strip()]
    assert [name for name in listed if name in COMMANDS] == COMMANDS
    assert set(GROUPS) <= set(listed)


@pytest.mark.parametrize("command", [*COMMANDS, *(f"{group} {name}" for group, of in GROUPS.items() for name in of)])
def test_every_command_has_help_and_the_common_options(call, command):
    found = call(*command.split(), "--help")
    assert found.exit_code == 0
    for option in ("--json", "--quiet", "--verbose"):
        assert option in found.stdout


def test_version(call):
    assert call("--version").stdout == f"neurorecon {neurorecon.__version__}\n"


@pytest.mark.parametrize("arguments", [["nothing"], ["maps", "--nothing"], ["maps", "--permutations", "many"]])
def test_wrong_usage(call, arguments):
    found = call(*arguments)
    assert found.exit_code == 2
    assert found.stdout == ""
    assert "Error" in found.stderr
    assert "Traceback" not in found.stderr


def test_the_console_script_and_its_completion(tmp_path):
    script = shutil.which("neurorecon", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("neurorecon is run without having been installed")
    # Which shell is found out from the parent process where there is one, so it is named here.
    environment = os.environ | {"_NEURORECON_COMPLETE": "source_bash"}
    source = subprocess.run([script], env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert "complete -o default -F _neurorecon_completion neurorecon" in source.stdout
    environment |= {"_NEURORECON_COMPLETE": "complete_bash", "COMP_WORDS": "neurorecon re", "COMP_CWORD": "1"}
    offered = subprocess.run([script], env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert offered.stdout.split() == ["reconstruct"]


def test_a_command_ends_though_workers_wait_for_more(tmp_path):
    # Builds draw images in processes that stay for a while; Python tells them to end before it waits for them.
    code = (
        "import sys; from joblib import Parallel, delayed; Parallel(2)(delayed(abs)(number) for number in range(4)); "
        "from neurorecon.cli.main import run; sys.argv = ['neurorecon', '--version']; run()"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert found.returncode == 0
    assert found.stdout.strip()


def test_a_reader_that_has_read_enough_is_no_error():
    """As in ``neurorecon weights list | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [Path(sys.executable).with_name("neurorecon"), "weights", "list"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 1


def _shell(command, tmp_path):
    text = f"{shlex.quote(sys.executable)} -m neurorecon.cli {command}"
    return subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("arguments", ["datasets list", "datasets list --json", "info nowhere.icechunk", "--help"])
def test_a_closed_output_is_one_error(tmp_path, arguments):
    found = _shell(f"{arguments} >&-", tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("neurorecon: error: the standard output is closed") == 1
    assert "Traceback" not in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_other_closed_streams_do_not_matter(tmp_path):
    found = _shell("datasets list 2>&- <&-", tmp_path)
    assert found.returncode == 0
    assert "miyawaki2008" in found.stdout
    assert _shell("info nowhere.icechunk 2>&-", tmp_path).returncode == 2


def test_a_full_output_is_one_error(tmp_path):
    found = _shell("datasets list > /dev/full", tmp_path)
    assert found.returncode == 2
    assert found.stderr.count("neurorecon: error:") == 1
    assert "Traceback" not in found.stderr


def test_quiet_prints_errors_only(call, tmp_path):
    found = call("datasets", "list", "--quiet")
    assert (found.exit_code, found.stdout, found.stderr) == (0, "", "")
    assert json.loads(call("datasets", "list", "--quiet", "--json").stdout)["datasets"]
    wrong = call("info", "nowhere.icechunk", "--quiet")
    assert wrong.exit_code == 2
    assert "neurorecon: error:" in wrong.stderr


@pytest.mark.filterwarnings("default")
def test_what_libraries_say_is_for_developers(capsys):
    """Warnings and log messages of libraries appear with --verbose only; ours appear as lines."""

    def work(output):
        warnings.warn("invalid value encountered", RuntimeWarning, stacklevel=1)
        logging.getLogger("distributed.worker").error("lost a worker")
        logging.getLogger("diffusers").warning("is deprecated")
        warnings.warn("too few stimuli", NeuroreconWarning, stacklevel=1)
        logging.getLogger("neurorecon.io").warning("ours")

    handlers, level = logging.root.handlers[:], logging.root.level
    try:
        run_command("test", False, False, False, work)
        assert capsys.readouterr().err == "warning: too few stimuli\nours\n"
        run_command("test", False, True, False, work)
        assert capsys.readouterr().err == ""
        run_command("test", False, False, True, work)
        said = capsys.readouterr().err
        assert "RuntimeWarning: invalid value encountered" in said
        assert "lost a worker" in said
    finally:
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
