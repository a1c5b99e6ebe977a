from __future__ import annotations

import errno

import pytest

from airflow_mlpipe.exceptions import StoreUnreachableError
from airflow_mlpipe.store import attempts


class Failing:
    """Fails for ever, each try taking its time."""

    def __init__(self, error, clock, seconds=0.0):
        self.error, self.clock, self.seconds = error, clock, seconds
        self.calls = 0

    def __call__(self):
        self.calls += 1
        self.clock.now += self.seconds
        raise self.error


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(attempts, "time", clock)
    return clock


def test_what_takes_a_client_long_to_fail_is_not_repeated(clock):
    quick = Failing(TimeoutError(errno.ETIMEDOUT, "timed out"), clock, seconds=attempts.PATIENCE)
    with pytest.raises(TimeoutError):
        attempts.retried(quick)
    assert quick.calls == len(attempts.PAUSES) + 1
    slow = Failing(TimeoutError(errno.ETIMEDOUT, "timed out"), clock, seconds=attempts.PATIENCE + 1)
    with pytest.raises(TimeoutError):
        attempts.retried(slow)
    assert slow.calls == 1


def test_an_error_inside_a_service_may_pass():
    assert attempts.may_pass(OSError(errno.EREMOTEIO, "We encountered an internal error. Please try again."))
    assert attempts.may_pass(OSError(errno.EBUSY, "Please reduce your request rate."))
    assert not attempts.may_pass(OSError(errno.ENXIO, "there is no bucket"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/store", "s3://bucket/store"),
        ("sftp://me:secret@host/store", "sftp://me:***@host/store"),
        ("cannot reach http://me:secret@host:9000/b?x=1", "cannot reach http://me:***@host:9000/b?x=1"),
        ("https://a.blob/c?sv=1&sig=abc%3D&se=2", "https://a.blob/c?sv=1&sig=***&se=2"),
        (
            "https://b.s3/k?X-Amz-Signature=abc&X-Amz-Credential=id",
            "https://b.s3/k?X-Amz-Signature=***&X-Amz-Credential=***",
        ),
        ("https://ghp_abc@raw.host/x", "https://***@raw.host/x"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfs://container@account.dfs.core.windows.net/x"),
        ("https://b.s3/k?AWSAccessKeyId=id&Signature=abc", "https://b.s3/k?AWSAccessKeyId=***&Signature=***"),
        (
            "https://h/x?X-Goog-Signature=a&access_token=b&key=2024",
            "https://h/x?X-Goog-Signature=***&access_token=***&key=2024",
        ),
        ("https://h/x?api_key=a&page=2", "https://h/x?api_key=***&page=2"),
        (
            "see 'https://b.s3/k?X-Amz-Security-Token=abc', please",
            "see 'https://b.s3/k?X-Amz-Security-Token=***', please",
        ),
    ],
)
def test_passwords_and_signatures_are_never_shown(text, shown):
    assert attempts.without_password(text) == shown


def test_what_a_filesystem_says_is_shown_without_its_secrets(clock):
    failing = Failing(PermissionError("https://a.blob/c?sig=abc refused"), clock)
    with pytest.raises(StoreUnreachableError, match=r"https://a\.blob/c\?sig=\*\*\* refused; let this user"):
        attempts.attempt("abfs://c/store", "read a", failing)
