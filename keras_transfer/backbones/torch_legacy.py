"""Reading the torch file format of before 2020 (not a zip) without torch and without ever running the file.

A ``.pth`` file of that kind is a row of pickles followed by raw numbers::

    magic number | protocol version 1001 | system facts | the object | storage keys | (int64 count, raw data) per key

A pickle is a program. The interpreter below knows the two dozen instructions that a dictionary
of tensors needs, never imports or calls anything the file names, and refuses everything else.

Source: ``torch.serialization._legacy_save``, and ``pickletools`` for the instructions.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..errors import WeightsError

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
_GLOBALS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"} | {f"torch {n}" for n in _DTYPES}


@dataclass(frozen=True)
class _Global:
    """A name the file mentions. It stands for itself; nothing is imported."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """A block of numbers at the end of the file."""

    key: str
    dtype: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage: offset, shape and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Refused(Exception):
    """The bytes are not what this reader knows."""


def read_torch_legacy(path: Path) -> dict[str, np.ndarray]:
    """The tensors of an old-format ``.pth`` file, by name, in file order, as own C-contiguous arrays.

    The file must hold one flat dictionary from names to tensors (a ``state_dict``).
    Raises :class:`WeightsError` for a missing, damaged, truncated or newer-format file, or one with anything else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"The weights file {path} cannot be read: {error.strerror or error}.") from error
    return parse_torch_legacy(data, str(path))


def parse_torch_legacy(data: bytes, source: str = "the given bytes") -> dict[str, np.ndarray]:
    """Like :func:`read_torch_legacy`, from bytes. ``source`` is only used in messages."""
    if data[:4] == b"PK\x03\x04":
        raise WeightsError(
            f"{source} is in torch's newer zip format; expected the old one. Save it again with "
            "torch.save(state_dict, path, _use_new_zipfile_serialization=False), or give a .weights.h5 file."
        )
    try:
        return _parse(data)
    except _Refused as reason:
        raise WeightsError(
            f"{source} is not a usable torch file of the old format: {reason}. Expected a dictionary of tensors "
            "and nothing else; download or save the file again."
        ) from None


def _parse(data: bytes) -> dict[str, np.ndarray]:
    stream = io.BytesIO(data)
    if _unpickle(stream) != _MAGIC:
        _refuse("it does not begin with torch's magic number")
    if _unpickle(stream) != _PROTOCOL:
        _refuse(f"its protocol version is not {_PROTOCOL}")
    system = _unpickle(stream)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        _refuse("it was not written on a little-endian machine")
    tensors = _unpickle(stream)
    keys = _unpickle(stream)
    if not isinstance(tensors, dict) or not all(isinstance(t, _Tensor) for t in tensors.values()):
        _refuse("its object is not a flat dictionary of tensors")
    if not isinstance(keys, list) or not all(isinstance(k, str) for k in keys) or len(set(keys)) != len(keys):
        _refuse("its list of storages is damaged")
    storages: dict[str, _Storage] = {}
    for tensor in tensors.values():
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            _refuse("two tensors disagree about a storage")
    if set(storages) != set(keys):
        _refuse("its list of storages does not fit its tensors")
    arrays = {key: _read_storage(stream, storages[key]) for key in keys}
    if stream.read(1):
        _refuse("bytes follow the last storage")
    return {name: _materialise(tensor, arrays[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_storage(stream: io.BytesIO, storage: _Storage) -> np.ndarray:
    header = stream.read(8)
    if len(header) < 8:
        _refuse("it is cut off before a storage")
    (count,) = struct.unpack("<q", header)
    if count != storage.count:
        _refuse(f"a storage holds {count} numbers, its tensors expect {storage.count}")
    dtype = np.dtype(storage.dtype)
    left = stream.getbuffer().nbytes - stream.tell()
    if count * dtype.itemsize > left:
        _refuse(f"it is cut off: a storage needs {count * dtype.itemsize} bytes, {left} are left")
    return np.frombuffer(stream.read(count * dtype.itemsize), dtype)


def _materialise(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    """The tensor's elements, gathered through its strides (channels-last tensors are stored permuted)."""
    strides = tuple(s * numbers.itemsize for s in tensor.strides)
    view = np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, order="C", copy=True)


def _refuse(reason: str) -> NoReturn:
    raise _Refused(reason)


# ------------------------------------------------------------------ the pickle subset


class _Machine:
    """The stack, the marks and the memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            _refuse("its pickle takes more than it has put")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        if not self.marks:
            _refuse("its pickle closes what it has not opened")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0) or type(self.stack[-1]) is not kind:
            _refuse("its pickle fills something that is not there")
        return self.stack[-1]


def _set_items(machine: _Machine, items: list[Any]) -> None:
    target = machine.top(dict)
    if len(items) % 2 or not all(type(key) is str for key in items[::2]):
        _refuse("a dictionary in it has keys that are not text")
    target.update(zip(items[::2], items[1::2], strict=True))


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


def _reduce(machine: _Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    if not isinstance(function, _Global) or type(arguments) is not tuple:
        _refuse("it calls something that is not a tensor's constructor")
    if function.name == "collections OrderedDict" and arguments == ():
        machine.stack.append({})
    elif function.name == "torch._utils _rebuild_tensor_v2":
        machine.stack.append(_rebuild_tensor(arguments))
    else:
        _refuse(f"it calls {function.name!r} in a way tensors do not need")


def _rebuild_tensor(arguments: tuple[Any, ...]) -> _Tensor:
    """``_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`` with every bound checked."""
    if len(arguments) != 6 or not isinstance(arguments[0], _Storage):
        _refuse("a tensor in it is damaged")
    storage, offset, shape, strides = arguments[:4]
    for numbers in (shape, strides, (offset,)):
        if type(numbers) is not tuple or not all(type(n) is int and 0 <= n < 2**40 for n in numbers):
            _refuse("a tensor in it has an impossible shape")
    if len(shape) != len(strides) or len(shape) > 8:
        _refuse("a tensor in it has an impossible shape")
    size = math.prod(shape)
    if not size:
        _refuse("a tensor in it holds no number")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if size > storage.count or last >= storage.count:
        _refuse("a tensor in it reaches beyond its storage")
    return _Tensor(storage, offset, shape, strides)


def _persistent(machine: _Machine, _: Any) -> None:
    """``('storage', type, key, device, count, None)`` becomes a :class:`_Storage`."""
    match machine.pop():
        case ("storage", _Global(name=name), str(key), str(), int(count), None) if (
            name.removeprefix("torch ") in _DTYPES and 0 <= count < 2**40
        ):
            machine.stack.append(_Storage(key, _DTYPES[name.removeprefix("torch ")], count))
        case _:
            _refuse("it refers to something that is not a storage")


def _build(machine: _Machine, _: Any) -> None:
    """A state_dict carries ``_metadata`` (module versions), set as an attribute: not needed, dropped."""
    machine.pop()
    machine.top(dict)


def _append_items(machine: _Machine, items: list[Any]) -> None:
    machine.top(list).extend(items)


def _tuple_of(count: int) -> Callable[[_Machine, Any], None]:
    def run(machine: _Machine, _: Any) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return run


def _global(machine: _Machine, name: str) -> None:
    if name not in _GLOBALS:
        _refuse(f"it names {name!r}, which no tensor needs")
    machine.stack.append(_Global(name))


def _put(machine: _Machine, index: int) -> None:
    machine.memo[index] = machine.top(type(machine.stack[-1]) if machine.stack else object)


def _get(machine: _Machine, index: int) -> None:
    if index not in machine.memo:
        _refuse("its pickle recalls what it has not stored")
    machine.stack.append(machine.memo[index])


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


_INSTRUCTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda m, a: None,
    "MARK": lambda m, a: m.marks.append(len(m.stack)),
    "NONE": _push,
    "NEWTRUE": lambda m, a: m.stack.append(True),
    "NEWFALSE": lambda m, a: m.stack.append(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE"), _push),
    "EMPTY_TUPLE": _tuple_of(0),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "TUPLE": lambda m, a: m.stack.append(tuple(m.pop_to_mark())),
    "EMPTY_LIST": lambda m, a: m.stack.append([]),
    "APPEND": lambda m, a: _append_items(m, [m.pop()]),
    "APPENDS": lambda m, a: _append_items(m, m.pop_to_mark()),
    "EMPTY_DICT": lambda m, a: m.stack.append({}),
    "SETITEM": _set_item,
    "SETITEMS": lambda m, a: _set_items(m, m.pop_to_mark()),
    "GLOBAL": _global,
    "REDUCE": _reduce,
    "BINPERSID": _persistent,
    "BUILD": _build,
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _put),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _get),
}


def _unpickle(stream: io.BytesIO) -> Any:
    """Run one pickle from the stream's position; the stream stands behind it afterwards."""
    machine = _Machine()
    try:
        for instruction, argument, _ in pickletools.genops(stream):
            if instruction.name == "STOP":
                value = machine.pop()
                if machine.stack or machine.marks:
                    _refuse("its pickle leaves something over")
                return value
            run = _INSTRUCTIONS.get(instruction.name)
            if run is None:
                _refuse(f"its pickle uses the instruction {instruction.name}, which no tensor needs")
            run(machine, argument)
    except ValueError as error:  # pickletools on bytes that are no pickle, or cut off
        _refuse(f"its pickle is damaged or cut off ({error})")
    _refuse("its pickle has no end")
