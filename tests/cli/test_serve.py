"""What ``keras-transfer serve`` gives out: a bundle's listed files, the page and LiteRT.js, and nothing else."""

import base64
import hashlib
import http.client
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import keras_transfer
from keras_transfer.errors import BundleError, UsageError
from keras_transfer.export.serving import is_loopback
from keras_transfer.workflow.serve import NPM, addresses, serve

WEB = Path(keras_transfer.__file__).parent / "export" / "clients" / "web"
SECRET = b"not of the bundle"
PAGE = "/clients/web/"
TYPES = {
    "/bundle.json": "application/json",
    "/labels.txt": "text/plain; charset=utf-8",
    "/model.tflite": "application/octet-stream",
    "/golden/golden.json": "application/json",
    "/golden/ä 1%.png": "image/png",
    f"{PAGE}page.mjs": "text/javascript; charset=utf-8",
    f"{PAGE}page.css": "text/css; charset=utf-8",
    f"{PAGE}index.html": "text/html; charset=utf-8",
    f"{PAGE}litertjs/core/dist/index.js": "text/javascript; charset=utf-8",
    f"{PAGE}litertjs/core/wasm/runtime.wasm": "application/wasm",
    f"{PAGE}litertjs/wasm-utils/dist/index.js": "text/javascript; charset=utf-8",
}


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def modules(tmp_path):
    """``node_modules`` with what is in LiteRT.js, and more."""
    root = tmp_path / "node_modules"
    for name in (
        "core/dist/index.js",
        "core/wasm/runtime.wasm",
        "wasm-utils/dist/index.js",
        "core/dist/index.js.map",
    ):
        write(root / "@litertjs" / name)
    write(root / "@litertjs" / "core" / "package.json", SECRET)
    write(root / "other" / "index.js", SECRET)
    return root


@pytest.fixture
def bundle(tmp_path):
    """As much of a bundle as its list needs, and what is around it."""
    folder = tmp_path / "edge"
    shutil.copytree(WEB, folder / "clients" / "web")
    for name in ("labels.txt", "model.tflite", "golden/golden.json", "golden/ä 1%.png"):
        write(folder / name)
    write(folder / "README.md", SECRET)
    write(folder / "golden" / "unlisted.png", SECRET)
    write(tmp_path / "secret.txt", SECRET)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    tolerance = {"max_difference": 1e-4, "agreement": None, "drop": None}
    info = {
        "kind": "keras-transfer bundle",
        "schema": 1,
        "task": "classification",
        "options": {},
        "notes": {},
        "output": {"kind": "probabilities", "shape": [2], "metric": "accuracy"},
        "labels": ["a", "b"],
        "preprocessing": {"size": [8, 8]},
        "artefacts": [{"file": "model.tflite", "precision": "float32", "bytes": 1, "tolerance": tolerance}],
        "files": {
            name: {"bytes": 1, "sha256": ""}
            for name in names
            if not name.endswith(("README.md", "unlisted.png"))
        },
    }
    write(folder / "bundle.json", json.dumps(info).encode())
    return folder


@pytest.fixture
def server(bundle, modules):
    with serve(bundle, port=0, litertjs=modules) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield running
        running.shutdown()


def ask(server, path, method="GET", **headers):
    """Status, headers and content of what the server says to a path that is sent as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def quoted(path):
    return path.replace("%", "%25").replace(" ", "%20").replace("ä", "%C3%A4")


def test_listed_files_are_given_with_their_types(server, bundle, modules):
    for path, kind in TYPES.items():
        status, headers, content = ask(server, quoted(path))
        assert (status, headers["Content-Type"]) == (200, kind), path
        file = (
            modules / "@litertjs" / path.removeprefix(f"{PAGE}litertjs/")
            if "litertjs" in path
            else bundle / path[1:]
        )
        assert content == file.read_bytes(), path
        status, headers, nothing = ask(server, quoted(path), "HEAD")
        assert (status, nothing, headers["Content-Length"]) == (200, b"", str(len(content)))
    assert ask(server, PAGE)[2] == (WEB / "index.html").read_bytes()
    status, headers, _ = ask(server, "/")
    assert (status, headers["Location"]) == (302, PAGE)


OUTSIDE = (
    "/README.md",
    "/golden/unlisted.png",
    "/secret.txt",
    "/../secret.txt",
    "/%2e%2e/secret.txt",
    "/%2e%2e%2fsecret.txt",
    "/..%5csecret.txt",
    "/golden/../../secret.txt",
    "/golden/%2e%2e/%2e%2e/secret.txt",
    "/clients/web/litertjs/../../../../secret.txt",
    "/clients/web/litertjs/core/package.json",
    "/clients/web/litertjs/core/dist/index.js.map",
    "/clients/web/litertjs/../other/index.js",
    "/clients/web/litertjs/",
    "/clients/web/litertjs",
    "/clients/web",
    "/clients/",
    "/golden/",
    "/golden",
    "//secret.txt",
    "/./bundle.json",
    "/bundle.json/",
    "/bundle.json%00",
    "/bundle.json%00.png",
    "/bundle.json?x=1",
    "/bundle.json?../secret.txt",
    "/?file=../secret.txt",
    "/bundle.json%3Fx",
    "/bundle.json;x",
    "/BUNDLE.JSON",
    "/%252e%252e/secret.txt",
    "/\\secret.txt",
    "secret.txt",
    "*",
    "http://127.0.0.1/secret.txt",
    "file:///etc/hostname",
    "/etc/hostname",
)


@pytest.mark.parametrize("path", OUTSIDE)
def test_nothing_else_is_given(server, path):
    status, _, content = ask(server, path)
    assert (status, content) == (404, b"404 Not Found\n")


def test_no_link_leads_out(server, bundle, modules, tmp_path):
    for name in ("labels.txt", "golden"):
        target = shutil.move(bundle / name, tmp_path / f"moved {name}")
        (bundle / name).symlink_to(target)
    for name in ("labels.txt", "golden/golden.json"):
        assert (bundle / name).is_file() and ask(server, f"/{name}")[0] == 404
    part = modules / "@litertjs" / "core" / "dist" / "index.js"
    part.unlink()
    part.symlink_to(tmp_path / "secret.txt")
    assert ask(server, f"{PAGE}litertjs/core/dist/index.js")[0] == 404
    (bundle / "model.tflite").unlink()
    assert ask(server, "/model.tflite")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_sent(server, method):
    assert ask(server, "/bundle.json", method)[0] == 501


def test_another_name_for_this_machine_is_refused(server):
    """A site whose name someone's server gives as 127.0.0.1 could read the bundle through the user's browser."""
    for host, status in {
        "localhost:80": 200,
        "127.0.0.1": 200,
        "example.org": 403,
        "127.0.0.1.example.org": 403,
    }.items():
        assert ask(server, "/bundle.json", Host=host)[0] == status, host


def test_the_page_may_load_nothing_from_elsewhere(server):
    _, headers, content = ask(server, PAGE)
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    (text,) = re.findall(rb'<script type="importmap">(.*?)</script>', content, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
    assert policy["script-src"] == f"'self' 'wasm-unsafe-eval' 'sha256-{digest}'"
    assert policy["default-src"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert policy["connect-src"] == policy["style-src"] == "'self'"
    assert "http" not in headers["Content-Security-Policy"]
    assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Set-Cookie"] is None
    refused = ask(server, "/secret.txt")[1]
    assert refused["Content-Security-Policy"] == headers["Content-Security-Policy"]


def test_litert_js_may_come_from_an_address(bundle):
    place = "https://files.example.org/npm/@litertjs"
    with serve(bundle, port=0, litertjs=place) as server:
        site = server.site
    assert f'"@litertjs/core": "{place}/core/dist/index.js"'.encode() in site.page
    assert f'"@litertjs/wasm-utils": "{place}/wasm-utils/dist/index.js"'.encode() in site.page
    assert "script-src 'self' https://files.example.org 'wasm-unsafe-eval'" in site.policy
    assert not [name for name in site.files if "litertjs" in name]


@pytest.mark.parametrize("inside", [".", "@litertjs", "@litertjs/core"])
def test_litert_js_is_found_in_folders_around_it(bundle, modules, inside):
    with serve(bundle, port=0, litertjs=modules / inside) as server:
        assert f"{PAGE}litertjs/core/dist/index.js" in server.site.files


def test_litert_js_is_found_in_the_current_folder_and_through_a_package_managers_links(
    bundle, modules, monkeypatch
):
    elsewhere = shutil.move(modules / "@litertjs", modules.parent / "store")
    (modules / "@litertjs").mkdir()
    (modules / "@litertjs" / "core").symlink_to(Path(elsewhere) / "core")
    monkeypatch.chdir(modules.parent)
    with serve(bundle, port=0) as server:
        assert f"{PAGE}litertjs/wasm-utils/dist/index.js" in server.site.files


def test_what_is_missing_is_one_sentence(bundle, modules, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path / "edge")
    with pytest.raises(
        UsageError, match=r"LiteRT\.js.*npm install @litertjs/core@[\d.]+`.*--litertjs FOLDER"
    ):
        serve(bundle, port=0)
    with pytest.raises(UsageError, match="nowhere"):
        serve(bundle, port=0, litertjs="nowhere")
    for address in (
        "http://example.org/",
        "ftp://example.org/",
        "https://",
        "https://a/'; script-src *",
        "https://[",
    ):
        with pytest.raises(UsageError, match="https:// address is expected"):
            serve(bundle, port=0, litertjs=address)
    with pytest.raises(UsageError, match="is not a bundle"):
        serve(tmp_path, port=0, litertjs=modules)
    with pytest.raises(UsageError, match=r"0 .* to 65535"):
        serve(bundle, port=65536, litertjs=modules)
    with pytest.raises(UsageError, match=r"a\.\.b, port 0 cannot be listened on"):
        serve(bundle, host="a..b", port=0, litertjs=modules)
    with pytest.raises(UsageError, match=r"192\.0\.2\.1, port 0 cannot be listened on"):
        serve(bundle, host="192.0.2.1", port=0, litertjs=modules)
    with socket.create_server(("127.0.0.1", 0)) as other:
        with pytest.raises(UsageError, match=r"cannot be listened on: Address already in use.*--port"):
            serve(bundle, port=other.getsockname()[1], litertjs=modules)
    info = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**info, "schema": 2}))
    with pytest.raises(BundleError, match="schema 2"):
        serve(bundle, port=0, litertjs=modules)
    del info["files"]["clients/web/index.html"]
    (bundle / "bundle.json").write_text(json.dumps(info))
    with pytest.raises(UsageError, match=r"has no page.*--client web"):
        serve(bundle, port=0, litertjs=modules)


def test_the_version_of_litert_js_is_the_tested_one():
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    assert NPM.removeprefix("npm install ") in makefile


def test_who_can_reach_it():
    assert is_loopback("127.0.0.1") and is_loopback("127.1.2.3") and is_loopback("::1")
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.1.2", "::", "127.0.0.1.example.org", "")))


def test_addresses_of_an_open_server_can_be_typed_into_a_phone(bundle, modules):
    with serve(bundle, host="0.0.0.0", port=0, litertjs=modules) as server:
        found = addresses(server)
        assert not server.loopback and f"http://127.0.0.1:{server.server_port}{PAGE}" == found[-1]
        assert not [one for one in found if "0.0.0.0" in one]


@pytest.mark.slow
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_command_says_where_and_who_and_ends_in_one_line(bundle, modules, host):
    command = [sys.executable, "-m", "keras_transfer", "serve", bundle, "--port", "0", "--host", host]
    process = subprocess.Popen(
        [*map(str, command), "--litertjs", str(modules)], stdout=-1, stderr=-1, text=True
    )
    try:
        first = process.stdout.readline()
        assert re.fullmatch(rf"The page: http://\S+:\d+{PAGE} \(Ctrl-C ends this\)\n", first), (
            process.stderr.read()
        )
        warned = process.stdout.readline() if host == "0.0.0.0" else "Everyone who can reach this machine"
        assert warned.startswith("Everyone who can reach this machine")
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (said.strip(), complained, process.returncode) == ("Stopped.", "", 0)
