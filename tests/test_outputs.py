"""Nothing of the user's is lost: what is replaced, what is refused, and that every verb that writes has the rule."""

import hashlib
import json

import click
import pytest
from keras_transfer_tests.records import run_record

from keras_transfer import run as runs
from keras_transfer.cli import cli
from keras_transfer.errors import UsageError
from keras_transfer.outputs import Outputs
from keras_transfer.paths import cache_dir
from keras_transfer.testing.command import call
from keras_transfer.workflow.demo import run_demo


def contents(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_what_this_tool_wrote_is_replaced_and_what_it_did_not_write_is_refused(tmp_path):
    mine, theirs = tmp_path / "plot.png", tmp_path / "photo.png"
    theirs.write_bytes(b"theirs")
    Outputs().write(mine, b"first")
    Outputs().write(mine, b"second")
    assert mine.read_bytes() == b"second"
    with pytest.raises(UsageError, match=r"photo\.png exists, and this tool did not write it.*--overwrite"):
        Outputs().write(theirs, b"mine")
    assert theirs.read_bytes() == b"theirs"
    Outputs(overwrite=True).write(theirs, b"mine")
    assert theirs.read_bytes() == b"mine"


def test_what_the_user_changed_is_the_users(tmp_path):
    path = tmp_path / "mask.png"
    Outputs().write(path, b"first")
    path.write_bytes(b"corrected by hand")
    with pytest.raises(UsageError, match="changed since"):
        Outputs().check(path)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_read_is_never_replaced(tmp_path, overwrite):
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        (photos / name).write_bytes(b"photo")
    Outputs().write(photos / "heat.png", b"mine")
    (tmp_path / "link.png").symlink_to(photos / "a.png")
    for inputs, path in (
        ([photos / "a.png"], photos / "a.png"),
        ([str(photos / "a.png"), object()], tmp_path / "link.png"),
        ([photos], photos / "b.png"),
        ([photos / "heat.png"], photos / "heat.png"),  # its own picture, asked about
    ):
        with pytest.raises(UsageError, match=r"never replaced. Choose another --plot"):
            Outputs(inputs, overwrite=overwrite, option="--plot").write(path, b"x")
    Outputs([photos], overwrite=overwrite).write(photos / "heat.png", b"again")
    Outputs([photos], overwrite=overwrite).write(photos / "new.png", b"new")
    assert [(photos / name).read_bytes() for name in ("a.png", "b.png")] == [b"photo", b"photo"]


def test_the_same_content_is_no_loss_and_a_folder_is_no_file(tmp_path):
    path = tmp_path / "cells.csv"
    path.write_text("path,label\n")
    Outputs().write(path, "path,label\n")
    with pytest.raises(UsageError, match="is a folder; a file is expected"):
        Outputs(overwrite=True).check(tmp_path)
    with pytest.raises(UsageError, match=r"cells.csv is a file; a folder is expected"):
        Outputs(overwrite=True).check(path / "masks" / "a.png")


def test_without_a_memory_the_user_is_asked(tmp_path, monkeypatch):
    path = tmp_path / "plot.png"
    Outputs().write(path, b"first")
    (record,) = (cache_dir() / "written").iterdir()
    record.write_text(record.read_text() + '["plot.p')  # cut off: the lines before it still count
    Outputs().check(path)
    blocked = tmp_path / "blocked"
    blocked.write_text("no folder")
    monkeypatch.setenv("KERAS_TRANSFER_CACHE", str(blocked))
    with pytest.raises(UsageError, match="pass --overwrite"):
        Outputs().check(path)
    Outputs(overwrite=True).write(path, b"second")  # what cannot be remembered is written all the same
    assert path.read_bytes() == b"second"


def test_a_block_that_fails_is_not_remembered(tmp_path):
    path = tmp_path / "plot.png"
    with pytest.raises(RuntimeError), Outputs().writing(path) as place:
        place.write_bytes(b"half")
        raise RuntimeError
    with pytest.raises(UsageError):
        Outputs().check(path)


WHOLE = {"train", "export", "features", "gan generate", "siamese gallery export", "demo", "replay"}
"""Write folders, or have rules that are stricter."""


def writing_verbs(command=cli, words=()):
    context = click.Context(command)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            yield from writing_verbs(command.get_command(context, name), (*words, name))
    elif any({"--output", "--plot", "--to"} & set(option.opts) for option in command.params):
        yield " ".join(words), command


def test_every_verb_that_writes_a_file_can_be_told_to_overwrite():
    verbs = dict(writing_verbs())
    assert set(verbs) >= WHOLE and len(verbs) > len(WHOLE) + 6
    without = {name for name, verb in verbs.items() if not any(o.name == "overwrite" for o in verb.params)}
    assert without == {"gan generate", "demo", "replay"}


@pytest.mark.parametrize(
    "words",
    [
        ["describe", "tiny", "--output"],
        ["similar", "PHOTOS", "PHOTO", "--output"],
        ["explain", "no run", "PHOTO", "--output"],
        ["benchmark", "no bundle", "--plot"],
        ["doctor", "no run", "--plot"],
        ["segment", "no run", "PHOTO", "--output"],
        ["gan", "interpolate", "no run", "--output"],
        ["siamese", "match", "no gallery", "PHOTO", "--plot"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]], ids=["unasked", "overwrite"])
def test_no_verb_replaces_a_photo_and_it_says_so_before_any_work(photo_folder, tmp_path, words, overwrite):
    """With ``--overwrite`` a photo that the verb reads stays, too."""
    reads = "PHOTO" in words or "PHOTOS" in words
    if overwrite and not reads:
        return
    from shutil import copytree

    photos = copytree(photo_folder, tmp_path / "photos")
    photo = sorted(photos.rglob("*.png"))[0]
    place = photo.parent if words[0] in ("explain", "segment") else photo
    before = contents(photos)
    asked = [{"PHOTO": photo, "PHOTOS": photos}.get(word, word) for word in words]
    _, said = call(*asked, place, *overwrite, code=2)
    assert "nothing was touched" in said and photo.name in said
    assert contents(photos) == before


def test_compare_replaces_no_report_that_it_did_not_write(tmp_path):
    from keras_transfer.workflow.compare import compare

    (tmp_path / "compare.json").write_text("{}")
    with pytest.raises(UsageError, match=r"compare\.json exists, and this tool did not write it"):
        compare("no folder", ["tiny"], output=tmp_path)


def test_a_demo_replaces_a_demo_alone(tmp_path):
    pytest.importorskip("elpv_dataset")
    (tmp_path / "run").mkdir()
    with pytest.raises(UsageError, match="holds run, which no demo made"):
        run_demo(tmp_path)
    (tmp_path / "cells.csv").write_text("path,label\nmine.png,mine\n")
    with pytest.raises(UsageError, match=r"cells\.csv exists, and this tool did not write it"):
        run_demo(tmp_path)


def test_a_run_is_replaced_but_not_with_the_users_files_in_it(tmp_path):
    def write(overwrite=False):
        with runs.new_run(tmp_path / "run", {}, overwrite=overwrite) as writer:
            (writer.path / "model.keras").write_bytes(b"model")
            writer.write_record(run_record())

    write()
    assert json.loads((tmp_path / "run" / "run.json").read_text())["files"] == ["model.keras", "run.json"]
    write(overwrite=True)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds files that no training made \(notes\.txt\)"):
        write(overwrite=True)
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"
