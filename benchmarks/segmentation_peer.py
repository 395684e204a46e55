"""segmentation_models.pytorch's U-Net on the slices that benchmarks/segmentation.py hands over.

    PYTHON benchmarks/segmentation_peer.py slices.npz --epochs 16 --weights efficientnet-lite0.pth

PYTHON is an interpreter with ``torch`` and ``segmentation-models-pytorch``; this package need not be there.
``slices.npz`` holds ``images`` uint8 (N, H, W, 3), ``masks`` uint8 (N, H, W), ``splits`` str (N,) and ``classes``. The
encoder is timm's ``tf_efficientnet_lite0`` with the very weights that the other side begins with. The recipe is the
library's own: Adam, soft Dice and cross-entropy added up, a cosine to 0, batch normalization trained; flips and zooms
as on the other side; the epoch with the smallest validation loss is kept. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

ENCODER = "tu-tf_efficientnet_lite0"
MEAN, DEVIATION = 127.0, 128.0
"""Of pixels in [0, 255]: what the weights were trained with."""
ZOOM = 1.25


def load_encoder(model: torch.nn.Module, path: Path) -> None:
    """The weights of the file, tensor by tensor: names differ, the order is the same.

    Raises ``SystemExit`` when a shape differs: then the order is not the same.
    """
    given = [
        (name, tensor)
        for name, tensor in torch.load(path, map_location="cpu", weights_only=False).items()
        if not name.startswith(("_conv_head", "_bn1", "_fc")) and not name.endswith("num_batches_tracked")
    ]
    wanted = {
        name: tensor
        for name, tensor in model.encoder.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    if len(given) != len(wanted):
        raise SystemExit(f"{path} has {len(given)} tensors of the encoder; {len(wanted)} are expected.")
    for (theirs, tensor), (ours, old) in zip(given, wanted.items(), strict=True):
        if tensor.shape != old.shape or theirs.rsplit(".", 1)[-1] != ours.rsplit(".", 1)[-1]:
            raise SystemExit(f"{theirs} {tuple(tensor.shape)} does not fit {ours} {tuple(old.shape)}.")
        old.copy_(tensor)


def varied(
    images: torch.Tensor, masks: torch.Tensor, chance: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Flips, and zooms of at most :data:`ZOOM`, image and mask together."""
    height, width = masks.shape[1:]
    pixels, truths = [], []
    for one, truth in zip(images, masks, strict=True):
        if chance.random() < 0.5:
            one, truth = one.flip(-1), truth.flip(-1)
        inner = 1 / chance.uniform(1.0, ZOOM)
        h, w = round(height * inner), round(width * inner)
        top, left = int(chance.integers(0, height - h + 1)), int(chance.integers(0, width - w + 1))
        part = np.s_[top : top + h, left : left + w]
        pixels.append(functional.interpolate(one[None][(..., *part)], (height, width), mode="bilinear")[0])
        truths.append(
            functional.interpolate(truth[part][None, None].float(), (height, width), mode="nearest")[0, 0]
        )
    return torch.stack(pixels), torch.stack(truths).long()


def answers(model: torch.nn.Module, images: torch.Tensor, batch: int) -> torch.Tensor:
    """Logits (N, C, H, W) in inference mode."""
    model.eval()
    with torch.inference_mode():
        return torch.cat([model(images[start : start + batch]) for start in range(0, len(images), batch)])


def scores(predicted: np.ndarray, truth: np.ndarray, classes: int) -> dict[str, object]:
    """IoU of each class over all pixels, and the means over classes that are somewhere."""
    matrix = np.bincount(truth.ravel() * classes + predicted.ravel(), minlength=classes**2)
    matrix = matrix.reshape(classes, classes).astype(float)
    hits, either = np.diag(matrix), matrix.sum(0) + matrix.sum(1)
    there = either > 0
    iou = hits[there] / (either - hits)[there]
    return {
        "iou": iou.tolist(),
        "mean_iou": float(iou.mean()),
        "mean_dice": float((2 * hits[there] / either[there]).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("slices", type=Path)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    chance = np.random.default_rng(options.seed)
    with np.load(options.slices) as file:
        splits, classes = file["splits"], int(file["classes"])
        images = (torch.from_numpy(file["images"]).permute(0, 3, 1, 2).float() - MEAN) / DEVIATION
        masks = torch.from_numpy(file["masks"]).long()
    rows = {split: torch.from_numpy(np.flatnonzero(splits == split)) for split in ("train", "val", "test")}
    model = smp.Unet(ENCODER, encoder_weights=None, classes=classes)
    load_encoder(model, options.weights)
    optimizer = torch.optim.Adam(model.parameters(), options.rate)
    steps = -(-len(rows["train"]) // options.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, options.epochs * steps)
    dice, entropy = smp.losses.DiceLoss("multiclass"), torch.nn.CrossEntropyLoss()
    best, kept, epoch_kept = float("inf"), {}, 0
    start = time.perf_counter()
    for epoch in range(options.epochs):
        model.train()
        order = rows["train"][torch.from_numpy(chance.permutation(len(rows["train"])))]
        for chosen in order.split(options.batch):
            pixels, truth = varied(images[chosen], masks[chosen], chance)
            logits = model(pixels)
            optimizer.zero_grad()
            (dice(logits, truth) + entropy(logits, truth)).backward()
            optimizer.step()
            schedule.step()
        logits = answers(model, images[rows["val"]], options.batch)
        loss = float(dice(logits, masks[rows["val"]]) + entropy(logits, masks[rows["val"]]))
        if loss < best:
            best, epoch_kept = loss, epoch
            kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seconds = time.perf_counter() - start
    model.load_state_dict(kept)
    found = {
        split: scores(
            answers(model, images[rows[split]], options.batch).argmax(1).numpy(),
            masks[rows[split]].numpy(),
            classes,
        )
        for split in ("val", "test")
    }
    print(
        json.dumps(
            {
                **found["test"],
                "val_mean_iou": found["val"]["mean_iou"],
                "images_per_second": options.epochs * len(rows["train"]) / seconds,
                "parameters": sum(one.numel() for one in model.parameters()),
                "best_epoch": epoch_kept,
                "version": smp.__version__,
            }
        )
    )


if __name__ == "__main__":
    main()
