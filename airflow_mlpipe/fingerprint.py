"""The digest that decides reuse: a canonical encoding of named components, hashed.

Every value is written as a tag, a length and its bytes, so no two different values share an encoding
(``["ab", "c"]`` and ``["a", "bc"]`` differ, ``1`` and ``1.0`` and ``"1"`` and ``True`` differ).
The encoding is versioned: a change of it changes every fingerprint, and tests pin literal digests.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

FORMAT = "mlpipe-fingerprint/1"

Value: TypeAlias = "bool | int | float | str | bytes | Sequence[Value] | Mapping[str, Value] | None"


def fingerprint(components: Mapping[str, Value]) -> str:
    """Return the fingerprint of named components: 64 hexadecimal digits.

    :raises TypeError: if a value has no canonical form (a set, an object, a mapping with other keys than strings).
    :raises ValueError: if a number is NaN or infinite, or a string cannot be written as UTF-8.
    """
    return hashlib.sha256(FORMAT.encode() + b"\n" + encode(components)).hexdigest()


def encode(value: Value) -> bytes:
    """Return the canonical bytes of a value; see `fingerprint` for what has none."""
    parts: list[bytes] = []
    _encode(value, parts)
    return b"".join(parts)


def _encode(value: Value, parts: list[bytes]) -> None:  # noqa: C901 -- one case a type
    match value:
        case None:
            parts.append(b"n")
        case True:
            parts.append(b"t")
        case False:
            parts.append(b"f")
        case int():
            parts.append(_sized(b"i", str(value).encode()))
        case float():
            parts.append(b"d" + struct.pack(">d", _finite(value)))
        case str():
            parts.append(_sized(b"s", value.encode()))
        case bytes():
            parts.append(_sized(b"b", value))
        case dict() | Mapping():  # the concrete types are much faster to tell
            parts.append(b"m%d:" % len(value))
            for key in sorted(_checked_keys(value)):
                parts.append(_sized(b"s", key.encode()))
                _encode(value[key], parts)
        case list() | tuple() | Sequence():
            parts.append(b"l%d:" % len(value))
            for item in value:
                _encode(item, parts)
        case _:
            message = f"a fingerprint component must be plain data, not {type(value).__name__}: {value!r}"
            raise TypeError(message)


def _sized(tag: bytes, content: bytes) -> bytes:
    return b"%b%d:%b" % (tag, len(content), content)


def _finite(number: float) -> float:
    if not math.isfinite(number):
        message = f"a fingerprint component must be a finite number, not {number}"
        raise ValueError(message)
    return number + 0.0  # -0.0 equals 0.0 and must not differ from it


def _checked_keys(mapping: Mapping[str, Value]) -> Mapping[str, Value]:
    for key in mapping:
        if not isinstance(key, str):
            message = f"the keys of a fingerprint component must be strings, not {type(key).__name__}: {key!r}"
            raise TypeError(message)
    return mapping
