from __future__ import annotations

import io
import tarfile

import pytest

from airflow_mlpipe.exceptions import DataError, OutputMissingError, StepError
from airflow_mlpipe.launchers.docker.archive import pack, turn_links, unpack
from airflow_mlpipe.runtime.layout import StepDirectory


@pytest.fixture
def directory(tmp_path):
    directory = StepDirectory(tmp_path / "step")
    for folder in (directory.code / "sub", directory.inputs / "data", directory.outputs, directory.home):
        folder.mkdir(parents=True)
    (directory.code / "sub" / "main.py").write_text("print()")
    (directory.code / "run.sh").touch(mode=0o755)
    (directory.inputs / "data" / "a").touch(mode=0o666)
    directory.metrics.touch()
    return directory


@pytest.fixture
def target(tmp_path):
    path = tmp_path / "outputs"
    path.mkdir()
    return path


def members(chunks):
    return {m.name: m for m in tarfile.open(fileobj=io.BytesIO(b"".join(chunks))).getmembers()}


def tar_of(*infos, content=b""):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return data.getvalue()


def member(name, kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def test_a_step_directory_is_its_users_and_inputs_are_roots(directory):
    found = members(pack(directory, (12, 34)))
    assert {(m.uid, m.gid) for name, m in found.items() if "inputs" in name} == {(0, 0)}
    assert {(m.uid, m.gid) for name, m in found.items() if "inputs" not in name} == {(12, 34)}
    assert found["./inputs/data/a"].mode & 0o222 == 0o200
    assert found["./code/run.sh"].mode & 0o111 == 0o111
    assert not {m.uname for m in found.values()} - {""}


def test_a_user_whom_only_the_image_knows_may_write_where_anybody_may(directory):
    found = members(pack(directory, None))
    assert found["./outputs"].mode & 0o777 == 0o777
    assert found["./metrics.jsonl"].mode & 0o666 == 0o666
    assert found["./inputs/data"].mode & 0o022 == 0


def test_a_directory_is_sent_in_pieces(directory):
    (directory.inputs / "large").write_bytes(bytes(5 << 20))
    assert max(map(len, pack(directory, (0, 0)))) <= 1 << 20


def test_what_cannot_be_read_fails_the_sending(directory):
    (directory.code / "gone").symlink_to("x")
    (directory.root / "socket").mkdir()
    chunks = pack(directory, (0, 0))
    (directory.code / "run.sh").unlink()
    assert b"".join(chunks)  # what is gone by then is simply not there


def test_outputs_come_back_as_they_were(target):
    data = tar_of(
        member("outputs", tarfile.DIRTYPE, mode=0o755),
        member("outputs/model", tarfile.DIRTYPE, mode=0o700),
        member("outputs/model/a", size=3, mode=0o600, uid=1234),
        member("outputs/model/b", tarfile.LNKTYPE, linkname="outputs/model/a"),
        member("outputs/model/c", tarfile.SYMTYPE, linkname="a"),
        content=b"abc",
    )
    unpack([data[:100], data[100:700], data[700:]], target)
    assert {p.name: p.read_text() for p in (target / "model").iterdir()} == dict.fromkeys("abc", "abc")


@pytest.mark.parametrize("name", ["outputs/../../x", "outputs/./x", "outputs//x", "outputs/a/../../../x"])
def test_a_name_that_leads_elsewhere_is_refused(target, name):
    with pytest.raises(DataError, match="leads elsewhere"):
        unpack([tar_of(member("outputs", tarfile.DIRTYPE), member(name))], target)
    assert not (target.parent / "x").exists()


def test_nothing_is_written_through_a_link(target, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = member("outputs/a", tarfile.SYMTYPE, linkname=str(elsewhere))
    with pytest.raises((DataError, StepError, OSError)):
        unpack([tar_of(member("outputs", tarfile.DIRTYPE), link, member("outputs/a/x"))], target)
    assert list(elsewhere.iterdir()) == []


def test_a_hard_link_to_elsewhere_is_refused(target):
    link = member("outputs/a", tarfile.LNKTYPE, linkname="outputs/../../../etc/passwd")
    with pytest.raises(DataError, match="leads elsewhere"):
        unpack([tar_of(link)], target)


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE])
def test_what_is_neither_file_nor_folder_is_refused_by_name(target, kind):
    with pytest.raises(DataError, match=r"'outputs/model/odd' is neither file nor folder"):
        unpack([tar_of(member("outputs/model", tarfile.DIRTYPE), member("outputs/model/odd", kind))], target)


@pytest.mark.parametrize("cut", [1, 512, 1024, 1536, 2048, 2600, 3072, 3100])
def test_an_archive_that_was_cut_off_is_never_taken_for_whole(target, cut):
    whole = tar_of(member("outputs/a", size=600), member("outputs/b", size=600), content=bytes(600))
    with pytest.raises(StepError, match="did not come back whole"):
        unpack([whole[:cut]], target)


def test_links_by_the_paths_of_the_container_lead_to_the_same_on_the_worker(target):
    (target / "model" / "deep").mkdir(parents=True)
    (target / "model" / "best").write_text("x")
    (target / "model" / "deep" / "latest").symlink_to("/mlpipe/outputs/model/best")
    (target / "model" / "other").symlink_to("/mlpipe/code/main.py")
    turn_links(target)
    assert (target / "model" / "deep" / "latest").read_text() == "x"
    assert str((target / "model" / "other").readlink()) == "/mlpipe/code/main.py"


def test_outputs_that_are_no_folder_any_more_are_refused(target):
    with pytest.raises(OutputMissingError, match="the command removed outputs/, or put something else in its place"):
        unpack([tar_of(member("outputs", tarfile.SYMTYPE, linkname="/etc"))], target)


def test_links_are_not_turned_where_a_link_in_the_place_of_outputs_leads_to(tmp_path, target):
    (target / "latest").symlink_to("/mlpipe/outputs/model")
    (tmp_path / "link").symlink_to(target)
    turn_links(tmp_path / "link")
    assert (target / "latest").readlink().as_posix() == "/mlpipe/outputs/model"
