"""``mlpipe cache``: what the store holds, what it saved, and what of it may go."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from airflow_mlpipe.store.store import Store

DAMAGED = 1

cache = typer.Typer(
    help="Says what the store holds and what it saved, and removes what may go.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

StoreUrl = Annotated[
    str | None, typer.Option("--store", metavar="URL", help="The store; that of the workspace, if not given.")
]
WorkspaceFile = Annotated[
    Path | None, typer.Option("--workspace", metavar="FILE", help="The workspace file; mlpipe.yaml here.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output, and nothing else there.")]
What = Annotated[str, typer.Argument(metavar="FINGERPRINT|PIPELINE.STEP", show_default=False)]
Pinned = Annotated[
    str | None,
    typer.Argument(metavar="[FINGERPRINT|PIPELINE.STEP]", help="With --run, the pipeline.", show_default=False),
]
PinnedRun = Annotated[str | None, typer.Option("--run", metavar="ID", help="All that a run used.")]
Bys = Literal["run", "step", "pipeline", "month"]


@cache.command()
def ls(
    what: Annotated[
        str | None, typer.Argument(metavar="[PIPELINE|PIPELINE.STEP]", help="Each record of these.", show_default=False)
    ] = None,
    store: StoreUrl = None,
    workspace: WorkspaceFile = None,
    *,
    json: AsJson = False,
) -> None:
    """List what the store holds, by pipeline and step."""
    from airflow_mlpipe.cli import show  # noqa: PLC0415 -- here and below: a command imports what it needs
    from airflow_mlpipe.cli.cached import records  # noqa: PLC0415
    from airflow_mlpipe.resolving.inventory import Inventory  # noqa: PLC0415

    inventory = Inventory.read(_open(store, workspace))
    if what is None:
        rows = records.groups(inventory.items)
    else:
        rows = [records.record(item) for item in records.chosen(inventory, what)]
    if json:
        show.write_json(rows)
    elif what is None:
        records.write_groups(rows, inventory.unreadable)
    else:
        records.write_records(rows)


@cache.command(name="show")
def show_record(what: What, store: StoreUrl = None, workspace: WorkspaceFile = None, *, json: AsJson = False) -> None:
    """Say all that is known of the newest record: what it was made from, what it holds, who used it."""
    from airflow_mlpipe.cli import show  # noqa: PLC0415
    from airflow_mlpipe.cli.cached import records  # noqa: PLC0415
    from airflow_mlpipe.resolving.inventory import Inventory  # noqa: PLC0415

    opened = _open(store, workspace)
    found = Inventory.read(opened).find(what)
    data = records.details(found, opened)
    if json:
        show.write_json(data)
    else:
        sys.stdout.write("\n".join(records.lines_of(data)) + "\n")


@cache.command()
def du(store: StoreUrl = None, workspace: WorkspaceFile = None, *, json: AsJson = False) -> None:
    """Say what takes up how much room, and what of it nobody refers to."""
    from airflow_mlpipe.cli import show  # noqa: PLC0415
    from airflow_mlpipe.cli.cached import room  # noqa: PLC0415
    from airflow_mlpipe.resolving.retention import Guard, Survey  # noqa: PLC0415

    data = room.usage(Survey.read(_open(store, workspace), Guard()))
    if json:
        show.write_json(data)
    else:
        room.write_usage(data)


@cache.command()
def prune(  # noqa: PLR0913 -- a command's options are its arguments
    older_than: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Records made longer ago than this: 30d, 12h.")
    ] = None,
    unused_for: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Records that no run has used for this long.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What outputs may take up: 500GB; the cheapest to redo go first.")
    ] = None,
    keep_last: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="The newest records of each step stay.")
    ] = None,
    runs_older_than: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Plans, notes and journal of runs that ended longer ago than this."),
    ] = None,
    grace: Annotated[
        str, typer.Option(metavar="DURATION", help="How long what goes stays on the disk; 0 only if nothing runs.")
    ] = "1h",
    live: Annotated[
        str, typer.Option(metavar="DURATION", help="A run that has not ended counts as under way for this long.")
    ] = "7d",
    recent: Annotated[
        str, typer.Option(metavar="DURATION", help="What a run used stays for this long after it has ended.")
    ] = "1d",
    store: StoreUrl = None,
    workspace: WorkspaceFile = None,
    *,
    evict: Annotated[
        bool, typer.Option("--evict", help="Only outputs go; the records stay, and are still reused.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only say what would go.")] = False,
    json: AsJson = False,
) -> None:
    """Remove what the policy names and nobody refers to; without --yes, only say what that is."""
    from airflow_mlpipe.cli import show  # noqa: PLC0415
    from airflow_mlpipe.cli.cached import room  # noqa: PLC0415
    from airflow_mlpipe.launchers import abandoned  # noqa: PLC0415
    from airflow_mlpipe.launchers.directory import sweep  # noqa: PLC0415
    from airflow_mlpipe.resolving.limits import read_duration, read_size  # noqa: PLC0415
    from airflow_mlpipe.resolving.retention import Guard, Policy, Pruner  # noqa: PLC0415

    policy = Policy(
        None if older_than is None else read_duration("--older-than", older_than),
        None if unused_for is None else read_duration("--unused-for", unused_for),
        None if max_size is None else read_size("--max-size", max_size),
        keep_last,
        evict,
        None if runs_older_than is None else read_duration("--runs-older-than", runs_older_than),
    )
    guard = Guard(read_duration("--grace", grace), read_duration("--live", live), read_duration("--recent", recent))
    pruner = Pruner(_open(store, workspace), policy, guard)
    pruning = pruner.prune() if yes else pruner.look()
    left = sweep() if yes else abandoned.found()
    if json:
        show.write_json({**room.pruning_to_json(pruning, done=yes), "directories": [str(folder) for folder in left]})
    else:
        room.write_abandoned(left, done=yes)
        room.write_pruning(pruning, policy, guard, done=yes)


@cache.command()
def pin(  # noqa: PLR0913
    what: Pinned = None,
    run: PinnedRun = None,
    note: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    store: StoreUrl = None,
    workspace: WorkspaceFile = None,
    *,
    json: AsJson = False,
) -> None:
    """Keep records, whatever the policy; without arguments, list what is pinned."""
    from airflow_mlpipe.cli import show  # noqa: PLC0415
    from airflow_mlpipe.cli.cached import pins as cached_pins  # noqa: PLC0415
    from airflow_mlpipe.store import pins  # noqa: PLC0415

    opened = _open(store, workspace)
    if what or run:
        pins.add(opened, cached_pins.pin_of(opened, what, run, note))
    if json:
        show.write_json([vars(each) for each in pins.read(opened)])
    else:
        cached_pins.write_pins(pins.read(opened))


@cache.command()
def unpin(
    what: Pinned = None,
    run: PinnedRun = None,
    store: StoreUrl = None,
    workspace: WorkspaceFile = None,
    *,
    json: AsJson = False,
) -> None:
    """Leave what was pinned to the policy again."""
    from airflow_mlpipe.cli import show  # noqa: PLC0415
    from airflow_mlpipe.cli.cached import pins as cached_pins  # noqa: PLC0415
    from airflow_mlpipe.store import pins  # noqa: PLC0415

    opened = _open(store, workspace)
    pin = cached_pins.pinned(opened, what, run)
    pins.remove(opened, pin)
    if json:
        show.write_json([vars(each) for each in pins.read(opened)])
    else:
        cached_pins.write_pins(pins.read(opened))


@cache.command()
def verify(  # noqa: PLR0913
    what: Annotated[
        str | None, typer.Argument(metavar="[PIPELINE|PIPELINE.STEP]", help="Only these.", show_default=False)
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Read that many records, chosen by chance; all, if not given."),
    ] = None,
    store: StoreUrl = None,
    workspace: WorkspaceFile = None,
    *,
    digests: Annotated[bool, typer.Option("--digests", help="Read the outputs and compare their digests.")] = False,
    void: Annotated[bool, typer.Option("--void", help="Void what is damaged, so that it is made again.")] = False,
    json: AsJson = False,
) -> None:
    """Check that the outputs of records are there and whole."""
    from airflow_mlpipe.cli import show  # noqa: PLC0415
    from airflow_mlpipe.cli.cached import checks, records  # noqa: PLC0415
    from airflow_mlpipe.resolving.inventory import Inventory  # noqa: PLC0415
    from airflow_mlpipe.resolving.verifying import verify_outputs, void_damaged  # noqa: PLC0415

    opened = _open(store, workspace)
    inventory = Inventory.read(opened)
    items = records.chosen(inventory, what) if what else inventory.items
    verified = verify_outputs(opened, items, digests=digests or sample is not None, sample=sample)
    if void:
        void_damaged(opened, verified.damaged)
    if json:
        show.write_json(checks.verified_to_json(verified, voided=void))
    else:
        checks.write_verified(verified, voided=void)
    if verified.damaged and not void:
        raise typer.Exit(DAMAGED)


@cache.command()
def audit(  # noqa: PLR0913
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The definition of the pipeline.", show_default=False)],
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="The value of a parameter.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="So many steps, chosen by chance; all, if not given.")
    ] = None,
    store: StoreUrl = None,
    workspace: WorkspaceFile = None,
    *,
    json: AsJson = False,
) -> None:
    """Run reused steps again in the shadow, and name those that make something else."""
    from airflow_mlpipe.cli import auditing, running, show  # noqa: PLC0415
    from airflow_mlpipe.cli.arguments import Moment, read_parameters  # noqa: PLC0415
    from airflow_mlpipe.cli.cached import checks  # noqa: PLC0415
    from airflow_mlpipe.cli.project import Project  # noqa: PLC0415

    project = Project.open(file, workspace=workspace, store=store)
    request = running.Request(Moment.now(), read_parameters(project.pipeline, parameter or ()))
    audited, left_out = auditing.audit(project.site, running.plan(project, request), sample, checks.say)
    if json:
        show.write_json({"steps": [vars(each) for each in audited], "left_out": left_out})
    else:
        checks.write_audited(audited, left_out)
    if any(each.differing or each.error for each in audited):
        raise typer.Exit(DAMAGED)


@cache.command()
def savings(
    by: Annotated[Bys, typer.Option(help="What is added up.")] = "pipeline",
    since: Annotated[
        str, typer.Option(metavar="DATE", help="The first day, 2025-01-31; the beginning, if not given.")
    ] = "",
    store: StoreUrl = None,
    workspace: WorkspaceFile = None,
    *,
    json: AsJson = False,
) -> None:
    """Say what reuse has saved: the time that the steps it replaced had taken."""
    from airflow_mlpipe.cli import show  # noqa: PLC0415
    from airflow_mlpipe.cli.cached import savings as cached_savings  # noqa: PLC0415
    from airflow_mlpipe.resolving.savings import savings as added_up  # noqa: PLC0415

    lines = added_up(_open(store, workspace), by, cached_savings.read_day(since))
    if json:
        show.write_json([vars(line) for line in lines])
    else:
        cached_savings.write_savings(lines, by)


def _open(store: str | None, workspace: Path | None) -> Store:
    from airflow_mlpipe.cli.project import StorePlace  # noqa: PLC0415

    return StorePlace.open(store, workspace).site.store
