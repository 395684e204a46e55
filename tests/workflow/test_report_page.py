"""The page of a run in a real browser: whole, quiet, and as wide as the screen."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from keras_transfer_tests.browser import Browser, chromium
from PIL import Image

import keras_transfer as ktr

FILES = Path(__file__).parents[1] / "files" / "before_contracts"


@pytest.fixture(scope="module")
def browser():
    if not chromium() and os.environ.get("CI") == "true":
        pytest.fail("Chromium is not installed, and CI must not leave these tests out")
    if not chromium():
        pytest.skip("Chromium is not installed")
    found = Browser()
    yield found
    found.close()


def test_on_a_phone_nothing_is_asked_for_and_nothing_runs_over_the_edge(browser, tmp_path):
    runs = [Path(shutil.copytree(FILES / "run", tmp_path / name)) for name in ("one", "another" * 12)]
    path = ktr.report(runs, tmp_path / "page.html")
    with browser.page(width=360, height=800) as page:
        page.open(
            path.as_uri(), "document.readyState === 'complete' && document.querySelector('h1') !== null"
        )
        assert page.value("document.documentElement.scrollWidth") <= 360
        first = "document.querySelector('table.sorted tbody th').textContent"
        before = page.value(first)
        page.value("document.querySelector('table.sorted th button').click()")
        assert {before, page.value(first)} == {"one", "another" * 12}
        assert page.value("[...document.images].every((one) => one.complete && one.naturalWidth && one.alt)")
        assert np.asarray(Image.open(io.BytesIO(page.picture()))).std() > 5
        assert [one for one in page.requests() if not one.startswith("data:")] == [path.as_uri()]
        assert page.complaints() == []
