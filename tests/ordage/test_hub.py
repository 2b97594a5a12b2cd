"""Against a small server that answers as the hub does, in processes of their own: its client reads the address once."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import ordage as package
from ordage.exporting import export

COMMIT = "0123456789" * 4


class _Hub(BaseHTTPRequestHandler):
    """Two repositories, ``somebody/model`` and, for pushing, the private ``somebody/new``."""

    def log_message(self, *_):
        pass

    def answer(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        files = self.server.files
        self.server.seen.append((self.command, self.path, self.headers.get("Authorization")))
        path = self.path.partition("?")[0]
        if found := re.fullmatch(r"/somebody/model/resolve/[^/]+/(.+)", path):
            content = files.get(found[1])
            if content is None:
                self.answer({"error": "Entry not found"}, 404, **{"X-Error-Code": "EntryNotFound"})
            else:
                self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"')
        elif re.fullmatch(r"/api/models/somebody/model(/revision/[^/]+)?", path):
            names = [{"rfilename": name} for name in files]
            self.answer({"id": "somebody/model", "sha": COMMIT, "siblings": names, "private": False, "tags": []})
        elif re.fullmatch(r"/api/models/somebody/new(/revision/[^/]+)?", path):
            names = [{"rfilename": name} for name in self.server.there]
            self.answer({"id": "somebody/new", "sha": COMMIT, "siblings": names, "private": True, "tags": []})
        elif found := re.fullmatch(r"/api/models/somebody/(model|new)/tree/.+", path):
            files = files if found[1] == "model" else self.server.there
            rows = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in files.items()
            ]
            self.answer(rows)
        elif path == "/api/whoami-v2":
            self.answer({"type": "user", "name": "somebody", "auth": {"accessToken": {"role": "write"}}})
        else:
            self.answer({"error": "Repository Not Found"}, 404, **{"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET  # noqa: N815 - the name that the base class calls

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, self.headers.get("Authorization")))
        address = f"http://127.0.0.1:{self.server.server_port}"
        if self.headers.get("Authorization") != "Bearer hf_secret":
            self.answer({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            self.server.made.append(json.loads(body))
            self.answer({"url": f"{address}/somebody/new", "name": "somebody/new"})
        elif "/preupload/" in self.path:
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    self.server.pushed[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
                elif row["key"] == "deletedFile":
                    self.server.deleted.append(row["value"]["path"])
            made = f"{address}/somebody/new/commit/{COMMIT}"
            self.answer({"commitUrl": made, "commitOid": COMMIT, "pullRequestUrl": ""})
        else:
            self.answer({}, 200)


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    server.files, server.seen, server.made, server.pushed = {}, [], [], {}
    server.there, server.deleted = {}, []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def exported(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    run = package.fit(
        data=str(faces), img_size=24, model="ordage_tiny", device="cpu", epochs=1, verbosity=0, out=out, name="a"
    )
    export(run.path, kind="torch")
    (run.path / "export" / "secret.txt").write_text("not to be sent")
    return run.path / "export"


def command(hub, home, *arguments, token=None):
    settings = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    environment = {**os.environ, **settings}
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        environment.pop(name, None)
    if token:
        environment["HF_TOKEN"] = token
    line = [sys.executable, "-m", "ordage", *map(str, arguments)]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.slow
def test_a_model_of_the_hub_answers_as_the_one_here(hub, exported, faces, tmp_path):
    hub.files |= {file.name: file.read_bytes() for file in exported.iterdir()}
    image = min(faces.iterdir())
    here = command(hub, tmp_path, "predict", exported, image)
    there = command(hub, tmp_path, "predict", "hf:somebody/model", image)
    fetched = {path.rsplit("/", 1)[1] for _, path, _ in hub.seen if "/resolve/" in path}

    assert there.returncode == 0, there.stderr
    assert there.stdout == here.stdout
    assert fetched == {"model.json", "model.safetensors", "calibration.json"}  # nothing that it does not need


@pytest.mark.slow
def test_what_the_hub_does_not_have_is_told_in_one_line(hub, exported, faces, tmp_path):
    result = command(hub, tmp_path, "predict", "hf:somebody/else", min(faces.iterdir()))

    assert result.returncode == 5
    assert "hf:somebody/else" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_without_a_network_it_says_so(hub, faces, tmp_path):
    hub.shutdown()
    hub.server_close()
    result = command(hub, tmp_path, "predict", "hf:somebody/model", min(faces.iterdir()))

    assert result.returncode == 5
    assert "cannot be reached" in result.stderr
    assert result.stderr.count("\n") == 1


def test_push_without_a_network_says_so(hub, exported, tmp_path):
    hub.shutdown()
    hub.server_close()
    result = command(hub, tmp_path, "push", exported, "somebody/new", token="hf_secret")

    assert result.returncode == 5
    assert "cannot be reached" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_not_the_networks_fault(hub, exported, faces, tmp_path):
    hub.files |= {file.name: file.read_bytes() for file in exported.iterdir()}
    (tmp_path / "hub").write_text("a file where the cache should be")
    result = command(hub, tmp_path, "predict", "hf:somebody/model", min(faces.iterdir()))

    said = result.stderr.splitlines()[-1]  # after what the library has to say itself
    assert result.returncode == 3
    assert str(tmp_path / "hub") in said
    assert "Not a directory" in said


def test_push_sends_what_export_wrote_and_nothing_else(hub, exported, tmp_path):
    result = command(hub, tmp_path, "push", exported, "somebody/new", token="hf_secret")

    assert result.returncode == 0, result.stderr
    assert hub.made[0].get("private") is True or hub.made[0].get("visibility") == "private"
    assert hub.pushed == {file.name: file.read_bytes() for file in exported.iterdir() if file.name != "secret.txt"}
    assert COMMIT in result.stdout
    assert "its owner alone" in result.stderr
    assert not hub.deleted


def test_push_takes_away_what_another_model_left(hub, exported, tmp_path):
    hub.there |= {"model.onnx": b"of another", "model.json": b"of another", "paper.pdf": b"somebody's own"}
    result = command(hub, tmp_path, "push", exported, "somebody/new", token="hf_secret")

    assert result.returncode == 0, result.stderr
    assert hub.deleted == ["model.onnx"]


def test_push_needs_somebody_who_may(hub, exported, tmp_path):
    nobody = command(hub, tmp_path, "push", exported, "somebody/new")
    other = command(hub, tmp_path, "push", exported, "somebody/new", token="hf_wrong")

    for result in (nobody, other):
        assert result.returncode == 5
        assert "somebody/new" in result.stderr
        assert "hf auth login" in result.stderr
        assert result.stderr.count("\n") == 1
    assert not hub.pushed


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("push", "EXPORTED", "no-owner"), 2, "hf:user/name"),
        (("push", "EXPORTED", "somebody/a..b"), 2, "somebody/a..b"),
        (("push", "EMPTY", "somebody/new"), 3, "no model.json"),
        (("predict", "hf:nobody", "x.jpg"), 2, "hf:user/name"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(exported, ordage, tmp_path, arguments, code, said):
    (tmp_path / "empty").mkdir()
    places = {"EXPORTED": exported, "EMPTY": "empty"}
    result = ordage(*(places.get(each, each) for each in arguments))

    assert result.returncode == code
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
