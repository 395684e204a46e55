"""What other ways of making a photo small do to pixels and answers, each against a bundle's contract.

    python benchmarks/resizing.py [--report docs/results.md] [--page docs/clients.md]

Photos of a camera's size (4000 x 3000, JPEG, quality 95) are enlarged crops of the photographs that come with
scikit-learn and scikit-image. Each way makes 224 x 224 pixels of them, and EfficientNet-Lite0 (ImageNet weights)
says what it sees, in LiteRT. MediaPipe resizes inside and shows no pixels, so only its answers are compared. The ways
of a browser run in headless Chromium, among them the bundle's own JavaScript, which must not differ at all.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import json
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import cv2
import mediapipe
import numpy as np
import skimage.data
import tensorflow as tf
from keras_transfer_tests.browser import Browser
from mediapipe.tasks.python import BaseOptions, vision
from PIL import Image
from reporting import machine, write_section
from sklearn.datasets import load_sample_image

import keras_transfer
from keras_transfer.backbones import class_names, load_classifier
from keras_transfer.export.metadata import describe_model
from keras_transfer.export.strict import for_strict_runtimes
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.preprocessing import Preprocessing

SIZE, WIDTH, HEIGHT = 224, 4000, 3000
HEADING = "Other ways of making a photo small"
MARKS = ("<!-- resizing begins -->", "<!-- resizing ends -->")
CLIENT = Path(keras_transfer.__file__).parent / "export" / "clients" / "javascript" / "preprocess.mjs"
SCIKIT_IMAGE = ("astronaut", "chelsea", "coffee", "rocket")
OWN = "the bundle's JavaScript"
BROWSER = {
    OWN: "apply",
    "canvas `drawImage`": "draw low",
    "canvas `drawImage`, quality high": "draw high",
    "`createImageBitmap`, quality low (default)": "bitmap low",
    "`createImageBitmap`, quality medium": "bitmap medium",
    "`createImageBitmap`, quality high": "bitmap high",
}
MEDIAPIPE = "MediaPipe's own"
SCRIPT = """
import { Preprocessing } from "./preprocess.mjs";
const contract = new Preprocessing(CONTRACT);
const side = contract.width;
function pixels(width, height, draw) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  draw(context);
  return context.getImageData(0, 0, width, height);
}
globalThis.ways = async (name, ways) => {
  const blob = await (await fetch(name)).blob();
  const whole = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  const told = {};
  for (const way of ways) {
    const [kind, quality] = way.split(" ");
    let data;
    if (kind === "apply") {
      const { width, height } = whole;
      data = contract.apply(pixels(width, height, (context) => context.drawImage(whole, 0, 0)));
    } else if (kind === "draw") {
      data = pixels(side, side, (context) => {
        context.imageSmoothingQuality = quality;
        context.drawImage(whole, 0, 0, side, side);
      }).data;
    } else {
      const small = await createImageBitmap(whole, { resizeWidth: side, resizeHeight: side, resizeQuality: quality });
      data = pixels(side, side, (context) => context.drawImage(small, 0, 0)).data;
    }
    const channels = data.length / side / side;
    let text = "";
    for (let i = 0; i < data.length; i += 1) if (i % channels < 3) text += String.fromCharCode(data[i]);
    told[way] = btoa(text);
  }
  return told;
};
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--crops", type=int, default=3, help="of each photograph")
    parser.add_argument("--report", type=Path)
    parser.add_argument("--page", type=Path, help="with the marks between which the table goes")
    options = parser.parse_args()
    contract = Preprocessing((SIZE, SIZE))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [write(folder, number, photo) for number, photo in enumerate(photos(options.crops))]
        model = network(folder / "model.tflite")
        pixels = {way: [] for way in BROWSER}
        chromium = Browser()
        try:
            browser = chromium.call("Browser.getVersion")["product"]
            for found in in_browser(chromium, folder, contract, files):
                for way, made in found.items():
                    pixels[way].append(made)
        finally:
            chromium.close()
        expected, in_mediapipe = [], []
        task = vision.ImageClassifier.create_from_options(
            vision.ImageClassifierOptions(
                base_options=BaseOptions(model_asset_path=str(folder / "model.tflite"))
            )
        )
        for file in files:
            whole = np.asarray(Image.open(folder / file))
            expected.append(contract.apply(whole))
            for way, made in in_python(whole).items():
                pixels.setdefault(way, []).append(made)
            in_mediapipe.append(mediapipe_answer(task, whole))
        reference = answers(model, expected)
        rows = [row(way, expected, made, reference, answers(model, made)) for way, made in pixels.items()]
        rows.append(row(MEDIAPIPE, None, None, reference, np.stack(in_mediapipe)))
    head = [
        "| way | mean difference | largest | other top-1 | probability moves by, mean | largest |",
        "|---|---|---|---|---|---|",
    ]
    table = "\n".join([*head, *rows])
    print(table)
    text = (
        "    python benchmarks/resizing.py --report docs/results.md --page docs/clients.md\n\n"
        f"{len(files)} photos of {WIDTH} x {HEIGHT} pixels to {SIZE} x {SIZE}, against the contract (bilinear, "
        "antialiased, whole): pixels of\n255, EfficientNet-Lite0 (ImageNet) in LiteRT, the largest change of any of "
        f"its 1,000 probabilities.\n{machine()}, {browser},\nOpenCV {cv2.__version__}, "
        f"MediaPipe {mediapipe.__version__}.\n\n{table}"
    )
    if options.report is not None:
        write_section(options.report, HEADING, text)
    if options.page is not None:
        put_between(options.page, table)


def photos(crops: int) -> Iterator[np.ndarray]:
    """Crops of real photographs, enlarged to a camera's size, with a little noise: uint8 ``(HEIGHT, WIDTH, 3)``."""
    rng = np.random.default_rng(0)
    sources = [load_sample_image(f"{name}.jpg") for name in ("china", "flower")]
    sources += [getattr(skimage.data, name)() for name in SCIKIT_IMAGE]
    for source in sources:
        picture = Image.fromarray(source)
        for _ in range(crops):
            width = min(picture.width, picture.height * WIDTH / HEIGHT) * rng.uniform(0.6, 1.0)
            height = width * HEIGHT / WIDTH
            left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
            box = (left, top, left + width, top + height)
            large = np.asarray(picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS, box=box), np.float32)
            noise = rng.normal(0, 2, (HEIGHT, WIDTH, 1)).astype(np.float32)
            yield np.rint(large + noise).clip(0, 255).astype(np.uint8)


def write(folder: Path, number: int, photo: np.ndarray) -> str:
    name = f"{number:02d}.jpg"
    Image.fromarray(photo).save(folder / name, quality=95)
    return name


def network(path: Path) -> LiteRTModel:
    """EfficientNet-Lite0 for ImageNet, with metadata for MediaPipe."""
    model = load_classifier("efficientnet_lite0", image_size=SIZE)
    content = for_strict_runtimes(convert(model))
    told = {"size": (SIZE, SIZE), "name": "Lite0", "description": "ImageNet"}
    path.write_bytes(describe_model(content, class_names(), **told))
    return LiteRTModel(path)


def answers(model: LiteRTModel, pixels: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([model.predict(one[np.newaxis]) for one in pixels])


def in_python(whole: np.ndarray) -> dict[str, np.ndarray]:
    """The ways of TensorFlow and OpenCV: uint8 ``(SIZE, SIZE, 3)``."""

    def tensorflow(antialias: bool) -> np.ndarray:
        made = tf.image.resize(whole, (SIZE, SIZE), antialias=antialias)
        return np.rint(made).clip(0, 255).astype(np.uint8)

    return {
        "`tf.image.resize`": tensorflow(False),
        "`tf.image.resize`, antialias": tensorflow(True),
        "OpenCV `INTER_LINEAR`": cv2.resize(whole, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR),
        "OpenCV `INTER_AREA`": cv2.resize(whole, (SIZE, SIZE), interpolation=cv2.INTER_AREA),
    }


def in_browser(
    browser: Browser, folder: Path, contract: Preprocessing, files: list[str]
) -> Iterator[dict[str, np.ndarray]]:
    """The ways of a browser, photo by photo."""
    shutil.copyfile(CLIENT, folder / "preprocess.mjs")
    (folder / "ways.mjs").write_text(SCRIPT.replace("CONTRACT", json.dumps(contract.to_dict())))
    (folder / "index.html").write_text('<script type="module" src="ways.mjs"></script>')
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, browser.page() as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.open(f"http://127.0.0.1:{server.server_port}/", "globalThis.ways !== undefined")
        for file in files:
            found = page.value(f"ways({json.dumps(file)}, {json.dumps(list(BROWSER.values()))})")
            raw = {way: base64.b64decode(found[key]) for way, key in BROWSER.items()}
            yield {way: np.frombuffer(one, np.uint8).reshape(SIZE, SIZE, 3) for way, one in raw.items()}
        server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Nothing."""


def mediapipe_answer(task: vision.ImageClassifier, whole: np.ndarray) -> np.ndarray:
    """Probabilities in the order of the classes."""
    (found,) = task.classify(mediapipe.Image(mediapipe.ImageFormat.SRGB, whole)).classifications
    probabilities = np.zeros(len(class_names()), np.float32)
    for category in found.categories:
        probabilities[category.index] = category.score
    return probabilities


def row(
    way: str,
    expected: list[np.ndarray] | None,
    made: list[np.ndarray] | None,
    reference: np.ndarray,
    given: np.ndarray,
) -> str:
    """A line of the table; without pixels where there are none to see."""
    seen = ["-", "-"]
    if expected is not None and made is not None:
        difference = np.abs(np.stack(expected).astype(np.int16) - np.stack(made))
        seen = [f"{difference.mean():.2f}", str(difference.max())]
    moved = np.abs(reference - given).max(axis=1)
    other = int((reference.argmax(axis=1) != given.argmax(axis=1)).sum())
    cells = [way, *seen, f"{other} of {len(reference)}", f"{moved.mean():.3f}", f"{moved.max():.3f}"]
    return f"| {' | '.join(cells)} |"


def put_between(page: Path, table: str) -> None:
    text = page.read_text(encoding="utf-8")
    begin, end = MARKS
    made, count = re.subn(f"{begin}.*?{end}", lambda _: f"{begin}\n{table}\n{end}", text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit(f"{page} has no place for the table: {begin} and {end}.")
    page.write_text(made, encoding="utf-8")


if __name__ == "__main__":
    main()
