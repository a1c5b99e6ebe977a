from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.fingerprint import encode, fingerprint

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | st.binary(max_size=8)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)


def decode(encoded):
    """Read an encoding back: possible only if no two values share one."""
    value, rest = _decode(encoded)
    assert rest == b""
    return value


def _decode(data):
    tag, data = data[:1], data[1:]
    if tag in {b"n", b"t", b"f"}:
        return {b"n": None, b"t": True, b"f": False}[tag], data
    if tag == b"d":
        return ("float", data[:8]), data[8:]
    length, _, data = data.partition(b":")
    count = int(length)
    if tag in {b"i", b"s", b"b"}:
        raw = data[:count]
        return {b"i": int, b"s": bytes.decode, b"b": bytes}[tag](raw), data[count:]
    items = []
    for _ in range(count * (2 if tag == b"m" else 1)):
        item, data = _decode(data)
        items.append(item)
    return (dict(zip(items[::2], items[1::2], strict=True)) if tag == b"m" else items), data


def as_decoded(value):
    """Return what `decode` gives for a value; a float as its bytes."""
    import struct

    match value:
        case float():
            return ("float", struct.pack(">d", value + 0.0))
        case list() | tuple():
            return [as_decoded(item) for item in value]
        case dict():
            return {key: as_decoded(item) for key, item in value.items()}
    return value


def typed(value):
    """Return a value that differs from another wherever one of their types does."""
    match value:
        case list():
            return ["list", *map(typed, value)]
        case dict():
            return {key: typed(item) for key, item in value.items()}
    return (type(value).__name__, value)


@pytest.mark.parametrize(
    ("components", "digest"),
    [
        ({}, "d9d2490e9c207cd4c4bd94567311b2b53feaab0ac6d7696e787449118fc8a461"),
        ({"kind": "python_script"}, "f3fed21264549e72888e776a5f39d8a9a5b53d4e743fbd4772f5673ee54c0c31"),
        (
            {"a": 1, "b": 1.0, "c": "1", "d": True, "e": None},
            "7f58dbd63fb1e9920ed56a2af59b4f6d4d691f36da83d94299e5e6e785786fee",
        ),
        (
            {
                "code": "sha256:0000000000000000000000000000000000000000000000000000000000000000",
                "parameters": {"c": 0.1, "name": "größe"},
                "outputs": ["model"],
            },
            "c9e82d35be871fe8aaa6c46fa9170aaa64c1c2b80bba5f4cc338838636b51589",
        ),
    ],
)
def test_rule_1_fingerprints_are_pinned(components, digest):
    assert fingerprint(components) == digest


def test_rule_1_the_encoding_is_pinned():
    value = {"b": [1, -1.5, "é", b"\x00"], "a": {"t": True, "f": False, "n": None}}
    assert encode(value) == (b"m2:s1:am3:s1:ffs1:nns1:tts1:bl4:i1:1d\xbf\xf8\x00\x00\x00\x00\x00\x00s2:\xc3\xa9b1:\x00")


@given(VALUES)
def test_rule_1_an_encoding_can_be_read_back(value):
    assert typed(decode(encode(value))) == typed(as_decoded(value))


@given(VALUES, VALUES)
def test_rule_1_different_values_have_different_encodings(first, second):
    assert (encode(first) == encode(second)) == (typed(as_decoded(first)) == typed(as_decoded(second)))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["ab", "c"], ["a", "bc"]),
        (1, 1.0),
        (1, "1"),
        (1, True),
        (0, False),
        ("", None),
        ("a", b"a"),
        ([], {}),
        ([], None),
        ([[]], []),
        (["a", ["b"]], ["a", "b"]),
        ({"a": "b", "c": "d"}, {"a": "bc", "": "d"}),
    ],
)
def test_rule_1_what_looks_alike_differs(first, second):
    assert fingerprint({"value": first}) != fingerprint({"value": second})


def test_rule_1_the_order_of_keys_does_not_matter():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})


def test_a_tuple_is_a_list_and_minus_zero_is_zero():
    assert encode((1, 2)) == encode([1, 2])
    assert encode(-0.0) == encode(0.0)


@pytest.mark.parametrize("value", [{1, 2}, object(), {1: 2}, {"a": {None: 1}}, [iter(())], 1j])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(TypeError, match="a fingerprint component must"):
        fingerprint({"value": value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "\ud800"])
def test_what_cannot_be_written_is_refused(value):
    with pytest.raises(ValueError):  # noqa: PT011 -- Python's own message for a lone surrogate
        fingerprint({"value": value})
