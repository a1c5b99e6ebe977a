from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlpipe.definitions import (
    AssetAll,
    CommandStep,
    DataReference,
    DataTransferStep,
    Environment,
    EstimatorStep,
    Module,
    MpiStep,
    Pipeline,
    PipelineData,
    PipelineParameter,
    PythonScriptStep,
    Schedule,
    Workspace,
    dump,
    loads,
)
from airflow_mlpipe.definitions.dump import plain
from airflow_mlpipe.definitions.reading import look
from tests.definitions.helpers import step

NOWHERE = Workspace(
    datastores={"d": "s3://d"}, environments={"e": {"python": "python3"}}, compute={"c": {"kind": "local"}}
)


def test_what_equals_its_default_is_left_out():
    assert (
        dump(Pipeline(name="p", steps=[step("a")])) == "name: p\nsteps:\n  a:\n    kind: command\n    command: 'true'\n"
    )


def test_keys_give_names():
    pipeline = Pipeline(
        name="p",
        parameters=[PipelineParameter("c", default=1.0)],
        steps=[
            step("a", inputs={"raw": DataReference(name="raw", path="x")}, outputs=["x"]),
            DataTransferStep(name="b", source="s3://a", destination="s3://b"),
        ],
    )
    assert plain(pipeline) == {
        "name": "p",
        "parameters": {"c": {"type": "number", "default": 1.0}},
        "steps": {
            "a": {"kind": "command", "inputs": {"raw": {"path": "x"}}, "outputs": {"x": {}}, "command": "true"},
            "b": {"kind": "data_transfer", "source": {"url": "s3://a"}, "destination": {"url": "s3://b"}},
        },
    }


words = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12).filter(
    lambda text: "${{" not in text
)
lines = st.one_of(
    texts, st.sampled_from(["on", "1.10", "null", "~", "2024-01-01", "a: b", "# x", "- x", "1e3", "'", '"', "a\nb"])
)
durations = st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=400))
scalars = st.one_of(lines, st.integers(), st.booleans(), st.floats(allow_nan=False, allow_infinity=False))
places = st.one_of(
    st.builds(DataReference, datastore=st.just("d"), path=words, mode=st.sampled_from(["mount", "download", "direct"])),
    st.builds(
        DataReference, url=words.map("s3://b/{}".format), compare=st.sampled_from([None, "content", "version", "path"])
    ),
    st.builds(DataReference, path=words.map("{}/${{{{ run.run_after }}}}".format)),
)
assets = st.recursive(
    words,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda items: {"all": items}),
        st.lists(inner, min_size=1, max_size=3).map(lambda items: {"any": items}),
    ),
    max_leaves=5,
)
schedules = st.one_of(
    st.none(),
    st.sampled_from(["@weekly", "0 6 * * mon-fri"]),
    durations.filter(bool).map(lambda every: Schedule(every=every)),
    assets.map(lambda expression: Schedule(assets=expression)),
)
parameters = st.one_of(
    st.builds(lambda value: PipelineParameter(default=value), scalars),
    st.builds(
        lambda low, high: PipelineParameter(type="number", minimum=min(low, high), maximum=max(low, high)),
        st.floats(-9, 9),
        st.floats(-9, 9),
    ),
    st.lists(scalars, min_size=1, max_size=3).map(lambda choices: PipelineParameter(choices=choices)),
)
environments = st.one_of(
    st.none(),
    st.just("e"),
    st.builds(
        Environment,
        requirements=st.lists(words, max_size=2),
        variables=st.dictionaries(words.map(str.upper), lines, max_size=2),
        secrets=st.dictionaries(words, words.map("variable:{}".format), max_size=1).map(
            lambda secrets: {f"S_{name}": source for name, source in secrets.items()}
        ),
        compare=st.sampled_from(["strict", "declared", "ignore"]),
    ),
)
commons = {
    "description": lines,
    "compute": st.sampled_from([None, "c", "local"]),
    "environment": environments,
    "allow_reuse": st.booleans(),
    "retries": st.one_of(st.none(), st.integers(0, 9)),
    "retry_delay": st.one_of(st.none(), durations),
    "timeout": st.one_of(st.none(), durations),
    "labels": st.dictionaries(lines, lines, max_size=2),
    "on_failure": st.sampled_from([None, "m.f"]),
}


@st.composite
def steps(draw, index, earlier):
    fields = {name: draw(values) for name, values in commons.items()}
    fields["name"] = f"s{index}"
    fields["run_after"] = draw(st.lists(st.sampled_from(list(earlier)), unique=True, max_size=2)) if earlier else []
    known = [f"${{{{ steps.{name}.outputs.{output} }}}}" for name, outputs in earlier.items() for output in outputs]
    given = (
        st.one_of(
            places, st.sampled_from(known), st.sampled_from(known).map(lambda ref: {"from": ref, "mode": "direct"})
        )
        if known
        else places
    )
    if draw(st.booleans()) and draw(st.booleans()):
        return DataTransferStep(**fields, source=draw(given), destination={"datastore": "d", "path": f"to/{index}"})
    inputs = draw(st.dictionaries(words.map("i_{}".format), given, max_size=2))
    fields |= {
        "inputs": inputs,
        "outputs": {
            name: PipelineData(name, kind=draw(st.sampled_from([None, "file", "folder"])))
            for name in draw(st.sets(words.map("o_{}".format), max_size=2))
        },
        "parameters": draw(st.dictionaries(words, scalars, max_size=2)),
    }
    arguments = draw(
        st.lists(
            st.one_of(lines, st.sampled_from([f"${{{{ inputs.{name} }}}}" for name in inputs] or ["x"])), max_size=3
        )
    )
    if draw(st.booleans()):
        return PythonScriptStep(
            **fields, script_name="a.py", arguments=arguments, code=draw(st.sampled_from(["directory", "imports"]))
        )
    if draw(st.booleans()):
        return CommandStep(**fields, command=["echo", *arguments])
    more = {"options": draw(st.lists(lines, max_size=2)), "outputs_of": draw(st.sampled_from(["first", "each"]))}
    ranks = draw(st.integers(1, 9))
    if draw(st.booleans()):
        return MpiStep(**fields, script_name="a.py", arguments=arguments, process_count_per_node=ranks, **more)
    return EstimatorStep(
        **fields,
        entry_script="a.py",
        arguments=arguments,
        framework=draw(st.sampled_from(["sklearn", "pytorch"])),
        framework_version=draw(st.sampled_from([None, "1.7.2", 2.4, 3])),
        distribution=draw(st.sampled_from([None, {"kind": "mpi", "processes_per_node": ranks, **more}])),
    )


@st.composite
def pipelines(draw):
    made = {}
    for index in range(draw(st.integers(1, 4))):
        made[f"s{index}"] = draw(steps(index, {name: list(one.outputs) for name, one in made.items()}))
    return Pipeline(
        name=draw(words),
        description=draw(lines),
        schedule=draw(schedules),
        start_date=draw(st.one_of(st.none(), st.datetimes(timezones=st.timezones()))),
        tags=draw(st.lists(lines, max_size=2)),
        parameters=draw(st.dictionaries(words.map("p_{}".format), parameters, max_size=2)),
        steps=list(made.values()),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("definitions")
    (made / "a.py").write_text("")
    return made


@given(made=pipelines())
def test_a_pipeline_dumped_and_loaded_is_the_same(folder, made):
    loaded = loads(dump(made), folder, NOWHERE)
    assert loaded == made
    assert loaded.digest == made.digest
    assert dump(loaded) == dump(made)


def test_a_workspace_dumped_and_loaded_is_the_same():
    workspace = Workspace(
        store={"url": "s3://b", "connection": "c"},
        datastores={"d": "s3://d"},
        compute={"gpu": {"kind": "docker", "image": "i"}},
        environments={"e": {"requirements": ["numpy"]}},
        modules=["m"],
        defaults={"compute": "gpu", "retry_delay": "5 minutes"},
    )
    assert look(Workspace, dump(workspace), "w.yaml").sound() == workspace


def test_a_module_dumped_and_loaded_is_the_same():
    module = Module(
        name="m",
        version="1.10",
        inputs=["raw"],
        outputs={"x": "${{ steps.a.outputs.x }}"},
        parameters={"c": 1.0},
        steps={
            "a": {
                "kind": "command",
                "command": "echo ${{ parameters.c }}",
                "inputs": {"r": "${{ inputs.raw }}"},
                "outputs": ["x"],
            }
        },
    )
    assert look(Module, dump(module), "m.yaml").sound() == module


def test_the_names_of_assets_keep_their_spaces():
    pipeline = Pipeline(name="p", schedule={"assets": "'a b' & c"}, steps=[step("a")])
    assert loads(dump(pipeline), Path.cwd(), NOWHERE) == pipeline
    alone = Pipeline(name="p", schedule=Schedule(assets="'a b'"), steps=[step("a")])
    assert loads(dump(alone), Path.cwd(), NOWHERE) == alone
    assert pipeline.schedule.assets == AssetAll(all=("'a b'", "c"))
