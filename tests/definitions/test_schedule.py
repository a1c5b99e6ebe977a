from __future__ import annotations

from datetime import timedelta

import pytest

from airflow_mlpipe.definitions import AssetAll, AssetAny, Schedule
from airflow_mlpipe.definitions.schedule import PRESETS, schedule, uses_assets
from tests.definitions.helpers import refused


@pytest.mark.parametrize(
    "text",
    [
        *PRESETS,
        "0 0 * * *",
        "*/15 6-18 1,15 jan-jun mon-fri",
        "30 6 * * 1#2",
        "0 0 L * *",
        "0 12 ? * 5L",
        "0 0 1-7/2 * 7",
    ],
)
def test_cron_expressions_and_presets_stay_as_they_are(text):
    assert schedule(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("@weekli", "Did you mean @weekly?"),
        ("weekly", "Did you mean @weekly?"),
        ("2 hours", 'Write an interval as {every: "2 hours"}'),
        ("* * * *", "it has 4 fields instead of 5"),
        ("60 * * * *", "60 is no minute"),
        ("* 24 * * *", "24 is no hour"),
        ("* * 0 * *", "0 is no day"),
        ("* * * foo *", "foo is no month"),
        ("* * * * 8", "8 is no weekday"),
        ("*/0 * * * *", "*/0 is no minute"),
        ("", "it has 0 fields"),
    ],
)
def test_a_text_that_is_no_schedule_is_refused_with_what_was_meant(text, words):
    with refused(words):
        schedule(text)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ({"every": "2 hours"}, timedelta(hours=2)),
        ({"every": "PT2H"}, timedelta(hours=2)),
        ({"hours": 1, "minutes": 30}, timedelta(minutes=90)),
        ({"days": 1}, timedelta(days=1)),
        (timedelta(minutes=5), timedelta(minutes=5)),
    ],
)
def test_an_interval_is_written_in_words_or_units(written, expected):
    assert schedule(written) == Schedule(every=expected)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a", "a"),
        ("s3://x/a & b", AssetAll(all=("s3://x/a", "b"))),
        ("a & b | c", AssetAny(any=(AssetAll(all=("a", "b")), "c"))),
        ("a & (b | c)", AssetAll(all=("a", AssetAny(any=("b", "c"))))),
        ("((a))", "a"),
        ("'with space' & \"s3://x?a=1&b\"", AssetAll(all=("'with space'", "'s3://x?a=1&b'"))),
        (["a", "b"], AssetAll(all=("a", "b"))),
        (["a"], "a"),
        ({"any": ["a", {"all": ["b", "c & d"]}]}, AssetAny(any=("a", AssetAll(all=("b", AssetAll(all=("c", "d"))))))),
    ],
)
def test_an_asset_expression_binds_and_before_or(written, expected):
    made = schedule({"assets": written})
    assert made.assets == expected
    assert uses_assets(made)


def test_assets_may_be_the_whole_schedule():
    assert schedule(["a", "b"]) == schedule({"all": ["a", "b"]}) == schedule({"assets": "a & b"})
    assert not uses_assets("@weekly")
    assert not uses_assets(Schedule(every=timedelta(1)))


@pytest.mark.parametrize("text", ["", "a &", "& a", "(a", "a)", "a b", "()", "a & | b", "'a", "a | (b &)"])
def test_an_asset_expression_that_cannot_be_read_is_refused(text):
    with refused("asset expression"):
        schedule({"assets": text})


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({}, "one of the two"),
        ({"every": "2 hours", "assets": "a"}, "one of the two"),
        ({"every": 0}, "longer than nothing"),
        ({"hours": "x"}, "is not a duration"),
        ({"every": "soon"}, "is not a duration"),
        ({"evry": "2 hours"}, "Did you mean every?"),
        ({"all": []}, "must not be empty"),
        ({"any": ["a", 3]}, "is not an asset expression"),
        ([], "is not an asset expression"),
        (3, "is not a schedule"),
        (True, "is not a schedule"),
    ],
)
def test_what_is_no_schedule_is_refused(written, words):
    with refused(words):
        schedule(written)
