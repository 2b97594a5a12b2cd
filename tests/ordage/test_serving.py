import asyncio
import io
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest
from PIL import Image

import ordage as package
from ordage import serving as serving_module


@pytest.fixture(scope="module")
def run(arrays, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    return package.fit(data=str(arrays), model="ordage_tiny", device="cpu", epochs=1, verbosity=0, out=out)


@contextmanager
def serving(run, *more):
    """Start `ordage serve` as a user does, and yield its address and its process."""
    command = [sys.executable, "-m", "ordage", "serve", str(run.path), "--port", "0", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("http://127.0.0.1:"), line + process.stderr.read()
            yield line.split()[0], process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(run):
    with serving(run, "--max-mb", "1") as (address, _):
        yield address


def asked(address, content, **headers):
    request = urllib.request.Request(address, data=content, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        return error.code, json.loads(text) if text.startswith("{") else text


def test_a_picture_is_answered_as_predict_does(run, server, drawn, ordage, tmp_path):
    file = io.BytesIO()
    Image.fromarray(drawn.images[5]).save(file, "PNG")
    status, said = asked(f"{server}/predict", file.getvalue())
    ages = package.load(run.path)([drawn.images[5]])
    (face,) = said["faces"]

    assert status == 200
    assert (said["width"], said["height"]) == (24, 24)
    assert (face["age"], face["bin"]) == (ages.age[0], ages.bin[0])
    assert [face["low"], face["high"]] == [ages.interval[0][0], ages.interval[1][0]]
    assert face["box"] is None
    np.testing.assert_allclose(face["class_probabilities"], ages.probs[0], atol=1e-6)
    np.testing.assert_allclose(list(face["bin_probabilities"].values()), ages.bin_probs[0], atol=1e-6)
    assert list(face["bin_probabilities"]) == list(ages.bins.labels)
    assert len(said["values"]) == len(face["class_probabilities"])
    assert said["bins"] == list(ages.bins.labels)
    assert said["coverage"] == 0.9


@pytest.mark.parametrize(
    ("content", "status", "error"),
    [
        (b"", 422, "empty"),
        (b"no picture at all", 422, "not an image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), 422, ""),
        (bytes(2**20 + 1), 413, "1 MB"),
    ],
)
def test_what_is_no_picture_is_refused_and_the_server_goes_on(server, drawn, content, status, error):
    code, said = asked(f"{server}/predict", content)

    assert code == status
    assert error in said["error"]
    file = io.BytesIO()
    Image.fromarray(drawn.images[0]).save(file, "JPEG")
    assert asked(f"{server}/predict", file.getvalue())[0] == 200


def huge_png(width, height):
    """A PNG of a few hundred kB whose pixels take gigabytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + 3 * width)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_small_file_of_a_huge_picture_is_not_decoded(server):
    content = huge_png(9000, 7200)
    code, said = asked(f"{server}/predict", content)

    assert len(content) < 2**20  # it is not its size that is refused
    assert code == 422
    assert "9000 x 7200 pixels, more than 64 million" in said["error"]


def test_a_program_is_no_picture(server):
    """Pillow would give it to Ghostscript."""
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    code, said = asked(f"{server}/predict", postscript)

    assert code == 422
    assert "not an image" in said["error"]


UNFINISHED = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nabc"


@pytest.mark.slow
def test_ctrl_c_does_not_wait_for_a_picture_that_never_arrives(run):
    with serving(run) as (address, process):
        place = ("127.0.0.1", int(address.rpartition(":")[2]))
        with socket.create_connection(place) as gone:
            gone.sendall(UNFINISHED)
        with socket.create_connection(place) as slow:
            slow.sendall(UNFINISHED)
            assert asked(f"{address}/predict", b"x")[0] == 422  # neither holds the others up
            process.send_signal(signal.SIGINT)
            _, error = process.communicate(timeout=30)

    assert process.returncode == 0
    assert error == ""


def test_a_picture_that_takes_too_long_is_given_up(run, monkeypatch):
    monkeypatch.setattr(serving_module, "PATIENCE", 0.2)
    sent = []

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "scheme": "http",
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
    }
    asyncio.run(serving_module.make_app(package.load(run.path))(scope, receive, send))

    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]  # what arrives of it later must not keep the connection


def test_only_so_many_pictures_wait(run):
    with serving(run) as (address, _), ExitStack() as unfinished:
        place = ("127.0.0.1", int(address.rpartition(":")[2]))
        for _ in range(serving_module.WAITING):
            slow = unfinished.enter_context(socket.create_connection(place))
            slow.sendall(UNFINISHED)
        deadline = time.monotonic() + 30
        while asked(f"{address}/predict", b"x")[0] != 503:
            assert time.monotonic() < deadline
        unfinished.close()
        while asked(f"{address}/predict", b"x")[0] != 422:
            assert time.monotonic() < deadline


def test_a_name_of_another_site_is_refused(server):
    """A page elsewhere may point a name of its own at this machine, and ask by that (DNS rebinding)."""
    assert asked(f"{server}/predict", b"x", Host="elsewhere.example")[0] == 400


def test_a_page_of_another_site_is_refused(server):
    assert asked(f"{server}/predict", b"x", Origin="https://elsewhere.example")[0] == 403
    assert asked(f"{server}/predict", b"x", Origin=server)[0] == 422  # no picture, but from the page itself


def test_the_page_asks_nobody_else(server):
    with urllib.request.urlopen(server, timeout=30) as response:
        page = response.read().decode()

    assert "default-src 'none'" in page
    assert not re.findall(r"""(?:src|href)=["'](?!data:|blob:)""", page)


def test_ctrl_c_ends_it_in_good_order(run):
    with serving(run) as (_, process):
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)

    assert process.returncode == 0
    assert error == ""


def test_a_port_that_is_taken_is_told(run, ordage):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = ordage("serve", run.path, "--port", taken.getsockname()[1])

    assert result.returncode == 2
    assert "in use" in result.stderr
    assert "--port" in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_is_missing_is_named(run):
    code = "import sys; sys.modules['uvicorn'] = None; from ordage.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(run.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 5
    assert "ordage[serve]" in done.stderr
    assert done.stderr.count("\n") == 1
