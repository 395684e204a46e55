"""Tasks for Label Studio, with what the model expects as pre-annotation, and the labelling interface that fits them.

https://labelstud.io/guide/predictions.html
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import quoteattr

CONTROL, IMAGE = "choice", "image"
"""Names in the interface; what is exported under the first is read as the label (``data.labelling_tools``)."""


def task(
    name: str, labels: Sequence[str], score: float, model: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """One image.

    Args:
        name: POSIX, relative to the folder that Label Studio serves.
        labels: that the model expects.
        score: how probable they are, in [0, 1].
        model: what is called ``model_version``.
        facts: shown beside the image, for sorting.
    """
    result = {"from_name": CONTROL, "to_name": IMAGE, "type": "choices", "value": {"choices": list(labels)}}
    address = f"/data/local-files/?d={urllib.parse.quote(name)}"
    return {
        "data": {IMAGE: address, **facts},
        "predictions": [{"model_version": model, "score": score, "result": [result] if labels else []}],
    }


def interface(names: Sequence[str], several: bool) -> str:
    """The labelling interface (XML): an image and its choices, one or several."""
    choices = "\n".join(f"    <Choice value={quoteattr(name)}/>" for name in names)
    kind = "multiple" if several else "single"
    return (
        f'<View>\n  <Image name="{IMAGE}" value="${IMAGE}"/>\n'
        f'  <Choices name="{CONTROL}" toName="{IMAGE}" choice="{kind}" required="{str(not several).lower()}">\n'
        f"{choices}\n  </Choices>\n</View>\n"
    )
