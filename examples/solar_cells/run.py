"""Defective solar cells in ten lines of Keras: probe, SVM on the same features, export with proof.

python examples/solar_cells/run.py [OUTPUT]
"""

import sys
from pathlib import Path

from sklearn.svm import SVC

import keras_transfer as kt
from keras_transfer.workflow.demo import cell_table, elpv_folder


def main(output: Path) -> None:
    """Every step holds a plain Keras object or a plain array."""
    output.mkdir(parents=True, exist_ok=True)
    cells = output / "cells.csv"
    cells.write_text(cell_table(elpv_folder()))

    table = kt.load_data(cells, image_root=elpv_folder(), val_fraction=0.1, test_fraction=0.25, seed=0)
    pixels = kt.Preprocessing(size=(224, 224))
    backbone = kt.load_backbone("efficientnet_lite0", image_size=224)
    features = kt.extract(table, backbone, preprocessing=pixels)
    train, val, test = (table.indices(split) for split in ("train", "val", "test"))

    model = kt.add_head(backbone, len(table.classes))
    kt.fit_probe(model, features.values, table.labels, train=train, val=val)
    print(f"logistic regression: {kt.evaluate(model, table, preprocessing=pixels)['accuracy']:.1%}")

    scale = features.values[train].mean(axis=0), features.values[train].std(axis=0) + 1e-3
    standard = (features.values - scale[0]) / scale[1]
    svm = SVC(C=3, gamma="scale").fit(standard[train], table.labels[train])
    print(f"support vector machine on the same features: {svm.score(standard[test], table.labels[test]):.1%}")

    report = kt.export_model(
        model,
        output / "edge",
        precisions=("none", "int8"),
        table=table,
        preprocessing=pixels,
        classes=table.classes,
        overwrite=True,
    )
    for artefact in report.to_dict()["artefacts"]:
        print(f"{artefact['file']}: {artefact['accuracy']:.1%}, agrees on {artefact['agreement']:.1%}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "solar_cells"))
