from __future__ import annotations

import socket

import pytest

from airflow_mlpipe.exceptions import ImageUnknownError
from airflow_mlpipe.resolving import registry
from airflow_mlpipe.resolving.imagenames import ImageName
from airflow_mlpipe.resolving.logins import Login
from airflow_mlpipe.resolving.registry import digest_of
from tests.resolving.fakes import PASSWORD, USER, FakeRegistry, authority, served

ANN = Login("", USER, PASSWORD)


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(registry, "_PAUSES", (0, 0))
    fake = FakeRegistry()
    with served(fake):
        yield fake


def name(fake, text="team/train:1"):
    return ImageName.parse(f"{fake.host}/{text}")


def refused(fake, login=None):
    with pytest.raises(ImageUnknownError) as caught:
        digest_of(name(fake), login)
    return caught.value


def test_a_tag_has_the_digest_that_the_registry_says_and_one_small_question_finds_it_out(fake):
    pushed = fake.push("team/train:1")
    assert digest_of(name(fake)) == pushed
    assert [(request.method, request.path) for request in fake.requests] == [("HEAD", "/v2/team/train/manifests/1")]
    assert "application/vnd.oci.image.index.v1+json" in fake.requests[0].headers["accept"]
    assert "application/vnd.docker.distribution.manifest.v2+json" in fake.requests[0].headers["accept"]


def test_a_tag_that_moves_has_another_digest(fake):
    before = fake.push("team/train:1", b"1")
    first = digest_of(name(fake))
    after = fake.push("team/train:1", b"2")
    assert (first, digest_of(name(fake))) == (before, after)
    assert before != after


def test_a_registry_that_tells_no_digest_gives_the_manifest_to_digest(fake):
    pushed, fake.headless = fake.push("team/train:1"), True
    assert digest_of(name(fake)) == pushed
    assert [request.method for request in fake.requests] == ["HEAD", "GET"]


def test_a_manifest_that_is_not_what_the_registry_says_is_refused(fake):
    fake.push("team/train:1")
    fake.headless = fake.lying = True
    assert "another digest than it says" in str(refused(fake))


@pytest.mark.parametrize("wants", ["basic", "token"])
def test_a_private_registry_takes_the_login_of_a_connection(fake, wants):
    pushed, fake.wants = fake.push("team/train:1"), wants
    assert digest_of(name(fake), ANN) == pushed


def test_a_token_is_asked_for_with_what_the_registry_says(fake):
    fake.push("team/train:1")
    fake.wants, fake.anonymous = "token", True
    digest_of(name(fake))
    (asked,) = [request for request in fake.requests if request.path == "/token"]
    assert asked.query == {"service": ["the-registry"], "scope": ["repository:team/train:pull"]}
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("wants", "login", "remedy"),
    [
        ("basic", None, "name a connection with a login"),
        ("token", None, "name a connection with a login"),
        ("basic", Login("", USER, "wrong-password"), "correct the login"),
        ("token", Login("", USER, "wrong-password"), "correct the login"),
    ],
)
def test_who_may_not_see_an_image_is_told_what_to_do_and_no_password_is_said(fake, wants, login, remedy):
    fake.push("team/train:1")
    fake.wants = wants
    error = refused(fake, login)
    assert remedy in str(error)
    assert error.absent
    assert "wrong-password" not in str(error) + repr(login)


def test_an_image_that_is_not_there_is_absent(fake):
    error = refused(fake)
    assert error.absent
    assert f"has no image {name(fake)}" in str(error)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_registry_that_is_busy_is_asked_again(fake, status):
    pushed, fake.failures = fake.push("team/train:1"), [status, status]
    assert digest_of(name(fake)) == pushed


@pytest.mark.parametrize("status", [429, 500, 418])
def test_a_registry_that_goes_on_failing_leaves_the_image_unknown_not_absent(fake, status):
    fake.failures = [status] * 9
    error = refused(fake)
    assert f"HTTP {status}" in str(error)
    assert not error.absent


def test_a_registry_that_cannot_be_reached_leaves_the_image_unknown_not_absent(monkeypatch):
    monkeypatch.setattr(registry, "_PAUSES", (0,))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ImageUnknownError, match=f"the registry {host} cannot be reached") as caught:
        digest_of(ImageName.parse(f"{host}/train"))
    assert not caught.value.absent


def test_a_registry_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(registry, "_ANSWER", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = ImageName.parse(f"127.0.0.1:{silent.getsockname()[1]}/train")
        with pytest.raises(ImageUnknownError, match="cannot be reached"):
            digest_of(image)


def test_no_proxy_is_asked_for_a_registry_on_this_machine(fake, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    pushed = fake.push("team/train:1")
    assert digest_of(name(fake)) == pushed


def test_tls_is_spoken_with_authorities_that_this_machine_trusts_and_with_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "_PAUSES", ())
    tls, certificate = authority(tmp_path)
    secure = FakeRegistry()
    with served(secure, tls):
        pushed, login = secure.push("team/train:1"), Login(f"https://{secure.host}", USER, PASSWORD)
        with pytest.raises(ImageUnknownError, match="CERTIFICATE_VERIFY_FAILED"):
            digest_of(name(secure), login)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert digest_of(name(secure), login) == pushed
    assert len(secure.requests) == 1


@pytest.mark.parametrize(
    ("host", "login", "scheme"),
    [
        ("r.io", None, "https"),
        ("localhost:5000", None, "http"),
        ("localhost:5000", Login("https://localhost:5000"), "https"),
        ("10.0.0.1:5000", Login("http://10.0.0.1:5000"), "http"),
        ("10.0.0.1:5000", Login("http://10.0.0.2:5000"), "https"),
    ],
)
def test_plain_http_is_spoken_on_this_machine_and_where_a_connection_says_so(host, login, scheme):
    assert registry._scheme(host, login) == scheme


def test_a_login_is_not_sent_in_the_clear_for_a_registry_that_speaks_tls():
    asking = registry._Asking(None, "https", ImageName.parse("r.io/a"), ANN)
    with pytest.raises(ImageUnknownError, match="not safe"):
        asking._take_token({"realm": "http://elsewhere/token"}, None)
