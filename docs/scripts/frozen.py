"""Draw what is frozen in each way of reuse, from real freeze plans of EfficientNet-Lite0.

python docs/scripts/frozen.py docs/reuse/frozen.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import keras_transfer as ktr
from keras_transfer.evaluation.plots import ACCENT, INK, SOFT

FROZEN = "#c9ced6"
WAYS = (
    # what it is called, the rule of its freeze plan (None: no plan, nothing is trained), its first weights
    ("as it is, feature extractor", None, "ImageNet"),
    ("integrated extractor (probe)", "none", "ImageNet"),
    ("partial fine-tuning, 30%", "30%", "ImageNet"),
    ("partial fine-tuning, from:block4a", "from:block4a", "ImageNet"),
    ("weight initialisation (full)", "all", "ImageNet"),
    ("from scratch", "all", "random"),
)


def main(path: Path) -> None:
    """One row a way of reuse, one cell a block, as wide as its share of the layers."""
    model = ktr.add_head(ktr.load_backbone("efficientnet_lite0", weights="none"), 10)
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for row, (_, rule, start) in enumerate(WAYS):
        plan = ktr.FreezePlan.for_model(model, rule or "none")
        left = 0.0
        for block in plan.rows:
            width = np.sqrt(block.layers)
            trained = rule is not None and block.trainable > 0
            colour = FROZEN if not trained else ACCENT if start == "ImageNet" else SOFT
            axis.barh(row, width, left=left, height=0.7, color=colour, edgecolor="white")
            if row == 0:
                axis.text(
                    left + width / 2, -0.5, block.block, rotation=60, fontsize=7, color=INK, va="bottom"
                )
            left += width
        count = plan.trainable if rule is not None else 0
        axis.text(left + 0.3, row, f"{count:,} trained", va="center", fontsize=8, color=INK)
    axis.set_yticks(range(len(WAYS)), [name for name, _, _ in WAYS], color=INK)
    axis.set_xlim(0, left * 1.15)
    axis.set_ylim(len(WAYS) - 0.5, -1.6)
    axis.set_xticks([])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    patches = [
        Patch(color=FROZEN, label="frozen"),
        Patch(color=ACCENT, label="trained, from ImageNet weights (head: new)"),
        Patch(color=SOFT, label="trained, from random weights"),
    ]
    figure.legend(handles=patches, frameon=False, loc="outside lower center", ncols=3)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
