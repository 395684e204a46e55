"""`keras-transfer train tfds:NAME`, in a fresh process, on a data set that TFDS itself prepared from files."""

import json
import os
import subprocess
import sys

import pytest


@pytest.mark.nightly
def test_a_data_set_built_from_files_trains_by_name(photo_folder, tmp_path):
    import tensorflow_datasets as tfds

    class KtPhotoCrops(tfds.core.GeneratorBasedBuilder):
        """The crops of the two photographs."""

        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3)),
                    "label": tfds.features.ClassLabel(names=["flower", "china"]),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features, supervised_keys=("image", "label"))

        def _split_generators(self, dl_manager):
            return {"train": self._files(range(15)), "test": self._files(range(15, 20))}

        def _generate_examples(self, *arguments):
            raise AssertionError("the splits are given as generators")

        def _files(self, numbers):
            for name in ("flower", "china"):
                for number in numbers:
                    path = photo_folder / name / f"{number:03d}.png"
                    yield f"{name}{number}", {"image": str(path), "label": name}

    KtPhotoCrops(data_dir=str(tmp_path / "tfds")).download_and_prepare()
    command = [
        sys.executable, "-m", "keras_transfer", "train", "tfds:kt_photo_crops", "--tfds-data-dir", tmp_path / "tfds",
        "--output", tmp_path / "run", "--backbone", "tiny", "--image-size", "96", "--strategy", "probe",
        "--engine", "keras", "--json",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    info = json.loads(done.stdout)
    assert info["data"]["splits"]["test"]["images"] == 10
    assert info["output"]["names"] == ["flower", "china"]
    assert info["metrics"]["test"]["accuracy"] >= 0.8
    assert "oneDNN" not in done.stderr and "WARNING" not in done.stderr, done.stderr
