"""Every way to reuse a pretrained network, from Python, on one folder of images.

python examples/reuse/run.py PHOTOS PHOTO OUTPUT [--image-size N]

PHOTOS holds one folder per class, PHOTO is a picture. The commands for the same are in docs/reuse.
"""

import argparse
from pathlib import Path

from sklearn.svm import SVC

import keras_transfer as ktr
from keras_transfer.features.pooling import feature_model
from keras_transfer.settings import ModelSettings
from keras_transfer.workflow.as_is import as_is
from keras_transfer.workflow.explain import explain
from keras_transfer.workflow.similar import find_similar


def main(photos: Path, photo: Path, output: Path, size: int) -> None:
    """One paragraph a way."""
    best = next(ktr.predict(as_is("efficientnet_lite0"), [photo], top=1))["classes"][0]
    print(f"as it is: {best['label']} {best['probability']:.0%}")

    table = ktr.load_data(photos)
    backbone = ktr.load_backbone("efficientnet_lite0", image_size=size)
    pixels = ktr.Preprocessing(size=(size, size))
    vectors = ktr.extract(table, feature_model(backbone, pooling="gem"), preprocessing=pixels)
    again = ktr.extract(table, feature_model(backbone, pooling="gem"), preprocessing=pixels)
    print(f"feature extractor: {vectors.values.shape}, then {again.cached} from the disk")

    train, test = table.indices("train"), table.indices("test")
    svm = SVC(kernel="linear").fit(vectors.values[train], table.labels[train])
    print(f"SVM on embeddings: {svm.score(vectors.values[test], table.labels[test]):.0%}")

    for name, how in (
        ("integrated extractor", {"strategy": "probe"}),
        ("partial fine-tuning", {"strategy": "finetune", "unfreeze": "blocks:1"}),
        ("weight initialisation", {"strategy": "full"}),
    ):
        run = ktr.train(
            photos, output / name.replace(" ", "_"), image_size=size, epochs=1, overwrite=True, **how
        )
        print(f"{name}: {run.info['metrics']['test']['accuracy']:.0%}")

    own = ktr.load_backbone(f"path:{output / 'integrated_extractor' / 'model.keras'}", cut="block5c_add")
    print(f"a model of your own, cut at block5c_add: {own.output_shape[1:]}")

    teacher = ktr.train(
        photos,
        output / "teacher",
        backbone="efficientnet_lite2",
        image_size=size,
        strategy="probe",
        overwrite=True,
    )
    student = ktr.train(
        photos,
        output / "student",
        backbone="mobilenet_v3_small",
        weights="none",
        image_size=size,
        strategy="full",
        epochs=1,
        teacher=str(teacher.path),
        overwrite=True,
    )
    sizes = (f"{run.load_model().count_params():,}" for run in (teacher, student))
    print(f"to a smaller net: {' parameters to '.join(sizes)}")

    found = find_similar(photos, [photo], top=1, model=ModelSettings(image_size=size))
    print(f"search by similarity: {found.queries[0]['nearest'][0]['path']}")

    seen = next(explain(output / "integrated_extractor", [photo], output / "looks"))
    print(
        f"what it looks at: {seen['picture']}, {seen['label']} {seen['probability']:.0%}, hidden {seen['hidden']:.0%}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--image-size", default=224, type=int)
    arguments = parser.parse_args()
    main(arguments.photos, arguments.photo, arguments.output, arguments.image_size)
