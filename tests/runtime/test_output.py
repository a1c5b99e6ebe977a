from __future__ import annotations

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


def test_without_secrets_all_is_shown_at_once():
    assert Mask([]).feed(b"abc") == b"abc"


def test_short_secrets_do_not_garble_the_log():
    assert fed(Mask(["a", ""]), [b"a banana"]) == b"a banana"


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
