"""A small data set, for the conformance kit."""

from keras_transfer.testing.samples import two_photographs


def photographs(folder):
    """Crops of two photographs: one is normal, the other is not."""
    two_photographs(folder)
    (folder / "china").rename(folder / "normal")
    (folder / "flower").rename(folder / "unusual")
    return folder
