"""Defective solar cells in ten lines of Keras: probe, SVM on the same features, export with proof.

python examples/solar_cells/run.py [OUTPUT] [--images N] [--image-size N]
"""

import argparse
from pathlib import Path

from sklearn.svm import SVC

import keras_transfer as ktr
from keras_transfer.workflow.demo import cell_table, elpv_folder


def main(output: Path, images: int, size: int) -> None:
    """Every step holds a plain Keras object or a plain array."""
    output.mkdir(parents=True, exist_ok=True)
    cells = output / "cells.csv"
    header, *rows = cell_table(elpv_folder()).splitlines()
    cells.write_text("\n".join([header, *rows[:: max(1, len(rows) // images)][:images]]) + "\n")

    table = ktr.load_data(cells, image_root=elpv_folder(), val_fraction=0.1, test_fraction=0.25, seed=0)
    pixels = ktr.Preprocessing(size=(size, size))
    backbone = ktr.load_backbone("efficientnet_lite0", image_size=size)
    features = ktr.extract(table, backbone, preprocessing=pixels)
    train, val, test = (table.indices(split) for split in ("train", "val", "test"))

    model = ktr.add_head(backbone, len(table.classes))
    ktr.fit_probe(model, features.values, table.labels, train=train, val=val)
    print(f"logistic regression: {ktr.evaluate(model, table, preprocessing=pixels)['accuracy']:.1%}")

    scale = features.values[train].mean(axis=0), features.values[train].std(axis=0) + 1e-3
    standard = (features.values - scale[0]) / scale[1]
    svm = SVC(C=3, gamma="scale").fit(standard[train], table.labels[train])
    print(f"support vector machine on the same features: {svm.score(standard[test], table.labels[test]):.1%}")

    report = ktr.export_model(
        model,
        output / "edge",
        precisions=("float32", "int8"),
        table=table,
        preprocessing=pixels,
        overwrite=True,
    )
    for artefact in report.to_dict()["artefacts"]:
        print(f"{artefact['file']}: {artefact['accuracy']:.1%}, agrees on {artefact['agreement']:.1%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", nargs="?", default="solar_cells", type=Path)
    parser.add_argument("--images", default=2624, type=int, help="how many of the 2,624 cells")
    parser.add_argument("--image-size", default=224, type=int)
    arguments = parser.parse_args()
    main(arguments.output, arguments.images, arguments.image_size)
