"""Which image, to the byte, a step runs in: the digest of a tag, asked for when the step is bound.

A registry's digest and the id that an engine gave an image are different facts, even where they read the same. A
registry that does not answer leaves the image unknown; a tag never stands for what is in it (rule 4).
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

from airflow_mlpipe.definitions.compute import DockerCompute, KubernetesCompute
from airflow_mlpipe.exceptions import EnvironmentBuildError, ImageUnknownError
from airflow_mlpipe.resolving import registry
from airflow_mlpipe.resolving.engines import engine_id
from airflow_mlpipe.resolving.imagebuilds import built_name
from airflow_mlpipe.resolving.imagenames import ImageName, normal_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_mlpipe.definitions import Environment
    from airflow_mlpipe.definitions.imagebuild import ImageRegistry
    from airflow_mlpipe.resolving.logins import Login, LoginOf
    from airflow_mlpipe.runtime.protocol import StepSpec

    ContainerTarget: TypeAlias = DockerCompute | KubernetesCompute

_ASKERS = 8


@dataclass(frozen=True)
class Pinned:
    """An image that stays what it is. ``reference`` is what is run, ``fact`` what reuse compares."""

    reference: str
    fact: str


@dataclass(frozen=True)
class Question:
    """One image to be asked for.

    ``connection`` holds the login of its registry; ``named`` says that it was named for this very image, and must be
    for its registry. ``engine`` is the engine whose own images count where no registry has one of that name; ``own``
    says that only these count.
    """

    image: str
    connection: str | None = None
    named: bool = False
    engine: DockerCompute | None = None
    own: bool = False


@dataclass
class Images:
    """Asks for images, each once, side by side; on behalf of one plan.

    ``registry`` is where the workspace pushes the images that it builds.
    """

    login_of: LoginOf
    registry: ImageRegistry | None = None
    _logins: dict[str, Login] = field(default_factory=dict)
    _answers: dict[Question, Future[Pinned]] = field(default_factory=dict)
    _begun: dict[tuple[Environment, ContainerTarget, str | None], Future[Pinned]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _pool: ThreadPoolExecutor | None = None

    def begin(self, environment: Environment, target: ContainerTarget, lock: str | None) -> Future[Pinned]:
        """Begin to find out the image of an environment on a target; the answer comes with the future.

        :param lock: the digest of the lock of its requirements.
        :raises DataError: if there is no such connection.
        """
        key = (environment, target, lock)
        if key not in self._begun:
            for connection in self._connections(environment, target):
                self._login(connection)  # Airflow is asked by one thread only
            self._pool = self._pool or ThreadPoolExecutor(_ASKERS, thread_name_prefix="images")
            self._begun[key] = self._pool.submit(self.pin, environment, target, lock)
        return self._begun[key]

    def pin(self, environment: Environment, target: ContainerTarget, lock: str | None) -> Pinned:
        """Return the image of an environment on a target.

        :raises ImageUnknownError: if it cannot be found out.
        :raises EnvironmentBuildError: if there is none, or its connection is for another registry.
        """
        if environment.build is None:
            return self.answer(question_of(environment, target))
        base = self.base(environment, target)
        name = built_name(environment, base.fact, lock)
        try:
            return self.answer(self.built_question(name, target))
        except ImageUnknownError as error:
            if not error.absent:
                raise
            message = (
                f"the image {self.place_of(name)} of environment {environment.name or 'without a name'} is not built, "
                f"or it has changed since: run `mlpipe build FILE --compute {target.name}` with the file of the pipeline"
            )
            raise ImageUnknownError(message, absent=True) from error

    def base(self, environment: Environment, target: ContainerTarget) -> Pinned:
        """Return the image that another one is built from.

        :raises ImageUnknownError: if it cannot be found out.
        """
        return self.answer(self.base_question(environment, target))

    @staticmethod
    def base_question(environment: Environment, target: ContainerTarget) -> Question:
        """Return how the image is asked for that another one is built from."""
        build = environment.build
        if build is None:
            raise AssertionError
        connection, named = environment.registry or _connection_of(target), environment.registry is not None
        return Question(build.base, connection, named, _engine_of(target) or DockerCompute())

    def place_of(self, name: str) -> str:
        """Return where a built image belongs: in the registry of the workspace, or in the engine alone."""
        return f"{self.registry.prefix}/{name}" if self.registry else name

    def built_question(self, name: str, target: ContainerTarget) -> Question:
        """Return how a built image is asked for."""
        if self.registry is not None:
            return self.pushed_question(self.place_of(name))
        return Question(name, engine=_engine_of(target) or DockerCompute(), own=True)

    def pushed_question(self, image: str) -> Question:
        """Return how an image in the registry of the workspace is asked for."""
        return Question(image, self.registry.connection if self.registry else None, named=True)

    def ask_again(self, question: Question) -> Pinned:
        """Return what a question's image is now, whatever was said before.

        :raises ImageUnknownError: if it cannot be found out.
        """
        with self._lock:
            self._answers.pop(question, None)
        return self.answer(question)

    def login(self, question: Question, name: ImageName) -> Login | None:
        """Return the login for the registry of an image, if there is one.

        :raises EnvironmentBuildError: if it was named for this image, and is for another registry.
        """
        if question.connection is None:
            return None
        login = self._login(question.connection)
        if normal_host(login.host) == name.registry:
            return login
        if not question.named:
            return None  # nobody's login is shown to another registry
        message = (
            f"connection {question.connection!r} is for the registry {login.host or '(it has no host)'}, and the image "
            f"{name} comes from {name.registry}: correct the host of the connection, or name another one as registry"
        )
        raise EnvironmentBuildError(message)

    def answer(self, question: Question) -> Pinned:
        """Return what a question's image is; who asks the same meanwhile waits for the answer."""
        with self._lock:
            known = self._answers.get(question)
            if known is None:
                future = self._answers[question] = Future()
        if known is not None:
            return known.result()
        return _settle(future, lambda: self._ask(question))

    def _ask(self, question: Question) -> Pinned:
        name = ImageName.parse(question.image)
        if not name.repository:
            return Pinned(str(name.digest), f"engine:{name.digest}")
        if name.digest is not None:
            return Pinned(name.pinned(name.digest), f"registry:{name.digest}")
        if question.own:
            return self._of_engine(question, None)
        login = self.login(question, name)
        try:
            digest = registry.digest_of(name, login)
        except ImageUnknownError as error:
            if not error.absent or question.engine is None:
                raise
            return self._of_engine(question, error)
        return Pinned(name.pinned(digest), f"registry:{digest}")

    def _of_engine(self, question: Question, error: ImageUnknownError | None) -> Pinned:
        """Return what an engine itself has by that name, for what is in no registry.

        :param error: what the registry said.
        """
        try:
            found = engine_id(question.engine, question.image, self._login)
        except ImageUnknownError as failure:
            message = f"{error}; {failure}" if error else str(failure)
            raise ImageUnknownError(message) from failure
        if found is None:
            message = f"the Docker engine has no image {question.image}: pull or build it there"
            raise error or ImageUnknownError(message, absent=True)
        return Pinned(found, f"engine:{found}")

    def _connections(self, environment: Environment, target: ContainerTarget) -> tuple[str, ...]:
        tls = target.tls.connection if isinstance(target, DockerCompute) and target.tls else None
        built = self.registry.connection if self.registry and environment.build else None
        return tuple(filter(None, (environment.registry or _connection_of(target), tls, built)))

    def _login(self, connection: str) -> Login:
        if connection not in self._logins:
            self._logins[connection] = self.login_of(connection)
        return self._logins[connection]


def question_of(environment: Environment, target: ContainerTarget) -> Question:
    """Return how the image of an environment that builds none is asked for.

    :raises EnvironmentBuildError: if neither environment nor target names one.
    """
    image = environment.image or target.image
    if image is None:
        message = (
            f"neither the environment {environment.name or ''} nor the compute target {target.name} names an image: "
            "give the environment image or build, or the compute target image"
        )
        raise EnvironmentBuildError(message)
    own = isinstance(target, DockerCompute) and target.pull == "never"
    named = environment.registry is not None
    return Question(image, environment.registry or _connection_of(target), named, _engine_of(target), own)


def check_known(spec: StepSpec) -> None:
    """Make sure that a step can be launched: that its image is known.

    :raises ImageUnknownError: if it is not; it says why.
    """
    if spec.target and spec.environment.image is None:
        reason = spec.environment.unknown or "its record names none"
        message = f"the image of step {spec.step} is not known: {reason}"
        raise ImageUnknownError(message)


def _engine_of(target: ContainerTarget) -> DockerCompute | None:
    """Return a target's engine, and nothing else of the target: those of one engine ask together."""
    return DockerCompute(host=target.host, tls=target.tls) if isinstance(target, DockerCompute) else None


def _connection_of(target: ContainerTarget) -> str | None:
    return target.connection if isinstance(target, DockerCompute) else target.registry


def _settle(future: Future[Pinned], ask: Callable[[], Pinned]) -> Pinned:
    try:
        answer = ask()
    except BaseException as error:
        future.set_exception(error)
        raise
    future.set_result(answer)
    return answer
