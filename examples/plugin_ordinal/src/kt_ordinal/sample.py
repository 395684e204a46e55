"""A small data set, for the conformance kit."""

from PIL import Image, ImageEnhance

from keras_transfer.testing.samples import two_photographs

GRADES = {"0_dark": 0.2, "1_dim": 0.6, "2_bright": 1.0}


def brightness(folder):
    """Crops of two photographs, each at three grades of brightness."""
    (folder / "crops").mkdir()
    crops = sorted(two_photographs(folder / "crops").rglob("*.png"))
    for grade, factor in GRADES.items():
        (folder / "graded" / grade).mkdir(parents=True)
        for number, path in enumerate(crops[::2]):
            image = ImageEnhance.Brightness(Image.open(path)).enhance(factor)
            image.save(folder / "graded" / grade / f"{number:02d}.png")
    return folder / "graded"
