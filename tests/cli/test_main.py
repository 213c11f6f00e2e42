import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import neurorecon

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
