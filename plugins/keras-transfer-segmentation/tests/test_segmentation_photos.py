"""A camera's photo is decoded at a part of its size for the model; its mask is never scaled, and lies where it must."""

import numpy as np
import pytest
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.masks import write_mask
from keras_transfer_segmentation.pairs import load_pairs
from keras_transfer_segmentation.segmenting import segment_files
from PIL import Image

from keras_transfer.decoding import decode
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records import ModelContract
from keras_transfer.workflow.loaded_model import LoadedModel

CLASSES = Classes(("dark", "light"), ignore_index=255)


def scene(turn):
    """A light disc on dark, 901 x 1201 as it is looked at, off the centre."""
    rows, columns = np.mgrid[:901, :1201]
    disc = (rows - 380) ** 2 + (columns - 700) ** 2 < 250**2
    pixels = np.where(disc, 220, 30).astype(np.uint8)
    return np.repeat(pixels[..., None], 3, axis=2), disc.astype(np.uint8), turn


@pytest.fixture(params=[1, 3, 6, 8])
def photo(request, tmp_path):
    """An image file that EXIF turns, and the mask of what is seen."""
    pixels, mask, orientation = scene(request.param)
    stored = {1: pixels, 3: pixels[::-1, ::-1], 6: np.rot90(pixels, 1), 8: np.rot90(pixels, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    return tmp_path / "photo.jpg", mask


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_image_and_mask_agree(photo, tmp_path, resize):
    path, mask = photo
    contract = Preprocessing((64, 72), resize)
    assert contract.jpeg_scale(*mask.shape) in (4, 8)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    (tmp_path / "data/images/a.jpg").write_bytes(path.read_bytes())
    write_mask(tmp_path / "data/masks/a.png", mask, CLASSES)
    pairs = load_pairs(tmp_path / "data", CLASSES, val_fraction=0.0, test_fraction=0.0)
    image, small = pairs.load(0, contract)
    assert pairs.mask(0).shape == mask.shape
    seen = small != CLASSES.ignore_index
    assert (((image[..., 0] > 125) != (small == 1)) & seen).mean() < 0.01


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_the_model_is_shown_the_contract_s_pixels_and_the_mask_has_the_photo_s_size(photo, tmp_path, resize):
    path, mask = photo
    contract, shown = Preprocessing((64, 72), resize), []

    def predict(pixels):
        shown.append(pixels)
        light = pixels[..., :1] / np.float32(255)
        return np.concatenate([1 - light, light], axis=-1)

    notes = {"classes": CLASSES.to_dict()}
    facts = ModelContract(
        "segmentation", {}, notes, "probabilities", (64, 72, 2), CLASSES.names, contract.to_dict()
    )
    model = LoadedModel("model", predict, contract, CLASSES.names, facts)
    (answer,) = segment_files(model, [path], tmp_path / "out", overlays=True)
    assert np.array_equal(shown[0][0], contract.load(path))
    written = np.asarray(Image.open(answer["mask"]))
    assert written.shape == mask.shape
    known = written != CLASSES.ignore_index
    assert ((written != mask) & known).mean() < 0.01
    assert np.asarray(Image.open(tmp_path / "out/photo_overlay.png")).shape == decode(path).shape
