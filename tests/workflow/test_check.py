"""``check``: faults that are planted in a folder are found, the page needs nothing else, nothing is changed."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

from keras_transfer.data import load_data
from keras_transfer.testing.command import call

NETWORK = ("--backbone", "tiny", "--image-size", "96", "--engine", "keras")
CLASSES = {"china": 15, "flower": 15}


def textured(photo, count, seed):
    """Crops with something to see in them, which overlap by less than a half."""
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        top, left = rng.integers(0, photo.shape[0] - 110), rng.integers(0, photo.shape[1] - 110)
        crop = photo[top : top + 110, left : left + 110]
        apart = all(max(abs(top - y), abs(left - x)) > 35 for y, x in found)
        if apart and crop.std() > 30:
            found.append((top, left))
    return [Image.fromarray(photo[top : top + 110, left : left + 110]) for top, left in found]


@pytest.fixture(scope="module")
def clean(tmp_path_factory, photos):
    folder = tmp_path_factory.mktemp("clean")
    for seed, (name, count) in enumerate(CLASSES.items()):
        (folder / name).mkdir()
        for place, crop in enumerate(textured(photos[name], count, seed)):
            crop.save(folder / name / f"{place:02d}.png")
    return folder


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, clean):
    """The clean folder with one of each fault."""
    folder = tmp_path_factory.mktemp("faulty") / "photos"
    shutil.copytree(clean, folder)
    china, flower = folder / "china", folder / "flower"
    (china / "broken.png").write_bytes(b"no image")
    (china / "camera.nef").write_bytes(b"0" * 40)
    shutil.copy(china / "00.png", china / "copy.png")
    shutil.copy(china / "01.png", flower / "other.png")
    ImageOps.mirror(Image.open(china / "02.png")).save(china / "mirrored.jpg", quality=90)
    Image.new("RGB", (110, 110), (3, 3, 3)).save(flower / "dark.png")
    Image.open(flower / "03.png").resize((20, 20)).save(flower / "tiny.png")
    Image.open(flower / "04.png").convert("L").save(flower / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(flower / "05.png").rotate(90).save(flower / "turned.jpg", exif=exif, quality=85)
    return folder


def issues_of(found):
    return {(one["kind"], one["path"].rsplit("/")[-1]) for one in found["issues"]}


@pytest.mark.slow
def test_planted_faults_are_found_and_nothing_is_changed(faulty, tmp_path):
    before = {path: path.read_bytes() for path in faulty.rglob("*") if path.is_file()}
    report, cleaned = tmp_path / "report", tmp_path / "cleaned.csv"
    arguments = (
        faulty,
        *NETWORK,
        "--output",
        report,
        "--write",
        cleaned,
        "--drop",
        "copies",
        "--drop",
        "conflicts",
    )
    found = json.loads(call("check", *arguments, "--json")[0])
    expected = {
        ("unreadable", "broken.png"),
        ("left-out", "*.nef"),
        ("copies", "copy.png"),
        ("conflicts", "01.png"),
        ("conflicts", "other.png"),
        ("dark", "dark.png"),
        ("tiny", "tiny.png"),
        ("grey", "grey.png"),
        ("turned", "turned.jpg"),
        ("near-duplicates", "mirrored.jpg"),
    }
    assert expected <= issues_of(found)
    assert {path: path.read_bytes() for path in faulty.rglob("*") if path.is_file()} == before

    rows = list(csv.DictReader((report / "issues.csv").open(encoding="utf-8")))
    assert len(rows) == len(found["issues"])
    assert all(row["suggestion"] and row["severity"] in ("high", "medium", "low") for row in rows)
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in page and "mirrored.jpg" in page
    links = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert "http" not in re.sub(r"base64,[^\"]*", "", page)
    assert "@import" not in page and "url(" not in page

    groups = {row["path"]: row["group"] for row in csv.DictReader((report / "groups.csv").open())}
    assert groups["china/02.png"] == groups["china/mirrored.jpg"]
    grouped = load_data(faulty, max_skipped=0.5, groups=report / "groups.csv")
    splits = {grouped.images.name(row): grouped.splits[row] for row in range(len(grouped))}
    assert splits["china/02.png"] == splits["china/mirrored.jpg"]

    table = load_data(cleaned, image_root=faulty)
    names = {table.images.name(row) for row in range(len(table))}
    assert "china/copy.png" not in names and "china/00.png" in names
    assert not {"china/01.png", "flower/other.png"} & names
    why = list(csv.DictReader((tmp_path / "cleaned.left_out.csv").open()))
    assert {row["issue"] for row in why} == {"copies", "conflicts"} and found["left_out"]["conflicts"] == 2
    call("check", *arguments)  # once more: its own files are replaced


@pytest.mark.slow
def test_a_clean_set_is_silent(clean):
    found = json.loads(call("check", clean, *NETWORK, "--json")[0])
    assert found["issues"] == [] and found["images"] == sum(CLASSES.values())
    assert "nothing was found" in call("check", clean, *NETWORK)[0]


@pytest.mark.slow
def test_shortcuts_and_leaks_are_found(clean, tmp_path):
    folder = tmp_path / "photos"
    shutil.copytree(clean, folder / "train")
    for path in (folder / "train" / "flower").iterdir():
        ImageOps.expand(Image.open(path), 8, (0, 0, 255)).save(path)
    (folder / "test").mkdir()
    for name in CLASSES:
        (folder / "test" / name).mkdir()
        for place in (0, 1):
            source = folder / "train" / name / f"{place:02d}.png"
            Image.open(source).convert("RGB").save(folder / "test" / name / f"{place}.jpg", quality=85)
    found = json.loads(call("check", folder, *NETWORK, "--json")[0])
    told = {(one["kind"], one["other"]) for one in found["issues"]}
    assert ("shortcuts", "a border") in told and ("shortcuts", "the resolution") in told
    leaks = [one for one in found["issues"] if one["kind"] == "leaks"]
    assert found["splits"] == "given" and len(leaks) >= 3 and all("flattered" in one["text"] for one in leaks)


def test_mistakes_are_said_in_a_sentence(clean, tmp_path):
    assert "nowhere" in call("check", "nowhere", code=2)[1]
    assert "go together" in call("check", clean, "--drop", "copies", code=2)[1]
    kinds = call("check", clean, "--write", tmp_path / "a.csv", "--drop", "label-error", code=2)[1]
    assert "label-errors" in kinds
    assert (
        "ends in .csv" in call("check", clean, "--write", tmp_path / "a.txt", "--drop", "copies", code=2)[1]
    )
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "report.html").write_text("mine")
    assert "did not write it" in call("check", clean, "--output", tmp_path / "used", code=2)[1]
    assert "is a file" in call("check", clean, "--output", tmp_path / "used" / "report.html", code=2)[1]
