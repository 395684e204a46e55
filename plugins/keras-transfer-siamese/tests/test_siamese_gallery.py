"""The gallery's file: whole or as it was, bound to one model, and the same as a dictionary of lists."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from keras_transfer_siamese import gallery as module
from keras_transfer_siamese.comparison import Comparison
from keras_transfer_siamese.exporting import export_gallery
from keras_transfer_siamese.gallery import Binding, Picture, create_gallery, open_gallery
from keras_transfer_siamese.identity import Identity, mixing

from keras_transfer.data.labels import same_name_key
from keras_transfer.errors import DataError, KerasTransferError, UsageError
from keras_transfer.preprocessing import Preprocessing

SIZE = 4
MODEL = Identity("a" * 64, "faces", "float32", "a" * 64)
BINDING = Binding(MODEL, Preprocessing((8, 8)), Comparison(threshold=0.5), SIZE)


def picture(number, size=SIZE):
    """A picture that is told from others by its number."""
    return Picture(
        f"holidays/{number}.png", f"{number:064x}", np.arange(number, number + size, dtype=np.float32) + 1
    )


@pytest.fixture
def path(tmp_path):
    """A gallery of two names: ``anna`` with two images, ``bo`` with one."""
    with create_gallery(tmp_path / "people.sqlite", BINDING, tmp_path / "run") as made:
        assert made.enroll("anna", [picture(0), picture(1)]) == 2
        assert made.enroll("bo", [picture(2)]) == 1
    return tmp_path / "people.sqlite"


def test_what_was_enrolled_is_found_again(path, tmp_path):
    with open_gallery(path) as opened:
        entries, binding = opened.entries(), opened.binding
        assert opened.names() == {"anna": 2, "bo": 1}
        assert opened.model_path == tmp_path / "run"
        assert opened.images_of("anna") == {picture(0).sha256, picture(1).sha256}
    assert entries.names == ("anna", "anna", "bo")
    assert entries.files == ("0.png", "1.png", "2.png")
    assert entries.embeddings.dtype == np.float32
    np.testing.assert_array_equal(entries.embeddings, np.stack([picture(i).embedding for i in range(3)]))
    assert binding.identity == MODEL and binding.comparison.threshold == 0.5
    assert binding.preprocessing == Preprocessing((8, 8))


def test_no_folder_of_an_image_is_kept(path):
    assert b"holidays" not in path.read_bytes()


def test_a_name_is_enrolled_twice_only_on_purpose(path):
    with open_gallery(path) as opened:
        with pytest.raises(DataError, match=r"'anna' is already enrolled with 2 images.*--add"):
            opened.enroll("anna", [picture(3)])
        assert opened.names()["anna"] == 2
        # The same image again is no second entry.
        assert opened.enroll("anna", [picture(1), picture(3)], add=True) == 1
        assert opened.names()["anna"] == 3


def test_a_name_that_differs_in_case_or_form_alone_is_refused(path):
    with open_gallery(path) as opened:
        for name in ("Anna", "ANNA"):
            with pytest.raises(DataError, match="differs from the enrolled 'anna'"):
                opened.enroll(name, [picture(3)], add=True)
        opened.enroll("cafe\u0301", [picture(4)])
        assert "caf\u00e9" in opened.names()
        assert opened.enroll("caf\u00e9", [picture(5)], add=True) == 1


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "a\0b", "x" * 201, "\udcff"])
def test_names_that_cannot_be_kept_are_refused(path, name):
    with open_gallery(path) as opened, pytest.raises(UsageError, match="cannot be"):
        opened.enroll(name, [picture(3)])


def test_an_image_under_two_names_is_warned_about(path, caplog):
    with open_gallery(path) as opened, caplog.at_level("WARNING", "keras_transfer"):
        opened.enroll("carl", [picture(2)])
    assert "is enrolled as 'bo', and now as 'carl', too" in caplog.text


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_refused_and_nothing_is_written(path, number):
    before = path.read_bytes()
    bad = Picture("bad.png", "f" * 64, np.array([1, 2, 3, number], np.float32))
    with open_gallery(path) as opened, pytest.raises(DataError, match=r"bad\.png.*not finite"):
        opened.enroll("carl", [picture(3), bad])
    assert path.read_bytes() == before


def test_embeddings_of_another_size_and_no_images_are_refused(path):
    with open_gallery(path) as opened:
        with pytest.raises(DataError, match="shape"):
            opened.enroll("carl", [picture(3, SIZE + 1)])
        with pytest.raises(UsageError, match="No image"):
            opened.enroll("carl", [])


def test_removing_leaves_nothing_of_the_person_in_the_file(path):
    secret = picture(0).embedding.tobytes()
    assert secret in path.read_bytes()
    with open_gallery(path) as opened:
        with pytest.raises(UsageError, match=r"'ana' is not enrolled. Did you mean 'anna'"):
            opened.remove("bo", "ana")
        assert opened.names() == {"anna": 2, "bo": 1}
        assert opened.remove("anna") == {"anna": 2}
        assert opened.names() == {"bo": 1}
    content = path.read_bytes()
    assert secret not in content
    assert b"anna" not in content


def test_another_model_is_refused_with_both_names():
    other = Identity("b" * 64, "parts", "float32", "b" * 64)
    with pytest.raises(
        DataError, match=r"faces \(float32, a{12}\).*parts \(float32, b{12}\) is another model"
    ):
        mixing(MODEL, other)


def test_a_model_of_the_same_name_with_other_weights_is_another_model():
    other = Identity("b" * 64, MODEL.name, MODEL.precision, "b" * 64)
    with pytest.raises(DataError, match=r"faces \(float32, b{12}\) is another model"):
        mixing(MODEL, other)


@pytest.mark.parametrize(
    ("cosine", "said"), [(1.0, None), (0.9995, None), (0.95, "as low as 0.950"), (None, "not measured")]
)
def test_another_precision_of_the_model_is_judged_by_its_cosine(cosine, said):
    reduced = Identity(MODEL.model, "faces", "int8", "c" * 64, cosine)
    for pair in ((MODEL, reduced), (reduced, MODEL)):
        warning = mixing(*pair)
        assert warning is None if said is None else said in warning
    assert mixing(reduced, reduced) is None


@pytest.mark.parametrize("cosine", [0.89, -1.0, float("nan")])
def test_a_precision_too_far_from_the_gallery_is_refused(cosine):
    reduced = Identity(MODEL.model, "faces", "int8", "c" * 64, cosine)
    with pytest.raises(DataError, match="Enrol the images again"):
        mixing(MODEL, reduced)


def test_making_a_gallery_that_was_made_meanwhile_by_another_model_is_refused(path):
    other = Identity("b" * 64, "parts", "float32", "b" * 64)
    with pytest.raises(DataError, match="another model"):
        create_gallery(path, Binding(other, BINDING.preprocessing, BINDING.comparison, SIZE))
    with create_gallery(path, BINDING) as again:
        assert again.names() == {"anna": 2, "bo": 1}


def test_what_is_no_gallery_is_said(tmp_path):
    with pytest.raises(UsageError, match="There is no gallery"):
        open_gallery(tmp_path / "none.sqlite")
    with pytest.raises(UsageError, match="is a folder"):
        open_gallery(tmp_path)
    (tmp_path / "text.sqlite").write_text("no database " * 100)
    with pytest.raises(DataError, match="damaged"):
        open_gallery(tmp_path / "text.sqlite")
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE t (x)").connection.close()
    for name in ("other.sqlite", "empty.sqlite"):
        (tmp_path / name).touch()
        with pytest.raises(UsageError, match="is not a gallery"):
            open_gallery(tmp_path / name)


def test_another_schema_is_said(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    with pytest.raises(DataError, match="has schema 7; this keras-transfer-siamese knows 1"):
        open_gallery(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@example(place=0.15, change=128)
def test_a_damaged_byte_is_noticed_or_changes_nothing(path, place, change):
    whole = path.read_bytes()
    copy = path.with_name("damaged.sqlite")
    content = bytearray(whole)
    content[int(place * len(content))] ^= change
    copy.write_bytes(content)
    with open_gallery(path) as opened:
        expected = opened.entries()
    try:
        with open_gallery(copy) as opened:
            found = opened.entries()
            assert opened.binding.to_dict() == BINDING.to_dict()
    except KerasTransferError:
        return
    assert found.names == expected.names and found.sha256 == expected.sha256
    np.testing.assert_array_equal(found.embeddings, expected.embeddings)


def test_a_truncated_file_is_said(path):
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(DataError, match=r"damaged.*Restore a copy"), open_gallery(path) as opened:
        opened.entries()


def test_a_gallery_that_may_not_be_written_is_read(path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with open_gallery(path) as opened:
        assert opened.names() == {"anna": 2, "bo": 1}
        with pytest.raises(DataError, match="may not be written"):
            opened.enroll("carl", [picture(3)])


def arrays_of(row):
    return np.array(row["embedding"], "<f4")


def test_export_gives_other_programs_everything(path, tmp_path):
    content = json.loads(export_gallery(path, tmp_path / "out.json").read_text("utf-8"))
    assert [row["name"] for row in content["entries"]] == ["anna", "anna", "bo"]
    assert content["comparison"]["threshold"] == 0.5 and content["identity"]["name"] == "faces"
    with np.load(export_gallery(path, tmp_path / "out.npz"), allow_pickle=False) as arrays:
        assert arrays["names"].tolist() == ["anna", "anna", "bo"]
        assert json.loads(str(arrays["binding"])) == BINDING.to_dict()
        for row, embedding in zip(content["entries"], arrays["embeddings"], strict=True):
            np.testing.assert_array_equal(np.array(row["embedding"], np.float32), embedding)
    with pytest.raises(UsageError, match="--overwrite"):
        export_gallery(path, tmp_path / "out.npz")
    plain = export_gallery(path, tmp_path / "out.bin").read_bytes()
    assert plain.startswith(b"KTGALLRY") and plain.endswith(b"anna\0bo\0")
    assert np.concatenate([arrays_of(row) for row in content["entries"]]).tobytes() in plain
    with pytest.raises(UsageError, match=r"\.json, \.npz or \.bin"):
        export_gallery(path, tmp_path / "out.pickle")


def test_a_copy_tells_no_place_of_this_machine(path, tmp_path):
    with open_gallery(path) as opened:
        opened.copy(tmp_path / "copy.sqlite")
        expected = opened.entries()
    with open_gallery(tmp_path / "copy.sqlite") as copied:
        assert copied.model_path is None
        np.testing.assert_array_equal(copied.entries().embeddings, expected.embeddings)
    assert str(tmp_path).encode() not in (tmp_path / "copy.sqlite").read_bytes()


WRITER = """
    import sys
    import numpy as np
    sys.path.insert(0, {tests!r})
    from test_siamese_gallery import BINDING, picture
    from keras_transfer_siamese.gallery import create_gallery
    first = int(sys.argv[2])
    with create_gallery(sys.argv[1], BINDING) as opened:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range({count}):
            opened.enroll(f"{{first}} {{number}}", [picture(1000 * first + number)])
    print("done", flush=True)
"""


def writer(path, first, count):
    """A process that makes the gallery, waits for a line, and enrols ``count`` names one by one."""
    code = textwrap.dedent(WRITER).format(tests=os.path.dirname(__file__), count=count)  # noqa: PTH120
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path), str(first)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_write_at_once_and_nothing_is_lost(tmp_path):
    path, count = tmp_path / "new.sqlite", 40
    writers = [writer(path, first, count) for first in (1, 2)]
    for one in writers:
        assert one.stdout.readline() == "ready\n"
    for one in writers:
        one.stdin.write("\n")
        one.stdin.flush()
    for one in writers:
        assert one.communicate(timeout=60)[0] == "done\n"
        assert one.returncode == 0
    with open_gallery(path) as opened:
        entries = opened.entries()
    assert sorted(entries.names) == sorted(f"{first} {number}" for first in (1, 2) for number in range(count))
    for name, embedding in zip(entries.names, entries.embeddings, strict=True):
        first, number = map(int, name.split())
        np.testing.assert_array_equal(embedding, picture(1000 * first + number).embedding)


@pytest.mark.slow
def test_a_killed_writer_leaves_a_sound_file(tmp_path):
    path = tmp_path / "new.sqlite"
    killed = writer(path, 1, 100_000)
    killed.stdout.readline()
    killed.stdin.write("\n")
    killed.stdin.flush()
    time.sleep(0.3)
    killed.send_signal(signal.SIGKILL)
    killed.wait(timeout=10)
    with open_gallery(path) as opened:
        names = opened.entries().names
        assert names == tuple(f"1 {number}" for number in range(len(names)))
        assert len(names) > 0
        opened.enroll("afterwards", [picture(0)])
        assert opened.names()["afterwards"] == 1


def test_a_writer_that_does_not_end_is_named(path, monkeypatch):
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with open_gallery(path) as opened, pytest.raises(DataError, match="Another process has been writing"):
        opened.enroll("carl", [picture(3)])
    holder.execute("ROLLBACK")
    holder.close()


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Cs")), min_size=1, max_size=8
)


class Model(RuleBasedStateMachine):
    """Any sequence of enrolling, adding and removing is that of a dictionary from names to hashes."""

    def __init__(self):
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.gallery = create_gallery(f"{self.folder.name}/x.sqlite", BINDING)
        self.known = {}

    def teardown(self):
        self.gallery.close()
        self.folder.cleanup()

    @rule(
        name=NAMES | st.sampled_from(["a", "b'; DROP TABLE entries; --", '"', "\u00e9"]),
        numbers=st.sets(st.integers(0, 9), min_size=1),
        add=st.booleans(),
    )
    def enroll(self, name, numbers, add):
        pictures = [picture(number) for number in numbers]
        try:
            proper = module.proper_name(name)
        except UsageError:
            assert not name.strip()
            return
        clash = any(same_name_key(other) == same_name_key(proper) and other != proper for other in self.known)
        if clash or (proper in self.known and not add):
            with pytest.raises(DataError):
                self.gallery.enroll(name, pictures, add=add)
            return
        before = self.known.setdefault(proper, set())
        new = {one.sha256 for one in pictures} - before
        assert self.gallery.enroll(name, pictures, add=add) == len(new)
        before |= new

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def remove(self, data):
        name = data.draw(st.sampled_from(sorted(self.known)))
        assert self.gallery.remove(name) == {name: len(self.known.pop(name))}

    @rule()
    def reopen(self):
        self.gallery.close()
        self.gallery = open_gallery(self.gallery.path)

    @invariant()
    def same(self):
        entries = self.gallery.entries()
        found = {}
        for name, sha256 in zip(entries.names, entries.sha256, strict=True):
            found.setdefault(name, set()).add(sha256)
        assert found == self.known
        assert self.gallery.names() == {name: len(images) for name, images in self.known.items()}


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=20, stateful_step_count=8, deadline=None)
