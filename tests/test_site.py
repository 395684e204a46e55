"""The pages build into a site without a warning, and the site loads nothing from elsewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
REUSE = ROOT / "docs" / "reuse"


def test_every_page_of_reuse_is_listed():
    front = (REUSE / "README.md").read_text(encoding="utf-8")
    for page in REUSE.glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in front
    assert (REUSE / "frozen.png").is_file()


@pytest.mark.slow
def test_the_documents_build_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs", reason="the extra 'docs' builds the pages")
    pytest.importorskip("mkdocstrings", reason="the extra 'docs' builds the pages")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert "FreezePlan" in reference and "<code>load_classifier</code>" in reference
    assert not re.findall(r":(?:class|func|mod):<code>", reference)
    for page in (tmp_path / "site").rglob("*.html"):
        foreign = re.findall(
            r"""<(?:script|link|img)[^>]+(?:src|href)=["'](https?://[^"']+)""", page.read_text()
        )
        assert not foreign, f"{page.name} loads {foreign}"
