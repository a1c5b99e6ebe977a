from __future__ import annotations

import io

import pytest
from docker import errors

from airflow_mlpipe.definitions import DockerCompute
from airflow_mlpipe.exceptions import CommandFailedError, StepError
from airflow_mlpipe.launchers.docker.client import Client
from airflow_mlpipe.launchers.docker.container import Container, variables
from airflow_mlpipe.launchers.docker.output import Output
from airflow_mlpipe.runtime.protocol import EnvironmentSpec, StepSpec

IMAGE = "r.example.com/x@sha256:1"


class FakeEngine:
    """An engine that has some images, and prints some bytes."""

    def __init__(self, images=(IMAGE,), prints=(), news=()):
        self.has, self.prints, self.news = images, prints, news
        self.done = []
        self.refuses = None

    def inspect_image(self, name):
        if name not in self.has:
            raise errors.ImageNotFound(name)
        return {"Id": "sha256:2", "Config": {"Env": ["PYTHONPATH=/app"]}}

    def pull(self, image, **_):
        self.done.append(f"pull {image}")
        yield from self.news

    def create_host_config(self, **how):
        return how

    def create_container(self, **how):
        if self.refuses:
            raise self.refuses
        self.done.append("create")
        return {"Id": "c1", "how": how}

    def attach_socket(self, container, params):
        assert (container, params) == ("c1", {"stdout": 1, "stderr": 1, "stream": 1})
        pieces = [piece if isinstance(piece, tuple) else (1, piece) for piece in self.prints]
        framed = b"".join(bytes([of, 0, 0, 0]) + len(piece).to_bytes(4, "big") + piece for of, piece in pieces)
        return io.BytesIO(framed)

    def start(self, container):
        self.done.append(f"start {container}")

    def wait(self, container):
        return {"StatusCode": 0, "of": container}


def client(engine, *, image=IMAGE, secrets=(), lines=None, before=lambda _: None, check=lambda: None, **fields):
    spec = StepSpec("p", "s", "command", environment=EnvironmentSpec(interpreter="python", image=image))
    container = Container(spec, DockerCompute(**fields), "name", "claim", "0:0", mounted=True)
    said = [] if lines is None else lines
    return Client(engine, container, Output(secrets, said.append), "tcp://e:1", before, check)


def test_an_image_is_found_by_what_it_is_pinned_to():
    assert client(FakeEngine(images=["sha256:9"]), image="sha256:9").images("sha256:9") == ["sha256:2"]
    assert client(FakeEngine(images=[])).images(IMAGE) == []


def test_an_image_that_must_not_be_fetched_is_missing():
    with pytest.raises(StepError, match="only an engine knew it by this id"):
        client(FakeEngine(images=[]), image="sha256:9").images("sha256:9")
    with pytest.raises(StepError, match="pull: never"):
        client(FakeEngine(images=[]), pull="never").images(IMAGE)


def test_a_pull_that_only_reports_its_failure_fails():
    made = client(FakeEngine(news=[{"status": "x"}, {"error": "manifest unknown"}]))
    with pytest.raises(StepError, match="the registry does not have it"):
        list(made.pull(IMAGE, stream=True, decode=True))


def test_a_step_that_is_stopped_does_not_wait_for_the_end_of_a_pull():
    def stopped():
        raise CommandFailedError

    with pytest.raises(CommandFailedError):
        list(client(FakeEngine(news=[{"status": "x"}] * 9), check=stopped).pull(IMAGE))


def test_a_limit_of_processors_takes_the_place_of_a_weight():
    assert client(FakeEngine(), cpus=2).create_host_config(cpu_shares=1024, x=1) == {"x": 1, "nano_cpus": 2_000_000_000}
    assert client(FakeEngine()).create_host_config(cpu_shares=1024) == {"cpu_shares": 1024}


def test_the_images_own_modules_stay_on_the_path():
    made = client(FakeEngine())
    spec = StepSpec("p", "s", "command", environment=EnvironmentSpec(interpreter="python"))
    how = made.create_container(image=IMAGE, environment=variables(spec))["how"]
    assert how["environment"]["PYTHONPATH"] == "/mlpipe/private/python:/app"
    assert (made.created, made.creating) == ("c1", False)


def test_whether_a_container_may_be_there_is_known_after_every_answer():
    engine = FakeEngine()
    made = client(engine)
    engine.refuses = errors.APIError("no")
    with pytest.raises(errors.APIError):
        made.create_container(image=IMAGE, environment={"PYTHONPATH": ""})
    assert (made.created, made.creating) == (None, False)
    engine.refuses = ConnectionError("reset")
    with pytest.raises(ConnectionError):
        made.create_container(image=IMAGE, environment={"PYTHONPATH": ""})
    assert (made.created, made.creating) == (None, True)


def test_everything_is_in_a_container_before_it_starts():
    engine = FakeEngine()
    made = client(engine, before=lambda container: engine.done.append(f"fill {container}"))
    made.start("c1")
    assert engine.done == ["fill c1", "start c1"]
    assert made.started


def test_a_step_that_was_stopped_meanwhile_does_not_start():
    def stopped():
        raise CommandFailedError

    engine = FakeEngine()
    with pytest.raises(CommandFailedError):
        client(engine, check=stopped).start("c1")
    assert engine.done == []


def test_what_is_printed_goes_to_our_log_line_by_line_without_secrets_and_not_to_the_operators():
    lines = []
    made = client(FakeEngine(prints=[b"first\nsec", b"ret-value\nlast"]), secrets=["secret-value"], lines=lines)
    assert list(made.attach(container="c1", stdout=True, stderr=True, stream=True)) == []
    assert lines == ["first", "***", "last"]


def test_the_rest_is_the_plain_clients():
    assert client(FakeEngine()).wait("c1") == {"StatusCode": 0, "of": "c1"}


def test_a_secret_or_a_line_in_pieces_is_whole_though_the_other_stream_speaks_between_them():
    lines = []
    prints = [(1, b"it is sec"), (2, b"warn"), (1, b"ret-value\n"), (2, b"ing\n")]
    made = client(FakeEngine(prints=prints), secrets=["secret-value"], lines=lines)
    assert list(made.attach(container="c1", stdout=True, stderr=True, stream=True)) == []
    assert lines == ["it is ***", "warning"]
