"""The page of a bundle in a real browser: its answers, its proof, and what it says of bad input."""

import functools
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from helpers_tasks import SIZE, TASKS, write
from keras_transfer_tests.browser import Browser, chromium
from PIL import Image

from keras_transfer.export import clients, export_model, load_bundle
from keras_transfer.litert import LiteRTModel
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.workflow.serve import addresses, serve

pytestmark = pytest.mark.slow
MODULES = Path(sys.prefix) / "node" / "node_modules"
FILES = ("model.tflite", "model_float16.tflite", "model_dynamic.tflite", "model_int8.tflite")
MODEL = "0123456789abcdef" * 4
READY = "document.body?.dataset.ready === ''"
ROWS = (
    "[...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent))"
)
PROBLEM = "document.querySelector('#problem').textContent"


@pytest.fixture(scope="module")
def browser():
    missing = None if chromium() else "Chromium is not installed"
    if not (MODULES / "@litertjs" / "core").is_dir():
        missing = f"LiteRT.js is not in {MODULES} (make .venv/.node puts it there)"
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"{missing}, and CI must not leave these tests out")
    if missing:
        pytest.skip(missing)
    found = Browser()
    yield found
    found.close()


@pytest.fixture(scope="module")
def bundle(shared, trained, table, preprocessing):
    """The small network, trained, in four precisions. Read-only: tests change a copy."""

    def make(folder):
        export_model(
            trained,
            folder / "edge",
            formats=("keras", "tflite"),
            precisions=("float32", "float16", "dynamic", "int8"),
            table=table,
            preprocessing=preprocessing,
            classes=table.classes,
            calibration_size=10,
            allow_parity_failure=True,
        )

    return shared("page_bundle", make) / "edge"


@pytest.fixture
def copied(bundle, tmp_path):
    return Path(shutil.copytree(bundle, tmp_path / "edge"))


@pytest.fixture
def served():
    """``served(bundle)``: the page's address."""
    running = []

    def start(folder):
        server = serve(folder, port=0, litertjs=MODULES)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append(server)
        return addresses(server)[0]

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def static():
    """``static(folder)``: its address on a server that knows nothing of us."""
    running = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def start(folder):
        handler = functools.partial(Handler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}/clients/web/"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def change(folder, **values):
    """Other fields in a bundle's ``bundle.json``."""
    info = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    (folder / "bundle.json").write_text(json.dumps({**info, **values}), encoding="utf-8")


def proof(page):
    """The rows of the table, after the button was pressed."""
    page.value("document.querySelector('#prove').click()")
    page.wait(f"document.querySelector('#verdict').textContent || {PROBLEM}")
    return page.value("document.querySelector('#verdict').textContent"), page.value(ROWS)


def look(page, *files):
    """What the model answered to photos, the last one first, and the names of their best classes."""
    before = page.value("document.querySelectorAll('article').length")
    page.give("#photos", *files)
    page.wait(f"document.querySelectorAll('article').length === {before + len(files)} || {PROBLEM}")
    assert page.value(PROBLEM) == ""
    return answers(page)


def answers(page):
    told = page.value(
        "[...document.querySelectorAll('[data-numbers]')].map((one) => [one.dataset.numbers, "
        "one.querySelector('.best .name')?.textContent])"
    )
    return [np.array(numbers.split(), np.float64) for numbers, _ in told], [name for _, name in told]


def test_the_page_brings_the_modules_it_uses(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"")
    clients.write(tmp_path, ["web"], {})
    places = [path for path in (tmp_path / "clients" / "web").iterdir() if path.suffix == ".mjs"]
    used = {
        place.parent / name for place in places for name in re.findall(r'from "(\..*?)"', place.read_text())
    }
    assert len(places) == 5 and len(used) >= 8 and all(path.resolve().is_file() for path in used)
    assert sorted(path.name for path in (tmp_path / "clients").iterdir()) == ["javascript", "web"]


def test_the_golden_images_are_green_and_nothing_leaves(browser, bundle, served):
    address = served(bundle)
    with browser.page(width=1000) as page:
        page.open(address, READY)
        assert page.value("crossOriginIsolated")
        verdict, rows = proof(page)
        assert verdict.startswith("Passed: all "), rows
        assert {state for _, state, _ in rows} == {"✓ passed"}
        told = {what: found for what, _, found in rows}
        assert all("largest difference" in told[file] and told[f"{file}, the file"] for file in FILES)
        images = [row["image"] for row in load_bundle(bundle).golden()["images"]]
        assert {told[image] for image in images} == {"pixels identical"}
        origin = address.removesuffix("/clients/web/")
        asked = page.requests()
        assert len(asked) > 20 and not [
            one for one in asked if not one.startswith((f"{origin}/", "data:,", "blob:"))
        ]
        assert page.cookies() == [] and page.value("document.cookie") == ""
        assert page.value("localStorage.length + sessionStorage.length") == 0
        assert page.complaints() == []
        seen = np.asarray(Image.open(io.BytesIO(page.picture())).convert("L"))
        assert len(np.unique(seen)) > 20 and seen.std() > 5


def test_a_photo_gives_what_predict_gives(browser, bundle, served, photos, tmp_path):
    files = [tmp_path / "flower.png", tmp_path / "china.jpg"]
    Image.fromarray(photos["flower"]).save(files[0])
    Image.fromarray(photos["china"][100:350, 200:500]).save(files[1], quality=95)
    reference = load_bundle(bundle)
    with browser.page() as page:
        page.open(served(bundle), READY)
        found = look(page, *files)
        for file in FILES:
            if file != FILES[0]:
                page.value(f"document.querySelector('#file').value = '{file}'")
                page.value("document.querySelector('#file').dispatchEvent(new Event('change'))")
                page.wait(
                    "[...document.querySelectorAll('article > .hint')]"
                    f".every((one) => one.textContent.endsWith(' {file}'))"
                )
                found = answers(page)
            wanted = reference.predict(files[::-1], file)
            assert np.ptp(wanted, axis=0).max() > 0.1
            np.testing.assert_allclose(found[0], wanted, atol=1e-3)
            assert found[1] == [reference.labels[best] for best in wanted.argmax(axis=1)]
        assert page.value("document.querySelector('canvas.pixels').width") == 96


def test_a_file_of_another_input_range_gets_its_numbers(browser, copied, served, photos, tmp_path):
    Image.fromarray(photos["china"]).save(tmp_path / "china.png")
    reference = load_bundle(copied)
    pixels = reference.preprocessing.apply(photos["china"]).astype(np.float32)
    change(copied, artefacts=[{**one, "input_range": [-1, 1]} for one in reference.info["artefacts"]])
    with browser.page() as page:
        page.open(served(copied), READY)
        found, _ = look(page, tmp_path / "china.png")
    wanted = LiteRTModel(copied / "model.tflite").predict(pixels[np.newaxis] / 127.5 - 1)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_another_label_another_weight_and_another_file_are_red(browser, copied, served, trained):
    content = (copied / "model.tflite").read_bytes()
    weights = trained.get_weights()[-2].T.astype("<f4").tobytes()
    assert content.count(weights) == 1
    (copied / "model.tflite").write_bytes(content.replace(weights, bytes(len(weights))))
    address = served(copied)
    with browser.page() as page:
        page.open(address, READY)
        verdict, rows = proof(page)
        wrong = [what for what, state, _ in rows if state == "✗ FAILED"]
        assert verdict.startswith("FAILED: 2 of") and wrong == ["model.tflite, the file", "model.tflite"]
        change(copied, labels=labels_of(copied)[::-1])
        page.open("about:blank", "true")
        page.open(address, READY)
        _, rows = proof(page)
        assert "labels" in [what for what, state, _ in rows if state == "✗ FAILED"]
        assert (
            page.value("getComputedStyle(document.querySelector('.failed')).backgroundColor")
            != "rgba(0, 0, 0, 0)"
        )


def labels_of(folder):
    return json.loads((folder / "bundle.json").read_text(encoding="utf-8"))["labels"]


def test_any_server_will_do(browser, copied, static):
    """Without its headers there are no threads; without LiteRT.js beside it the page says what to do."""
    address = static(copied)
    with browser.page() as page:
        page.open(address, READY)
        assert f"LiteRT.js is not at {address}litertjs/" in page.value(PROBLEM)
        (copied / "clients" / "web" / "litertjs").symlink_to(MODULES / "@litertjs")
        page.call("Page.reload", ignoreCache=True)
        page.wait(f"{READY} && !{PROBLEM}")
        assert not page.value("crossOriginIsolated")
        assert proof(page)[0].startswith("Passed")
        change(copied, schema=2)
        page.call("Page.reload", ignoreCache=True)
        page.wait(f"{READY} && {PROBLEM}")
        assert "schema 2" in page.value(PROBLEM) and page.value("document.querySelector('#ask').hidden")


def test_a_golden_photo_goes_through_the_browsers_decoder(browser, copied, served, photos):
    """It decodes a JPEG whole, the reference at half its size: near it, and nearer than any other way of resizing."""
    golden = json.loads((copied / "golden" / "golden.json").read_text(encoding="utf-8"))
    names = {"image": "golden/90_image.jpg", "input": "golden/90_input.png"}
    Image.fromarray(photos["china"]).save(copied / names["image"], quality=90)
    pixels = load_bundle(copied).preprocessing.load(copied / names["image"])
    nearest = Preprocessing((96, 96), interpolation="nearest").load(copied / names["image"])
    decoded = np.asarray(Image.open(copied / names["image"]))
    Image.fromarray(decoded).save(copied / "golden" / "90_decoded.png")
    told = {"decoded": "golden/90_decoded.png", "scale": 1, "size": decoded.shape[:2]}
    golden["images"].append(names | told)
    for rows in golden["expected"].values():
        rows.append(rows[0])
    (copied / "golden" / "golden.json").write_text(json.dumps(golden))
    listed = json.loads((copied / "bundle.json").read_text(encoding="utf-8"))["files"]
    change(
        copied,
        files=listed | {name: {"bytes": 0, "sha256": ""} for name in (*names.values(), told["decoded"])},
    )
    with browser.page() as page:
        for expected, state in ((pixels, "✓ passed"), (nearest, "✗ FAILED")):
            Image.fromarray(expected).save(copied / names["input"])
            page.open("about:blank", "true")
            page.open(served(copied), READY)
            (found,) = [row[1:] for row in proof(page)[1] if row[0] == names["image"]]
            assert found[0] == state and "decoded by this browser" in found[1], found


def test_bad_input_is_one_sentence(browser, copied, served, tmp_path):
    texts = [tmp_path / "text.jpg", tmp_path / "empty.png"]
    texts[0].write_text("no image")
    texts[1].write_bytes(b"")
    address = served(copied)
    with browser.page() as page:
        page.open(address, READY)
        for text in texts:
            page.give("#photos", text)
            page.wait(f"{PROBLEM}.startsWith('{text.name} is no image that this browser can read')")
        Image.new("RGB", (20, 10), (200, 30, 30)).save(tmp_path / "red.png")
        look(page, tmp_path / "red.png")  # and it goes on
        page.browser.call(
            "Browser.setPermission",
            permission={"name": "camera"},
            setting="denied",
            browserContextId=page.context,
        )
        page.value("document.querySelector('#camera').click()")
        page.wait(f"{PROBLEM}.startsWith('The camera was refused.')")
        page.browser.call(
            "Browser.grantPermissions", permissions=["videoCapture"], browserContextId=page.context
        )
        page.value("document.querySelector('#camera').click()")
        page.wait("document.activeElement.id === 'shoot'")
        page.value("document.activeElement.click()")
        page.wait("document.querySelector('article h3').textContent === 'Picture 1'")
        page.value("document.querySelector('#stop').click()")
        assert page.value(
            "document.querySelector('#viewfinder').hidden && !document.querySelector('video').srcObject"
        )
    with browser.page(before="WebAssembly.validate = () => false") as page:
        page.open(address, READY)
        assert page.value(PROBLEM).startswith("This browser has no WebAssembly with SIMD")
    with browser.page(before="navigator.mediaDevices.getUserMedia = undefined") as page:
        page.open(address, READY)
        page.value("document.querySelector('#camera').click()")
        page.wait(f"{PROBLEM}.includes('https or localhost')")
    info = json.loads((copied / "bundle.json").read_text(encoding="utf-8"))
    change(copied, artefacts=[{**one, "bytes": 10**9} for one in info["artefacts"]])
    with browser.page() as page:
        page.open(address, READY)
        assert page.value(PROBLEM).startswith("model.tflite has 1000.0 MB; this page loads up to 400.0 MB")


def test_the_keyboard_reaches_everything_and_nothing_is_without_a_name(
    browser, bundle, served, photos, tmp_path
):
    Image.fromarray(photos["china"]).save(tmp_path / "china.png")
    with browser.page(width=360, mobile=True) as page:
        page.open(served(bundle), READY)
        look(page, tmp_path / "china.png")
        proof(page)
        visited = []
        for _ in range(5):
            for kind in ("keyDown", "keyUp"):
                page.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
            visited.append(page.value("document.activeElement.id"))
        assert visited[visited.index("file") :][:3] == ["file", "photos", "camera"] and "prove" in visited
        assert page.value("document.documentElement.scrollWidth <= innerWidth"), (
            "the page is wider than a phone"
        )
        tree = page.call("Accessibility.getFullAXTree")["nodes"]
        named = {"button", "image", "img", "combobox", "slider", "region", "table", "heading"}
        shown = [one for one in tree if not one.get("ignored") and one.get("role", {}).get("value") in named]
        nameless = [one["role"]["value"] for one in shown if not one.get("name", {}).get("value")]
        assert len(shown) > 8 and [role for role in nameless if role != "table"] == []


def other_task(folder, table, task, notes, training):
    """Make a copied bundle one of another task, with one file."""
    _, kind, names = TASKS[task]
    write(table, task, "float32", folder / "model.tflite")
    info = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    shape = list(LiteRTModel(folder / "model.tflite").outputs[0].shape[1:])
    change(
        folder,
        task=task,
        notes=notes,
        labels=list(names),
        training=training,
        output={**info["output"], "kind": kind, "shape": shape},
        preprocessing={**info["preprocessing"], "size": [SIZE, SIZE]},
        artefacts=[one for one in info["artefacts"] if one["file"] == "model.tflite"],
    )


def test_a_mask_lies_over_the_photo(browser, copied, served, table, photos, tmp_path):
    other_task(copied, table, "segmentation", {"classes": {"ignore_index": 255}}, {})
    Image.fromarray(photos["china"]).save(tmp_path / "china.png")
    with browser.page() as page:
        page.open(served(copied), READY)
        look(page, tmp_path / "china.png")
        pixels = Preprocessing((SIZE, SIZE)).apply(photos["china"])
        best = LiteRTModel(copied / "model.tflite").predict(pixels[None])[0].argmax(axis=-1)
        shares = np.bincount(best.ravel(), minlength=2) / best.size
        told = page.value("[...document.querySelectorAll('article ol li')].map((row) => row.textContent)")
        assert told[0].startswith("ab"[shares.argmax()])
        assert float(told[0][1:].split()[0]) == pytest.approx(100 * shares.max(), abs=3)
        layers = page.value(
            "[...document.querySelectorAll('.stack canvas')].map((one) => [one.width, one.height])"
        )
        assert layers == [[480, 320], [480, 320]]
        assert page.value("document.querySelectorAll('.stack canvas')[1].style.opacity") == "0.5"


def gallery(comparison, rows):
    """``gallery.bin`` as a bundle carries it: names and embeddings, of the model ``MODEL``."""
    from keras_transfer_siamese.exporting import as_bytes
    from keras_transfer_siamese.gallery import Binding, Entries
    from keras_transfer_siamese.identity import Identity

    names, embeddings = zip(*rows, strict=True)
    files, hashes = ("a.png",) * len(rows), tuple(f"{number:064x}" for number in range(len(rows)))
    model = Identity(MODEL, "net", "float32", MODEL)
    binding = Binding(model, Preprocessing((SIZE, SIZE)), comparison, len(embeddings[0]))
    return as_bytes(binding, Entries(names, files, hashes, ("2026-01-01",) * len(rows), np.stack(embeddings)))


def test_embeddings_are_compared_with_the_gallery_or_with_one_another(
    browser, copied, served, table, photos, tmp_path
):
    pytest.importorskip("keras_transfer_siamese")
    from keras_transfer_siamese.comparison import Comparison

    comparison = Comparison(kind="cosine", threshold=0.999)
    other_task(copied, table, "siamese", {"comparison": comparison.to_dict()}, {"model": MODEL})
    files = []
    for name, photo in photos.items():
        files.append(tmp_path / f"{name}.png")
        Image.fromarray(photo).save(files[-1])
    with browser.page() as page:
        page.open(served(copied), READY)
        assert "carries no gallery" in page.text()
        found, _ = look(page, files[0], files[0], files[1])
        told = page.value("document.querySelector('article').textContent")
        alike = float(found[0] @ found[1] / np.linalg.norm(found[0]) / np.linalg.norm(found[1]))
        assert f"{alike:.3f}" in told and "china.png" in told
        assert "the same1.000" in page.value("document.querySelectorAll('article')[1].textContent")
    content = gallery(comparison, [("Käthe", found[1]), ("dahlia", found[0])])
    (copied / "gallery.bin").write_bytes(content)
    info = json.loads((copied / "bundle.json").read_text(encoding="utf-8"))
    listed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change(copied, files={**info["files"], "gallery.bin": listed})
    with browser.page() as page:
        page.open(served(copied), READY)
        look(page, files[0])
        assert page.value("document.querySelector('article .best').textContent") == "Käthe"
        scores = page.value("[...document.querySelectorAll('article .number')].map((one) => one.textContent)")
        assert scores == ["1.000", f"{alike:.3f}"]
    (copied / "gallery.bin").write_bytes(content[:-4])
    with browser.page() as page:
        page.open(served(copied), READY)
        assert page.value(PROBLEM).startswith("The gallery is damaged")
