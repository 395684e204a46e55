"""The old torch format is read without torch, and nothing in a file is ever run."""

from __future__ import annotations

import io
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from keras_transfer.backbones.efficientnet_lite import pip_file
from keras_transfer.backbones.torch_legacy import parse_torch_legacy, read_torch_legacy
from keras_transfer.errors import WeightsError

MAGIC = 0x1950A86A20F9469CFC6C
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Global:
    """Pickles as a reference to ``module name``, which need not exist here."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name


class Storage:
    def __init__(self, kind: str, key: str, numbers: np.ndarray) -> None:
        self.kind, self.key, self.numbers = kind, key, numbers


class Call:
    """Pickles as a call of a global with arguments."""

    def __init__(self, module: str, name: str, *arguments) -> None:
        self.function, self.arguments = Global(module, name), arguments


class Pickler(pickle._Pickler):  # the Python one: it lets us write globals that do not exist
    def save(self, obj, save_persistent_id=True):
        if isinstance(obj, Global):
            return self.write(f"c{obj.module}\n{obj.name}\n".encode())
        if isinstance(obj, Call):
            self.save(obj.function)
            self.save(obj.arguments)
            return self.write(pickle.REDUCE)
        return super().save(obj, save_persistent_id)

    def persistent_id(self, obj):
        if isinstance(obj, Storage):
            return ("storage", Global("torch", obj.kind), obj.key, "cpu", obj.numbers.size, None)
        return None


def dump(obj) -> bytes:
    stream = io.BytesIO()
    Pickler(stream, protocol=2).dump(obj)
    return stream.getvalue()


def tensor(storage: Storage, offset, shape, strides) -> Call:
    return Call(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage,
        offset,
        shape,
        strides,
        False,
        Call("collections", "OrderedDict"),
    )


def torch_file(tensors: dict, storages: list[Storage], system=SYSTEM, keys=None, counts=None) -> bytes:
    """The bytes ``torch.save(..., _use_new_zipfile_serialization=False)`` would write."""
    keys = [s.key for s in storages] if keys is None else keys
    data = b"".join(dump(part) for part in (MAGIC, 1001, system, tensors, keys))
    for i, storage in enumerate(storages):
        data += struct.pack("<q", counts[i] if counts else storage.numbers.size) + storage.numbers.tobytes()
    return data


@pytest.fixture
def weight() -> Storage:
    return Storage("FloatStorage", "1", np.arange(12, dtype="<f4"))


def test_the_pip_package_file_is_read_whole():
    tensors = read_torch_legacy(pip_file())
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_bn0.num_batches_tracked"].dtype == np.int64
    assert tensors["_fc.bias"].shape == (1000,)
    assert all(np.isfinite(array).all() for array in tensors.values())
    assert all((array >= 0).all() for name, array in tensors.items() if name.endswith("running_var"))


def test_offsets_and_strides_are_honoured(weight):
    file = torch_file(
        {
            "rows": tensor(weight, 0, (3, 4), (4, 1)),
            "columns": tensor(weight, 2, (2, 3), (1, 4)),
            "one": tensor(weight, 11, (), ()),
        },
        [weight],
    )
    tensors = parse_torch_legacy(file)
    np.testing.assert_array_equal(tensors["rows"], np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(tensors["columns"], [[2, 6, 10], [3, 7, 11]])
    assert tensors["one"] == 11
    assert all(array.flags.c_contiguous and array.flags.writeable for array in tensors.values())


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("DoubleStorage", "<f8"),
        ("HalfStorage", "<f2"),
        ("LongStorage", "<i8"),
        ("ByteStorage", "u1"),
        ("BoolStorage", "?"),
    ],
)
def test_number_types(kind, dtype):
    numbers = np.array([0, 1, 1, 0]).astype(dtype)
    storage = Storage(kind, "k", numbers)
    (array,) = parse_torch_legacy(torch_file({"t": tensor(storage, 0, (2, 2), (2, 1))}, [storage])).values()
    assert array.dtype == numbers.dtype
    np.testing.assert_array_equal(array, numbers.reshape(2, 2))


def refused(file: bytes, words: str) -> None:
    with pytest.raises(WeightsError, match=words):
        parse_torch_legacy(file, "some.pth")


def test_a_program_in_the_file_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    for protocol in range(5):
        payload = pickle.dumps(OrderedDict(a=Evil()), protocol=protocol)
        refused(dump(MAGIC) + dump(1001) + dump(SYSTEM) + payload, "some.pth is not a usable torch file")
        refused(payload, "some.pth is not a usable torch file")
    refused(torch_file({"a": Call("os", "mkdir", str(tmp_path / "owned"))}, []), "names 'os mkdir'")
    refused(torch_file({"a": Call("builtins", "eval", "1")}, []), "names 'builtins eval'")
    assert not (tmp_path / "owned").exists()


def test_allowed_names_are_refused_in_other_uses(weight):
    refused(
        torch_file({"a": Call("collections", "OrderedDict", [("a", 1)])}, []), "in a way tensors do not need"
    )
    refused(torch_file({"a": Call("torch", "FloatStorage", 10**12)}, []), "in a way tensors do not need")
    refused(torch_file({"a": Call("torch._utils", "_rebuild_tensor_v2", 1, 2)}, []), "damaged")


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (13,), (1,)),
        (1, (12,), (1,)),
        (0, (3, 4), (5, 1)),
        (13, (), ()),
        (-1, (2,), (1,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
        (0, (10**6, 10**6), (0, 0)),  # would ask for terabytes
        (0, (True,), (1,)),
    ],
)
def test_a_tensor_beyond_its_storage_is_refused(weight, offset, shape, strides):
    refused(
        torch_file({"t": tensor(weight, offset, shape, strides)}, [weight]),
        "beyond its storage|impossible shape",
    )


def test_wrong_layouts_are_refused(weight):
    good = {"t": tensor(weight, 0, (12,), (1,))}
    refused(b"", "damaged or cut off")
    refused(b"PK\x03\x04rest", "newer zip format")
    refused(dump(1) + torch_file(good, [weight]), "magic number")
    refused(dump(MAGIC) + dump(1000), "protocol version")
    refused(torch_file(good, [weight], system={"little_endian": False}), "little-endian")
    refused(torch_file([1, 2], []), "not a flat dictionary")
    refused(torch_file({"t": 3}, []), "not a flat dictionary")
    refused(torch_file({"state_dict": good}, [weight]), "not a flat dictionary")
    refused(torch_file(good, [weight], keys=["2"]), "list of storages")
    refused(torch_file(good, [weight], keys=["1", "1"]), "list of storages")
    refused(torch_file(good, [weight], counts=[11]), "holds 11 numbers, its tensors expect 12")
    refused(torch_file(good, [weight], counts=[-1]), "holds -1 numbers")
    refused(torch_file(good, [weight]) + b"\0", "follow the last storage")
    other = Storage("FloatStorage", "1", np.zeros(5, "<f4"))
    refused(torch_file(good | {"u": tensor(other, 0, (5,), (1,))}, [weight]), "disagree about a storage")


def test_every_truncation_is_refused(weight):
    file = torch_file({"t": tensor(weight, 0, (12,), (1,))}, [weight])
    assert parse_torch_legacy(file)
    for length in range(len(file)):
        with pytest.raises(WeightsError):
            parse_torch_legacy(file[:length])


def test_a_missing_file_and_a_truncated_real_file(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pth cannot be read"):
        read_torch_legacy(tmp_path / "none.pth")
    cut = tmp_path / "cut.pth"
    cut.write_bytes(pip_file().read_bytes()[:1_000_000])
    with pytest.raises(WeightsError, match=r"cut\.pth.*cut off"):
        read_torch_legacy(cut)


HEADER = dump(MAGIC) + dump(1001) + dump(SYSTEM)
VALID = torch_file(
    {"t": tensor(Storage("FloatStorage", "1", np.arange(4, dtype="<f4")), 0, (4,), (1,))},
    [Storage("FloatStorage", "1", np.arange(4, dtype="<f4"))],
)
# Bytes that are mostly meaningful instructions reach further than uniform ones.
INSTRUCTIONS = st.lists(
    st.sampled_from([bytes([code]) for code in b"()N.02}]RbQsueat\x81\x85\x86\x87\x88oi"])
    | st.sampled_from([b"K\x01", b"q\x00", b"h\x00", b"j\xff\xff\xff\x7f", b"r\xff\xff\xff\x7f", b"\x82\x01"])
    | st.sampled_from([b"ccollections\nOrderedDict\n", b"ctorch\nFloatStorage\n", b"cos\nsystem\n"])
    | st.sampled_from(
        [b"ctorch._utils\n_rebuild_tensor_v2\n", b"X\x07\x00\x00\x00storage", b"X\x01\x00\x00\x00a"]
    )
    | st.sampled_from([b"X\xff\xff\xff\x7f", b"\x8d" + b"\xff" * 8]),
    max_size=40,
).map(b"".join)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=300)
    | st.binary(max_size=300).map(HEADER.__add__)
    | INSTRUCTIONS.map(HEADER.__add__)
    | INSTRUCTIONS
)
@example(HEADER + b"}" + b"X\x01\x00\x00\x00a" + b"(" * 50)
def test_arbitrary_bytes_only_raise(data):
    """Nothing but WeightsError comes out, whatever goes in. (An audit hook below sees attempts to do more.)"""
    with forbidden_actions(), pytest.raises(WeightsError):
        parse_torch_legacy(data)


@settings(max_examples=400, deadline=None)
@given(st.integers(0, len(VALID) - 1), st.integers(0, 255))
@example(VALID.rindex(b"K\x04") + 1, 0)  # a side of the tensor: no numbers at all
def test_a_valid_file_with_one_byte_changed(position, value):
    """It still gives one float tensor of four numbers, or is refused."""
    changed = VALID[:position] + bytes([value]) + VALID[position + 1 :]
    with forbidden_actions():
        try:
            tensors = parse_torch_legacy(changed)
        except WeightsError:
            return
    assert [array.size for array in tensors.values()] == [4]


_watching = False


def _audit(event: str, _arguments) -> None:
    if _watching and event in (
        "import",
        "exec",
        "compile",
        "open",
        "os.system",
        "subprocess.Popen",
        "pickle.find_class",
    ):
        raise AssertionError(f"reading weights did {event}")


class forbidden_actions:
    """Within the block, importing, opening, compiling or starting anything is an error."""

    installed = False

    def __enter__(self):
        global _watching
        if not forbidden_actions.installed:
            import sys

            sys.addaudithook(_audit)
            forbidden_actions.installed = True
        _watching = True

    def __exit__(self, *_):
        global _watching
        _watching = False


def test_the_watch_itself_works():
    with pytest.raises(AssertionError, match="compile"), forbidden_actions():
        eval("1 + 1")
