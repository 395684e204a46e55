"""``clients/`` in a bundle: what it carries, and its self-tests."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import helpers_clients
import pytest
from helpers_clients import GXX, SOURCES, missing
from helpers_export import small_network
from PIL import Image

from keras_transfer.data import load_data
from keras_transfer.errors import UsageError
from keras_transfer.export import export_model, load_bundle
from keras_transfer.export.clients import CONTRACT
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ExportOptions
from keras_transfer.workflow.verify import verify

pytestmark = pytest.mark.slow


def self_test(language, folder, bundle):
    """Its exit code, and what it says. ``folder``: what was compiled, or where to compile to."""
    client = bundle / "clients" / language
    if language == "cpp" and not (folder / "selftest").exists():
        helpers_clients.run([*GXX, str(client / "selftest.cc"), "-o", str(folder / "selftest")])
    command = {
        "javascript": ["node", str(client / "selftest.mjs")],
        "java": [*helpers_clients.java(folder), "SelfTest", str(bundle)],
        "cpp": [str(folder / "selftest"), str(bundle)],
    }
    done = subprocess.run(command[language], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout + done.stderr


def test_the_self_test_of_a_bundle(language, built, bundle_copy):
    code, told = self_test(language, built[0], bundle_copy)
    images = load_bundle(bundle_copy).golden()["images"]
    assert code == 0 and told.count("pixels identical") == len(images) and told.endswith("passed\n"), told
    first, second = (bundle_copy / images[place]["input"] for place in (0, 1))
    shutil.copyfile(first, second)
    code, told = self_test(language, built[0], bundle_copy)
    assert code == 1 and "bytes differ" in told and told.endswith("FAILED\n"), told


@pytest.fixture(scope="session")
def camera_bundle(photos, shared):
    """A bundle whose photos are so large that they are decoded at a part of their size."""

    def make(folder):
        for name, photo in photos.items():
            (folder / "photos" / name).mkdir(parents=True)
            large = Image.fromarray(photo).resize((1641, 1231), Image.Resampling.BICUBIC)
            for number in range(5):
                large.rotate(number).save(folder / "photos" / name / f"{number}.jpg")
        export_model(
            small_network(),
            folder / "edge",
            formats=("tflite",),
            table=load_data(folder / "photos", val_fraction=0.0, test_fraction=0.8, min_per_class=1),
            preprocessing=Preprocessing((96, 96)),
            allow_parity_failure=True,
        )

    return shared("camera_bundle", make) / "edge"


def test_a_jpeg_that_is_decoded_at_a_part_of_its_size_is_replayed(language, built, camera_bundle, tmp_path):
    """Its pixels are there as the reference decoded them; what is not proven, the decoder, is counted."""
    golden = load_bundle(camera_bundle).golden()["images"]
    (row,) = (row for row in golden if "decoded" in row)
    own = tmp_path if language == "cpp" else built[0]
    code, told = self_test(language, own, camera_bundle)
    assert code == 0 and told.count("pixels identical") == len(golden), told
    assert f"{row['decoded']}: pixels identical" in told and f"{row['image']}: left out" in told
    assert told.endswith("passed; left out: 1\n"), told
    sizes = (camera_bundle / row["decoded"]).stat().st_size, (camera_bundle / row["image"]).stat().st_size
    assert sizes[0] < 300_000 and row["scale"] in (2, 4, 8), sizes
    # Another picture in its place, and a picture decoded at another part, turn it red.
    copy = Path(shutil.copytree(camera_bundle, tmp_path / "copy"))
    with Image.open(copy / row["decoded"]) as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(copy / row["decoded"])
    code, told = self_test(language, own, copy)
    assert code == 1 and "FAILED; left out: 1" in told, told


@pytest.mark.parametrize("language", ["javascript", "java"], indirect=True)
def test_another_label_turns_the_self_test_red(language, built, bundle_copy):
    """In C++ they are compiled in."""
    info = json.loads((bundle_copy / "bundle.json").read_text())
    info["labels"] = info["labels"][::-1]
    (bundle_copy / "bundle.json").write_text(json.dumps(info))
    code, told = self_test(language, built[0], bundle_copy)
    assert code == 1 and "labels" in told and "WRONG" in told, told


def test_answers_are_replayed_where_a_runner_is_given(small_bundle, tmp_path):
    if missing("javascript"):
        pytest.skip(missing("javascript"))
    golden = json.loads((small_bundle / "golden" / "golden.json").read_text())
    (tmp_path / "run.mjs").write_text(
        f"""
        import {{ readFile }} from "node:fs/promises";
        import {{ selfTest }} from {json.dumps((small_bundle / "clients/javascript/selftest.mjs").as_uri())};
        const read = async (name) => new Uint8Array(await readFile({json.dumps(str(small_bundle))} + "/" + name));
        const expected = {json.dumps(golden["expected"])};
        for (const wrong of [0, 0.2, NaN]) {{
          let asked = 0;
          const next = (rows) => rows[asked++ % rows.length];
          const run = async (file) => next(expected[file]).map((x, i) => x + (i ? wrong : 0));
          console.log((await selfTest(read, {{ run }})).filter((row) => !row.passed).map((row) => row.what).join());
        }}
        """
    )
    done = subprocess.run(["node", str(tmp_path / "run.mjs")], capture_output=True, text=True, timeout=60)
    files = ",".join(
        golden["expected"][file] and file for file in golden["expected"] if file.endswith(".tflite")
    )
    assert done.stdout.split("\n") == ["", files, files, ""], done.stdout + done.stderr


def test_a_bundle_carries_and_proves_them(small_bundle, bundle_copy):
    listed = load_bundle(small_bundle).record.files
    names = {name.removeprefix("clients/") for name in listed if name.startswith("clients/")}
    assert names == {
        "javascript/preprocess.mjs", "javascript/decide.mjs", "javascript/selftest.mjs",
        "javascript/gallery.mjs",
        "java/Preprocess.java", "java/Bundle.java", "java/SelfTest.java", "java/Gallery.java",
        "cpp/preprocess.hpp", "cpp/decide.hpp", "cpp/gallery.hpp", "cpp/selftest.cc", "cpp/contract.hpp",
        "web/index.html", "web/page.css", "web/page.mjs", "web/answers.mjs", "web/model.mjs", "web/photo.mjs",
        "web/proof.mjs",
    }  # fmt: skip
    for name in names - {f"cpp/{CONTRACT}"}:
        assert (small_bundle / "clients" / name).read_bytes() == (SOURCES / name).read_bytes()
    changed = bundle_copy / "clients" / "cpp" / "contract.hpp"
    changed.write_text(changed.read_text().replace("bilinear", "bicubic"))
    with pytest.raises(Exception, match=r"clients/cpp/contract\.hpp"):
        verify(bundle_copy)


def test_the_examples_of_the_page_are_programs(small_bundle, tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", page, re.DOTALL))
    (tmp_path / "page.mjs").write_text(blocks["js"])
    (tmp_path / "page.cc").write_text(blocks["cpp"])
    if not missing("javascript"):
        helpers_clients.run(["node", "--check", str(tmp_path / "page.mjs")])
        for name in re.findall(r'from "./(.*?)"', blocks["js"]):
            assert (small_bundle / name).is_file()
    if not missing("cpp"):
        helpers_clients.run([*GXX, "-I", str(small_bundle), "-fsyntax-only", str(tmp_path / "page.cc")])


def test_which_languages_is_an_option():
    assert ExportOptions().clients == ("javascript", "java", "cpp", "web")
    assert (
        ExportOptions.of(clients=["cpp"]).clients == ("cpp",) and ExportOptions.of(clients=()).clients == ()
    )
    with pytest.raises(UsageError, match="javascript"):
        ExportOptions.of(clients=["javascrpt"])
