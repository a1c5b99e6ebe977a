from __future__ import annotations

import hashlib
import platform
import subprocess
import sys

import pytest

from airflow_mlpipe.definitions import Environment
from airflow_mlpipe.definitions.frameworks import FRAMEWORKS, Framework
from airflow_mlpipe.exceptions import EnvironmentBuildError, ImageUnknownError
from airflow_mlpipe.planning.bind import components
from airflow_mlpipe.resolving.environments import (
    check_installed,
    facts_of,
    image_lock,
    image_python,
    in_container,
    interpreter_for,
    requirements_of,
    same_software,
    specification,
    to_lock,
)
from airflow_mlpipe.resolving.images import Pinned
from airflow_mlpipe.resolving.locks import lock_environments
from airflow_mlpipe.runtime.observe import current
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, StepSpec
from airflow_mlpipe.store.snapshots import put_blob
from airflow_mlpipe.store.store import Store

HERE = {"system": platform.system(), "machine": platform.machine(), "python": platform.python_version()}
MODES = ["strict", "declared", "ignore"]


@pytest.fixture
def store(tmp_path):
    return Store.open(str(tmp_path / "store"))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pipelines").mkdir()
    return tmp_path / "pipelines"


def locked(environment, folder):
    lock_environments(folder, [to_lock(environment, folder)])
    return environment


def digest(content):
    return "sha256:" + hashlib.sha256(content).hexdigest()


def fingerprinted(spec):
    return components(StepSpec("p", "s", "command", environment=spec))["environment"]


def test_rule_4_without_requirements_software_is_observed(folder):
    assert specification(Environment(), folder, digest) == EnvironmentSpec(facts=HERE, observe=True)


def test_rule_4_with_requirements_their_lock_counts(folder):
    environment = locked(Environment(requirements=["six==1.16.0"]), folder)
    spec = specification(environment, folder, digest)
    assert spec == EnvironmentSpec(lock=digest(b"six==1.16.0\n"), facts=HERE)


def test_rule_4_compare_declared_leaves_out_what_is_not_declared(folder):
    spec = specification(Environment(compare="declared", variables={"A": "1"}), folder, digest)
    assert fingerprinted(spec) == {"variables": {"A": "1"}}
    assert not spec.observe


def test_rule_4_compare_declared_counts_the_lock(folder):
    environment = locked(Environment(compare="declared", requirements=["six==1.16.0"]), folder)
    assert fingerprinted(specification(environment, folder, digest)) == {"lock": digest(b"six==1.16.0\n")}


def test_rule_4_compare_ignore_leaves_out_the_software_and_still_launches_it(folder):
    environment = locked(Environment(compare="ignore", requirements=["six==1.16.0"], variables={"A": "1"}), folder)
    spec = specification(environment, folder, digest)
    assert fingerprinted(spec) == {"variables": {"A": "1"}}
    assert spec.lock
    assert not spec.observe


@pytest.mark.parametrize("compare", MODES)
def test_variables_and_the_places_of_secrets_are_kept(folder, compare):
    environment = Environment(compare=compare, variables={"A": "1"}, secrets={"B": "variable:b"})
    spec = specification(environment, folder, digest)
    assert (spec.variables, spec.secrets, spec.compare) == ({"A": "1"}, {"B": "variable:b"}, compare)


@pytest.mark.parametrize("compare", MODES)
def test_requirements_without_a_lock_are_refused_with_the_command_to_run(folder, compare):
    environment = Environment(compare=compare, requirements=["six==1.16.0"])
    with pytest.raises(EnvironmentBuildError, match="run `mlpipe lock FILE`"):
        specification(environment, folder, digest)


def test_requirements_and_their_file_count_together(folder):
    (folder / "requirements.txt").write_text("# ours\nidna==3.7 \\\n  ; python_version > '3'\n\nsix\n")
    environment = Environment(requirements=["six", "attrs"], requirements_file="requirements.txt")
    assert requirements_of(environment, folder) == ("attrs", "idna==3.7 ; python_version > '3'", "six")


def test_a_requirements_file_that_is_missing_is_named(folder):
    with pytest.raises(EnvironmentBuildError, match=r"requirements file '.*gone\.txt' cannot be read"):
        requirements_of(Environment(requirements_file="gone.txt"), folder)


def test_without_requirements_there_is_nothing_to_lock(folder):
    assert to_lock(Environment(), folder) is None


def test_facts_are_asked_of_the_interpreter_that_is_used(folder):
    (folder / "python").symlink_to(sys.executable)
    environment = Environment(python="./python")
    spec = specification(environment, folder, digest)
    assert spec.interpreter == str(folder / "python")
    assert spec.facts == facts_of(environment, spec.interpreter) == HERE


def test_an_interpreter_that_is_missing_is_refused(folder):
    with pytest.raises(EnvironmentBuildError, match="cannot be used"):
        specification(Environment(python="./python"), folder, digest)


def test_a_lock_becomes_the_python_of_its_virtual_environment(folder, store):
    environment = locked(Environment(requirements=["six==1.16.0"]), folder)
    spec = specification(environment, folder, lambda text: put_blob(store, text))
    python = interpreter_for(spec, store)
    answer = subprocess.run([python, "-c", "import six; print(six.__version__)"], capture_output=True, check=True)
    assert answer.stdout == b"1.16.0\n"


def framework(*packages, requirements=()):
    return Framework(name="own", packages=packages, requirements=requirements)


@pytest.mark.parametrize(
    "given",
    [
        None,
        framework(),
        framework("PyYAML"),
        framework("no-such-package", "pydantic"),
        framework(requirements=["pyyaml=={version}"]),
    ],
)
def test_a_python_that_has_what_a_framework_needs_will_do(given):
    check_installed(given, EnvironmentSpec())


def test_a_python_without_what_a_framework_needs_is_refused_with_what_to_do(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    with pytest.raises(EnvironmentBuildError) as caught:
        check_installed(FRAMEWORKS["sklearn"], EnvironmentSpec(interpreter=python))
    assert str(caught.value) == (
        f"the framework sklearn needs the package scikit-learn, which is not installed for {python}: install it, give "
        "framework_version so that an environment is made, or name an environment"
    )


@pytest.mark.parametrize(
    "spec", [EnvironmentSpec(lock="sha256:a"), EnvironmentSpec(image="a@sha256:b"), EnvironmentSpec(unknown="down")]
)
def test_software_that_is_not_of_the_worker_is_not_looked_at(spec):
    check_installed(framework("no-such-package"), spec)


def test_without_a_lock_the_interpreter_is_the_given_one_or_this_one(store):
    assert interpreter_for(EnvironmentSpec(), store) == sys.executable
    assert interpreter_for(EnvironmentSpec(interpreter="/opt/python"), store) == "/opt/python"


def test_rule_4_the_same_distributions_may_be_reused():
    observed = current(sys.executable, ["fsspec", "pydantic"])
    assert same_software(observed, sys.executable) == {}


def test_rule_4_a_changed_or_missing_distribution_is_named():
    now = current(sys.executable, ["fsspec"])["fsspec"]
    observed = {"fsspec": "1.0", "no-such-distribution": "2.0"}
    assert same_software(observed, sys.executable) == {"fsspec": ("1.0", now), "no-such-distribution": ("2.0", "")}


PINNED = Pinned("r.io/train@sha256:" + "a" * 64, "registry:sha256:" + "a" * 64)


def down():
    message = "the registry r.io cannot be reached"
    raise ImageUnknownError(message)


def test_rule_4_in_a_container_the_digest_of_the_image_counts():
    spec = in_container(Environment(image="r.io/train"), None, lambda: PINNED)
    assert spec == EnvironmentSpec("python", facts={"image": PINNED.fact}, image=PINNED.reference)
    assert fingerprinted(spec) == {"image": PINNED.fact}


def test_rule_4_in_a_container_another_python_of_the_same_image_counts():
    spec = in_container(Environment(image="r.io/train", python="3.12"), None, lambda: PINNED)
    assert fingerprinted(spec) == {"image": PINNED.fact, "python": "python3.12"}


def test_rule_4_an_image_of_an_engine_is_another_fact_than_one_of_a_registry():
    own = Pinned("sha256:" + "a" * 64, "engine:sha256:" + "a" * 64)
    first, second = (in_container(Environment(image="r.io/train"), None, lambda pin=pin: pin) for pin in (PINNED, own))
    assert fingerprinted(first) != fingerprinted(second)


@pytest.mark.parametrize("compare", ["declared", "ignore"])
def test_rule_4_what_is_declared_to_be_equal_is_the_same_on_the_worker_and_in_a_container(folder, compare):
    environment = Environment(requirements="six==1.16.0", variables={"A": "1"}, compare=compare)
    locked(environment, folder)
    text = image_lock(environment, folder)
    inside = in_container(environment, digest(text.encode()), lambda: PINNED)
    assert inside.image == PINNED.reference
    assert fingerprinted(inside) == fingerprinted(specification(environment, folder, digest))


def test_rule_4_under_strict_the_worker_and_a_container_never_share(folder):
    inside = in_container(Environment(image="r.io/train"), None, lambda: PINNED)
    assert fingerprinted(inside) != fingerprinted(specification(Environment(), folder, digest))


@pytest.mark.parametrize(("compare", "comparable"), [("strict", False), ("declared", True), ("ignore", True)])
def test_rule_4_an_image_that_is_unknown_says_why_and_never_stands_for_its_tag(compare, comparable):
    spec = in_container(Environment(image="r.io/train:1", compare=compare), None, down)
    assert (spec.image, spec.facts) == (None, {})
    assert spec.unknown == "the registry r.io cannot be reached"
    assert spec.comparable is comparable
    assert spec.observe is False


@pytest.mark.parametrize(
    ("fields", "command", "version"),
    [
        ({}, "python", None),
        ({"python": "3.12"}, "python3.12", "3.12"),
        ({"python": "python3.10"}, "python3.10", "3.10"),
        ({"python": "/opt/bin/python3.13"}, "/opt/bin/python3.13", "3.13"),
        ({"python": "python3.10", "build": {"base": "python", "python": "3.12"}}, "python3.10", "3.12"),
    ],
)
def test_the_python_of_an_image_is_a_command_and_its_version_decides_the_lock(fields, command, version):
    environment = Environment(**fields)
    assert environment.command == command
    assert image_python(environment) == (version or sys.executable)


def test_requirements_of_an_image_are_locked_for_its_python(folder):
    environment = Environment(requirements="six==1.16.0", build={"base": "python", "python": "3.13"})
    with pytest.raises(EnvironmentBuildError, match=r"needed for Python 3\.13"):
        image_lock(environment, folder)
    (done,) = lock_environments(folder, [to_lock(environment, folder, container=True)])
    assert (done.python, done.new) == ("3.13", ("six==1.16.0",))
    assert image_lock(environment, folder) == "six==1.16.0\n"


def test_an_image_without_requirements_has_no_lock(folder):
    assert image_lock(Environment(image="r.io/train"), folder) is None
