"""The wrapper alone, by the busybox that is installed and by the system's shell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import pytest

from airflow_mlpipe.runtime.pod import wrapper
from tests.runtime.pod.pods import FAKE_BUSYBOX, until


@pytest.fixture(params=["busybox", "sh"])
def root(request, tmp_path):
    folder = tmp_path / wrapper.TOOLS
    folder.mkdir()
    if request.param == "busybox":
        found = shutil.which("busybox")
        if found is None:
            pytest.skip("busybox is not installed")
        shutil.copy(found, folder / "busybox")
    else:
        (folder / "busybox").write_text(FAKE_BUSYBOX)
        (folder / "busybox").chmod(0o755)
    (folder / "sh").symlink_to("busybox")
    return tmp_path


@pytest.fixture
def start(root):
    started = []

    def run(*argv, grace=2, **options):
        variables = {"PATH": os.environ["PATH"], **options.pop("variables", {})}
        command = wrapper.wrapped(argv, root, grace)
        process = subprocess.Popen(command, env=variables, start_new_session=True, **options)
        started.append(process)
        return process

    yield run
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        process.wait()


def test_the_exit_code_is_told_and_the_container_waits(root, start):
    process = start("sh", "-c", "exit 3")
    until(lambda: wrapper.exit_code(root) == 3)
    time.sleep(0.3)
    assert process.poll() is None
    wrapper.say_done(root, 0)
    assert process.wait(5) == 3


def test_a_success_that_cannot_be_published_is_none(root, start):
    process = start("true")
    until(lambda: wrapper.exit_code(root) == 0)
    wrapper.say_done(root, wrapper.UNPUBLISHED)
    assert process.wait(5) == wrapper.UNPUBLISHED


@pytest.mark.parametrize("word", ["a b", "", "*", "$HOME", "'", '"', "back\\slash", "two\nlines", "-n", "$(id)", "é"])
def test_arguments_arrive_as_they_are(root, start, word):
    process = start("sh", "-c", 'printf %s. "$1" >"$2"', "name", word, str(root / "seen"))
    until(lambda: wrapper.exit_code(root) == 0)
    wrapper.say_done(root, 0)
    assert process.wait(5) == 0
    assert (root / "seen").read_text() == f"{word}."


def test_the_command_sees_our_module_before_the_images_own_and_no_cluster(root, start):
    variables = {"PYTHONPATH": "/image", "KUBERNETES_SERVICE_HOST": "10.0.0.1", "KEPT": "yes"}
    start("sh", "-c", "env >env", cwd=root, variables=variables)
    until(lambda: wrapper.exit_code(root) == 0)
    seen = dict(line.split("=", 1) for line in (root / "env").read_text().splitlines())
    assert seen["PYTHONPATH"] == f"{root}/private/python:/image"
    assert seen["KEPT"] == "yes"
    assert not [name for name in seen if name.startswith(("KUBERNETES", "mlpipe"))]


def test_a_program_that_is_not_there_is_said(root, start):
    process = start("no-such-program", stderr=subprocess.PIPE)
    until(lambda: wrapper.exit_code(root) == 127)
    wrapper.say_done(root, wrapper.UNPUBLISHED)
    assert process.wait(5) == 127
    assert b"no-such-program: not found" in process.stderr.read()


@pytest.mark.parametrize("last", ["exit 0", "exit 7"])
def test_a_command_that_is_stopped_tells_no_exit_code(root, start, last):
    process = start("sh", "-c", f"trap '{last}' TERM; touch ready; while :; do sleep 0.05; done", cwd=root)
    until((root / "ready").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == wrapper.STOPPED
    assert wrapper.exit_code(root) is None


def test_a_command_that_ignores_sigterm_is_killed_in_time(root, start):
    process = start("sh", "-c", "trap '' TERM; touch ready; while :; do sleep 0.05; done", cwd=root, grace=1)
    until((root / "ready").exists)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == wrapper.STOPPED
    assert 0.9 < time.monotonic() - began < 4
    assert wrapper.exit_code(root) is None


def test_what_is_stopped_while_it_waits_ends_at_once(root, start):
    process = start("true")
    until(lambda: wrapper.exit_code(root) == 0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(3) == wrapper.STOPPED


def test_a_killed_container_tells_no_exit_code(root, start):
    process = start("sleep", "60")
    until((root / wrapper.BEGUN).exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(5)
    assert wrapper.exit_code(root) is None


def test_a_killed_command_has_failed(root, start):
    process = start("sh", "-c", "kill -9 $$")
    until(lambda: wrapper.exit_code(root) == 137)
    wrapper.say_done(root, wrapper.UNPUBLISHED)
    assert process.wait(5) == 137


def test_input_is_empty(root, start):
    start("sh", "-c", "cat >seen", cwd=root)
    until(lambda: wrapper.exit_code(root) == 0)
    assert (root / "seen").read_bytes() == b""


def test_half_an_exit_code_is_none(tmp_path):
    (tmp_path / wrapper.ENDED).write_text("1")
    assert wrapper.exit_code(tmp_path) is None
    (tmp_path / wrapper.ENDED).write_text("12\n")
    assert wrapper.exit_code(tmp_path) == 12


@pytest.fixture
def in_container(root):
    """Runs the wrapper as the first process of a container, which sees no others."""
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a process have a namespace of its own")
    return lambda *argv: [*unshare, *wrapper.wrapped(argv, root, 2)]


def test_what_the_command_left_running_is_ended_before_its_end_is_told(root, in_container):
    script = "(trap '' TERM; while :; do date +%N >late; sleep 0.01; done) & until [ -e late ]; do sleep 0.01; done"
    with subprocess.Popen(in_container("sh", "-c", script), cwd=root) as process:
        until(lambda: wrapper.exit_code(root) == 0)
        before = (root / "late").read_bytes()
        time.sleep(0.3)
        assert (root / "late").read_bytes() == before
        wrapper.say_done(root, 0)
        assert process.wait(5) == 0


def test_a_command_that_leaves_nothing_is_not_waited_for(root, in_container):
    began = time.monotonic()
    with subprocess.Popen(in_container("true"), cwd=root) as process:
        until(lambda: wrapper.exit_code(root) == 0)
        assert time.monotonic() - began < 0.9
        wrapper.say_done(root, 0)
        assert process.wait(5) == 0
