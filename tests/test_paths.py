"""A file or a folder is whole or absent, whatever interrupts the writing."""

import os
from pathlib import Path

import pytest

from keras_transfer.paths import atomic_open, atomic_write, new_folder_beside, replace_folder


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def test_a_file_is_the_old_or_the_new_one(tmp_path):
    atomic_write(tmp_path / "new" / "file", "old")
    with pytest.raises(KeyboardInterrupt):
        with atomic_open(tmp_path / "new" / "file") as file:
            file.write(b"half")
            raise KeyboardInterrupt
    assert files(tmp_path) == {"new/file": "old"}
    with atomic_open(tmp_path / "new" / "file") as file:
        file.write(b"whole")
    assert files(tmp_path) == {"new/file": "whole"}


@pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")
def test_files_and_folders_may_be_read_by_whom_the_umask_lets(tmp_path):
    mask = os.umask(0o022)
    try:
        atomic_write(tmp_path / "file", "content")
        with new_folder_beside(tmp_path / "folder") as partial:
            replace_folder(partial, tmp_path / "folder")
    finally:
        os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o755


def test_a_folder_appears_under_its_name_when_it_is_whole(tmp_path):
    target = tmp_path / "above" / "folder"
    with pytest.raises(ValueError, match="of the block"):
        with new_folder_beside(target) as partial:
            (partial / "file").write_text("half")
            raise ValueError("of the block")
    assert list(target.parent.iterdir()) == []
    for content in ("first", "second"):
        with new_folder_beside(target) as partial:
            (partial / content).write_text(content)
            replace_folder(partial, target)
        assert files(tmp_path) == {f"above/folder/{content}": content}
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interruption_between_the_two_names_puts_the_earlier_folder_back(tmp_path, monkeypatch, error):
    new, target = tmp_path / "new", tmp_path / "folder"
    for path in (new, target):
        path.mkdir()
        (path / "file").write_text(path.name)
    rename = Path.rename

    def interrupted(self, to):
        if self == new:
            raise error
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(error):
        replace_folder(new, target)
    assert files(tmp_path) == {"new/file": "new", "folder/file": "folder"}
    assert sorted(tmp_path.iterdir()) == [target, new]
