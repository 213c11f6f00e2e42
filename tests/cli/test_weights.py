"""``neurorecon weights`` as a user runs it: a process of its own, and a hub that runs on this machine."""

import hashlib
import http.server
import json
import os
import re
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from neurorecon.hub import items

SD = "CompVis/stable-diffusion-v1-4"
COMMIT = "133a221b8aa7292a167afc5127cb63fb5005638b"


def safetensors(values: bytes) -> bytes:
    header = json.dumps({"a": {"dtype": "U8", "shape": [len(values)], "data_offsets": [0, len(values)]}}).encode()
    return len(header).to_bytes(8, "little") + header + values


FILES = {
    SD: {
        "vae/config.json": b"{}",
        "vae/diffusion_pytorch_model.safetensors": safetensors(b"autoencoder" * 1000),
        "unet/config.json": b"{}",
    },
    "timm/vit_base_patch32_clip_224.openai": {"open_clip_model.safetensors": safetensors(b"not those of OpenAI")},
}


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as the Hugging Face hub does: a commit, its files, and each file with the digest it is named by."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._route()

    def do_GET(self):
        self._route()

    def _route(self):
        path = urlsplit(self.path).path.strip("/")
        self.server.asked.append(f"{self.command} {path}")
        for repository, files in FILES.items():
            if path == f"api/models/{repository}/revision/main":
                return self._json(
                    {"id": repository, "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
                )
            if path == f"api/models/{repository}/tree/{COMMIT}":
                return self._json([_entry(name, content) for name, content in files.items()])
            for name, content in files.items():
                if path in (f"{repository}/resolve/{COMMIT}/{name}", f"{repository}/resolve/main/{name}"):
                    return self._file(name, content)
        return self._json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def _json(self, answer, status=200, headers=()):
        self._send(json.dumps(answer).encode(), {"Content-Type": "application/json", **dict(headers)}, status)

    def _file(self, name, content):
        self._send(content, {"X-Repo-Commit": COMMIT, "ETag": f'"{_digest(name, content)}"'})

    def _send(self, content, headers, status=200):
        self.send_response(status)
        for key, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _digest(name, content):
    if name.endswith(".json"):
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    return hashlib.sha256(content).hexdigest()


def _entry(name, content):
    entry = {"type": "file", "path": name, "size": len(content), "oid": _digest(name, content)[:40]}
    if not name.endswith(".json"):
        entry["lfs"] = {"oid": _digest(name, content), "size": len(content), "pointerSize": 130}
    return entry


@pytest.fixture
def hub():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.daemon_threads, server.asked = True, []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def machine(user, tmp_path):
    """Run ``neurorecon weights`` on a machine without weights and with no hub but the one that is given."""

    def run(*arguments, hub=None, **settings):
        address = "http://127.0.0.1:9" if hub is None else f"http://127.0.0.1:{hub.server_port}"
        dropped = ("HF_", "HUGGINGFACE_", "NEURORECON_", "TRANSFORMERS_")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        environment |= {"HF_HOME": str(tmp_path / "home"), "HF_ENDPOINT": address, "NO_PROXY": "127.0.0.1", **settings}
        return user("weights", *arguments, cwd=tmp_path, env=environment)

    return run


def test_the_list_names_all_weights_and_what_is_here(machine, tmp_path):
    place = tmp_path / "mine" / "clip-vit-l14"
    place.mkdir(parents=True)
    (place / "open_clip_model.safetensors").write_bytes(safetensors(b"1"))
    found = machine("list", NEURORECON_WEIGHTS=str(tmp_path / "mine"))
    assert (found.returncode, found.stderr) == (0, "")
    lines = {line.split()[0]: line for line in found.stdout.splitlines() if line.strip()}
    assert {item.name for item in items("weights")} <= set(lines)
    assert lines["clip-vit-l14"].endswith(str(place))
    assert "brain-diffuser" in lines["vdvae-imagenet64"]
    assert all(re.search(r"\w  +(absent|incomplete, .*|/.*)$", lines[item.name]) for item in items("weights"))
    assert lines["vdvae-imagenet64"].endswith("absent")
    assert "~12.3 GB" in lines["versatile-diffusion"]
    assert "CreativeML OpenRAIL-M" in lines["sd-v1-4-unet"]
    assert "neurorecon weights pull NAME" in found.stdout


def test_the_list_as_json(machine):
    found = machine("list", "--origin", "published", "--json")
    answer = json.loads(found.stdout)
    assert answer["command"] == "weights list"
    rows = {row["name"]: row for row in answer["weights"]}
    assert {row["origin"] for row in rows.values()} == {"published"}
    assert rows["clip-vit-b32"]["bytes"] == 605_143_284
    assert rows["clip-vit-b32"]["license"] == "MIT"
    assert rows["clip-vit-b32"]["place"] is None
    assert rows["clip-vit-b32"]["missing"] == ["open_clip_model.safetensors"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "--origin", "home-made"], "unknown origin of weights 'home-made'"),
        (["where", "clip-vit-l-14"], "did you mean 'clip-vit-l14'?"),
        (["verify", "clip"], "unknown set of weights 'clip'"),
        (["pull", "bundled-clip"], "ship with neurorecon"),
        (["pull", "clip-vit-b32", "nothing"], "unknown set of weights 'nothing'"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_two(call, arguments, said):
    found = call("weights", *arguments, "--json")
    assert found.exit_code == 2
    assert said in found.stderr
    assert found.stderr.count("neurorecon: error:") == 1
    assert json.loads(found.stdout)["error"] in found.stderr


@pytest.mark.parametrize(
    ("command", "said"), [("where", "neurorecon weights pull clip-vit-b32"), ("pull", "check the network")]
)
def test_weights_that_are_nowhere_are_one_message(machine, command, said):
    found = machine(command, "clip-vit-b32", "--json")
    assert found.returncode == 2
    assert said in found.stderr
    assert found.stderr.count("neurorecon: error:") == 1
    assert "Traceback" not in found.stderr
    assert json.loads(found.stdout)["error"] in found.stderr


def test_offline_is_one_message(machine):
    found = machine("pull", "sd-v1-4-autoencoder", HF_HUB_OFFLINE="1")
    assert found.returncode == 2
    assert "HF_HUB_OFFLINE is set" in found.stderr
    assert "Traceback" not in found.stderr


def test_weights_are_fetched_from_a_hub_checked_and_repaired(machine, hub, tmp_path):
    found = machine("pull", "sd-v1-4-autoencoder", hub=hub)
    assert found.returncode == 0, found.stderr
    place = tmp_path / "home" / "hub" / f"models--{SD.replace('/', '--')}" / "snapshots" / COMMIT / "vae"
    assert found.stdout == f"sd-v1-4-autoencoder: {place}\n"
    assert sorted(path.name for path in place.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    # Only what the autoencoder needs was fetched.
    assert not any("unet/config.json" in asked for asked in hub.asked)

    # What is here needs no network.
    assert machine("where", "sd-v1-4-autoencoder").stdout == f"{place}\n"
    quiet = machine("pull", "sd-v1-4-autoencoder", "--quiet", HF_HUB_OFFLINE="1")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    answer = json.loads(machine("verify", "--json").stdout)
    states = {row["file"]: row["state"] for row in answer["checked"] if row["weights"] == "sd-v1-4-autoencoder"}
    assert states == {"config.json": "good", "diffusion_pytorch_model.safetensors": "good"}

    damaged = place / "diffusion_pytorch_model.safetensors"
    damaged.resolve().write_bytes(damaged.read_bytes()[:-1])
    found = machine("verify", "--json")
    assert found.returncode == 2
    assert json.loads(found.stdout)["corrupt"] == [str(damaged)]
    assert str(damaged) in found.stderr
    assert machine("pull", "sd-v1-4-autoencoder", hub=hub).returncode == 0
    assert damaged.read_bytes() == FILES[SD]["vae/diffusion_pytorch_model.safetensors"]
    assert machine("verify", "sd-v1-4-autoencoder").returncode == 0


def test_weights_are_fetched_into_a_folder_that_another_machine_can_use(machine, hub, tmp_path):
    found = machine("pull", "sd-v1-4-autoencoder", "--folder", "mine", "--json", "--quiet", hub=hub)
    assert found.returncode == 0, found.stderr
    place = Path(json.loads(found.stdout)["weights"][0]["place"])
    assert place == tmp_path / "mine" / "sd-v1-4-autoencoder" / "vae"
    assert not (place / "config.json").is_symlink()
    (tmp_path / "mine").rename(tmp_path / "carried")
    found = machine("where", "sd-v1-4-autoencoder", NEURORECON_WEIGHTS="carried", HF_HUB_OFFLINE="1")
    assert found.stdout == f"{tmp_path / 'carried' / 'sd-v1-4-autoencoder' / 'vae'}\n"


def test_files_of_another_content_are_removed(machine, hub):
    found = machine("pull", "clip-vit-b32", hub=hub)
    assert found.returncode == 2
    assert "removed" in found.stderr
    assert "expected 605143284" in found.stderr
    assert machine("where", "clip-vit-b32").returncode == 2


def test_a_hub_that_does_not_have_the_files_is_one_message(machine, hub):
    found = machine("pull", "versatile-diffusion", hub=hub)
    assert found.returncode == 2
    assert "the weights 'versatile-diffusion' could not be downloaded" in found.stderr
    assert "Traceback" not in found.stderr
