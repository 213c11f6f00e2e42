"""The plan of a large study: its tasks are those of a run, its table is the one in the docs."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from neurorecon.analyses import plan as planning
from neurorecon.analyses.encoding import voxels_of_a_block
from neurorecon.cli.main import app

DOCS = Path(__file__).parents[2] / "docs" / "scale.md"
WHOLE_BRAIN = planning.Subject("subj01", 226_000, 30_000, 9000, 1000, 9000, 1000)
FEATURES = (512, 16384, 91168, 2139)


@pytest.fixture(scope="module")
def docs():
    return DOCS.read_text(encoding="utf-8")


def _blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_every_voxel_of_every_subject_is_in_one_task():
    subjects = [WHOLE_BRAIN, planning.Subject("subj02", 5000, 600, 180, 20, 180, 20)]
    found = planning.plan(subjects, FEATURES)
    assert len(found.products) == 2 * len(FEATURES)
    covered = {"subj01": [], "subj02": []}
    for task in found.blocks:
        subject, start, stop = re.fullmatch(r"(\w+) voxels (\d+)-(\d+)", task.name).groups()
        covered[subject].append((int(start), int(stop)))
        assert task.needs == tuple(f"{subject} products of band{number}" for number in (1, 2, 3, 4))
    for subject, voxels in (("subj01", 226_000), ("subj02", 5000)):
        ends = [-1, *(stop for _, stop in covered[subject])]
        assert [start for start, _ in covered[subject]] == [end + 1 for end in ends[:-1]]
        assert ends[-1] == voxels - 1
    assert len(covered["subj01"]) == -(-226_000 // voxels_of_a_block(9000))


def test_bytes_follow_from_shapes():
    found = planning.plan([WHOLE_BRAIN], FEATURES)
    assert sum(task.store_bytes for task in found.products) == 10_000 * sum(FEATURES) * 4
    assert sum(task.store_bytes for task in found.blocks) == 30_000 * 226_000 * 4
    assert {task.result_bytes for task in found.products} == {10_000 * 9000 * 8}
    assert {task.input_bytes for task in found.blocks} == {4 * 10_000 * 9000 * 8}


def test_smaller_blocks_take_less_memory_and_read_products_more_often():
    large, small = (planning.plan([WHOLE_BRAIN], FEATURES, voxel_block=block) for block in (16_384, 4096))
    assert small.memory < large.memory
    assert sum(task.input_bytes for task in small.blocks) > sum(task.input_bytes for task in large.blocks)
    # The kernels alone: products, kernels in double precision, and scaled ones.
    assert small.memory > 4 * 9000**2 * (8 + 8 + 4)


def test_the_table_in_the_docs_is_what_the_command_prints(docs):
    command = re.search(r"neurorecon plan (--.*)", docs).group(1)
    printed = _run(*shlex.split(command))
    assert "8" in command
    assert "fits into 16.0 GiB" in printed
    shown = docs.partition("<!-- plan: begin -->")[2].partition("<!-- plan: end -->")[0]
    assert printed.strip() in shown


def _run(*arguments):
    found = CliRunner().invoke(app, ["plan", *arguments])
    assert found.exit_code == 0, found.output
    return found.stdout


def test_what_does_not_fit_is_said_with_what_to_do():
    printed = _run("--memory", "4", "--workers", "8")
    assert "does NOT fit into 4.0 GiB" in printed
    assert "--voxel-block" in printed


def test_scripts_in_the_docs_are_well_formed(docs, tmp_path):
    python, scripts, settings = (_blocks(docs, language) for language in ("python", "bash", "yaml"))
    assert (len(scripts), len(settings)) == (1, 1)
    for text in python:
        ast.parse(text)
    (tmp_path / "job.sh").write_text(scripts[0])
    assert subprocess.run(["bash", "-n", tmp_path / "job.sh"], check=False).returncode == 0
    slurm = yaml.safe_load(settings[0])["jobqueue"]["slurm"]
    assert slurm["cores"] == slurm["processes"] == 1
    assert f"--threads {slurm['job-cpu']} " in scripts[0]
    (cluster,) = (text for text in python if "SLURMCluster" in text)
    assert f"threads={slurm['job-cpu']})" in cluster


def test_options_of_the_commands_in_the_docs_exist(docs):
    from neurorecon.cli.main import app

    known = CliRunner().invoke(app, ["maps", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).stdout
    for line in re.findall(r"^.*neurorecon maps .*$", docs, flags=re.MULTILINE):
        for option in re.findall(r"--[a-z-]+", line.partition("neurorecon maps ")[2]):
            assert option in known


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--features", "a"], "not numbers"),
        (["--features", "512,"], "not numbers"),
        (["--trials", "3", "--test-stimuli", "1000"], "no stimuli are left for training"),
    ],
)
def test_a_study_that_cannot_be_is_one_error(arguments, said):
    found = CliRunner().invoke(app, ["plan", *arguments])
    assert found.exit_code == 2, found.exception
    assert said in found.stderr
