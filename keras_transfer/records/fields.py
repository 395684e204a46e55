"""Taking the fields of a JSON object with the kinds they must have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class DamagedError(ValueError):
    """A record without a field that is relied on, or with another kind of value in it; the text names the field."""


class Fields:
    """The fields of a JSON object.

    Args:
        values: the object.
        place: where it is in the whole record, for messages: ``"request"``.

    Raises:
        DamagedError: here where ``values`` is no object, and by every method for a field of another kind, or that is
            missing and has no default.
    """

    def __init__(self, values: Any, place: str = "") -> None:
        self._place = place
        if not isinstance(values, Mapping):
            raise DamagedError(f"{place or 'the record'} is {_kind(values)}, not an object")
        self.values: Mapping[str, Any] = values

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str, *kinds: type, default: Any = ...) -> Any:
        """The value of a field, one of these kinds; ``default`` where the field is missing."""
        if key not in self.values:
            if default is ...:
                raise DamagedError(f"{self._name(key)} is missing")
            return default
        value = self.values[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            expected = " or ".join(_NAMES[kind] for kind in kinds)
            raise DamagedError(f"{self._name(key)} is {_kind(value)}, not {expected}")
        return value

    def text(self, key: str, default: Any = ...) -> str:
        """A text."""
        return self.get(key, str, default=default)

    def maybe_text(self, key: str) -> str | None:
        """A text, or None; None where the field is missing, too."""
        return self.get(key, str, type(None), default=None)

    def whole(self, key: str, default: Any = ...) -> int:
        """A whole number."""
        return self.get(key, int, default=default)

    def mapping(self, key: str, default: Any = ...) -> Mapping[str, Any]:
        """An object, as it is."""
        return self.get(key, dict, default=default)

    def texts(self, key: str, default: Any = ...) -> tuple[str, ...]:
        """A list of texts."""
        return self._list(key, str, "texts", default)

    def wholes(self, key: str, default: Any = ...) -> tuple[int, ...]:
        """A list of whole numbers."""
        return self._list(key, int, "whole numbers", default)

    def inner(self, key: str) -> Fields:
        """An object, to take its fields."""
        return Fields(self.mapping(key), self._name(key).strip("'"))

    def _list(self, key: str, kind: type, what: str, default: Any) -> tuple[Any, ...]:
        found = self.get(key, list, default=default)
        if not all(isinstance(one, kind) and not isinstance(one, bool) for one in found):
            raise DamagedError(f"{self._name(key)} is not a list of {what}")
        return tuple(found)

    def _name(self, key: str) -> str:
        return f"'{self._place}.{key}'" if self._place else f"'{key}'"


_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "an object",
    list: "a list",
    type(None): "null",
}


def _kind(value: Any) -> str:
    return _NAMES.get(type(value), f"a {type(value).__name__}")
