"""``keras-transfer pick``: what is printed, what is written, and what is refused before any work."""

import json

import pytest

from keras_transfer.testing.command import call


@pytest.mark.slow
def test_picks_are_printed_written_and_told_as_json(finished_run, photo_folder, tmp_path):
    pool = tmp_path / "pool"
    pool.mkdir()
    from PIL import Image, ImageEnhance

    for path in sorted(photo_folder.glob("*/*.png")):
        turned = Image.open(path).rotate(90).crop((8, 0, 96, 70))  # none shows what a training image shows
        ImageEnhance.Contrast(turned).enhance(1.5).save(pool / f"{path.parent.name}_{path.name}")
    (pool / "bad.png").write_bytes(b"")
    out, _ = call("pick", finished_run.path, pool, "--count", "12", "--output", tmp_path / "picks")
    assert "12 of 40 images are picked by margin" in out and "and 2 more; --json lists all" in out
    assert f"Paths in them begin at {pool}" in out
    files = {path.name for path in (tmp_path / "picks").iterdir()}
    assert files == {"picks.csv", "picks.png", "label_studio.json", "label_studio.xml"}
    (tmp_path / "list.csv").write_text(
        "path\n" + "\n".join(f"pool/{path.name}" for path in sorted(pool.glob("*_*.png"))) + "\n"
    )
    found = json.loads(call("pick", finished_run.path, tmp_path / "list.csv", "-n", "12", "--json")[0])
    again = json.loads(call("pick", finished_run.path, pool, "-n", "12", "--json")[0])
    assert [one["name"] for one in found["picks"]] == [one["name"] for one in again["picks"]]
    assert found["skipped"] == [] and "bad.png" in again["skipped"][0]["path"]
    assert [one["rank"] for one in found["picks"]] == list(range(1, 13))


def test_mistakes_are_said_in_a_sentence(finished_run, photo_folder, tmp_path):
    asked = ("pick", finished_run.path, photo_folder)
    assert "Missing option '--count'" in call(*asked, code=2)[1]
    assert "at least 1 image is expected" in call(*asked, "--count", "0", code=2)[1]
    assert "which are labelled" in call(*asked, "--count", "3", code=2)[1]
    (tmp_path / "file").write_text("mine")
    used = call(*asked, "--count", "3", "--output", tmp_path / "file", code=2)[1]
    assert "is a file; a folder is expected" in used
    (tmp_path / "picks.csv").write_text("mine")
    used = call(*asked, "--count", "3", "--output", tmp_path, code=2)[1]
    assert "did not write it" in used and (tmp_path / "picks.csv").read_text() == "mine"
