"""docs/troubles.md: every sentence is what the program says when that happens."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from keras_transfer_segmentation.pairs import load_pairs
from keras_transfer_tests.records import run_record
from PIL import Image

from keras_transfer.data import load_data
from keras_transfer.errors import KerasTransferError
from keras_transfer.evaluation.probabilities import require_probabilities
from keras_transfer.export.parity import Judge, breaches, doubts, measure_parity, tolerance_for
from keras_transfer.outputs import Outputs
from keras_transfer.run import new_run

TEXT = (Path(__file__).parents[1] / "docs" / "troubles.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip(): cells[1].strip().strip("`").replace("\\|", "|")
    for cells in (re.split(r"(?<!\\)\|", line)[1:-1] for line in TEXT.splitlines() if line.startswith("| "))
    if cells[0].strip() != "what happened"
}


def copies(source, target, **folders):
    """Class folders of real crops: ``copies(photos, here, cat="china", dog="flower")``."""
    for name, label in folders.items():
        shutil.copytree(source / label, target / name.replace("__", "/"))
    return target


def foreign_file(photos, tmp):
    (tmp / "plot.png").write_bytes(b"theirs")
    Outputs().check(tmp / "plot.png")


def file_that_is_read(photos, tmp):
    photo = next(photos.rglob("*.png"))
    Outputs([photo], overwrite=True).check(photo)


def run_with_notes(photos, tmp):
    for overwrite in (False, True):
        with new_run(tmp / "run", {}, overwrite=overwrite) as writer:
            (writer.path / "model.keras").write_bytes(b"model")
            writer.write_record(run_record())
        (tmp / "run" / "notes.txt").write_text("mine")


def same_folders(photos, tmp):
    load_data(copies(photos, tmp, old__cat="china", old__dog="flower", new__cat="china", new__dog="flower"))


def one_split_folder(photos, tmp):
    load_data(copies(photos, tmp, train__cat="china", train__dog="flower", extra="china"))


def other_formats(photos, tmp, share=1.0):
    copies(photos, tmp, cat="china", dog="flower")
    for i in range(6):
        (tmp / "cat" / f"{i}.dng").write_bytes(b"photo")
    load_data(tmp, max_skipped=share)


def photos_of_an_iphone(photos, tmp):
    copies(photos, tmp, cat="china", dog="flower")
    for i in range(6):
        (tmp / "cat" / f"{i}.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "pillow_heif", None)  # as if it were not installed
        load_data(tmp)


def too_many(photos, tmp):
    other_formats(photos, tmp, 0.05)


def joined_labels(photos, tmp):
    files = sorted(photos.rglob("*.png"))
    labels = ["cat", "cat|dark", "dog", "dog|dark", "cat|dark|small"] * 8
    rows = [f"{file.relative_to(photos)},{label}" for file, label in zip(files, labels, strict=True)]
    (tmp / "labels.csv").write_text("\n".join(["path,label", *rows]))
    load_data(tmp / "labels.csv", label_mode="multilabel", image_root=photos)


def two_labels(photos, tmp):
    copies(photos, tmp, cat="china", dog="flower")
    shutil.copy(next((tmp / "cat").iterdir()), tmp / "dog" / "copy.png")
    load_data(tmp)


def twelve_bits(photos, tmp):
    for name in ("cat", "dog"):
        (tmp / name).mkdir()
        for i in range(4):
            pixels = np.random.default_rng((i, len(name))).integers(0, 4096, (8, 8)).astype(np.uint16)
            Image.fromarray(pixels).save(tmp / name / f"{i}{name}.png")
    load_data(tmp)


def pairs(tmp, mask, **exif):
    for part in ("images", "masks"):
        (tmp / part).mkdir()
    for i in range(4):
        image = np.random.default_rng(i).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(image).save(tmp / "images" / f"{i}.png", **exif)
        Image.fromarray(mask).save(tmp / "masks" / f"{i}.png")
    load_pairs(tmp)


def grey_masks(photos, tmp):
    pairs(tmp, np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8))


def turned_photos(photos, tmp):
    exif = Image.Exif()
    exif[0x0112] = 3
    pairs(tmp, np.eye(64, dtype=np.uint8), exif=exif)


def logits(photos, tmp):
    require_probabilities(np.array([[4.0, -3.0]]), "model.keras", exclusive=True)


JUDGE = Judge(
    ("a", "b"),
    measure=lambda answers, table: {"accuracy": float((answers.argmax(axis=1) == table.labels).mean())},
)


def answers_of(photos, wrong, classes):
    table = load_data(photos)
    table = table.take(np.tile(np.flatnonzero(table.labels == 0), 3)[:57])
    reference = np.tile(np.array([[0.9, 0.1]], np.float32), (len(table), 1))
    candidate = reference.copy()
    candidate[:wrong] = candidate[:wrong, ::-1]
    parity = measure_parity(reference, candidate, JUDGE, table)
    return parity, tolerance_for("int8", JUDGE, reference)


def small_test_set(photos, tmp):
    (told,) = doubts(*answers_of(photos, 1, 2), JUDGE)
    logging.getLogger("keras_transfer").warning("%s", told)


def other_decisions(photos, tmp):
    logging.getLogger("keras_transfer").warning("%s", breaches(*answers_of(photos, 30, 2), JUDGE)[0])


PROVOKED = {
    "The output path is a file that this tool did not write.": foreign_file,
    "An output would replace what the command reads.": file_that_is_read,
    "A run is to be replaced, and the user has put files into its folder.": run_with_notes,
    "Every folder has the same folders inside.": same_folders,
    "One split folder beside others.": one_split_folder,
    "Photos of a format that is not read.": other_formats,
    "Photos of an iPhone, and nothing that reads them.": photos_of_an_iphone,
    "Too many images are left out.": too_many,
    "Labels are separated by another sign.": joined_labels,
    "One photo has two labels.": two_labels,
    "Images of 10 or 12 bits are stored in 16-bit files.": twelve_bits,
    "Masks hold grey levels or soft edges.": grey_masks,
    "EXIF rotates photos, and nothing rotates their masks.": turned_photos,
    "A classifier ends without a softmax.": logits,
    "An exported file loses more than is allowed, and the images cannot tell.": small_test_set,
    "An exported file predicts another class too often.": other_decisions,
}
ELSEWHERE = {
    "An evaluation on images that the run learned from.": "workflow/test_evaluate_predict.py",
    "A quantized `.tflite` of another tool expects another range.": "workflow/test_evaluate_predict.py",
    "A model scales its pixels itself, and `--input-mode` is given, too.": "backbones/test_backbones_own.py",
}
"""What needs a model; where it is provoked."""


def as_pattern(sentence):
    return "(?s)" + ".*?".join(map(re.escape, sentence.split("…"))) + r"\Z"


def test_every_row_is_provoked():
    assert sorted(ROWS) == sorted({**PROVOKED, **ELSEWHERE})


@pytest.mark.parametrize("row", PROVOKED, ids=lambda row: PROVOKED[row].__name__)
def test_the_program_says_that(row, photo_folder, tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="keras_transfer")
    said = []
    try:
        PROVOKED[row](photo_folder, tmp_path)
    except KerasTransferError as error:
        said.append(str(error))
    said += [record.getMessage() for record in caplog.records]
    assert any(re.match(as_pattern(ROWS[row]), one) for one in said), json.dumps(said, indent=1)


@pytest.mark.parametrize("row", ELSEWHERE)
def test_the_other_sentences_are_in_the_source(row):
    """Word by word, but for names; the tests named above provoke them."""
    source = " ".join(
        re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))
        for path in (Path(__file__).parents[1] / "keras_transfer").rglob("*.py")
    )
    parts = [re.escape(part.strip()) for part in ROWS[row].split("…") if part.strip()]
    assert re.search(r"[^\n]*?".join(parts), source)
    assert (Path(__file__).parent / ELSEWHERE[row]).is_file()
