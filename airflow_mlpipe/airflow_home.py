"""A private home for Airflow: its settings, its secrets and its metadata database.

Every Airflow process that this package starts, and every `dag.test()` it calls, runs in such a home, so that nothing
depends on an Airflow the user may have configured elsewhere::

    variables = make_home(home, dags_folder)
    ensure_database(home)
    subprocess.run([sys.executable, "-m", "airflow", "dags", "list"], env=process_environment(variables))

`airflow.cfg` in the home says the same as the variables, so ``AIRFLOW_HOME=<home> airflow ...`` works by hand.
Airflow itself is not imported here: a program sets the variables first and imports Airflow afterwards.
"""

from __future__ import annotations

import base64
import configparser
import fcntl
import json
import os
import re
import secrets
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import AirflowError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_PARALLELISM = 16
"""More concurrent tasks than this lock the sqlite database and end whole components."""

USER = "admin"
LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"

_DATABASE = "airflow.db"
_PASSWORDS = "simple_auth_manager_passwords.json.generated"
_MIGRATION_SECONDS = 300
_SETTING = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*\Z")
# Sections a user's own variables must not reach into, since a setting we leave alone would be theirs.
_OWN_SECTIONS = ("DATABASE", "API", "API_AUTH", "EXECUTION_API", "DAG_PROCESSOR")
_OWN_VARIABLES = ("AIRFLOW_HOME", "AIRFLOW_CONFIG", "AIRFLOW__CORE__AUTH_MANAGER")


def make_home(  # noqa: PLR0913 - the settings of a whole service
    home: Path,
    dags_folder: Path,
    *,
    executor: str = "LocalExecutor",
    parallelism: int = 4,
    port: int | None = None,
    all_admins: bool = False,
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Make a home for Airflow, or bring one up to date, and return the variables of its processes.

    Secrets, password and port are chosen once and kept in the home, readable by its owner only. Without ``port`` the
    home keeps the one it has, and a new home gets one that is free now. ``all_admins`` asks nobody to log in; use it
    for tests. ``extra`` adds or replaces settings, as ``{"scheduler.scheduler_idle_sleep_time": "1"}``.

    :raises AirflowError: if a path or a setting cannot be used.
    """
    home, dags_folder = Path(home).absolute(), Path(dags_folder).absolute()
    _check(home, dags_folder, parallelism, extra or {})
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    kept = _kept(home, port)
    settings = _settings(home, dags_folder, kept)
    settings["core.executor"] = executor
    settings["core.parallelism"] = str(parallelism)
    settings["core.simple_auth_manager_all_admins"] = str(all_admins)
    settings.update(extra or {})
    _write_private(home / _PASSWORDS, json.dumps({USER: kept["password"]}) + "\n", keep=True)
    _write_private(home / "airflow.cfg", _config_file(settings))
    return {"AIRFLOW_HOME": str(home), **{_variable(name): value for name, value in settings.items()}}


def process_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with the variables of a home, and without settings that would break it.

    The user's connections, Airflow variables and other settings (``AIRFLOW_CONN_...``, ``AIRFLOW__SECRETS__...``)
    stay; settings of the database, the API and the DAG processor do not.
    """
    sections = tuple(f"AIRFLOW__{section}__" for section in _OWN_SECTIONS)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in _OWN_VARIABLES and not name.startswith((*sections, "_AIRFLOW_"))
    }
    for name in ("NO_PROXY", "no_proxy"):  # tasks call the API server on loopback, and their client heeds proxies
        kept[name] = ",".join(filter(None, (kept.get(name), "127.0.0.1,localhost")))
    return {**kept, **variables}


def ensure_database(home: Path) -> Path:
    """Make the metadata database of a home if it has none, or migrate one that an older Airflow made; return its path.

    A migration takes seconds, so a migrated empty database is kept in the cache folder, one for each version of
    Airflow, and copied. Any number of processes may call this at once.

    :raises AirflowError: if Airflow cannot migrate the database.
    """
    database = Path(home).absolute() / _DATABASE
    template = _template()
    with _lock(database.with_name(".airflow.db.lock")):
        if template is None:
            _migrate(database)
        elif not database.exists():
            _copy(template, database)
        elif _revision(database) != _revision(template):
            _migrate(database)
    return database


def password(home: Path) -> str:
    """Return the password of the user ``admin`` in a home."""
    passwords: dict[str, str] = json.loads((Path(home) / _PASSWORDS).read_text())
    return passwords[USER]


def free_port() -> int:
    """Return a port on 127.0.0.1 that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _check(home: Path, dags_folder: Path, parallelism: int, extra: Mapping[str, str]) -> None:
    """Refuse what Airflow would misread: it expands ``$`` and ``%`` in settings, and ``?`` and ``#`` end a path."""
    for path in (home, dags_folder):
        if found := [character for character in "?#%$" if character in str(path)]:
            message = f"Airflow cannot use the folder {path}: its path contains {' and '.join(found)}. Use another one."
            raise AirflowError(message)
    if not 1 <= parallelism <= MAX_PARALLELISM:
        message = f"parallelism must be from 1 to {MAX_PARALLELISM} with sqlite, not {parallelism}"
        raise AirflowError(message)
    if wrong := [name for name in extra if not _SETTING.match(name)]:
        message = f"a setting is named section.key, as in core.parallelism; given: {', '.join(sorted(wrong))}"
        raise AirflowError(message)


def _settings(home: Path, dags_folder: Path, kept: Mapping[str, str]) -> dict[str, str]:
    bundle = {
        "name": "dags-folder",
        "classpath": LOCAL_BUNDLE,
        "kwargs": {"path": str(dags_folder)},
    }
    return {
        "core.dags_folder": str(dags_folder),
        "core.plugins_folder": str(home / "plugins"),
        "core.load_examples": "False",
        "core.fernet_key": kept["fernet_key"],
        "core.execution_api_server_url": f"http://127.0.0.1:{kept['port']}/execution/",
        "core.simple_auth_manager_users": f"{USER}:admin",
        "core.simple_auth_manager_passwords_file": str(home / _PASSWORDS),
        # An edit shows at once: a DAG is written whenever it differs, not at most every 30 seconds.
        "core.min_serialized_dag_update_interval": "0",
        # Without a timeout of its own, a writer of sqlite gives up after 5 seconds and its component ends.
        "database.sql_alchemy_conn": f"sqlite:///{home / _DATABASE}?timeout=60",
        "logging.base_log_folder": str(home / "logs"),
        "logging.dag_processor_child_process_log_directory": str(home / "logs" / "dag_processor"),
        "api.host": "127.0.0.1",
        "api.port": kept["port"],
        "api.workers": "1",
        "api.secret_key": kept["secret_key"],
        "api_auth.jwt_secret": kept["jwt_secret"],
        # The default of 1 second would cost a sequential step 0.95 seconds instead of 0.17.
        "scheduler.scheduler_idle_sleep_time": "0.1",
        # A worker that misses the end of its task's process notices it at the next heartbeat: after 1 second, not 5.
        # Tasks still survive an API server that does not answer for 15 seconds.
        "workers.min_heartbeat_interval": "1",
        "workers.max_failed_heartbeats": "15",
        "dag_processor.dag_bundle_config_list": json.dumps([bundle]),
        "dag_processor.dag_bundle_storage_path": str(home / "bundles"),
        "dag_processor.bundle_refresh_check_interval": "1",
        # A new DAG file shows after this time at most. Each look also forgets the import errors of definitions, until
        # the file that loads them is parsed again.
        "dag_processor.refresh_interval": "30",
        # A changed DAG file is parsed at once anyway; this is for what it reads, the definitions in YAML.
        "dag_processor.min_file_process_interval": "5",
    }


def _variable(name: str) -> str:
    section, key = name.upper().split(".")
    return f"AIRFLOW__{section}__{key}"


def _config_file(settings: Mapping[str, str]) -> str:
    parser = configparser.RawConfigParser()
    for name, value in settings.items():
        section, key = name.split(".")
        if not parser.has_section(section):
            parser.add_section(section)
        parser.set(section, key, value.replace("%", "%%"))
    with tempfile.TemporaryFile("w+") as file:
        parser.write(file)
        file.seek(0)
        return "# Written by airflow-mlpipe at every start; what you change here is overwritten.\n" + file.read()


def _kept(home: Path, port: int | None) -> dict[str, str]:
    """Return what a home keeps from one start to the next; the first of several processes chooses."""
    path = home / "mlpipe.json"
    with _lock(home / ".mlpipe.lock"):
        kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else _fresh()
        if port is not None:
            kept["port"] = str(port)
        _write_private(path, json.dumps(kept, indent=1) + "\n")
    return kept


def _fresh() -> dict[str, str]:
    return {
        "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "secret_key": secrets.token_urlsafe(32),
        "jwt_secret": secrets.token_urlsafe(48),
        "password": secrets.token_urlsafe(12),
        "port": str(free_port()),
    }


def _write_private(path: Path, text: str, *, keep: bool = False) -> None:
    """Write a file that only its owner may read, complete or not at all; with ``keep`` only if there is none."""
    if keep and path.exists():
        return
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    Path(temporary).replace(path)


def _template() -> Path | None:
    """Return the migrated empty database for this version of Airflow, made on first use; None without a cache folder."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    path = _cache_folder() / f"airflow-{version('apache-airflow-core')}-py{python}.sqlite"
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_suffix(".lock")):
            if not path.exists():
                _make_template(path)
    except OSError:  # a read-only or full disk: then every home pays for its own migration
        return None
    return path


def _make_template(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        fresh = Path(folder) / _DATABASE
        _migrate(fresh)
        fresh.replace(path)


def _cache_folder() -> Path:
    if given := os.environ.get("MLPIPE_CACHE"):
        return Path(given).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "mlpipe"


def _migrate(database: Path) -> None:
    """Let Airflow itself make or migrate a database, with nothing of the user's settings."""
    with tempfile.TemporaryDirectory() as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        environment |= {
            "AIRFLOW_HOME": home,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{database}?timeout=60",
        }
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"],
            env=environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_MIGRATION_SECONDS,
            check=False,
        )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        message = f"'airflow db migrate' failed for {database} with exit code {done.returncode}; it said:\n{tail}"
        raise AirflowError(message)


def _revision(database: Path) -> str | None:
    """Return the schema revision of a database, or None if it has none (an interrupted first migration)."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as connection:
        try:
            row = connection.execute("select version_num from alembic_version").fetchone()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return None
            raise
    return str(row[0]) if row else None


def _copy(template: Path, database: Path) -> None:
    temporary = database.with_name(f".{database.name}.new")
    shutil.copyfile(template, temporary)
    temporary.chmod(0o600)
    temporary.replace(database)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock among processes; the system gives it back however its holder ends."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
