"""All blocks in a row, on a real photograph: from a folder of images and masks to measured predictions."""

import keras
import numpy as np
import pytest
from keras_transfer_segmentation.augment import Augmentation
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.losses import WeightedSum
from keras_transfer_segmentation.masks import write_mask
from keras_transfer_segmentation.metrics import SegmentationMetrics
from keras_transfer_segmentation.models import logits_model, unet
from keras_transfer_segmentation.pairs import load_pairs
from keras_transfer_segmentation.tiling import predict_tiled
from PIL import Image
from sklearn.datasets import load_sample_image

from keras_transfer.backbones import load_backbone
from keras_transfer.litert import LiteRTModel, convert
from keras_transfer.preprocessing import Preprocessing

CLASSES = Classes(("leaves", "petals"))
SIZE = (64, 64)


def petals(photo):
    """The flower's petals: red far above green. Between clearly red and clearly not, nobody knows."""
    difference = photo[..., 0].astype(int) - photo[..., 1]
    mask = (difference > 60).astype(np.uint8)
    mask[(difference > 40) & (difference <= 80)] = CLASSES.ignore_index
    return mask


@pytest.mark.nightly
def test_a_frozen_backbone_learns_petals_from_a_few_crops(tmp_path):
    photo = load_sample_image("flower.jpg")
    truth = petals(photo)
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    for i in range(40):
        y, x = rng.integers(0, photo.shape[0] - 128), rng.integers(0, photo.shape[1] - 128)
        Image.fromarray(photo[y : y + 128, x : x + 128]).save(tmp_path / "images" / f"{i:02d}.png")
        write_mask(tmp_path / "masks" / f"{i:02d}.png", truth[y : y + 128, x : x + 128], CLASSES)
    pairs = load_pairs(tmp_path, CLASSES, val_fraction=0.2, test_fraction=0.0)
    rules = Preprocessing(SIZE)
    train, val = (
        [np.stack(part) for part in zip(*(pairs.load(i, rules) for i in pairs.indices(split)), strict=True)]
        for split in ("train", "val")
    )

    keras.utils.set_random_seed(0)
    backbone = load_backbone("efficientnet_lite0", image_size=SIZE)
    backbone.trainable = False
    model = unet(backbone, len(CLASSES), widths=(32, 16, 8))
    training = logits_model(model)
    training.compile(keras.optimizers.Adam(3e-3), WeightedSum("cross_entropy+dice", from_logits=True))
    augment = Augmentation(scale=(0.9, 1.2), rotation=5)

    def mean_iou():
        metrics = SegmentationMetrics(CLASSES.names)
        for mask, probabilities in zip(val[1], model.predict(val[0], verbose=0), strict=True):
            metrics.update(mask, probabilities.argmax(-1))
        return metrics.result()["mean_iou"]

    before = mean_iou()
    for epoch in range(12):
        images, masks = augment(*train, (epoch,))
        training.fit(images, masks, batch_size=8, epochs=1, verbose=0)
    after = mean_iou()
    assert before < 0.6
    assert after > 0.8

    # On the desk as on the device, and on the whole photograph by tiles.
    whole = photo[:256, 100:420]
    on_desk = predict_tiled(lambda tiles: model.predict(tiles, verbose=0), whole, SIZE)
    device = LiteRTModel(convert(model), threads=1)
    on_device = predict_tiled(device.predict, whole, SIZE)
    assert (on_desk.argmax(-1) == on_device.argmax(-1)).mean() >= 0.999
