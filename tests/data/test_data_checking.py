"""Unreadable images are found, listed, counted and never deleted; the second check only hashes."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_transfer.data import Skipped, checking, load_data, write_skipped
from keras_transfer.data.checking import BlobStore, Verdicts, check_images
from keras_transfer.data.table import PathImages
from keras_transfer.errors import DataError


@pytest.fixture
def copy(tmp_path, photo_folder) -> Path:
    """A copy of the photo folder that a test may damage: 40 images."""
    shutil.copytree(photo_folder, tmp_path / "photos")
    return tmp_path / "photos"


def reasons(table) -> dict[str, str]:
    return {Path(skip.path).name: skip.reason for skip in table.skipped if skip.counted}


def jpeg(pixels: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


def test_every_kind_of_bad_file_is_skipped_with_its_reason_and_kept(copy, photos):
    whole = jpeg(photos["china"])
    bad = {
        "text.jpg": b"I am a text file\n" * 20,
        "truncated.jpg": whole[: len(whole) // 2],
        "zero.png": b"",
        "good.jpg": whole,
    }
    for name, content in bad.items():
        (copy / "china" / name).write_bytes(content)
    (copy / "china" / "link.png").symlink_to(copy / "gone.png")
    os.mkfifo(copy / "china" / "pipe.png")
    table = load_data(copy, max_skipped=0.5)
    found = reasons(table)
    assert found["text.jpg"].startswith("not an image")
    assert found["truncated.jpg"].startswith("truncated")
    assert found["zero.png"].startswith("empty")
    assert found["link.png"] == "broken link"
    assert found["pipe.png"] == "not a regular file"
    assert len(found) == 5
    assert len(table) == 41
    assert all((copy / "china" / name).read_bytes() == content for name, content in bad.items())
    assert table.summary()["skipped"] == 5


def test_unreadable_permission(photo_folder):
    """As another user where the tests run as root, whom permissions do not stop."""
    root = Path(tempfile.mkdtemp())
    try:
        root.chmod(0o755)
        shutil.copytree(photo_folder, root / "photos")
        (root / "photos").chmod(0o755)
        locked = root / "photos" / "china" / "000.png"
        locked.chmod(0)
        images = PathImages(root / "photos", ("china/000.png", "china/001.png"))
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        try:
            checked = check_images(images)
        finally:
            os.seteuid(user)
        assert [one.reason for one in checked] == ["permission denied", None]
    finally:
        shutil.rmtree(root)


def test_above_the_limit_the_run_stops_with_advice(copy):
    for i in range(3):
        (copy / "china" / f"{i:03d}.png").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        load_data(copy)
    text = str(caught.value)
    for part in ("3 of 40", "7.5%", "5.0%", "000.png: empty file", "--max-skipped"):
        assert part in text
    assert len(load_data(copy, max_skipped=0.075)) == 37


def test_at_the_limit_it_goes_on(copy):
    for i in range(2):
        (copy / "china" / f"{i:03d}.png").write_bytes(b"")
    assert len(load_data(copy)) == 38  # 2 of 40 is 5 %


def test_a_class_of_nothing_but_broken_files(copy):
    (copy / "zebra").mkdir()
    for i in range(2):
        (copy / "zebra" / f"{i}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"'zebra' \(0\)"):
        load_data(copy, max_skipped=0.5)


def test_all_broken(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match="no usable image"):
        load_data(tmp_path, max_skipped=1)


def test_skipped_csv(tmp_path):
    skipped = [
        Skipped("a,b.jpg", 'says "no"'),
        Skipped("ü/notes.txt", "not an image by its name", counted=False),
    ]
    write_skipped(tmp_path / "skipped.csv", skipped)
    with (tmp_path / "skipped.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == [
        {"path": "a,b.jpg", "reason": 'says "no"', "counted": "yes"},
        {"path": "ü/notes.txt", "reason": "not an image by its name", "counted": "no"},
    ]
    write_skipped(tmp_path / "none.csv", [])
    assert (tmp_path / "none.csv").read_text() == "path,reason,counted\n"


# --- the second run only hashes ---


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The hashes of what is decoded by the check."""
    seen: list[str] = []
    verify = checking.verify

    def counting(content: bytes) -> None:
        seen.append(hashlib.sha256(content).hexdigest())
        verify(content)

    monkeypatch.setattr(checking, "verify", counting)
    return seen


def test_the_second_run_decodes_nothing(copy, decoded):
    first = load_data(copy)
    assert sorted(decoded) == sorted(first.sha256)
    decoded.clear()
    copy.rename(copy.with_name("moved"))
    second = load_data(copy.with_name("moved"))
    assert decoded == []
    assert second.sha256 == first.sha256


def test_a_changed_file_is_decoded_again(copy, decoded):
    load_data(copy)
    decoded.clear()
    (copy / "china" / "000.png").write_bytes(b"")
    (copy / "china" / "001.png").write_bytes((copy / "china" / "001.png").read_bytes()[:500])
    table = load_data(copy, max_skipped=0.5)
    assert set(reasons(table)) == {"000.png", "001.png"}
    assert len(decoded) == 2


def test_bad_files_are_looked_at_every_time(copy, decoded):
    (copy / "china" / "000.png").write_bytes(b"no image")
    for _ in range(2):
        decoded.clear()
        assert set(reasons(load_data(copy))) == {"000.png"}
        assert hashlib.sha256(b"no image").hexdigest() in decoded


def test_a_damaged_memory_is_not_believed(copy, decoded):
    bad = b"no image"
    (copy / "china" / "000.png").write_bytes(bad)
    load_data(copy)
    folder = Verdicts().folder
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes() + hashlib.sha256(bad).digest())  # claims the bad file is good
    (folder / f"{'0' * 64}.sha256").write_bytes(hashlib.sha256(bad).digest())
    (folder / "garbage.sha256").write_bytes(b"xyz")
    decoded.clear()
    table = load_data(copy)
    assert set(reasons(table)) == {"000.png"}
    assert len(decoded) == 40


def test_an_unwritable_memory_only_costs_time(copy, decoded, monkeypatch, tmp_path):
    blocker = tmp_path / "file"
    blocker.write_text("not a folder")
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(blocker / "cache"))
    for _ in range(2):
        decoded.clear()
        assert len(load_data(copy)) == 40
        assert len(decoded) == 40


def test_a_full_disk_only_costs_time(copy, monkeypatch):
    def full(path, content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checking, "atomic_write", full)
    assert len(load_data(copy)) == 40


def test_many_small_memories_are_merged(tmp_path):
    for i in range(40):
        verdicts = Verdicts(tmp_path)
        verdicts.add(hashlib.sha256(b"%d" % i).digest())
        verdicts.save()
    assert len(list(verdicts.folder.iterdir())) <= 17
    again = Verdicts(tmp_path)
    assert all(hashlib.sha256(b"%d" % i).digest() in again for i in range(40))


def test_two_writers_at_once_lose_nothing(tmp_path):
    def write(start: int) -> None:
        for i in range(start, start + 10):
            verdicts = Verdicts(tmp_path)
            verdicts.add(bytes([i]) * 32)
            verdicts.save()

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = Verdicts(tmp_path)
    missing = [i for i in (*range(10), *range(50, 60)) if bytes([i]) * 32 not in known]
    assert missing == []


def test_an_interrupted_check_keeps_what_it_did(copy, decoded, monkeypatch):
    calls = []
    check_file = checking.check_file

    def interrupted(path, *arguments):
        calls.append(path)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return check_file(path, *arguments)

    monkeypatch.setattr(checking, "check_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_data(copy)
    monkeypatch.setattr(checking, "check_file", check_file)
    decoded.clear()
    assert len(load_data(copy)) == 40
    assert len(decoded) < 40


# --- the store for sources that are no files ---


def test_blobs_are_written_once_and_repaired(tmp_path):
    store = BlobStore(tmp_path)
    name = store.store(b"content", "png")
    path = store.root / name
    assert path.read_bytes() == b"content" and path.stem == hashlib.sha256(b"content").hexdigest()
    written = path.stat().st_mtime_ns, path.stat().st_ino
    assert store.store(b"content", "png") == name
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == written
    path.write_bytes(b"conten")
    assert store.store(b"content", "png") == name
    assert path.read_bytes() == b"content"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
