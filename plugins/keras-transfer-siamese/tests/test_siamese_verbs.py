"""``keras-transfer siamese``: enrol, match, verify, galleries, and the bundle that carries one."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers_siamese import run_script, small_network
from keras_transfer_siamese.gallery import open_gallery
from PIL import Image

from keras_transfer.errors import DataError
from keras_transfer.export import load_bundle
from keras_transfer.testing.command import call


@pytest.fixture(scope="module")
def letters(glyphs, tmp_path_factory):
    """Three characters in three typefaces each, a folder a character."""
    root = tmp_path_factory.mktemp("letters")
    for letter in "ABD":
        (root / letter).mkdir()
        for path in sorted((glyphs / letter).iterdir())[:3]:
            shutil.copy(path, root / letter)
    return root


def enrolled_by_another(letters, folder):
    """A gallery of the same characters, made with another network."""
    model, path = folder / "other.keras", folder / "o.sqlite"
    small_network(seed=1).save(model)
    call("siamese", "enroll", path, "--from", letters, "--model", model, "-q")
    return path


@pytest.fixture
def gallery(small_run, letters, tmp_path):
    """The three characters, enrolled by the run."""
    path = tmp_path / "letters.sqlite"
    out, _ = call("siamese", "enroll", path, "--from", letters, "--model", small_run, "--quiet")
    assert out.splitlines() == ["A: 3 enrolled", "B: 3 enrolled", "D: 3 enrolled"]
    return path


def test_an_enrolled_image_is_recognised_and_another_thing_is_unknown(gallery, letters, tmp_path):
    out, _ = call("siamese", "match", gallery, letters, "--top", "1", "--quiet")
    for line, path in zip(out.splitlines(), sorted(letters.rglob("*.png")), strict=True):
        assert line == f"{path}: {path.parent.name} 1.000"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    out, _ = call("siamese", "match", gallery, tmp_path / "noise.png", "--threshold", "0.9999")
    assert ": unknown (nearest: " in out
    (answer,) = json.loads(
        call("siamese", "match", gallery, tmp_path / "noise.png", "--threshold", "0.9999", "--json", "-q")[0]
    )
    assert answer["name"] is None and answer["threshold"] == 0.9999
    assert [row["name"] for row in answer["candidates"]] != [] and answer["candidates"][0]["score"] == answer[
        "score"
    ]
    (answer,) = json.loads(
        call("siamese", "match", gallery, letters / "A" / "DejaVuSans.png", "--json", "-q")[0]
    )
    assert answer["name"] == "A" and answer["threshold"] == 0.9 and len(answer["candidates"]) == 3


def test_adding_one_name_needs_the_model_no_more(gallery, glyphs):
    images = sorted((glyphs / "E").iterdir())[:2]
    out, _ = call("siamese", "enroll", gallery, *images, "--name", "E", "--quiet")
    assert out == "E: 2 enrolled\n"
    _, err = call("siamese", "enroll", gallery, *images, "--name", "E", code=1)
    assert "'E' is already enrolled with 2 images" in err
    more = sorted((glyphs / "E").iterdir())[:3]
    (found,) = json.loads(
        call("siamese", "enroll", gallery, *more, "--name", "E", "--add", "--json", "-q")[0]
    )
    assert found == {"name": "E", "new": 1, "already": 2, "errors": []}


def test_an_image_under_two_names_is_warned_about(gallery, letters):
    _, err = call("siamese", "enroll", gallery, letters / "A" / "DejaVuSans.png", "--name", "alpha")
    assert "DejaVuSans.png is enrolled as 'A', and now as 'alpha', too" in err


def test_images_without_content_are_told_and_the_others_enrolled(gallery, glyphs, tmp_path):
    Image.new("RGB", (30, 30), "navy").save(tmp_path / "plain.png")
    good = sorted((glyphs / "E").iterdir())[0]
    out, err = call("siamese", "enroll", gallery, good, tmp_path / "plain.png", "--name", "E", code=1)
    assert out == "E: 1 enrolled\n"
    assert "plain.png: it is of one colour" in err
    _, err = call("siamese", "enroll", gallery, tmp_path / "plain.png", "--name", "G", code=1)
    assert "None of the images of 'G' can be used" in err
    assert "G" not in open_gallery(gallery).names()
    out, err = call("siamese", "match", gallery, good, tmp_path / "plain.png", "--top", "1", code=1)
    assert out == f"{good}: E 1.000\n" and "plain.png: it is of one colour" in err


def test_another_model_is_refused_with_both_names(gallery, letters, tmp_path):
    small_network(seed=1).save(tmp_path / "other.keras")
    for verb in (
        ["match", gallery, letters, "--model", tmp_path / "other.keras"],
        ["enroll", gallery, letters / "A", "--name", "new", "--model", tmp_path / "other.keras"],
    ):
        _, err = call("siamese", *verb, code=1)
        assert "The gallery holds embeddings of the model letters" in err and "other.keras" in err
    assert "new" not in open_gallery(gallery).names()


def test_enrolled_by_the_run_and_matched_by_the_exported_files(gallery, letters, small_bundle, monkeypatch):
    monkeypatch.setattr(
        "keras_transfer_siamese.identity.SAME", 1.0
    )  # the small network's integers are too good
    for model, warned in ((small_bundle, False), (small_bundle / "model_int8.tflite", True)):
        out, err = call(
            "siamese", "match", gallery, letters, "--model", model, "--top", "1", "--threshold", "0.8"
        )
        names = [line.split(": ")[1].split()[0] for line in out.splitlines()]
        assert names == [path.parent.name for path in sorted(letters.rglob("*.png"))]
        assert ("the cosine of an image's two embeddings is as low as" in err) == warned


def test_verify_says_same_or_different(small_run, letters):
    one, other = letters / "A" / "DejaVuSans.png", letters / "B" / "DejaVuSans.png"
    assert call("siamese", "verify", small_run, one, one, "-q")[0] == "same: cosine 1.000, threshold 0.900\n"
    found = json.loads(
        call("siamese", "verify", small_run, one, other, "--threshold", "0.99999", "--json", "-q")[0]
    )
    assert found["same"] is False and found["threshold"] == 0.99999 and found["comparison"] == "cosine"


def test_listing_removing_and_exporting(gallery, tmp_path):
    out, _ = call("siamese", "gallery", "list", gallery)
    assert "letters (float32" in out and "threshold 0.900" in out
    found = json.loads(call("siamese", "gallery", "list", gallery, "--json")[0])
    assert found["names"] == {"A": 3, "B": 3, "D": 3} and found["dimension"] == 8
    call("siamese", "gallery", "export", gallery, "--to", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["embeddings"].shape == (9, 8)
    assert json.loads(call("siamese", "gallery", "remove", gallery, "A", "B", "--json")[0]) == {
        "A": 3,
        "B": 3,
    }
    _, err = call("siamese", "gallery", "remove", gallery, "A", code=2)
    assert "'A' is not enrolled" in err


def test_an_empty_gallery_is_said(gallery, letters):
    call("siamese", "gallery", "remove", gallery, "A", "B", "D")
    _, err = call("siamese", "match", gallery, letters, code=1)
    assert "Nothing is enrolled" in err and "enroll" in err


def test_a_gallery_is_made_when_there_is_something_to_put_into_it(small_run, tmp_path):
    Image.new("RGB", (30, 30), "navy").save(tmp_path / "plain.png")
    path = tmp_path / "new.sqlite"
    _, err = call(
        "siamese", "enroll", path, tmp_path / "plain.png", "--name", "E", "--model", small_run, code=1
    )
    assert "Nothing was enrolled" in err and not path.exists()


def test_views_of_an_enrolled_image_are_averaged(small_run, letters, tmp_path):
    found = []
    for name, more in (("plain", []), ("views", ["--tta", "7"])):
        path = tmp_path / f"{name}.sqlite"
        call("siamese", "enroll", path, "--from", letters, "--model", small_run, "--quiet", *more)
        with open_gallery(path) as opened:
            found.append(opened.entries().embeddings)
    plain, views = found
    assert np.linalg.norm(views, axis=1) == pytest.approx(1, abs=1e-5)
    assert np.abs(plain - views).max() > 1e-4 and (plain * views).sum(axis=1).min() > 0.9
    _, err = call("siamese", "enroll", path, letters / "A", "--name", "A", "--add", "--tta", "0", code=2)
    assert "1 to 12" in err


def test_classes_that_were_trained_on_are_measured_only_when_told(bundle_copy, letters):
    model = bundle_copy / "model.tflite"
    for verb in (["evaluate", model], ["verify", bundle_copy]):
        _, err = call(*verb, letters, code=1)
        assert "1 of the 3 classes were trained on (A)" in err and "--set allow_seen_classes" in err
    told = ["--set", "allow_seen_classes", "--set", "episodes=20", "--set", "episodes-at=3x2", "-q"]
    found = json.loads(call("evaluate", model, letters, *told, "--json")[0])
    assert found["episodes"]["3x2"]["episodes"] == 20 and found["classes"] == 3
    call("verify", bundle_copy, letters, *told[:2], "-q")
    for wrong, said in (
        ("episodes=1", "at least 2"),
        ("episodes-at=3", "WAYSxSHOTS"),
        ("loss=bce", "the training decides that"),
        ("protocol=omni", "episodes, omniglot"),
        ("epsodes=3", "Did you mean episodes"),
    ):
        _, err = call("evaluate", model, letters, "--set", wrong, code=2)
        assert said in err, err
    _, err = call("verify", bundle_copy, "--set", "episodes=20", code=2)
    assert "give DATA, too" in err


def test_arguments_that_cannot_be(gallery, letters, small_run, tmp_path):
    for arguments, said in (
        (["enroll", tmp_path / "new.sqlite", letters, "--name", "x"], "say with --model"),
        (["enroll", gallery, letters], "--name WHO, or --from FOLDER"),
        (["enroll", gallery, letters, "--name", "x", "--from", letters], "--from FOLDER alone"),
        (["enroll", gallery, "--name", "x"], "Give IMAGE"),
        (["enroll", gallery, letters, "--name", "x", "--threshold", "0.5"], "has its threshold already"),
        (["enroll", gallery, letters, "--name", " "], "cannot be kept"),
        (["enroll", gallery, tmp_path / "none.png", "--name", "x"], "no such file"),
        (["enroll", tmp_path, letters, "--name", "x", "--model", small_run], "is a folder"),
        (["match", tmp_path / "none.sqlite", letters], "There is no gallery"),
        (["match", gallery, tmp_path / "none.png"], "no such file"),
        (["match", gallery, letters, "--top", "0"], "at least 1"),
        (["match", gallery, letters, "--threshold", "nan"], "not a finite number"),
        (["verify", small_run, letters, letters], "two image files"),
        (["verify", tmp_path, letters, letters], "two image files"),
        (["gallery", "export", gallery, "--to", tmp_path / "out.txt"], ".json, .npz or .bin"),
        (["gallery", "export", gallery, "--to", tmp_path], "is not a bundle"),
    ):
        _, err = call("siamese", *arguments, code=2)
        assert said in err, err


@pytest.mark.slow
def test_without_a_threshold_one_is_asked_for(letters, tmp_path):
    small_network().save(tmp_path / "bare.keras")
    call(
        "siamese",
        "enroll",
        tmp_path / "g.sqlite",
        "--from",
        letters,
        "--model",
        tmp_path / "bare.keras",
        "-q",
    )
    for verb in (
        ["match", tmp_path / "g.sqlite", letters],
        ["verify", tmp_path / "bare.keras", *[letters / "A" / "DejaVuSans.png"] * 2],
    ):
        _, err = call("siamese", *verb, code=1)
        assert "No threshold was chosen" in err
        call("siamese", *verb, "--threshold", "0.5", "-q")
    new = tmp_path / "with.sqlite"
    call(
        "siamese",
        "enroll",
        new,
        "--from",
        letters,
        "--model",
        tmp_path / "bare.keras",
        "--threshold",
        "0.7",
        "-q",
    )
    assert json.loads(call("siamese", "gallery", "list", new, "--json")[0])["comparison"]["threshold"] == 0.7
    (tmp_path / "bare.keras").unlink()
    _, err = call("siamese", "match", new, letters, code=2)
    assert "Say with --model" in err and "nothing is any more" in err
    small_network().save(tmp_path / "moved.keras")  # the same network, elsewhere: enrolling with it is enough
    image = letters / "A" / "DejaVuSans.png"
    call("siamese", "enroll", new, image, "--name", "A", "--add", "--model", tmp_path / "moved.keras", "-q")
    assert call("siamese", "match", new, image, "--top", "1", "-q")[0] == f"{image}: A 1.000\n"


def test_the_bundle_carries_the_gallery_and_recognises_without_tensorflow(
    gallery, bundle_copy, letters, tmp_path
):
    _, err = run_script(bundle_copy, "--match", letters / "A" / "DejaVuSans.png", code=1)
    assert "gallery export GALLERY --to BUNDLE" in err
    out, _ = call("siamese", "gallery", "export", gallery, "--to", bundle_copy)
    assert out == f"Wrote {bundle_copy / 'gallery.sqlite'}\n"
    assert {"gallery.sqlite", "gallery.bin"} == set(load_bundle(bundle_copy).record.carried)
    call("verify", bundle_copy, "-q")
    call("siamese", "gallery", "export", gallery, "--to", bundle_copy, code=2)
    call("siamese", "gallery", "export", gallery, "--to", bundle_copy, "--overwrite")
    call("verify", bundle_copy, "-q")

    images = sorted(letters.rglob("*.png"))
    answers = json.loads(
        call("siamese", "match", gallery, *images, "--model", bundle_copy, "--json", "-q")[0]
    )
    out, _ = run_script(bundle_copy, "--match", *images)
    lines = iter(out.splitlines())
    for answer in answers:
        assert next(lines) == answer["path"]
        for row in answer["candidates"]:
            assert next(lines) == f"  {row['name']} {row['score']:.3f}"
    for script in ("recognise.py", "classify.py"):  # which hands over
        found, _ = run_script(bundle_copy, "--match", images[0], script=script)
        assert found.splitlines()[1] == "  A 1.000"
    out, _ = run_script(bundle_copy, "--match", images[0], "--threshold", "1.1", "--top", "1")
    assert out.splitlines()[1:] == ["  unknown", "  A 1.000"]
    assert "passed" in run_script(bundle_copy, "--self-test")[0]
    assert "__pycache__" not in {path.name for path in bundle_copy.iterdir()}


@pytest.mark.parametrize("places", [(0, 0), (0, 1), (0, 4)])
def test_the_script_verifies_as_the_command_does(small_bundle, letters, places):
    images = [sorted(letters.rglob("*.png"))[place] for place in places]
    expected, _ = call("siamese", "verify", small_bundle, *images, "-q")
    out, _ = run_script(small_bundle, "--verify", *images)
    assert out.splitlines() == [*map(str, images), f"  {expected.strip()}"]


@pytest.mark.nightly
def test_the_script_says_what_is_wrong(gallery, bundle_copy, letters, tmp_path):
    image = letters / "A" / "DejaVuSans.png"
    call("siamese", "gallery", "export", gallery, "--to", bundle_copy, "-q")
    Image.new("RGB", (30, 30), "navy").save(tmp_path / "plain.png")
    assert "one colour" in run_script(bundle_copy, "--match", tmp_path / "plain.png", code=1)[1]
    assert "two images" in run_script(bundle_copy, "--verify", image, code=2)[1]
    carried = bundle_copy / "gallery.sqlite"
    content = carried.read_bytes()
    name = content.index(b"DejaVuSans.png")
    carried.write_bytes(content[:name] + b"X" + content[name + 1 :])
    assert "is damaged" in run_script(bundle_copy, "--match", image, code=1)[1]
    assert (
        "gallery.sqlite is not the file that was exported"
        in run_script(bundle_copy, "--self-test", code=1)[1]
    )
    carried.write_bytes(b"x" * 5000)
    assert "is damaged" in run_script(bundle_copy, "--match", image, code=1)[1]
    others = enrolled_by_another(letters, tmp_path)
    _, err = run_script(bundle_copy, "--gallery", others, "--match", image, code=1)
    assert "of the model other.keras" in err and "letters" in err


def test_a_gallery_of_another_model_is_not_put_into_a_bundle(bundle_copy, letters, tmp_path):
    others = enrolled_by_another(letters, tmp_path)
    before = load_bundle(bundle_copy).info
    _, err = call("siamese", "gallery", "export", others, "--to", bundle_copy, code=1)
    assert "another model" in err
    assert load_bundle(bundle_copy).info == before and not (bundle_copy / "gallery.sqlite").exists()


def test_a_damaged_gallery_is_not_carried(gallery, bundle_copy):
    content = gallery.read_bytes()
    place = content.index(b"DejaVuSans.png")
    gallery.write_bytes(content[:place] + b"X" + content[place + 1 :])
    _, err = call("siamese", "gallery", "export", gallery, "--to", bundle_copy, code=1)
    assert "is damaged" in err and not (bundle_copy / "gallery.sqlite").exists()


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from keras_transfer.cli import main\n"
        "words = ['', 'enroll', 'match', 'verify', 'gallery', 'gallery list', 'gallery remove', 'gallery export']\n"
        "for arguments in words:\n"
        "    sys.argv = ['keras-transfer', 'siamese', *arguments.split(), '--help']\n"
        "    try: main()\n"
        "    except SystemExit as stop: assert not stop.code, (arguments, stop.code)\n"
        "    assert not {'tensorflow', 'keras', 'numpy', 'PIL'} & set(sys.modules), arguments"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.count("Usage:") == 8


def test_the_scripts_comparisons_are_those_of_the_package(small_bundle):
    import importlib.util

    sys.path.insert(0, str(small_bundle))
    try:
        spec = importlib.util.spec_from_file_location("recognise", small_bundle / "recognise.py")
        script = importlib.util.module_from_spec(spec)
        written, sys.dont_write_bytecode = sys.dont_write_bytecode, True
        spec.loader.exec_module(script)
    finally:
        sys.path.remove(str(small_bundle))
        sys.modules.pop("classify", None)
        sys.dont_write_bytecode = written
    from keras_transfer_siamese.comparison import Comparison

    rng = np.random.default_rng(0)
    query, entries = rng.normal(size=8).astype(np.float32), rng.normal(size=(20, 8)).astype(np.float32)
    for rule in (
        Comparison(),
        Comparison("euclidean"),
        Comparison("weighted_l1", weights=rng.random(8, np.float32), bias=0.5),
    ):
        np.testing.assert_allclose(
            script.alike(rule.to_dict(), query, entries), rule.scores(query[None], entries)[0], atol=1e-5
        )
    with pytest.raises(script.Problem, match="not known"):
        script.alike({"kind": "manhattan"}, query, entries)
    with pytest.raises(DataError, match="not known"):
        Comparison("manhattan")
