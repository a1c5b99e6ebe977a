"""The commands of ``mlpipe``, each a thin function; what it needs is imported when it is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from airflow_mlpipe.cli.cache import cache
from airflow_mlpipe.exceptions import AirflowError, DefinitionError, MlpipeError, StepError

if TYPE_CHECKING:
    from airflow_mlpipe.cli.project import Project
    from airflow_mlpipe.cli.report import RunReport, StepReport
    from airflow_mlpipe.cli.running import Request
    from airflow_mlpipe.definitions.schema import FileKind

FAILED = 1
REFUSED = 2
INTERRUPTED = 130


class _Commands(TyperGroup):
    """Turns the errors of this package into lines a person can act on, and an exit code."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 -- typer's own
        try:
            return super().invoke(ctx)
        except DefinitionError as error:
            _say("\n".join(str(problem) for problem in error.problems))
            raise typer.Exit(REFUSED) from None
        except (AirflowError, StepError) as error:
            _say(f"mlpipe: {error}")
            raise typer.Exit(FAILED) from None
        except MlpipeError as error:
            _say(f"mlpipe: {error}")
            raise typer.Exit(REFUSED) from None
        except KeyboardInterrupt:
            _say("mlpipe: interrupted; all that was running has been ended")
            raise typer.Exit(INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    help="Runs ML pipelines on Airflow, and runs again only what changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cache, name="cache")

File = Annotated[Path, typer.Argument(metavar="FILE", help="The definition of the pipeline.", show_default=False)]
Parameters = Annotated[
    list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="The value of a parameter.")
]
Regenerate = Annotated[
    list[str] | None,
    typer.Option(metavar="all|STEP", help="Steps that must run even if nothing has changed; may be repeated."),
]
LogicalDate = Annotated[
    str | None, typer.Option(metavar="DATE", help="The date that the run is for; now, if not given. UTC.")
]
WorkspaceFile = Annotated[
    Path | None, typer.Option("--workspace", metavar="FILE", help="The workspace file; mlpipe.yaml beside FILE.")
]
Compute = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="The compute target of steps that name none; the workspace's, if not given."),
]
Folder = Annotated[Path | None, typer.Option(hidden=True, help="Where relative paths start, if not beside FILE.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
RunId = Annotated[str | None, typer.Option("--run", metavar="ID", help="The run; the last one, if not given.")]


@app.command()
def run(  # noqa: PLR0913 -- a command's options are its arguments
    file: File,
    parameter: Parameters = None,
    regenerate: Regenerate = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, max=16, help="How many steps run side by side.")] = 1,
    logical_date: LogicalDate = None,
    compute: Compute = None,
    workspace: WorkspaceFile = None,
    folder: Folder = None,
    *,
    json: AsJson = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show the log while it is written.")] = False,
) -> None:
    """Run a pipeline; steps that have not changed are reused."""
    from airflow_mlpipe.cli import running, show  # noqa: PLC0415 -- here and below: a command imports what it needs

    project = _open(file, workspace, folder, compute)
    request = _request(project, parameter, regenerate, logical_date, jobs=jobs, verbose=verbose)
    ended = running.run(project, request)
    if json:
        show.write_json(ended.report.to_json(project.site.store))
    else:
        if ended.log and sys.stderr.isatty():
            _say("")  # between the progress and the table
        show.write_run(ended.report)
    for step in ended.report.steps:
        if step.error:
            _say(f"\n{step.step} failed: {step.error}")
    if ended.report.state != "success":
        _say(f"\nThe log of the run: {ended.log}")
        raise typer.Exit(FAILED)


@app.command()
def plan(  # noqa: PLR0913
    file: File,
    parameter: Parameters = None,
    regenerate: Regenerate = None,
    logical_date: LogicalDate = None,
    compute: Compute = None,
    workspace: WorkspaceFile = None,
    folder: Folder = None,
    *,
    json: AsJson = False,
) -> None:
    """Say which steps would run and why, and run nothing."""
    from airflow_mlpipe.cli import report, running, show  # noqa: PLC0415

    project = _open(file, workspace, folder, compute)
    planned = report.of_plan(running.plan(project, _request(project, parameter, regenerate, logical_date)))
    if json:
        show.write_json(planned.to_json(project.site.store))
    else:
        show.write_plan(planned)


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Definitions, or folders with them.")],
    workspace: WorkspaceFile = None,
    *,
    json: AsJson = False,
) -> None:
    """Check definitions: every problem, with file, line and column."""
    from airflow_mlpipe.cli import checking, show  # noqa: PLC0415
    from airflow_mlpipe.cli.table import plural  # noqa: PLC0415

    found, problems = checking.files_of(files)
    for file in found:
        problems += checking.problems_of(file, workspace)
    if json:
        show.write_json([vars(problem) for problem in problems])
    else:
        _say("\n".join(str(problem) for problem in problems) or f"{plural(len(found), 'definition')}, no problem")
    if problems:
        raise typer.Exit(REFUSED)


@app.command()
def explain(  # noqa: PLR0913
    file: File,
    step: Annotated[str | None, typer.Argument(metavar="STEP", help="The step.", show_default=False)] = None,
    run: RunId = None,
    parameter: Parameters = None,
    compute: Compute = None,
    workspace: WorkspaceFile = None,
    folder: Folder = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Every step.")] = False,
    json: AsJson = False,
) -> None:
    """Say why a step ran or was reused, and what it would do now."""
    from airflow_mlpipe.cli import explaining, past, report, running, show  # noqa: PLC0415

    if bool(step) == every:
        message = "give the name of one step, or --all"
        raise MlpipeError(message)
    project = _open(file, workspace, folder, compute)
    names = [one.name for one in project.pipeline.steps] if step is None else [_known_step(project, step)]
    store, pipeline = project.site.store, project.pipeline.name
    then = past.named_run(store, pipeline, run) if run else past.last_run(store, pipeline)
    now = None if run else report.of_plan(running.plan(project, _request(project, parameter)))
    explained = explaining.explanations(then, now, names)
    if json:
        show.write_json(explaining.to_json(pipeline, then, explained, store))
    else:
        premise = explaining.defaults(then, now, {given.partition("=")[0] for given in parameter or ()})
        sys.stdout.write("\n".join(line for one in explained for line in explaining.lines(then, one, premise)) + "\n")


@app.command()
def outputs(  # noqa: PLR0913
    file: File,
    step: Annotated[str | None, typer.Argument(metavar="STEP", help="One step only.", show_default=False)] = None,
    run: RunId = None,
    copy_to: Annotated[Path | None, typer.Option(metavar="DIR", help="Copy them to DIR/<step>/<output>.")] = None,
    workspace: WorkspaceFile = None,
    folder: Folder = None,
    *,
    json: AsJson = False,
) -> None:
    """Say where the outputs of the last run are."""
    from airflow_mlpipe.cli import past, results, show  # noqa: PLC0415

    project = _open(file, workspace, folder)
    store, pipeline = project.site.store, project.pipeline.name
    found = past.named_run(store, pipeline, run) if run else past.last_run(store, pipeline)
    if found is None:
        message = f"{pipeline} has not run yet: mlpipe run {file}"
        raise MlpipeError(message)
    steps = _chosen(found, _known_step(project, step) if step else None)
    if copy_to:
        for path in results.copy(steps, project.site, copy_to):
            _say(f"copied {path}")
    if json:
        show.write_json(results.to_json(found, steps, project.site))
    elif not copy_to:
        show.write_outputs(steps, project.site.store)
        if not any(step.outputs for step in steps):
            _say("no outputs: " + ", ".join(f"{step.step} {step.outcome.replace('_', ' ')}" for step in steps))


@app.command()
def schema(
    kind: Annotated[str, typer.Argument(metavar="pipeline|workspace|module", help="The kind of file.")] = "pipeline",
) -> None:
    """Print the JSON schema of a kind of file, for editors."""
    from airflow_mlpipe.cli import show  # noqa: PLC0415
    from airflow_mlpipe.definitions.schema import json_schema  # noqa: PLC0415

    if kind not in ("pipeline", "workspace", "module"):
        message = f"there is a schema of pipeline, workspace and module, not of {kind!r}"
        raise MlpipeError(message)
    show.write_json(json_schema(cast("FileKind", kind)))


@app.command()
def lock(file: File, compute: Compute = None, workspace: WorkspaceFile = None, *, json: AsJson = False) -> None:
    """Resolve requirements to exact versions, in mlpipe.lock."""
    from airflow_mlpipe.cli import locking, show  # noqa: PLC0415

    project = _open(file, workspace, None, compute)
    locked = locking.lock(project)
    if json:
        show.write_json(locking.to_json(locked))
    else:
        sys.stdout.write("\n".join(locking.lines(project, locked)) + "\n")


@app.command()
def build(file: File, compute: Compute = None, workspace: WorkspaceFile = None, *, json: AsJson = False) -> None:
    """Build the container images of environments, unless they are there."""
    from airflow_mlpipe.cli import building, show  # noqa: PLC0415

    project = _open(file, workspace, None, compute)
    built = building.build(project, _say)
    if json:
        show.write_json(building.to_json(built))
    else:
        sys.stdout.write("\n".join(building.lines(project, built)) + "\n")


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where; here, if not given.")] = Path(),
) -> None:
    """Make a small project that works, to change into your own."""
    from airflow_mlpipe.cli import beginning  # noqa: PLC0415

    for path in beginning.make_project(folder):
        _say(f"wrote {path}")
    _say(f"\nNow run it: mlpipe run {folder / beginning.PIPELINE}")


@app.command()
def up(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="The folder with the DAG files; dags here.", show_default=False),
    ] = None,
    dags: Annotated[Path | None, typer.Option(metavar="DIR", help="The same, as an option.")] = None,
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where this Airflow keeps everything; .mlpipe/up here.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=65535, help="The port; a free one, if not given.")
    ] = None,
) -> None:
    """Start a whole Airflow on this machine, until Ctrl-C."""
    from airflow_mlpipe.cli.project import default_private  # noqa: PLC0415
    from airflow_mlpipe.up import up as start  # noqa: PLC0415

    folder = folder or dags or Path("dags")
    if not folder.is_dir():
        message = f"there is no folder {folder.absolute()} to take DAGs from; make it, or name another"
        raise MlpipeError(message)
    raise typer.Exit(start(folder, home or default_private(Path.cwd()) / "up", port))


def _open(file: Path, workspace: Path | None, folder: Path | None, compute: str | None = None) -> Project:
    from airflow_mlpipe.cli.project import Project  # noqa: PLC0415

    return Project.open(file, workspace=workspace, folder=folder, compute=compute)


def _request(  # noqa: PLR0913 -- what the options of a run say
    project: Project,
    parameters: list[str] | None = None,
    regenerate: list[str] | None = None,
    logical_date: str | None = None,
    *,
    jobs: int = 1,
    verbose: bool = False,
) -> Request:
    from airflow_mlpipe.cli.arguments import Moment, read_date, read_parameters, read_regenerate  # noqa: PLC0415
    from airflow_mlpipe.cli.running import Request  # noqa: PLC0415

    return Request(
        Moment.now(read_date(logical_date) if logical_date else None),
        read_parameters(project.pipeline, parameters or ()),
        read_regenerate(project.pipeline, regenerate or ()),
        jobs,
        verbose,
    )


def _known_step(project: Project, name: str) -> str:
    try:
        return project.pipeline.step(name).name
    except KeyError as error:
        raise MlpipeError(error.args[0]) from None


def _chosen(report: RunReport, name: str | None) -> list[StepReport]:
    return [step for step in report.steps if name in (None, step.step)]


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
