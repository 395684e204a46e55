"""Serving a bundle's page to the browsers of this machine, or of a network."""

from __future__ import annotations

import os
import socket
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from keras_transfer.errors import UsageError
from keras_transfer.export.listing import read_listing
from keras_transfer.export.serving import Server, find_litertjs, is_loopback, site_of
from keras_transfer.records.layout import PAGE

NPM = "npm install @litertjs/core@2.5.3"
"""The version that is tested."""
EVERYWHERE = ("0.0.0.0", "::")


def serve(
    bundle: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    litertjs: str | os.PathLike[str] | None = None,
) -> Server:
    """A server of a bundle's page; ``serve_forever()`` runs it.

    Of the bundle only ``bundle.json`` is checked: the page has the proof.

    Args:
        bundle: a bundle folder.
        host: an address of this machine; another than a loopback one lets others in.
        port: 0 for a free one.
        litertjs: a folder that holds LiteRT.js, such as ``node_modules``; or an ``https://`` address with ``core/``
            and ``wasm-utils/`` under it, from which the browser fetches it. Default:
            ``node_modules`` of the current folder.

    Raises:
        UsageError: no bundle, no page in it, no LiteRT.js, or a host and port that cannot be had.
        BundleError: ``bundle.json`` is damaged, or of a newer version.
    """
    if not 0 <= port <= 65535:  # getaddrinfo would take it modulo 65536
        raise UsageError(f"The port is {port}; 0 (any free one) to 65535 are expected.")
    folder = Path(bundle)
    site = site_of(folder, read_listing(folder)[1].files, _litertjs(litertjs))
    try:
        return Server(site, host, port)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{host}, port {port} cannot be listened on: {reason}. Choose another --port (0: any free one), or a "
            "--host of this machine."
        ) from None


def addresses(server: Server) -> list[str]:
    """Under which addresses the page can be opened, the likeliest first."""
    host, port = str(server.server_address[0]), server.server_port
    family = socket.AF_INET if host == "0.0.0.0" else socket.AF_UNSPEC
    names = _addresses_of_this_machine(family) if host in EVERYWHERE else [host]
    place = f"/{PurePosixPath(PAGE).parent}/"
    return [f"http://{f'[{name}]' if ':' in name else name}:{port}{place}" for name in names]


def _addresses_of_this_machine(family: int) -> list[str]:
    name = socket.gethostname()
    try:
        rows = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    except OSError:
        rows = []
    found = [str(row[4][0]) for row in rows if not is_loopback(str(row[4][0])) and "%" not in str(row[4][0])]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))  # sends nothing: it tells which of our addresses a network sees
            found.insert(0, str(asked.getsockname()[0]))
        except OSError:
            pass
    return [*dict.fromkeys(found), name, "127.0.0.1"]


def _litertjs(given: str | os.PathLike[str] | None) -> Path | str:
    address = str(given or "")
    if "://" in address:
        odd = set(address) & set("\"'<>; []")
        if odd or urlsplit(address).scheme != "https" or not urlsplit(address).netloc:
            raise UsageError(f"--litertjs {address}: a folder or an https:// address is expected.")
        return address if address.endswith("/") else f"{address}/"
    found = find_litertjs(Path.cwd() if given is None else Path(given))
    if found is not None:
        return found
    where = "node_modules of the current folder" if given is None else str(given)
    raise UsageError(
        f"LiteRT.js, which runs the models in the browser, was not found in {where}. Fetch it once (`{NPM}`), or name "
        "the folder that holds it: --litertjs FOLDER. An https:// address there lets the browser fetch it from the "
        "network."
    )
