"""Pictures are written whole or not at all, in the form their suffix says."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from keras_transfer.evaluation.plots import confusion_matrix

COUNTS, CLASSES = [[3, 1], [0, 4]], ["cat", "dog"]


def test_an_interrupted_picture_leaves_the_old_one(tmp_path, monkeypatch):
    picture = tmp_path / "matrix.png"
    confusion_matrix(COUNTS, CLASSES, picture)
    before = picture.read_bytes()

    def broken(self, target, **_options):
        if hasattr(target, "write"):
            target.write(b"half")
        else:
            target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(KeyboardInterrupt):
        confusion_matrix(COUNTS, CLASSES, picture)
    assert picture.read_bytes() == before and list(tmp_path.iterdir()) == [picture]


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "begin"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")])
def test_the_suffix_chooses_the_form(tmp_path, suffix, begin):
    confusion_matrix(COUNTS, CLASSES, tmp_path / "new" / f"matrix.{suffix}")
    assert (tmp_path / "new" / f"matrix.{suffix}").read_bytes().startswith(begin)
