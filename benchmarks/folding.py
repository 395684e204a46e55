"""What a training gains from frozen normalization that is folded into its convolution. Both in one run.

    python benchmarks/folding.py [--backbones NAME ...] [--steps 12] [--batch-size 32] [--report FILE]

Each network with random weights (the arithmetic is the same) at 224 px, with a head for two classes and its batch
normalization frozen; all layers train, and the default ``30%``. One step of AdamW with and without folding, by turns;
the median of each, and of their ratios. Exit code 1 when folding makes a step slower.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from statistics import median

from reporting import machine, write_section

REPORT = """    python benchmarks/folding.py --report docs/results.md

Fine-tuning keeps batch normalization frozen. During training, the constants that it multiplies by are folded into the
kernel of the convolution before it. The table has the seconds per step of {batch_size} images at 224 px. Both variants
take turns in one run; figures are the median of {steps} steps.

{table}

Machine: {machine}.
"""


def measure(backbone: str, rule: str, steps: int, batch_size: int) -> dict[str, float]:
    """Seconds of a step, plain and folded, and the median of their ratios."""
    import keras
    import numpy as np

    from keras_transfer.backbones import load_backbone
    from keras_transfer.features.boundary import frozen_dropout_off
    from keras_transfer.freezing import set_trainable
    from keras_transfer.heads import add_head, logits_model
    from keras_transfer.training.folding import fold_frozen_norms

    model = add_head(load_backbone(backbone, weights="none", image_size=(224, 224)), 2)
    set_trainable(model, rule)
    pixels = np.random.default_rng(0).uniform(0, 255, (batch_size, 224, 224, 3)).astype(np.float32)
    labels = np.arange(batch_size) % 2
    seconds: dict[str, list[float]] = {"plain": [], "folded": []}
    with frozen_dropout_off(model, trained_too=True):
        networks = {"plain": logits_model(model), "folded": fold_frozen_norms(logits_model(model))}
        for network in networks.values():
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            network.compile(keras.optimizers.AdamW(1e-5), loss)
            for _ in range(2):  # traces the graph, and warms up
                network.train_on_batch(pixels, labels)
        for _ in range(steps):
            for way, network in networks.items():
                begin = time.perf_counter()
                network.train_on_batch(pixels, labels)
                seconds[way].append(time.perf_counter() - begin)
    ratios = [plain / folded for plain, folded in zip(*seconds.values(), strict=True)]
    return {**{way: median(found) for way, found in seconds.items()}, "ratio": median(ratios)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["efficientnet_lite0", "mobilenet_v2"])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    lines = ["| network | trained | plain | folded | ratio |", "|---|---|---|---|---|"]
    slower = []
    for backbone in options.backbones:
        for rule in ("all", "30%"):
            found = measure(backbone, rule, options.steps, options.batch_size)
            ratio = f"{found['ratio']:.2f}x"
            lines.append(
                f"| {backbone} | {rule} | {found['plain']:.3f} s | {found['folded']:.3f} s | {ratio} |"
            )
            print(lines[-1], flush=True)
            if found["ratio"] < 1:
                slower.append(f"{backbone} ({rule})")
    if options.report is not None:
        text = REPORT.format(
            table="\n".join(lines), machine=machine(), steps=options.steps, batch_size=options.batch_size
        )
        write_section(options.report, "Folded normalization", text)
    if slower:
        print(f"Slower when folded: {', '.join(slower)}", file=sys.stderr)
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
