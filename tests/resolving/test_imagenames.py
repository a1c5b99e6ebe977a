from __future__ import annotations

import pytest

from airflow_mlpipe.exceptions import EnvironmentBuildError
from airflow_mlpipe.resolving.imagenames import ImageName, is_loopback, normal_host

A = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12-slim", "docker.io/library/python:3.12-slim"),
        ("team/train", "docker.io/team/train:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/team/train:1", "docker.io/team/train:1"),
        ("localhost/train", "localhost/train:latest"),
        ("localhost:5000/a/b:1", "localhost:5000/a/b:1"),
        ("registry.example.com/train", "registry.example.com/train:latest"),
        ("[::1]:5000/train:1", "[::1]:5000/train:1"),
        ("10.0.0.1:5000/a__b/c-d.e:T_1.x", "10.0.0.1:5000/a__b/c-d.e:T_1.x"),
        (f"python@{A}", f"docker.io/library/python@{A}"),
        (f"r.io:5000/a:1@{A}", f"r.io:5000/a:1@{A}"),
        (A, A),
    ],
)
def test_a_name_is_read_as_docker_reads_it(text, whole):
    assert str(ImageName.parse(text)) == whole
    assert ImageName.parse(whole) == ImageName.parse(text)


def test_a_pinned_name_has_the_digest_and_no_tag():
    assert ImageName.parse("python:3.12").pinned(A) == f"docker.io/library/python@{A}"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("https://r.io/a", "Leave https:// out"),
        ("Python:3", "in lower case"),
        ("python@sha256:12", "64 hexadecimal digits"),
        ("a b", "repository[:tag]"),
        ("", "repository[:tag]"),
        ("python:", "repository[:tag]"),
        ("python:3\n", "repository[:tag]"),
    ],
)
def test_what_names_no_image_is_refused_with_a_remedy(text, remedy):
    with pytest.raises(EnvironmentBuildError) as caught:
        ImageName.parse(text)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("registry-1.docker.io", "docker.io"),
        ("http://Registry.local:5000/v2/", "registry.local:5000"),
        ("r.io", "r.io"),
        ("", ""),
    ],
)
def test_the_host_of_a_connection_is_written_in_many_ways(given, host):
    assert normal_host(given) == host


@pytest.mark.parametrize("host", ["localhost", "localhost:5000", "127.0.0.1:5000", "[::1]:5000"])
def test_a_registry_on_this_machine_is_known_as_such(host):
    assert is_loopback(host)


def test_other_hosts_are_elsewhere():
    assert not is_loopback("registry.example.com")
    assert not is_loopback("10.0.0.1:5000")
