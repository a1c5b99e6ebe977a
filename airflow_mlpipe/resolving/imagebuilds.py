"""Images that `mlpipe build` makes: how they are named by what is in them, and what makes them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from airflow_mlpipe.fingerprint import Value, fingerprint

if TYPE_CHECKING:
    from airflow_mlpipe.definitions import Environment

LOCK_FILE = "requirements.lock"
FORMAT = 1
"""Another one makes other images of the same definition."""

_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_TAG_LENGTH = 40


def built_name(environment: Environment, base: str, lock: str | None) -> str:
    """Return the repository and the tag of a built image; the tag is a digest of all that goes into it.

    :param base: the fact of the image that it begins with, ``registry:sha256:...``.
    :param lock: the digest of the lock of its requirements.
    """
    build = environment.build
    if build is None:
        raise AssertionError
    parts: dict[str, Value] = {
        "format": FORMAT,
        "base": base,
        "apt": sorted(build.apt),
        "lock": lock,
        "python": environment.command,
    }
    return f"{build.repository or _repository(environment)}:{fingerprint(parts)[:_TAG_LENGTH]}"


def _repository(environment: Environment) -> str:
    name = _NOT_IN_NAMES.sub("-", (environment.name or "").lower()).strip("-")
    return f"mlpipe/{name or 'environment'}"


def dockerfile(environment: Environment, base: str, *, locked: bool) -> str:
    """Return the Dockerfile of an environment.

    :param base: the image to begin with, pinned.
    :param locked: whether there are requirements, whose lock lies beside it.
    """
    build = environment.build
    if build is None:
        raise AssertionError
    lines = [f"FROM {base}"]
    if build.apt:
        packages = " ".join(sorted(build.apt))
        lines.append(
            "RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "
            f"{packages} && rm -rf /var/lib/apt/lists/*"
        )
    if locked:
        lines.append(f"COPY {LOCK_FILE} /tmp/{LOCK_FILE}")
        pip = [
            environment.command,
            "-m",
            "pip",
            "install",
            "--no-cache-dir",
            "--no-deps",
            "--disable-pip-version-check",
        ]
        lines.append("ENV PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1")
        lines.append("RUN " + json.dumps([*pip, "-r", f"/tmp/{LOCK_FILE}"]))  # noqa: S108 -- in the image
    return "\n".join(lines) + "\n"
