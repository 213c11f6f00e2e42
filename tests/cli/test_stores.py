"""build, info, check, export, features: commands that make stores and look at them."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import neurorecon as nr
from neurorecon.store.writer import BUILD, StoreWriter


def test_a_build_tells_what_it_built(small):
    printed = small.printed
    assert "SIMULATED responses" in printed.stdout
    assert "small.icechunk" in printed.stdout
    assert "MT 6" in printed.stdout
    assert "row/s" in printed.stderr
    assert "row/s" not in printed.stdout


def test_a_second_build_changes_nothing(call, own, state):
    before = state(own.path)
    found = call("build", own.recipe, "--json", "--quiet")
    assert found.exit_code == 0
    assert found.stderr == ""
    answer = json.loads(found.stdout)
    assert (answer["command"], answer["snapshot"]) == ("build", before[0])
    assert answer["files"] == [str(own.path)]
    assert answer["info"]["digest"] == before[1]
    assert answer["info"]["subjects"]["subj02"]["voxels"] == 200
    assert state(own.path) == before


def test_the_store_built_last_is_used(call, own, tmp_path):
    call("build", own.recipe, "--quiet")
    assert (tmp_path / ".neurorecon").is_dir()
    found = call("info")
    assert found.exit_code == 0
    assert f"store: {own.path} (built last in this folder" in found.stderr
    assert found.stdout.startswith("small: ")
    assert call("info", "--quiet").stderr == ""


def test_a_folder_that_cannot_keep_which_store_was_built_last_only_warns(call, own, tmp_path):
    (tmp_path / ".neurorecon").write_text("a file in the place of the folder")
    found = call("build", own.recipe, "--json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["files"] == [str(own.path)]
    assert "cannot save which store was built last" in found.stderr
    assert f"--store {own.path}" in found.stderr
    assert call("build", own.recipe, "--quiet").stderr == ""


def test_info_as_json(call, small):
    found = call("info", small.path, "--json")
    assert found.stderr == ""
    facts = json.loads(found.stdout)["info"]
    assert set(facts["targets"]) == {"gabor", "category", "motion"}
    assert facts["simulated"] is True
    older = call("info", small.path, "--snapshot", facts["snapshot"], "--json")
    assert json.loads(older.stdout)["info"] == facts


def test_commands_take_a_store_as_an_argument_or_as_an_option(call, small, tmp_path):
    location, target = str(small.path), str(tmp_path / "plain.zarr")
    for command in ("info", "check"):
        argument = json.loads(call(command, location, "--json").stdout)
        for option in ("--store", "-s"):
            assert json.loads(call(command, option, location, "--json").stdout) == argument
    named = json.loads(call("export", "--store", location, target, "--json").stdout)
    assert (named["store"], named["files"]) == (location, [target])


def test_commands_use_the_store_built_last_where_none_is_named(call, own, tmp_path):
    call("build", own.recipe, "--quiet")
    target, state = str(tmp_path / "plain.zarr"), nr.open_store(own.path).snapshot
    for arguments in (["info"], ["check"], ["info", "--snapshot", state], ["check", "--snapshot", state]):
        found = json.loads(call(*arguments, "--json").stdout)
        assert (found["store"], found["snapshot"]) == (str(own.path), state)
    assert json.loads(call("export", target, "--json").stdout)["files"] == [target]


@pytest.mark.parametrize("command", ["info", "check", "export"])
def test_two_stores_at_once_are_refused(call, command, tmp_path):
    arguments = ["one.icechunk", "--store", "two.icechunk", *([tmp_path / "out.zarr"] if command == "export" else [])]
    found = call(command, *arguments)
    assert found.exit_code == 2
    assert "two stores are named" in found.stderr
    assert "one.icechunk and --store two.icechunk" in found.stderr


def test_export_without_a_folder_says_what_is_missing(call, small):
    found = call("export", "--store", small.path)
    assert found.exit_code == 2
    assert "the folder to write is missing" in found.stderr


def test_check(call, small):
    found = call("check", small.path, "--json", "--quiet")
    assert found.exit_code == 0
    assert found.stderr == ""
    assert json.loads(found.stdout)["arrays"] == len(nr.open_store(small.path).arrays())


def test_check_says_what_it_checked_and_prunes_what_a_killed_build_left(call, own):
    state = nr.open_store(own.path).snapshot
    whole = json.loads(call("check", own.path, "--json", "--prune").stdout)
    assert (whole["unfinished_build"], whole["pruned_bytes"]) == (False, 0)
    with StoreWriter(own.path) as writer:
        writer.checkout(BUILD)
        writer.put("lost", ["x"], np.random.default_rng(0).random(5000))  # 40 kB, never committed
    found = call("check", own.path)
    assert f"checked snapshot {state}" in found.stdout
    assert "not checked: a build that is running or was interrupted" in found.stdout
    pruned = json.loads(call("check", own.path, "--snapshot", state, "--json", "--prune").stdout)
    assert pruned["snapshot"] == state
    assert pruned["unfinished_build"]
    assert pruned["pruned_bytes"] > 10_000
    with StoreWriter(own.path):
        busy = call("check", own.path, "--prune")
    assert busy.exit_code == 2
    assert "another process is writing" in busy.stderr


def test_pruning_deletes_nothing_that_a_snapshot_refers_to_and_no_other_file(call, own):
    """Garbage collection keeps old snapshots, unfinished builds, and whatever Icechunk did not write."""
    before = nr.open_store(own.path)
    assert call("features", "--store", own.path, "--target", "optical_flow", "--quiet").exit_code == 0
    with StoreWriter(own.path) as writer:
        writer.checkout(BUILD)
        writer.put("begun", ["x"], np.random.default_rng(1).random(5000))
        writer.commit("a part of a build")
        writer.put("lost", ["x"], np.random.default_rng(0).random(5000))
    chunks = {path.name for path in (own.path / "chunks").iterdir()}
    others = [own.path / "thesis.txt", own.path / "chunks" / "thesis.txt", own.path / "mine" / "notes.txt"]
    (own.path / "mine").mkdir()
    for path in others:
        path.write_text("my own")
    pruned = json.loads(call("check", own.path, "--json", "--prune").stdout)
    assert pruned["pruned_bytes"] > 10_000
    assert [path.read_text() for path in others] == ["my own"] * 3
    lost = chunks - {path.name for path in (own.path / "chunks").iterdir()}
    assert len(lost) == 1
    for snapshot in (before.snapshot, None):
        store = nr.open_store(own.path, snapshot=snapshot)
        assert [finding for finding in nr.check_store(store) if finding.problem] == []
    assert nr.open_store(own.path, snapshot=before.snapshot).digests() == before.digests()
    with StoreWriter(own.path) as writer:
        writer.checkout(BUILD)
        np.testing.assert_array_equal(writer.root["begun"][:], np.random.default_rng(1).random(5000))


def test_export_and_check_of_damage(call, small, tmp_path):
    import xarray

    out = tmp_path / "plain.zarr"
    found = call("export", small.path, out, "--json")
    assert json.loads(found.stdout)["files"] == [str(out)]
    opened = xarray.open_zarr(out, group="subj01", consolidated=False)
    images = opened["responses"][opened["task"].values == "images"]
    np.testing.assert_array_equal(images, nr.open_store(small.path).responses("subj01", task="images"))
    assert call("check", out, "--quiet").exit_code == 0
    chunk = max((path for path in (out / "subj01" / "responses").rglob("c/*/*")), key=lambda path: path.stat().st_size)
    content = bytearray(chunk.read_bytes())
    content[-1] ^= 1
    chunk.write_bytes(content)
    damaged = call("check", out, "--json")
    assert damaged.exit_code == 2
    assert "subj01/responses" in json.loads(damaged.stdout)["error"]
    again = call("export", small.path, out)
    assert again.exit_code == 2
    assert "(exists)" in again.stderr


def test_features(call, small, tmp_path):
    assert "can be computed (--target NAME): gabor, category, motion" in call("features", "--store", small.path).stdout
    recipe = tmp_path / "bare.toml"
    recipe.write_text(
        'name = "bare"\nreader = "scenes"\n[options]\nsubjects = 1\nvoxels = 100\ntrain_images = 6\n'
        "test_images = 2\ntrain_videos = 0\ntest_videos = 0\n"
    )
    assert call("build", recipe, "--quiet").exit_code == 0
    found = call("features", "--target", "gabor", "--target", "category", "--json")
    answer = json.loads(found.stdout)
    store = nr.open_store(tmp_path / "bare.icechunk")
    assert answer["snapshot"] == store.snapshot
    assert store.targets_available == ["category", "gabor"]
    assert store.targets("gabor").shape == (8, 1440)
    refused = call("features", "--target", "motion")
    assert refused.exit_code == 2
    assert "this store has none" in refused.stderr


@pytest.mark.skipif(os.name == "nt", reason="interrupts are sent otherwise there")
def test_an_interrupted_build_goes_on(tmp_path, call):
    recipe = tmp_path / "longer.toml"
    recipe.write_text(
        'name = "longer"\nreader = "scenes"\n[options]\nsubjects = 1\nvoxels = 100\ntrain_images = 300\n'
        "test_images = 4\ntrain_videos = 0\ntest_videos = 0\n"
    )
    path = tmp_path / "longer.icechunk"
    process = subprocess.Popen(
        [sys.executable, "-m", "neurorecon.cli", "build", recipe],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    # The root of the build is committed before the first image is drawn.
    begun = path / "snapshots"
    while not (begun.exists() and len(list(begun.iterdir())) > 1) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert "interrupted; nothing was saved" in stderr  # the build has begun, and that is all
    assert "Traceback" not in stderr
    unfinished = call("info", path)
    assert unfinished.exit_code == 2
    assert "to resume it" in unfinished.stderr
    assert call("build", recipe, "--quiet").exit_code == 0
    assert call("check", path, "--quiet").exit_code == 0


def test_an_error_says_which_store_was_taken_where_none_was_named(call, small, tmp_path):
    (tmp_path / ".neurorecon").mkdir()
    (tmp_path / ".neurorecon" / "store.json").write_text(json.dumps({"store": str(small.path)}))
    refused = call("maps", "--roi", "nowhere")
    assert refused.exit_code == 2
    assert "the store built last in this folder" in refused.stderr.split("error:")[1]
    named = call("maps", "--roi", "nowhere", "--store", small.path)
    assert "built last" not in named.stderr
