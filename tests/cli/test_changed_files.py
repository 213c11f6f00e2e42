"""Files that change between two builds, as a user meets them."""

import numpy as np


def test_a_build_after_a_change_names_the_file_and_ends_with_2(call, tmp_path):
    lab = tmp_path / "lab"
    lab.mkdir()
    values = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    np.save(lab / "responses.npy", values)
    (lab / "samples.csv").write_text(
        "stimulus,split\n" + "".join(f"s{n},{'test' if n > 3 else 'train'}\n" for n in range(6))
    )
    build = ("build", "arrays", "--root", "lab", "--out", "lab.icechunk", "--quiet")
    assert call(*build).exit_code == 0
    assert call(*build).exit_code == 0
    np.save(lab / "responses.npy", values * 2)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "lab.icechunk").rglob("*")}
    refused = call(*build)
    assert refused.exit_code == 2
    assert refused.stderr.count("neurorecon: error:") == 1
    assert "1 changed (responses.npy)" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "lab.icechunk").rglob("*")} == before
    assert call(*build, "--overwrite").exit_code == 0
    assert call(*build).exit_code == 0
