from __future__ import annotations

import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.runtime.output import MAX_LINE_BYTES, TAIL_LINES, Lines, Mask, Tail, readable


def fed(machine, chunks):
    return b"".join(map(machine.feed, chunks)) + machine.rest()


@given(
    st.lists(st.sampled_from([b"secr", b"et", b"s", b"e", b"secret", b"abcd", b"ab", b"cd", b"\n", b" "]), max_size=20)
)
def test_a_secret_is_hidden_however_it_is_cut_into_pieces(chunks):
    shown = fed(Mask(["secret", "abcd"]), chunks)
    whole = b"".join(chunks)
    assert shown == whole.replace(b"secret", b"***").replace(b"abcd", b"***")


@given(st.lists(st.sampled_from([b"abab", b"ab", b"a", b"b", b"ababc", b"c", b"abcdabcdef"]), max_size=12))
def test_what_is_hidden_does_not_depend_on_the_pieces(chunks):
    secrets = ["ababc", "abcdabcdef", "dabc", "bcda"]
    assert fed(Mask(secrets), chunks) == fed(Mask(secrets), [b"".join(chunks)]) == hidden(Mask(secrets), chunks)


def hidden(mask, chunks):
    return mask.hide(b"".join(chunks).decode()).encode()


def test_without_secrets_all_is_shown_at_once():
    assert Mask([]).feed(b"abc") == b"abc"


def test_short_secrets_do_not_garble_the_log():
    assert fed(Mask(["a", ""]), [b"a banana"]) == b"a banana"


KEY = "-----BEGIN KEY-----\nzzFirst\"Line'é\n  zzSecondLine\\\nshort\n-----END KEY-----"


def leaks(shown):
    return [part for part in (b"zzFirst", b"zzSecond") if part in shown]


@pytest.mark.parametrize(
    "write",
    [
        str,
        repr,
        lambda key: repr({"KEY": key}),
        lambda key: repr(key.splitlines()),
        json.dumps,
        lambda key: json.dumps({"key": [key]}, ensure_ascii=False),
        lambda key: "\n".join(f"line: {line}" for line in key.splitlines()),
        lambda key: " ".join(key.split()),
        lambda key: "https://host/?key=" + quote(key),
        lambda key: "https://host/?key=" + quote(key, safe=""),
        lambda key: urlencode({"key": key}),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10000])
def test_a_secret_of_several_lines_is_hidden_however_it_is_written(write, size):
    text = write(KEY).encode()
    shown = fed(Mask([KEY]), [text[start : start + size] for start in range(0, len(text), size)])
    assert leaks(shown) == []
    assert b"***" in shown
    assert leaks(Mask([KEY]).hide(write(KEY)).encode()) == []


def test_what_is_around_the_lines_of_a_secret_is_shown():
    lines = [b"before\n", *(line.encode() + b"\n" for line in KEY.splitlines()), b"after\n"]
    assert fed(Mask([KEY]), lines) == b"before\n***\nafter\n"
    del lines[3]
    assert fed(Mask([KEY]), lines) == b"before\n***\n***\nshort\n***\nafter\n"


def test_a_text_of_its_own_is_not_mixed_with_what_is_held_back():
    mask = Mask(["secret"])
    assert mask.feed(b"a secr") == b"a "
    assert mask.hide("my secret") == "my ***"
    assert mask.rest() == b"secr"


def test_of_two_secrets_the_longer_is_hidden_whole():
    assert fed(Mask(["pass", "password"]), [b"passw", b"ord pass"]) == b"*** ***"


@given(st.binary(max_size=2000), st.integers(1, 50))
def test_lines_do_not_depend_on_the_pieces(content, size):
    whole, pieces = Lines(), Lines()
    once = [*whole.feed(content), *whole.rest()]
    cut = [line for i in range(0, len(content), size) for line in pieces.feed(content[i : i + size])]
    assert once == [*cut, *pieces.rest()]


def test_a_line_without_end_is_cut():
    lines = Lines()
    cut = list(lines.feed(b"x" * (2 * MAX_LINE_BYTES + 5)))
    assert [len(line) for line in cut] == [MAX_LINE_BYTES] * 2
    assert list(lines.rest()) == ["x" * 5]


def test_a_long_line_is_cut_too_where_its_end_comes_with_a_piece():
    lines = Lines()
    assert list(lines.feed(b"x" * MAX_LINE_BYTES)) == []
    cut = list(lines.feed(b"x" * 10 + b"\ny\n"))
    assert [len(line) for line in cut] == [MAX_LINE_BYTES, 10, 1]


def test_the_tail_keeps_the_last_lines():
    tail = Tail()
    for number in range(1000):
        tail.feed(f"line {number}\n".encode())
    assert len(tail.lines()) == TAIL_LINES
    assert tail.lines()[-1] == "line 999"


def test_the_tail_of_nothing_is_empty():
    tail = Tail()
    tail.feed(b"\n\n")
    assert tail.lines() == ()


def test_a_progress_bar_shows_its_last_state():
    assert readable(b"10%\r50%\r100%\r") == "100%"


def test_odd_bytes_become_replacement_characters():
    assert readable(b"a\xff\0b") == "a\ufffd\ufffdb"
