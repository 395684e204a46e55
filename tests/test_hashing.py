"""Hashes are names of what users have on their disks (caches, runs, bundles): no change may give another one."""

import numpy as np
import pytest

from keras_transfer.data import load_data
from keras_transfer.features.cache import FeatureCache, cache_key
from keras_transfer.features.shards import seal, unseal
from keras_transfer.hashing import sha256_of, sha256_of_file, sha256_of_json, sha256_of_parts, size_and_sha256

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
"""What ``printf abc | sha256sum`` says, which is in FIPS 180-4, too."""


def test_bytes_parts_and_files_of_the_same_content_have_one_hash(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    assert sha256_of(b"abc") == sha256_of_parts(iter([b"a", b"", b"bc"])) == ABC
    assert sha256_of_file(tmp_path / "file") == ABC
    assert size_and_sha256(tmp_path / "file") == (3, ABC)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert sha256_of(values.data) == sha256_of(values.tobytes())
    assert sha256_of(values.T.tobytes()) == sha256_of(np.ascontiguousarray(values.T).data)


def test_a_folder_has_the_hash_of_what_sha256sum_prints_for_its_files(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c.bin").write_bytes(b"")
    (tmp_path / "a.txt").write_bytes(b"abc")
    (tmp_path / "empty").mkdir()
    assert size_and_sha256(tmp_path) == (
        3,
        "55e61ed1226c7b24d320982c0778a8710bca38fa7c1a1a7dfbc7219c836a6379",
    )


def test_json_is_hashed_with_its_keys_sorted():
    known = "740a160e3ddab59978168efc51b93a644225b371ebdbf4c1b7966a2a59d81006"
    assert sha256_of_json({"b": 1, "a": [2, "é"]}) == sha256_of_json({"a": [2, "é"], "b": 1}) == known
    with pytest.raises(TypeError):
        sha256_of_json({"path": object()})


def test_the_names_of_what_is_cached_are_those_of_earlier_versions(tmp_path):
    key = {"b": 1, "a": [2, "é"]}
    assert cache_key(key) == "740a160e3ddab59978168efc51b93a64"
    assert FeatureCache(tmp_path).collection(key, {}).directory.name == "740a160e3ddab59978168efc51b93a64"
    known = "18536ddbda06b5e4f044a073e305cc9d310a41c9643b88726310983a2c05d3ac"
    sealed = f'{{"checksum": "x", "format": 1, "seal": "{known}"}}'
    assert seal({"checksum": "x"}) == sealed
    assert unseal(sealed.encode()) == {"checksum": "x", "format": 1}


def test_the_fingerprint_of_data_is_that_of_earlier_versions():
    images = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)
    table = load_data((images, np.array([0, 1, 0, 1])), val_fraction=0.25, test_fraction=0.25)
    assert table.sha256[0] == "e77ffc85999d00572695099e1a121b2d5a9ccc7a1a6cf71090d6e4bf36bc7d9c"
    assert table.fingerprint() == "a4c481949223a84e152d07f08bb191ac7a65013599858093252ec4772c96d009"
