"""One hundred pipelines of twenty steps, written for us, by hand for Airflow, and for dag-factory.

Each step runs a script of its own arguments, takes the output of one or two steps before it, and writes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.shapes import step_name, upstream_of

if TYPE_CHECKING:
    from pathlib import Path

DAGS = 100
STEPS = 20


def write_ours(folder: Path, dags: int = DAGS, workspace: str = "") -> None:
    """Write YAML definitions and the DAG file that loads them.

    :param workspace: what the file of the workspace says, if there is to be one.
    """
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "step.py").write_text("print('nothing')\n")
    (folder / "data.csv").write_text("a,b\n1,2\n")
    if workspace:
        (folder / "mlpipe.yaml").write_text(workspace)
    for number in range(dags):
        (folder / f"parsed_{number:03}.yaml").write_text(_our_definition(number))
    (folder / "load.py").write_text(
        "from airflow_mlpipe.dag_factory import load_pipelines\n\nload_pipelines(globals(), '.')\n"
    )


def _our_definition(number: int) -> str:
    lines = [
        f"name: parsed_{number:03}",
        'schedule: "@daily"',
        "parameters:",
        "  c: {type: number, default: 1.0}",
        "steps:",
    ]
    for step in range(STEPS):
        inputs = [f'from_{up}: "${{{{ steps.{step_name(up)}.outputs.out }}}}"' for up in upstream_of("layers", step)]
        lines += [
            f"  {step_name(step)}:",
            "    kind: python_script",
            "    source_directory: src",
            "    script_name: step.py",
            f'    arguments: [--number, "{step}", --c, "${{{{ parameters.c }}}}", --out, "${{{{ outputs.out }}}}"]',
            f"    inputs: {{{', '.join(inputs or ['data: {path: data.csv}'])}}}",
            "    outputs: {out: {}}",
        ]
    return "\n".join(lines) + "\n"


def write_by_hand(folder: Path) -> None:
    """Write one DAG file a pipeline, each operator spelt out."""
    folder.mkdir()
    for number in range(DAGS):
        (folder / f"parsed_{number:03}.py").write_text(_dag_by_hand(number))


def _dag_by_hand(number: int) -> str:
    lines = [
        "from datetime import datetime",
        "",
        "from airflow.providers.standard.operators.bash import BashOperator",
        "from airflow.sdk import DAG, Param",
        "",
        f"with DAG('parsed_{number:03}', schedule='@daily', start_date=datetime(2024, 1, 1), catchup=False,",
        "         params={'c': Param(1.0, type='number')}):",
    ]
    for step in range(STEPS):
        name = step_name(step)
        lines += [f"    {name} = BashOperator(task_id={name!r}, bash_command={_command(step)!r})"]
        if before := upstream_of("layers", step):
            lines += [f"    {name} << [{', '.join(map(step_name, before))}]"]
    return "\n".join(lines) + "\n"


def write_for_dag_factory(folder: Path) -> None:
    """Write dag-factory's YAML and the DAG file that loads it."""
    (folder / "config").mkdir(parents=True)
    for number in range(DAGS):
        (folder / "config" / f"parsed_{number:03}.yaml").write_text(_definition_for_dag_factory(number))
    (folder / "load.py").write_text(
        "from pathlib import Path\n\nfrom airflow.sdk import DAG\nfrom dagfactory import load_yaml_dags\n\n"
        "config = str(Path(__file__).parent / 'config')\n"
        "load_yaml_dags(globals_dict=globals(), dags_folder=config, defaults_config_path=config)\n"
    )


def _definition_for_dag_factory(number: int) -> str:
    lines = [
        f"parsed_{number:03}:",
        '  schedule: "@daily"',
        "  catchup: false",
        "  default_args: {start_date: 2024-01-01}",
        "  params: {c: 1.0}",
        "  tasks:",
    ]
    for step in range(STEPS):
        lines += [
            f"    - task_id: {step_name(step)}",
            "      operator: airflow.providers.standard.operators.bash.BashOperator",
            f'      bash_command: "{_command(step)}"',
        ]
        if before := upstream_of("layers", step):
            lines += [f"      dependencies: [{', '.join(map(step_name, before))}]"]
    return "\n".join(lines) + "\n"


def _command(step: int) -> str:
    before = [f"--in /tmp/data/{step_name(up)}" for up in upstream_of("layers", step)]
    return " ".join(
        ["python src/step.py", f"--number {step}", "--c {{ params.c }}", *before, f"--out /tmp/data/{step_name(step)}"]
    )
