from __future__ import annotations

import pytest

from airflow_mlpipe.definitions import (
    CommandStep,
    DataReference,
    Datastore,
    DataTransferStep,
    Destination,
    Pipeline,
    PipelineData,
    PipelineParameter,
    StepOutput,
    Workspace,
    dump,
    loads,
)
from airflow_mlpipe.definitions.base import build
from airflow_mlpipe.definitions.data import DataLink, ModuleInput, NamedData, binding
from airflow_mlpipe.exceptions import DefinitionError
from tests.definitions.helpers import problems, refused, step


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("s3://bucket/x", DataReference(name="raw", url="s3://bucket/x")),
        ("data/x.csv", DataReference(name="raw", path="data/x.csv")),
        ("../x.csv", DataReference(name="raw", path="../x.csv")),
        ("${{ parameters.where }}", DataReference(name="raw", path="${{ parameters.where }}")),
        ("s3://b/${{ run.logical_date }}", DataReference(name="raw", url="s3://b/${{ run.logical_date }}")),
        ({"datastore": "d", "path": "x"}, DataReference(name="raw", datastore="d", path="x")),
        ({"datastore": "d"}, DataReference(name="raw", datastore="d")),
        ({"url": "s3://b", "mode": "direct"}, DataReference(name="raw", url="s3://b", mode="direct")),
        (DataReference(path="x"), DataReference(name="raw", path="x")),
        ("${{ steps.a.outputs.x }}", StepOutput(step="a", output="x")),
        ({"from": "${{ steps.a.outputs.x }}", "mode": "direct"}, StepOutput(step="a", output="x", mode="direct")),
        ("${{ inputs.x }}", ModuleInput(output="x")),
        ({"from": "${{ inputs.x }}", "mode": "download"}, ModuleInput(output="x", mode="download")),
        (StepOutput(step="a", output="x"), StepOutput(step="a", output="x")),
    ],
)
def test_an_input_is_bound_in_every_way_people_write_it(given, expected):
    assert binding(given, "raw") == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (None, "is nothing that an input can be"),
        (3, "is nothing that an input can be"),
        (["a"], "is nothing that an input can be"),
        ({}, "says nowhere where the data lies"),
        ({"url": "s3://b", "path": "x"}, "Give a url alone, or datastore and path"),
        ({"url": "b/x"}, "is not a URL"),
        ({"datastore": "d", "path": "../x"}, "leaves the datastore"),
        ({"datastore": "d", "path": "/../x"}, "leaves the datastore"),
        ({"path": "${{ inputs.x }}"}, "It may hold ${{ parameters.<name> }}, ${{ run.<name> }}"),
        ({"path": "${{ oops"}, "Write }} after it"),
        ({"path": "x", "mode": "mounted"}, "Did you mean mount?"),
        ({"path": "x", "compare": "contents"}, "Did you mean content?"),
        ({"datastor": "d", "path": "x"}, "Did you mean datastore?"),
        ({"path": "x", "name": "other"}, "differs from the key"),
        ("pre ${{ steps.a.outputs.x }}", "leave the text out"),
        ({"from": "s3://b"}, "must be the output of a step"),
        ({"from": "${{ steps.a.outputs.x }}", "mod": "direct"}, "Did you mean mode?"),
    ],
)
def test_what_no_input_can_be_bound_to_is_refused(given, words):
    with refused(words):
        binding(given, "raw")


def test_a_data_object_becomes_a_link_to_that_very_object():
    data = PipelineData("clean")
    link = binding(data, "anything")
    assert isinstance(link, DataLink)
    assert link.data is data
    assert binding(NamedData(name="x", data=data, mode="direct"), "x").data is data


def test_modes_are_chosen_as_in_azure_ml():
    reference = DataReference(name="raw", path="x")
    assert [made.mode for made in (reference.as_mount(), reference.as_download(), reference.as_direct())] == [
        "mount",
        "download",
        "direct",
    ]
    data = PipelineData("clean")
    assert [made.mode for made in (data.as_mount(), data.as_download(), data.as_direct())] == [
        "mount",
        "download",
        "direct",
    ]
    assert (data.as_input("other").name, data.as_input("other").data) == ("other", data)


def test_a_datastore_object_stands_for_its_name():
    store = Datastore(name="landing", url="s3://b")
    assert DataReference(datastore=store, path="x").datastore == "landing"
    assert "has no name" in problems(DataReference, datastore=Datastore(url="s3://b"), path="x")[0]


def test_a_parameter_object_as_a_path_is_a_parameter_of_the_pipeline():
    which = PipelineParameter("which", default_value="titanic/Titanic.csv")
    data = DataReference(name="data", datastore="blob", path=which)
    assert data.as_download().path == "${{ parameters.which }}"
    copied = DataTransferStep(name="copy", source=data, destination="copied")
    for inputs in ([data], {"other": data.as_download()}):
        read = CommandStep(name="read", command="true", inputs=inputs)
        assert Pipeline(name="p", steps=[read]).parameters == {"which": which}
    assert Pipeline(name="p", steps=[copied]).parameters == {"which": which}
    by_url = CommandStep(name="read", command="true", inputs={"data": DataReference(url=which)})
    assert loads(dump(Pipeline(name="p", steps=[by_url]))).step("read") == by_url


def test_a_parameter_object_without_a_name_is_no_path():
    with pytest.raises(DefinitionError, match="must be a text"):
        DataReference(name="data", path=PipelineParameter(default="x"))


def test_a_destination_may_be_a_url_alone():
    assert PipelineData("x", destination="s3://b/x").destination == Destination(url="s3://b/x")
    assert PipelineData("x", destination=DataReference(datastore="d", path="p")).destination == Destination(
        datastore="d", path="p"
    )


SECRETS = [
    "http://user:hunter2@host/x.csv?sig=hunter2",
    "https://account.blob.core.windows.net/c/x?sv=2024&sig=hunter2",
    "https://b.s3.amazonaws.com/x?X-Amz-Credential=hunter2&X-Amz-Signature=hunter2",
    "https://b.s3.amazonaws.com/x?AWSAccessKeyId=hunter2&Expires=1",
    "https://storage.googleapis.com/b/x?X-Goog-Signature=hunter2",
    "https://host/x?access_token=hunter2",
    "https://hunter2@host/x",
    "s3://key:hunter2@bucket/x",
    "simplecache::ftp://user:hunter2@host/x",
    "https://host/x?token=${{ parameters.hunter2 }}",
    "https://${{ parameters.user }}:${{ parameters.hunter2 }}@host/x",
]


@pytest.mark.parametrize("url", SECRETS)
@pytest.mark.parametrize(
    "made",
    [
        lambda url: Datastore(name="d", url=url),
        lambda url: DataReference(url=url),
        lambda url: DataReference(path=url),
        lambda url: DataReference(datastore="d", path=url),
        lambda url: Destination(url=url),
        lambda url: PipelineData("x", destination=url),
        lambda url: step("a", inputs={"x": url}),
        lambda url: step("a", outputs={"x": {"destination": {"path": url}}}),
        lambda url: DataTransferStep(name="a", source=url, destination="x"),
        lambda url: DataTransferStep(name="a", source="x", destination=url),
        lambda url: Workspace(store=url),
        lambda url: Workspace(datastores={"d": url}),
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(made, url):
    (problem,) = problems(made, url)
    assert "holds a password or a signature" in problem
    assert "Put the credentials into an Airflow connection, and name a datastore that has it" in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize(
    "url",
    [
        "abfs://container@account.dfs.core.windows.net/x",
        "sftp://me@host/x",
        "https://host/x?page=2&key=3",
        "s3://b/x@y:z",
        "file:///a:b@c",
    ],
)
def test_what_is_no_secret_may_stand_in_a_url(url):
    assert DataReference(url=url).url == url


@pytest.mark.parametrize("path", ["", ".", "./", "/", "a/.."])
@pytest.mark.parametrize("datastore", [None, "d"])
def test_a_destination_names_something(path, datastore):
    (problem,) = problems(PipelineData, "x", destination={"datastore": datastore, "path": path})
    assert "destination.path: is empty. Name a file or folder" in problem
    assert DataReference(datastore="d", path=path).path == path  # all of a datastore may be read


def test_a_destination_is_no_datastore_as_a_whole():
    (problem,) = problems(PipelineData, "x", destination={"datastore": "d"})
    assert "destination.path: is missing" in problem
    assert "would take the place of the whole datastore" in problem
    assert problems(PipelineData, "x", destination=DataReference(datastore="d")) == [problem]


def test_a_file_does_not_go_to_what_is_written_as_a_folder():
    (problem,) = problems(PipelineData, "x", kind="file", destination="results/")
    assert (
        "destination: names a folder, and the output is a file (given: results/). Name the file: results/x" in problem
    )
    for fine in ({"kind": "file", "destination": "results"}, {"destination": "results/"}, {"kind": "file"}):
        PipelineData("x", **fine)


def test_an_output_names_one_datastore():
    assert (
        "Name the datastore inside destination" in problems(PipelineData, "x", datastore="d", destination="s3://b")[0]
    )


@pytest.mark.parametrize("name", ["../x", "a b", "ä", "x" * 300, "1a", ""])
def test_an_output_with_a_name_that_is_no_word_is_refused(name):
    with refused("name"):
        build(PipelineData, {"name": name})
