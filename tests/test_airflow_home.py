from __future__ import annotations

import configparser
import json
import os
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from airflow_mlpipe import airflow_home
from airflow_mlpipe.airflow_home import (
    MAX_PARALLELISM,
    ensure_database,
    free_port,
    make_home,
    password,
    process_environment,
)
from airflow_mlpipe.exceptions import AirflowError


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def migrations(monkeypatch):
    """Stand in for ``airflow db migrate``: the databases it was asked to migrate."""
    asked = []

    def migrate(database) -> None:
        asked.append(database)
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("create table if not exists alembic_version (version_num text)")
            connection.execute("delete from alembic_version")
            connection.execute("insert into alembic_version values ('head')")
            connection.commit()

    monkeypatch.setattr(airflow_home, "_migrate", migrate)
    return asked


def test_every_process_of_a_home_gets_the_same_secrets(home, tmp_path):
    first, second = make_home(home, tmp_path), make_home(home, tmp_path)
    assert first == second
    assert first["AIRFLOW_HOME"] == str(home)
    assert len({first["AIRFLOW__CORE__FERNET_KEY"], first["AIRFLOW__API_AUTH__JWT_SECRET"]}) == 2


def test_two_homes_share_no_secret(tmp_path):
    one, other = make_home(tmp_path / "one", tmp_path), make_home(tmp_path / "other", tmp_path)
    for name in ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY"):
        assert one[name] != other[name]
    assert password(tmp_path / "one") != password(tmp_path / "other")


def test_only_the_owner_can_read_what_is_secret(home, tmp_path):
    make_home(home, tmp_path)
    assert home.stat().st_mode & 0o077 == 0
    secret = ["mlpipe.json", "airflow.cfg", "simple_auth_manager_passwords.json.generated"]
    assert [name for name in secret if (home / name).stat().st_mode & 0o077] == []


def test_the_config_file_says_the_same_as_the_variables(home, tmp_path):
    variables = make_home(home, tmp_path)
    parser = configparser.ConfigParser()
    parser.read(home / "airflow.cfg")
    said = {f"AIRFLOW__{s.upper()}__{k.upper()}": v for s in parser.sections() for k, v in parser.items(s)}
    assert said == {name: value for name, value in variables.items() if name != "AIRFLOW_HOME"}


def test_dags_come_from_a_configured_bundle(home, tmp_path):
    bundles = json.loads(make_home(home, tmp_path)["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])
    assert [bundle["kwargs"]["path"] for bundle in bundles] == [str(tmp_path)]


def test_a_home_keeps_its_port_until_another_is_given(home, tmp_path):
    first = make_home(home, tmp_path)["AIRFLOW__API__PORT"]
    assert make_home(home, tmp_path, port=4242)["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"].startswith(
        "http://127.0.0.1:4242/"
    )
    assert make_home(home, tmp_path)["AIRFLOW__API__PORT"] == "4242" != first


def test_extra_settings_add_and_replace(home, tmp_path):
    extra = {"scheduler.scheduler_idle_sleep_time": "7", "logging.logging_level": "WARNING"}
    variables = make_home(home, tmp_path, extra=extra)
    assert variables["AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME"] == "7"
    assert variables["AIRFLOW__LOGGING__LOGGING_LEVEL"] == "WARNING"


@pytest.mark.parametrize("name", ["parallelism", "AIRFLOW__CORE__PARALLELISM", "core.", "core.a.b"])
def test_a_setting_without_section_and_key_is_refused_by_name(home, tmp_path, name):
    with pytest.raises(AirflowError, match=f"section.key.*{name}"):
        make_home(home, tmp_path, extra={name: "1"})


@pytest.mark.parametrize("parallelism", [0, MAX_PARALLELISM + 1])
def test_more_parallelism_than_sqlite_bears_is_refused(home, tmp_path, parallelism):
    with pytest.raises(AirflowError, match=str(parallelism)):
        make_home(home, tmp_path, parallelism=parallelism)


@pytest.mark.parametrize("name", ["what?", "a#b", "50%", "$HOME"])
def test_a_path_that_airflow_would_misread_is_refused(tmp_path, name):
    with pytest.raises(AirflowError, match="cannot use the folder"):
        make_home(tmp_path / name, tmp_path)
    assert not (tmp_path / name).exists()


def test_a_process_keeps_the_users_connections_but_not_their_database(monkeypatch, home, tmp_path):
    monkeypatch.setenv("AIRFLOW_CONN_LAKE", "s3://")
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", "vault")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://production")
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC", "postgresql://production")
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "other")
    environment = process_environment(make_home(home, tmp_path))
    assert environment["AIRFLOW_CONN_LAKE"] == "s3://"
    assert environment["AIRFLOW__SECRETS__BACKEND"] == "vault"
    assert environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("sqlite:///")
    assert not {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC", "AIRFLOW__CORE__AUTH_MANAGER"} & set(environment)


def test_loopback_never_goes_through_a_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "intranet")
    assert process_environment({})["NO_PROXY"] == "intranet,127.0.0.1,localhost"


@pytest.mark.usefixtures("cache")
def test_airflow_migrates_once_for_many_homes(migrations, tmp_path):
    homes = [tmp_path / str(number) for number in range(8)]
    for home in homes:
        home.mkdir()
    with ThreadPoolExecutor(8) as pool:
        databases = list(pool.map(ensure_database, homes))
    assert len(migrations) == 1
    assert len({database.read_bytes() for database in databases}) == 1
    assert all(database.stat().st_mode & 0o077 == 0 for database in databases)


@pytest.mark.usefixtures("cache")
def test_a_database_that_is_there_is_left_alone(migrations, tmp_path):
    database = ensure_database(tmp_path)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("create table mine (x)")
    ensure_database(tmp_path)
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select count(*) from mine").fetchone() == (0,)
    assert len(migrations) == 1


@pytest.mark.usefixtures("cache")
def test_a_database_of_an_older_airflow_is_migrated_in_place(migrations, tmp_path):
    database = ensure_database(tmp_path)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("update alembic_version set version_num = 'older'")
        connection.commit()
    ensure_database(tmp_path)
    assert migrations[1:] == [database]


@pytest.mark.usefixtures("cache")
def test_a_database_whose_first_migration_was_interrupted_is_migrated(migrations, tmp_path):
    (tmp_path / "airflow.db").touch()
    assert migrations == []
    ensure_database(tmp_path)
    assert migrations[-1] == tmp_path / "airflow.db"


def test_without_a_cache_folder_a_home_gets_its_database_all_the_same(monkeypatch, migrations, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "file" / "cache"))
    assert ensure_database(tmp_path).exists()
    assert migrations == [tmp_path / "airflow.db"]


def test_a_failed_migration_leaves_no_template_and_says_what_airflow_said(cache, monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho the disk is full\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(AirflowError, match=r"exit code 3[\s\S]*the disk is full"):
        ensure_database(tmp_path)
    assert list(cache.glob("*.sqlite")) == []


def test_a_free_port_can_be_listened_on():
    assert 1024 < free_port() < 65536


def test_airflow_is_not_imported_before_its_home_is_made():
    code = "import sys, airflow_mlpipe.airflow_home; print('airflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "False"


def test_airflow_reads_the_home_by_hand(home, tmp_path):
    make_home(home, tmp_path, parallelism=3)
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIRFLOW_HOME": str(home)}
    command = [sys.executable, "-c", "from airflow.configuration import conf; print(conf.get('core', 'parallelism'))"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.splitlines()[-1:] == ["3"], done.stderr
