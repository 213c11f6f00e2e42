"""A disk that is full, or read-only: one clear error, and with room again the build goes on."""

import os
import subprocess
from types import SimpleNamespace

import pytest

import neurorecon as nr


@pytest.fixture
def disk(tmp_path):
    """A file system of its own: ``disk.mount(pages)``, ``disk.change("size=8m")``."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options):
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(f"this user may not mount a file system: {made.stderr.strip()}")

    def change(options):
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True, capture_output=True)

    yield SimpleNamespace(folder=folder, mount=mount, change=change)
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


def _pages(number):
    return f"size={number * 4096}"


@pytest.mark.parametrize("part", [0.01, 0.04, 0.3, 0.6, 0.9])
def test_a_build_on_a_full_disk_goes_on_when_there_is_room(command, recipe, whole, same, refused, disk, part):
    disk.mount(_pages(max(1, round(part * whole.pages))))
    path = disk.folder / "slow.icechunk"
    for _ in range(2):  # trying again without more room changes nothing
        refused(command("build", recipe, "--out", path, "--quiet"), "the disk is full", str(path), "free some space")
    refused(command("info", path))  # nobody sees half a store
    disk.change("size=64m")
    build = command("build", recipe, "--out", path, "--quiet")
    assert build.wait() == 0, build.stderr
    same(path)


def test_a_target_on_a_full_disk_leaves_the_store_as_it_was(command, recipe, whole, refused, disk):
    disk.mount("size=64m")
    path = disk.folder / "slow.icechunk"
    assert command("build", recipe, "--out", path, "--quiet").wait() == 0
    used = os.statvfs(disk.folder)
    disk.change(_pages(used.f_blocks - used.f_bfree + 12))
    before = nr.open_store(path)
    features = ("features", "--store", path, "--target", "gabor", "--quiet")
    refused(command(*features), "the disk is full", "free some space")
    after = nr.open_store(path)
    assert after.targets_available == []
    assert {name: after.digests()[name] for name in before.digests()} == before.digests()
    disk.change("size=64m")
    assert command(*features).wait() == 0
    found = nr.open_store(path)
    assert found.targets_available == ["gabor"]
    assert [finding for finding in nr.check_store(found) if finding.problem] == []


def test_a_read_only_folder(command, recipe, whole, same, refused, disk, tmp_path):
    disk.mount("size=64m")
    disk.change("ro")
    path = disk.folder / "slow.icechunk"
    refused(command("build", recipe, "--out", path, "--quiet"), "cannot write a store here", str(disk.folder))
    assert list(disk.folder.iterdir()) == []
    disk.change("rw")
    assert command("build", recipe, "--out", path, "--quiet").wait() == 0
    disk.change("ro")
    # A finished store on a shared, read-only drive serves everybody who only reads.
    for reading in (("info", path), ("check", path), ("build", recipe, "--out", path)):
        found = command(*reading, "--quiet")
        assert found.wait() == 0, found.stderr
    refused(command("features", "--store", path, "--target", "gabor", "--quiet"), "cannot write a store here")
    refused(command("build", recipe, "--out", path, "--overwrite", "--quiet"), "cannot write a store here")
    same(path)


def test_a_store_on_an_empty_mount_point(command, recipe, same, refused, disk):
    """A folder can be renamed neither to a mount point nor to another disk: a folder in it is asked for."""
    disk.mount("size=64m")
    path = disk.folder / "slow.icechunk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)], capture_output=True)
    assert made.returncode == 0
    try:
        refused(command("build", recipe, "--out", path, "--quiet"), "is a mount point", f"--out {path / path.name}")
        assert list(path.iterdir()) == []
        assert [item.name for item in disk.folder.iterdir() if item.suffix != ".lock"] == [path.name]
        inside = command("build", recipe, "--out", path / path.name, "--quiet")
        assert inside.wait() == 0, inside.stderr
        same(path / path.name)
    finally:
        subprocess.run(["umount", str(path)], check=True, capture_output=True)


def test_a_folder_of_somebody_else(command, recipe, refused, tmp_path):
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    found = command("build", recipe, "--out", folder / "slow.icechunk", "--quiet")
    refused(found, "cannot write a store here", "--out")
    assert list(folder.iterdir()) == []
