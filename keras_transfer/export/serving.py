"""A bundle over HTTP, for the page in it: its listed files, LiteRT.js, and nothing else.

What can be asked for is a table that is made once, of paths and files. A request is looked up in it; no part of it is
ever joined to a path.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import shutil
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from keras_transfer.errors import UsageError
from keras_transfer.records.layout import BUNDLE, PAGE

LITERTJS = f"{PurePosixPath(PAGE).parent}/litertjs/"
"""Where the page looks for LiteRT.js."""
PACKAGES = {"core": ("dist/*.js", "wasm/*.js", "wasm/*.wasm"), "wasm-utils": ("dist/*.js",)}
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
}
OTHER_TYPE = "application/octet-stream"
HEADERS = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Embedder-Policy": "require-corp",  # LiteRT.js's threads want this one and the next
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
PATIENCE = 30.0
"""Seconds that a connection may say nothing."""
_INLINE = re.compile(r"<script type=\"importmap\">(.*?)</script>", re.DOTALL)


@dataclass(frozen=True)
class Site:
    """What is given out.

    Attributes:
        root: the bundle's folder.
        files: paths, as a browser asks for them, to files.
        page: the content of the page itself.
        origin: of LiteRT.js where it comes from another server, such as ``https://example.org``; else empty.
    """

    root: Path
    files: Mapping[str, Path]
    page: bytes
    origin: str = ""

    @property
    def policy(self) -> str:
        """The Content-Security-Policy: nothing but what comes from here, and the import map of the page."""
        maps = (base64.b64encode(hashlib.sha256(text).digest()).decode() for text in self._import_maps())
        here = " ".join(["'self'", *([self.origin] if self.origin else [])])
        scripts = " ".join([here, "'wasm-unsafe-eval'", *(f"'sha256-{one}'" for one in maps)])
        return (
            f"default-src 'none'; script-src {scripts}; connect-src {here}; worker-src 'self' blob:; style-src 'self'; "
            "img-src 'self' blob: data:; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )

    def _import_maps(self) -> list[bytes]:
        return [text.encode() for text in _INLINE.findall(self.page.decode("utf-8"))]


def site_of(root: Path, names: Mapping[str, Any], litertjs: Path | str) -> Site:
    """The site of a bundle.

    Args:
        root: the bundle's folder.
        names: the files that ``bundle.json`` lists, as relative POSIX paths.
        litertjs: the folder ``@litertjs``, as :func:`find_litertjs` gives it, or an address that ends in a slash, under
            which ``core/`` and ``wasm-utils/`` lie.

    Raises:
        UsageError: the bundle has no page.
    """
    if PAGE not in names or not (root / PAGE).is_file():
        raise UsageError(
            f"{root} has no page: {PAGE} is missing. Bundles with a .tflite that looks at images get one; export "
            "again, with --client web where you choose clients."
        )
    files = {f"/{name}": root / name for name in (*names, BUNDLE)}
    page = (root / PAGE).read_text(encoding="utf-8")
    if isinstance(litertjs, Path):
        files |= {f"/{LITERTJS}{name}": path for name, path in _parts(litertjs)}
        return Site(root, files, page.encode())
    address = urlsplit(litertjs)
    page = page.replace('"./litertjs/', f'"{litertjs}')
    return Site(root, files, page.encode(), f"{address.scheme}://{address.netloc}")


def find_litertjs(folder: Path) -> Path | None:
    """The folder with ``core`` and ``wasm-utils``: ``folder``, or one around or inside it; None where it is none."""
    for core in (folder, folder / "core", folder / "@litertjs/core", folder / "node_modules/@litertjs/core"):
        found = core.resolve().parent  # package managers put links into node_modules
        if (core / "dist/index.js").is_file() and (found / "wasm-utils/dist/index.js").is_file():
            return found
    return None


def _parts(litertjs: Path) -> Iterator[tuple[str, Path]]:
    """The files of LiteRT.js that a browser asks for."""
    for package, patterns in PACKAGES.items():
        root = (litertjs / package).resolve()
        for pattern in patterns:
            for path in sorted(root.glob(pattern)):
                if path.is_file() and not path.is_symlink():
                    yield f"{package}/{path.relative_to(root).as_posix()}", path


class Server(ThreadingHTTPServer):
    """Serves a site until it is closed.

    Args:
        site: what is given out.
        host: an address or a name of this machine.
        port: 0 for a free one.

    Raises ``OSError`` where the port is in use or the host is not this machine's.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, site: Site, host: str, port: int) -> None:
        self.site = site
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        self.address_family = family
        super().__init__((str(address[0]), int(address[1])), _Handler)
        self.loopback = is_loopback(str(self.server_address[0]))

    def server_bind(self) -> None:
        """Bind, without asking a name server for this machine's name."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()[:2]
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away in the middle is none."""


def is_loopback(address: str) -> bool:
    """Whether only this machine itself can reach an address; of a name nobody knows."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE
    server_version, sys_version = "keras-transfer", ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: who asks for what stays between them."""

    def _answer(self, body: bool) -> None:
        if self.server.loopback and not self._asks_for_this_machine():
            return self._refuse(HTTPStatus.FORBIDDEN)
        if self.path == "/":
            return self._send_there(f"/{PurePosixPath(PAGE).parent}/")
        path = self._path()
        if path == f"/{PAGE}":
            self._head(TYPES[".html"], len(self.server.site.page))
            if body:
                self.wfile.write(self.server.site.page)
            return None
        file = self.server.site.files.get(path)
        if file is None or self._through_a_link(file):
            return self._refuse(HTTPStatus.NOT_FOUND)
        try:
            content = file.open("rb")
        except OSError:
            return self._refuse(HTTPStatus.NOT_FOUND)
        with content:
            self._head(TYPES.get(file.suffix, OTHER_TYPE), file.stat().st_size)
            if body:
                shutil.copyfileobj(content, self.wfile)
        return None

    def _path(self) -> str:
        """What is asked for, decoded once; the page for its folder. With a question mark it is nothing we have."""
        path = unquote(self.path, errors="replace")
        return f"/{PAGE}" if path == f"/{PurePosixPath(PAGE).parent}/" else path

    def _asks_for_this_machine(self) -> bool:
        """A name that someone's server says is 127.0.0.1 is not this machine's: another site would read the bundle."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        return host == "localhost" or is_loopback(host)

    def _through_a_link(self, file: Path) -> bool:
        """Whether a part of a path within the bundle is a link."""
        root = self.server.site.root
        if not file.is_relative_to(root):
            return file.is_symlink()
        parts = file.relative_to(root).parts
        return any(root.joinpath(*parts[: count + 1]).is_symlink() for count in range(len(parts)))

    def _head(self, kind: str, length: int) -> None:
        self.send_response(HTTPStatus.OK)
        self._tell({"Content-Type": kind, "Content-Length": str(length)})

    def _send_there(self, place: str) -> None:
        self.send_response(HTTPStatus.FOUND)
        self._tell({"Location": place, "Content-Length": "0"})

    def _refuse(self, status: HTTPStatus) -> None:
        text = f"{status.value} {status.phrase}\n".encode()
        self.send_response(status)
        self._tell({"Content-Type": TYPES[".txt"], "Content-Length": str(len(text))})
        if self.command != "HEAD":
            self.wfile.write(text)

    def _tell(self, headers: Mapping[str, str]) -> None:
        policy = {"Content-Security-Policy": self.server.site.policy}
        for name, value in {**HEADERS, **policy, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
