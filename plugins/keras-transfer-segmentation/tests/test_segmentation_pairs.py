"""Pairs: each image with its own mask, from every source, and splits that keep groups together."""

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras_transfer_segmentation.classes import Classes
from keras_transfer_segmentation.pairs import load_pairs
from PIL import Image

from keras_transfer.errors import DataError, UsageError
from keras_transfer.preprocessing import Preprocessing

TWO = Classes(("dark", "bright"))


def picture(seed, size=(6, 8)):
    """A random image, and the mask that says where its red is bright."""
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    return image, (image[..., 0] > 127).astype(np.uint8)


def write(folder, name, seed, mask=True, image=True):
    pixels, truth = picture(seed)
    for wanted, part, array in ((image, "images", pixels), (mask, "masks", truth)):
        if wanted:
            (folder / part / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / part / f"{name}.png")


@pytest.fixture
def folder(tmp_path):
    for seed in range(10):
        write(tmp_path, f"{seed:02d}", seed)
    return tmp_path


def aligned(pairs, i, preprocessing=None):
    image, mask = pairs.load(i, preprocessing)
    return np.array_equal(image[..., 0] > 127, mask == 1)


def test_a_folder(folder):
    write(folder, "below/11", 11)
    pairs = load_pairs(folder, val_fraction=0.2, test_fraction=0.2)
    assert len(pairs) == 11
    assert pairs.images.names[-1] == "images/below/11.png"
    assert all(aligned(pairs, i) for i in range(11))
    assert pairs.classes.names == ("class_0", "class_1")
    assert pairs.pixels.sum() == 11 * 6 * 8
    assert pairs.pixels[3, 1] == picture(3)[1].sum()
    assert [len(pairs.indices(split)) for split in ("train", "val", "test")] == [7, 2, 2]
    nearest = Preprocessing((3, 5), interpolation="nearest")
    assert all(aligned(pairs, i, nearest) for i in range(11))


def test_split_folders_are_kept_and_what_is_missing_is_made(tmp_path):
    for seed in range(10):
        write(tmp_path / "train", str(seed), seed)
    for seed in range(10, 13):
        write(tmp_path / "valid", str(seed), seed)
    pairs = load_pairs(tmp_path, TWO, test_fraction=0.2)
    by_folder = {name.split("/")[0] for i, name in enumerate(pairs.images.names) if pairs.splits[i] == "val"}
    assert by_folder == {"valid"}
    assert [len(pairs.indices(split)) for split in ("train", "val", "test")] == [8, 3, 2]
    assert all(aligned(pairs, i) for i in range(13))


def test_a_csv_with_groups(folder):
    rows = [f"images/{i:02d}.png,masks/{i:02d}.png,{'ab'[i % 2] if i < 6 else ''},x" for i in range(10)]
    table = folder / "pairs.csv"
    table.write_text("\ufeffimage,mask,group,other\n" + "\n".join(rows) + "\n", "utf-8")
    pairs = load_pairs(table, TWO, val_fraction=0.3, test_fraction=0.3)
    assert len(pairs) == 10
    assert len(set(pairs.groups)) == 6
    for group in "ab":
        assert len(set(pairs.splits[pairs.groups == group])) == 1
    assert all(aligned(pairs, i) for i in range(10))
    table.write_text(
        "image,mask,split\nimages/00.png,masks/00.png,train\nimages/01.png,masks/01.png,Validation\n"
    )
    assert load_pairs(table, TWO, test_fraction=0).splits.tolist() == ["train", "val"]


def test_arrays_and_folders_give_the_same(folder):
    images, masks = (np.stack(parts) for parts in zip(*[picture(seed) for seed in range(10)], strict=True))
    before = masks.copy()
    arrays, files = load_pairs((images, masks), TWO), load_pairs(folder, TWO)
    np.testing.assert_array_equal(arrays.pixels, files.pixels)
    for i in range(10):
        for one, other in zip(arrays.load(i), files.load(i), strict=True):
            np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(masks, before)


def test_the_split_is_the_content_s_and_the_seed_s(folder, tmp_path_factory):
    moved = tmp_path_factory.mktemp("moved")
    for i, seed in enumerate(reversed(range(10))):
        write(moved, f"other_{i}", seed)

    def held_out(root, seed):
        pairs = load_pairs(root, TWO, seed=seed, test_fraction=0.3)
        return {pairs.sha256[i] for i in pairs.indices("test")}

    assert held_out(folder, 0) == held_out(moved, 0)
    assert len({frozenset(held_out(folder, seed)) for seed in range(5)}) > 1


@pytest.mark.slow
@settings(max_examples=15)
@given(st.integers(0, 99), st.lists(st.integers(0, 4), min_size=6, max_size=12))
def test_groups_are_never_torn(tmp_path_factory, seed, groups):
    root = tmp_path_factory.mktemp("groups")
    rows = "image,mask,group\n"
    for i, group in enumerate(groups):
        write(root, str(i), i)
        rows += f"images/{i}.png,masks/{i}.png,g{group}\n"
    (root / "pairs.csv").write_text(rows)
    pairs = load_pairs(root / "pairs.csv", TWO, seed=seed, val_fraction=0.25, test_fraction=0.25)
    for group in set(groups):
        assert len(set(pairs.splits[pairs.groups == f"g{group}"])) == 1
    assert len(pairs.indices("train")) > 0


def test_a_rare_class_is_in_every_split():
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3)).astype(np.uint8)
    masks = np.tile(np.array([[0, 0, 1, 1]] * 4, np.uint8), (30, 1, 1))
    masks[:3, 0, 0] = 2
    pairs = load_pairs((images, masks), val_fraction=0.2, test_fraction=0.2)
    summary = pairs.summary()
    assert [summary["splits"][split]["images_with"]["class_2"] for split in ("train", "val", "test")] == [
        1,
        1,
        1,
    ]
    assert summary["splits"]["val"]["pixels"]["class_2"] == 1


def test_a_mask_without_image_is_left_out_and_said(folder, caplog):
    write(folder, "extra", 20, image=False)
    (folder / "masks" / "notes.txt").write_text("hello")
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        pairs = load_pairs(folder, TWO)
    assert len(pairs) == 10
    assert "1 masks have no image" in caplog.text
    assert "extra.png" in caplog.text
    assert any("extra.png: mask without image" in line for line in pairs.summary()["skipped"])


def test_binary_masks_are_found_as_such(folder):
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.array(Image.open(path)) * np.uint8(255)).save(path)
    pairs = load_pairs(folder)
    assert (pairs.encoding, pairs.classes.names) == ("binary", ("background", "foreground"))
    assert all(aligned(pairs, i) for i in range(10))


def test_the_fingerprint_is_of_images_masks_and_classes(folder):
    def fingerprint(*arguments):
        return load_pairs(folder, *arguments).summary()["fingerprint"]

    first = fingerprint(TWO)
    assert fingerprint(TWO) == first
    assert fingerprint(Classes(("dark", "light"))) != first
    mask = np.array(Image.open(folder / "masks" / "03.png"))
    mask[0, 0] ^= 1
    Image.fromarray(mask).save(folder / "masks" / "03.png")
    assert fingerprint(TWO) != first


def test_problems_are_collected(folder):
    for name in ("01", "02", "03", "04"):
        Image.fromarray(np.zeros((3, 3), np.uint8)).save(folder / "masks" / f"{name}.png")
    with pytest.raises(DataError) as caught:
        load_pairs(folder, TWO)
    message = str(caught.value)
    assert message.startswith("4 of 10 pairs cannot be used:")
    assert "01.png is 3x3 pixels, its image 6x8" in message
    assert message.endswith("and 1 more")


def spoil(action):
    def change(folder):
        action(folder)
        return folder

    return change


def test_what_cannot_be_read_is_left_out_up_to_the_tolerance(folder, caplog):
    whole = load_pairs(folder, TWO)
    (folder / "images" / "03.png").write_bytes((folder / "images" / "03.png").read_bytes()[:60])
    (folder / "masks" / "05.png").write_text("no image")
    with caplog.at_level(logging.WARNING, "keras_transfer"):
        pairs = load_pairs(folder, max_skipped=0.2)
    assert "Skipped 2 of 10 images that cannot be used" in caplog.text
    assert [(Path(one.path).name, one.counted) for one in pairs.skipped] == [
        ("03.png", True),
        ("05.png", True),
    ]
    assert "its mask masks/05.png cannot be read" in pairs.skipped[1].reason
    assert pairs.images.names == tuple(whole.images.names[i] for i in range(10) if i not in (3, 5))
    assert pairs.sha256 == tuple(whole.sha256[i] for i in range(10) if i not in (3, 5))
    assert all(aligned(pairs, i) for i in range(8))
    with pytest.raises(DataError, match=r"2 of 10 images .* \(20\.0%, the limit is 19\.0%\)"):
        load_pairs(folder, TWO, max_skipped=0.19)
    with pytest.raises(UsageError, match="max_skipped is 2"):
        load_pairs(folder, TWO, max_skipped=2)


def test_a_mask_that_does_not_fit_is_no_unreadable_one(folder):
    Image.fromarray(np.full((6, 8), 9, np.uint8)).save(folder / "masks" / "03.png")
    with pytest.raises(DataError, match=r"(?s)1 of 10 pairs cannot be used:.*9: 48 pixels"):
        load_pairs(folder, TWO, max_skipped=1.0)


def test_nothing_that_can_be_read(folder):
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="no usable pair"):
        load_pairs(folder, TWO, max_skipped=1.0)


def one_class(folder):
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.full((6, 8), 1, np.uint8)).save(path)


def csv_of(text):
    def change(folder):
        (folder / "pairs.csv").write_text(text)
        return folder / "pairs.csv"

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (spoil(lambda f: (f / "masks/03.png").unlink()), r"1 of 10 images .* have no mask .*03\.png"),
        (
            spoil(lambda f: write(f, "03.b", 3) or (f / "images/03.b.png").rename(f / "images/03.jpg")),
            "have one name",
        ),
        (
            spoil(lambda f: (f / "masks").rename(f / "labels")),
            r"no folder .*masks\. Expected images/ and masks/",
        ),
        (spoil(lambda f: (f / "images").rename(f / "pictures")), "neither images/ nor a split folder"),
        (spoil(lambda f: [p.unlink() for p in (f / "images").iterdir()]), "no images in"),
        (spoil(one_class), "show one class, 'bright'"),
        (
            spoil(lambda f: (f / "images/03.png").write_bytes(b"")),
            r"1 of 10 images in .* cannot be used \(10\.0%, the limit is 5\.0%\): .*03\.png: .*--max-skipped",
        ),
        (
            spoil(lambda f: (f / "masks/03.png").write_bytes(b"")),
            r"1 of 10 images .*images/03\.png: its mask masks/03\.png cannot be read: .*--max-skipped",
        ),
        (csv_of(""), "no column 'image'"),
        (csv_of("image,label\na,b\n"), "no column 'mask'"),
        (csv_of("image,mask\n"), "no rows"),
        (csv_of("image,mask\nimages/00.png,\n"), "mask of line 2"),
        (csv_of("image,mask\nimages/00.png,masks/99.png\n"), "no such file"),
        (csv_of("image,mask\n../x.png,masks/00.png\n"), "expected a path below"),
        (csv_of("image,mask\nimages/00.png,masks/00.png,x\n"), "3 values in line 2"),
        (csv_of("image,mask\n" + 2 * "images/00.png,masks/00.png\n"), "twice"),
        (csv_of("image,mask,split\nimages/00.png,masks/00.png,dev\n"), "'dev'; expected one of train"),
        (csv_of('image,mask\n"images/00.png,masks/00.png\n'), "not a CSV"),
    ],
)
def test_data_that_cannot_be_used(folder, change, named):
    source = change(folder)
    with pytest.raises(DataError, match=f"(?s){named}"):
        load_pairs(source, TWO)


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("nowhere", "no folder nowhere"),
        ("nowhere.csv", r"no CSV nowhere\.csv"),
        (7, "is a int"),
        ((np.zeros((2, 4, 4, 3), np.uint8),), "expected a pair"),
        ((np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 4, 5), int)), r"expected whole numbers \(2, 4, 4\)"),
        ((np.zeros((2, 4, 4, 3), np.uint8), np.zeros((2, 4, 4))), "masks are float64"),
        ((np.zeros((2, 4, 4, 2), np.uint8), np.zeros((2, 4, 4), int)), r"images are \(2, 4, 4, 2\)"),
        ((np.full((2, 4, 4, 3), 300), np.zeros((2, 4, 4), int)), "300"),
    ],
)
def test_sources_that_are_none(source, named):
    with pytest.raises(UsageError, match=named):
        load_pairs(source)


def test_masks_in_arrays_are_checked_too():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    masks = np.tile(np.array([0, 1, 1, 3], np.uint8), (2, 4, 1))
    with pytest.raises(DataError, match="3: 8 pixels"):
        load_pairs((images, masks), TWO)
    masks[1] = 255
    with pytest.raises(DataError, match="only ignored pixels, such as number 1"):
        load_pairs((images, masks))
    with pytest.raises(DataError, match="one class at most"):
        load_pairs((images, np.zeros((2, 4, 4), int)))


@pytest.mark.parametrize(
    "names",
    [("train", "Val", "Test"), ("Training", "validation", "testing"), ("train_set", "val_set", "test_set")],
)
def test_split_folders_by_every_plain_name(tmp_path, names):
    for start, (name, count) in enumerate(zip(names, (10, 4, 3), strict=True)):
        for seed in range(count):
            write(tmp_path / name, str(seed), 100 * start + seed)
    pairs = load_pairs(tmp_path, TWO)
    assert [len(pairs.indices(split)) for split in ("train", "val", "test")] == [10, 4, 3]


def test_a_folder_of_pairs_that_is_no_split_by_its_name_is_refused(tmp_path):
    for name in ("train", "val", "more"):
        write(tmp_path / name, "0", len(name))
    with pytest.raises(DataError, match=r"more in .* hold images/ and do not have the name of a split"):
        load_pairs(tmp_path)


def test_photos_of_other_formats_are_said(folder, caplog):
    for i in range(10):
        (folder / "images" / f"more{i}.dng").write_bytes(b"photo")
    with pytest.raises(DataError, match=r"10 of 20 images .*not read \(\.dng\)"):
        load_pairs(folder)
    load_pairs(folder, max_skipped=0.5)
    assert "10 .dng (a format that is not read)" in caplog.text


def test_photos_that_exif_turns_beside_masks_that_nothing_turns_are_said(tmp_path, caplog):
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn: no size tells
    for seed in range(10):
        write(tmp_path, f"{seed:02d}", seed)
        if seed < 4:
            path = tmp_path / "images" / f"{seed:02d}.png"
            Image.open(path).save(path.with_suffix(".jpg"), exif=exif, quality=95)
            path.unlink()
    load_pairs(tmp_path)
    assert "4 of 10 photos" in caplog.text and "turned upright by their EXIF orientation" in caplog.text
    caplog.clear()
    for path in sorted((tmp_path / "masks").glob("*.png"))[:4]:
        Image.open(path).save(path, exif=exif)  # masks that the same tool wrote turn with their photos
    load_pairs(tmp_path)
    assert "EXIF" not in caplog.text


def disc(side, soft):
    """A bright disc; with ``soft`` its edge is smoothed over some pixels."""
    y, x = np.mgrid[:side, :side] - side / 2
    inside = side / 3 - np.hypot(y, x)
    return (
        (np.clip(inside / soft + 0.5, 0, 1) * 255).astype(np.uint8)
        if soft
        else (inside > 0).astype(np.uint8) * 255
    )


@pytest.mark.parametrize("values", ["soft edges", "0, 128, 255"])
def test_grey_levels_are_no_class_indices(tmp_path, values):
    for seed in range(6):
        write(tmp_path, str(seed), seed)
        mask = (
            disc(64, soft=6) if values == "soft edges" else np.kron([[0, 128], [128, 255]], np.ones((3, 4)))
        )
        image = np.random.default_rng(seed).integers(0, 256, (*mask.shape, 3)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "images" / f"{seed}.png")
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "masks" / f"{seed}.png")
    with pytest.raises(DataError, match=r"look like grey levels .*only 0 and 255 .*--class-names"):
        load_pairs(tmp_path)


def test_indices_with_a_gap_and_an_ignored_edge_are_indices(tmp_path):
    """As in Pascal VOC: a few of many classes, and 255 around the objects."""
    for seed in range(6):
        write(tmp_path, str(seed), seed)
        mask = np.zeros((6, 8), np.uint8)
        mask[:, 4:], mask[:, 3] = (0, 7, 15)[seed % 3], 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{seed}.png")
    assert len(load_pairs(tmp_path).classes) == 16
