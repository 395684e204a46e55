"""The pages build into a site without a warning, the site loads nothing from elsewhere, and it has the whole API."""

import html
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_transfer

ROOT = Path(__file__).parents[1]
REUSE = ROOT / "docs" / "reuse"


def test_every_page_of_reuse_is_listed():
    front = (REUSE / "README.md").read_text(encoding="utf-8")
    for page in REUSE.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in front
    assert (REUSE / "frozen.png").is_file()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the site; it is built once, and every warning is an error."""
    pytest.importorskip("mkdocs", reason="the extra 'docs' builds the pages")
    pytest.importorskip("mkdocstrings", reason="the extra 'docs' builds the pages")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(folder),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def reference(site):
    """The page of the API: heading -> HTML until the next one, for what is documented."""
    page = (site / "api.html").read_text(encoding="utf-8")
    parts = re.split(r'<h3 [^>]*class="doc doc-heading"[^>]*>(.*?)</h3>', page, flags=re.DOTALL)
    headings = [text_of(heading).removesuffix("¶").strip() for heading in parts[1::2]]
    assert len(set(headings)) == len(headings)
    return dict(zip(headings, parts[2::2], strict=True))


def text_of(part: str) -> str:
    """What a reader sees of some HTML."""
    return html.unescape(re.sub(r"<[^>]+>", "", part)).strip()


@pytest.mark.slow
def test_the_documents_build_without_a_warning_and_load_nothing_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        foreign = re.findall(
            r"""<(?:script|link|img)[^>]+(?:src|href)=["'](https?://[^"']+)""", page.read_text()
        )
        assert not foreign, f"{page.name} loads {foreign}"


@pytest.mark.slow
def test_roles_of_docstrings_are_shown_as_names(site):
    page = (site / "api.html").read_text(encoding="utf-8")
    assert "FreezePlan" in page and "<code>load_classifier</code>" in page
    assert not re.findall(r":(?:class|func|mod):<code>", page)


@pytest.mark.slow
@pytest.mark.parametrize("name", keras_transfer.__all__)
def test_the_reference_has_heading_signature_and_docstring_of_every_public_name(name, reference):
    entry = reference[f"keras_transfer.{name}"]
    signature, *_ = re.findall(r'<div class="[^"]*doc-signature[^"]*">(.*?)</div>', entry, re.DOTALL)
    assert re.match(rf"{name}\(", text_of(signature))
    said = re.search(r'<div class="doc doc-contents[^"]*">\s*<p>(.*?)</p>', entry, re.DOTALL)
    assert said and len(text_of(said[1]).split()) > 3


@pytest.mark.slow
def test_every_heading_of_the_reference_is_a_name_to_import(reference):
    griffe = pytest.importorskip("griffe", reason="the extra 'docs' reads the source")
    package = griffe.load("keras_transfer", search_paths=[ROOT])
    names = [heading.removeprefix("keras_transfer.") for heading in reference]
    named = {name for name in names if "." not in name}
    assert named == {*keras_transfer.__all__, "setting_values"}  # a module of types
    for name in names:
        assert "." not in name or package[name], name
