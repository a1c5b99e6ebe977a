from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import DockerCompute, KubernetesCompute, LocalCompute
from airflow_mlpipe.definitions.compute import compute_target
from tests.definitions.helpers import refused


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"kind": "local"}, LocalCompute(name="x")),
        ({"kind": "docker", "image": "i", "gpus": 1}, DockerCompute(name="x", image="i", gpus=1)),
        ({"kind": "kubernetes", "namespace": "ml"}, KubernetesCompute(name="x", namespace="ml")),
        (LocalCompute(), LocalCompute(name="x")),
    ],
)
def test_a_target_is_of_the_kind_it_names(given, expected):
    assert compute_target(given, "x") == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"kind": "lokal"}, "Did you mean local?"),
        ({}, "kind: is missing"),
        ("local", "Write {kind: local}"),
        ({"kind": "local", "image": "x"}, "there is no such field"),
        ({"kind": ["local"]}, "is no kind of compute target"),
    ],
)
def test_a_target_of_no_known_kind_is_refused(given, words):
    with refused(words):
        compute_target(given, "x")
