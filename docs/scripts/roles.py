"""A hook of mkdocs: what docstrings call ``:func:`~package.module.name``` is shown as the name in code letters."""

from __future__ import annotations

import re

_ROLE = re.compile(r":(?:attr|class|data|func|meth|mod):<code>~?(?:[^<>]*\.)?([^<>.]+)</code>")


def on_page_content(html: str, **_: object) -> str:
    """Called by mkdocs with the HTML of each page."""
    return _ROLE.sub(r"<code>\1</code>", html)
