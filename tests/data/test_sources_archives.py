"""Zip and tar files, WebDataset shards, and sources that lie elsewhere."""

from __future__ import annotations

import errno
import http.server
import io
import logging
import ssl
import tarfile
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from test_sources_huggingface import images, png

from keras_transfer.data import archives, find_images, load_data, remote
from keras_transfer.data.forms import images_of
from keras_transfer.errors import CacheError, DataError, OfflineError, UsageError
from keras_transfer.features.cache import FeatureCache
from keras_transfer.paths import cache_dir


@pytest.fixture(autouse=True)
def said(caplog):
    caplog.set_level(logging.INFO, logger="keras_transfer")
    return caplog


@pytest.fixture
def tree(tmp_path) -> Path:
    for seed, name in enumerate(("cat", "dog")):
        images(tmp_path / "photos" / name, 10, 100 * seed)
    return tmp_path / "photos"


def zipped(path: Path, tree: Path, above: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(tree.rglob("*.*")):
            archive.write(file, above + file.relative_to(tree).as_posix())
        archive.writestr(f"{above}.DS_Store", b"system")
        archive.writestr("__MACOSX/._0.png", b"system")
    return path


def tarred(path: Path, tree: Path) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        archive.add(tree, arcname=".")
    return path


def leftovers() -> list[str]:
    return [path.name for path in (cache_dir() / "sources").glob("*") if path.name.startswith(".")]


def test_an_archive_is_its_folder(tmp_path, tree):
    expected = load_data(tree)
    sources = [
        *(zipped(tmp_path / "a.zip", tree), zipped(tmp_path / "b.ZIP", tree, "photos/")),
        *(
            tarred(tmp_path / "c.tar", tree),
            tarred(tmp_path / "d.tar.gz", tree),
            tarred(tmp_path / "e.tgz", tree),
        ),
    ]
    for source in sources:
        table = load_data(source)
        assert table.csv_text() == expected.csv_text() and table.source == str(source) and table.skipped == ()
        assert table.images.describe(0) == f"{source}/cat/0.png"
        assert len(find_images(images_of(source)).images) == 20
    assert leftovers() == []


def test_an_archive_is_unpacked_once_and_again_when_something_is_gone(tmp_path, tree):
    source = zipped(tmp_path / "a.zip", tree)
    first = load_data(source)
    (held,) = (cache_dir() / "sources").glob("*/files")
    times = {path: path.stat().st_mtime_ns for path in held.rglob("*.png")}
    moved = source.rename(tmp_path / "elsewhere.zip")
    moved = moved.rename(tmp_path / "a.zip")
    load_data(moved)
    assert times == {path: path.stat().st_mtime_ns for path in held.rglob("*.png")}
    next(held.rglob("*.png")).unlink()
    assert load_data(source).csv_text() == first.csv_text()


def test_the_cache_knows_them(tmp_path, tree):
    load_data(zipped(tmp_path / "a.zip", tree))
    cache = FeatureCache()
    (row,) = (row for row in cache.entries() if row["kind"] == "sources")
    assert row["summary"] == "unpacked archives and shards" and row["bytes"] > 2000
    cache.prune(max_bytes=0)
    assert not list((cache_dir() / "sources").glob("*/files/*/*"))
    assert len(load_data(tmp_path / "a.zip")) == 20


@pytest.mark.parametrize(
    "name", ["../evil.png", "a/../../evil.png", "/evil.png", "C:\\evil.png", "..\\evil.png"]
)
def test_members_that_lie_outside_are_refused(tmp_path, name):
    path, tar = tmp_path / "a.zip", tmp_path / "a.tar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat/0.png", png(0))
        archive.writestr(name, png(1))
    with tarfile.open(tar, "w") as archive:
        info = tarfile.TarInfo(name)
        archive.addfile(info, io.BytesIO())
    for source in (path, tar):
        with pytest.raises(DataError) as caught:
            load_data(source)
        assert str(caught.value) == (
            f"{source} holds the member {name!r}, which would be written outside its folder. Nothing was unpacked: do "
            "not trust this archive, or pack it again with relative paths."
        )
    assert not list(tmp_path.rglob("evil*")) and not list(cache_dir().rglob("*.png")) and leftovers() == []


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz"])
def test_cut_off(tmp_path, tree, name):
    path = (zipped if name.endswith("zip") else tarred)(tmp_path / name, tree)
    content = path.read_bytes()
    for end in (len(content) // 2, len(content) // 2 // 512 * 512, 512 * 9):
        path.write_bytes(content[: min(end, len(content) - 20)])
        with pytest.raises(DataError) as caught:
            load_data(path)
        assert str(caught.value).startswith(f"{path} is damaged or cut off (")
        assert str(caught.value).endswith("). Copy or download it again.")
    assert leftovers() == []


@pytest.mark.parametrize("end", ["gz", "xz", "bz2"])
def test_a_byte_that_changed_near_the_end_is_noticed(tmp_path, tree, end):
    path = tmp_path / f"a.tar.{end}"
    with tarfile.open(path, f"w:{end}") as archive:
        archive.add(tree, arcname=".")
    content = bytearray(path.read_bytes())
    content[-12] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.tar\.{end} is damaged or cut off"):
        load_data(path)
    assert not leftovers()


def test_a_member_whose_name_is_anothers_folder(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in ("cat", "cat/a.png"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataError, match="is damaged or cut off"):
        load_data(tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["a.zip", "a.tar"])
def test_an_archive_larger_than_the_disk(tmp_path, tree, name, monkeypatch):
    path = (zipped if name == "a.zip" else tarred)(tmp_path / name, tree)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda place: SimpleNamespace(free=10))
    with pytest.raises(
        DataError, match=rf"a\.{name[2:]} holds \d+ bytes, and 10 are free .*KERAS_TRANSFER_CACHE"
    ):
        load_data(path)
    assert not leftovers()


def test_links_in_a_tar_are_passed_over(tmp_path, tree):
    (tree / "cat" / "link.png").symlink_to("/etc/hostname")
    assert len(load_data(tarred(tmp_path / "a.tar", tree))) == 20


def test_an_encrypted_zip(tmp_path, tree):
    path = zipped(tmp_path / "a.zip", tree)
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1  # the flag in the directory
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_data(path)
    assert str(caught.value) == f"{path} is encrypted (cat/0.png). Unpack it and give the folder."


# --- WebDataset ---


def samples(path: Path, count: int, *, labels: str = "cls", seed: int = 0, start: int = 0) -> Path:
    """A shard as the library writes it."""
    import webdataset

    path.parent.mkdir(parents=True, exist_ok=True)
    with webdataset.TarWriter(str(path)) as writer:
        for i in range(start, start + count):
            sample = {"__key__": f"sample{i:06d}", "png": png(seed + i)}
            if labels == "cls":
                sample["cls"] = i % 2
            if labels == "json":
                sample["json"] = {"label": ["cat", "dog"][i % 2], "width": 8}
            writer.write(sample)
    return path


def test_shards_with_numbers_and_their_names_and_splits(tmp_path, said):
    for at, name in enumerate(("train-000000.tar", "train-000001.tar", "val-000000.tar")):
        samples(tmp_path / name, 8, seed=100 * at)
    table = load_data(tmp_path, test_fraction=0)
    assert table.classes == ("0", "1") and [len(table.indices(s)) for s in ("train", "val", "test")] == [
        16,
        8,
        0,
    ]
    assert (
        "are numbers without names: the numbers are the names of the classes. classes.txt beside" in said.text
    )
    (tmp_path / "classes.txt").write_text("wolf\nape\n")
    assert load_data(tmp_path, test_fraction=0).classes == ("wolf", "ape")


def test_one_shard_and_labels_in_json(tmp_path):
    table = load_data(samples(tmp_path / "shard-0.tar", 20, labels="json"))
    assert table.classes == ("cat", "dog") and set(table.splits) == {"train", "val", "test"}


def test_names_beside_one_shard(tmp_path):
    samples(tmp_path / "shard-0.tar", 20)
    (tmp_path / "classes.txt").write_text("wolf\nape\n")
    assert load_data(tmp_path / "shard-0.tar").classes == ("wolf", "ape")


def test_samples_without_labels(tmp_path, said):
    samples(tmp_path / "a" / "shard-0.tar", 6, labels="")
    samples(tmp_path / "a" / "shard-1.tar", 6, labels="")
    with pytest.raises(DataError) as caught:
        load_data(tmp_path / "a")
    assert str(caught.value) == (
        f"None of the 12 samples in {tmp_path / 'a'} has a label. Expected sample000000.cls (or .json with 'label') "
        "beside sample000000.png."
    )
    samples(tmp_path / "b" / "shard-0.tar", 12)
    samples(tmp_path / "b" / "shard-1.tar", 4, labels="", start=50)
    assert len(load_data(tmp_path / "b")) == 12
    assert (
        f"4 of 16 images in {tmp_path / 'b'} have no label, such as {tmp_path / 'b'}/00001/sample000050.png"
        in said.text
    )


# --- elsewhere ---


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Files of ``tmp_path`` over HTTP, with a tag; the connection drops after ``drops`` bytes, so many times."""
    monkeypatch.delenv("KERAS_TRANSFER_OFFLINE")
    monkeypatch.setattr(remote, "WAIT", 0.01)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        drops: ClassVar[list[int]] = []
        asked: ClassVar[list[str]] = []

        def do_GET(self):
            Handler.asked.append(self.headers.get("Range", ""))
            path = tmp_path / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            content = path.read_bytes()
            start = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", f'"{len(content)}"')
            self.end_headers()
            last = len(Handler.asked) > 1 and Handler.drops
            end = start + Handler.drops.pop(0) if last else len(content)
            self.wfile.write(content[start:end])
            self.close_connection = True

        def log_message(self, *_):
            pass

    Handler.drops, Handler.asked = [], []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        made.handler, made.address = Handler, f"http://127.0.0.1:{made.server_address[1]}"
        yield made
        made.shutdown()
        thread.join()


def test_a_zip_of_a_web_server(tmp_path, tree, server):
    zipped(tmp_path / "a.zip", tree)
    server.handler.drops = [300, 500]
    source = f"{server.address}/a.zip"
    table = load_data(source)
    assert table.csv_text() == load_data(tree).csv_text() and table.source == source
    assert table.images.describe(0) == f"{source}/cat/0.png"
    assert server.handler.asked == ["", "", "bytes=300-", "bytes=800-"]
    load_data(source)
    assert len(server.handler.asked) == 5  # asked whether it is the same, not copied again


def test_without_a_network_the_copy_is_taken(tmp_path, tree, server, monkeypatch):
    zipped(tmp_path / "a.zip", tree)
    source = f"{server.address}/a.zip"
    expected = load_data(source).csv_text()
    monkeypatch.setenv("KERAS_TRANSFER_OFFLINE", "1")
    assert load_data(source).csv_text() == expected
    with pytest.raises(OfflineError) as caught:
        load_data(f"{server.address}/b.zip")
    assert str(caught.value) == (
        f"{server.address}/b.zip has not been copied to this machine, and downloads are forbidden "
        "(KERAS_TRANSFER_OFFLINE). Copy it by hand and give the path, or allow the download once."
    )


def test_a_connection_that_drops_again_and_again(tmp_path, tree, server):
    size = zipped(tmp_path / "a.zip", tree).stat().st_size
    server.handler.drops = [10] * 9
    source = f"{server.address}/a.zip"
    with pytest.raises(DataError) as caught:
        load_data(source)
    assert str(caught.value) == (
        f"{source} could not be copied: in 4 tries the connection was lost, at last with '40 of {size} bytes'. Nothing "
        "was kept. Try again later, or copy it by hand and give the path."
    )
    assert not list((cache_dir() / "sources").rglob("*")) or leftovers() == []
    assert not list(cache_dir().rglob("a.zip"))


def test_addresses_that_lead_nowhere(server):
    with pytest.raises(DataError) as caught:
        load_data(f"{server.address}/none.zip")
    assert (
        str(caught.value)
        == f"{server.address}/none.zip is refused by its server: 404 Not Found. Check the address."
    )
    with pytest.raises(UsageError, match=r"/photos/ names no archive\. Of a web server one file is read"):
        load_data(f"{server.address}/photos/")
    with pytest.raises(UsageError, match=r"There is nothing at memory://nowhere\. Check the address\."):
        load_data("memory://nowhere")
    with pytest.raises(UsageError, match=r"nosuch://a is no address that can be read: Protocol not known"):
        load_data("nosuch://a")


@pytest.fixture
def memory(monkeypatch):
    import fsspec

    monkeypatch.setattr(remote, "WAIT", 0.01)
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    yield store
    store.store.clear()


def test_a_tree_of_a_store(tree, memory, tmp_path):
    memory.put(str(tree), "/bucket/photos", recursive=True)
    memory.pipe("/bucket/photos/.hidden", b"x")
    table = load_data("memory://bucket/photos")
    assert table.csv_text() == load_data(tree).csv_text() and table.source == "memory://bucket/photos"
    assert table.images.describe(0) == "memory://bucket/photos/cat/0.png"
    memory.pipe("/bucket/photos/cat/99.png", png(999))
    assert len(load_data("memory://bucket/photos")) == 21
    memory.put(str(zipped(tmp_path / "a.zip", tree)), "/bucket/a.zip")
    assert load_data("memory://bucket/a.zip").csv_text() == load_data(tree).csv_text()


def test_a_csv_of_a_store_brings_its_folder(tree, memory):
    memory.put(str(tree), "/bucket/photos", recursive=True)
    rows = [f"photos/{name}/{i}.png,{name}" for name in ("cat", "dog") for i in range(10)]
    memory.pipe("/bucket/labels.csv", "\n".join(["path,label", *rows]).encode())
    assert len(load_data("memory://bucket/labels.csv")) == 20


def test_a_store_that_drops_the_connection(tree, memory, monkeypatch):
    memory.put(str(tree), "/bucket/photos", recursive=True)
    real, calls = type(memory).get_file, []

    def flaky(self, source, target, **more):
        calls.append(source)
        if "dog/3" in source and calls.count(source) < limit:
            Path(target).write_bytes(b"half")
            raise ConnectionResetError("reset by peer")
        return real(self, source, target, **more)

    monkeypatch.setattr(type(memory), "get_file", flaky)
    limit = 99
    with pytest.raises(DataError) as caught:
        load_data("memory://bucket/photos")
    assert str(caught.value) == (
        "memory://bucket/photos/dog/3.png could not be copied: in 4 tries the connection was lost, at last with 'reset "
        "by peer'. Nothing was kept. Try again later, or copy it by hand and give the path."
    )
    assert not list(cache_dir().rglob("*.png")) and leftovers() == []
    calls.clear()
    limit = 3
    assert load_data("memory://bucket/photos").csv_text() == load_data(tree).csv_text()


def test_a_full_disk_is_no_lost_connection(tree, memory, monkeypatch):
    memory.put(str(tree), "/bucket/photos", recursive=True)
    asked = []

    def full(self, source, target, **more):
        asked.append(source)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(memory), "get_file", full)
    with pytest.raises(CacheError, match="the disk is full"):
        load_data("memory://bucket/photos")
    assert len(asked) == len(set(asked))


def test_any_loss_while_reading_is_tried_again(tmp_path, tree, server, monkeypatch):
    zipped(tmp_path / "a.zip", tree)
    real, lost = remote._read, []

    def flaky(response):
        if not lost:
            lost.append(1)
            response.read = lambda size: (_ for _ in ()).throw(ssl.SSLError("decryption failed"))
        return real(response)

    monkeypatch.setattr(remote, "_read", flaky)
    assert len(load_data(f"{server.address}/a.zip")) == 20 and lost
