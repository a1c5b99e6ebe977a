"""Leaving what was launched to itself, and coming back to it: in another process, after a wait in the triggerer."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.sdk.exceptions import TaskDeferred

from airflow_mlpipe.exceptions import RecordFormatError, StepError
from airflow_mlpipe.launchers.base import Deferring
from airflow_mlpipe.operators.claims import describe
from airflow_mlpipe.resolving.launched import Launched, complete_result
from airflow_mlpipe.store import journal, layout, runs
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.log import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow_mlpipe.launchers.base import Launcher
    from airflow_mlpipe.runtime.protocol import StepResult, StepSpec
    from airflow_mlpipe.store.log import Owner
    from airflow_mlpipe.store.store import Store

    LauncherOf: TypeAlias = Callable[[StepSpec], Launcher | None]
    """Returns the launcher that runs a spec."""


class GoesOnError(BaseException):
    """What was launched goes on without this process; its claim stays held.

    :param deferred: Airflow's ``TaskDeferred``, as the launcher raised it.
    :param end: ends what was launched, where it cannot be left.
    """

    def __init__(self, deferred: TaskDeferred, end: Callable[[], None]) -> None:
        super().__init__()
        self.deferred = deferred
        self.end = end
        self.launched: Launched | None = None
        self.owner: Owner | None = None

    def told(self) -> dict[str, str]:
        """Return what has to be known to come back, for a trigger to keep."""
        if self.launched is None or self.owner is None:
            message = "what goes on was left without being written down"
            raise TypeError(message)
        owner, launched = self.owner, self.launched
        return {
            "pipeline": owner.pipeline,
            "run": owner.run,
            "step": owner.step,
            "fingerprint": launched.fingerprint,
            "claim": launched.claim,
            "work": launched.work,
            "method": str(self.deferred.method_name),
        }


@contextmanager
def leaving(launcher: Launcher, spec: StepSpec, fingerprint: str, work: str) -> Iterator[None]:
    """Turn the ``TaskDeferred`` that a launcher raises in a block into a `GoesOnError`.

    :raises TypeError: if it hands arguments over: not every way to run a task keeps those.
    """
    try:
        yield
    except TaskDeferred as deferred:
        if not isinstance(launcher, Deferring) or deferred.kwargs:
            message = f"{type(launcher).__name__} deferred ({deferred!r}), and cannot be come back to"
            raise TypeError(message) from deferred
        raise GoesOnError(deferred, partial(launcher.end, spec, fingerprint, work)) from None


@dataclass(frozen=True)
class Resumed:
    """What is come back to; ``finish`` returns its result, or raises what a launch may raise."""

    launched: Launched
    finish: Callable[[], StepResult]


@dataclass(frozen=True)
class Adoption:
    """What an earlier holder has left: a ``result`` to be recorded, or, without one, ``work`` that goes on.

    ``work`` is the claim under which it was begun, ``target`` the compute target on which.
    """

    work: Claim
    result: StepResult | None
    target: Mapping[str, Any]


def left_behind(
    store: Store, spec: StepSpec, claim: Claim, launcher_of: LauncherOf, *, own_run: bool
) -> Adoption | None:
    """Return what can be gone on with of what earlier holders have begun, who lost their claims; the newest first.

    Where an entry after such a claim is damaged, it may be the one that says how it ended: what it began is ended then, and
    the step runs again (rule 10).

    :param own_run: whether only that of the claim's own run counts; what others began is ended then.
    """
    damaged = max(fingerprint_log.Log.read(store, claim.fingerprint).damaged, default=0) if claim.lost else 0
    for lost in claim.lost:
        others = own_run and (lost.owner.pipeline, lost.owner.run) != (claim.owner.pipeline, claim.owner.run)
        unwanted = others or lost.number < damaged
        launched = _launched_by(store, lost, spec)
        launcher = launcher_of(launched.spec)
        if not unwanted and (result := complete_result(store, spec, claim.fingerprint, lost.id)):
            if isinstance(launcher, Deferring):  # what has made it may still lie about
                launcher.end(launched.spec, lost.fingerprint, launched.work)
            return Adoption(lost, result, launched.spec.target)
        if isinstance(launcher, Deferring) and launcher.lives(launched.spec, lost.fingerprint, launched.work):
            if not unwanted:
                return Adoption(replace(lost, id=launched.work), None, launched.spec.target)
            launcher.end(launched.spec, lost.fingerprint, launched.work)
    return None


def _launched_by(store: Store, claim: Claim, spec: StepSpec) -> Launched:
    known = None
    with suppress(RecordFormatError):
        known = Launched.read(store, claim.owner)
    same = known is not None and (known.fingerprint, known.claim) == (claim.fingerprint, claim.id)
    return known if known is not None and same else Launched(claim.fingerprint, claim.id, claim.id, spec)


def end_lost(store: Store, launched: Launched, launcher_of: LauncherOf, say: Callable[[str], None]) -> None:
    """End what was launched under a claim that was lost, unless its new holder goes on with that."""
    holder = fingerprint_log.Log.read(store, launched.fingerprint).holder
    if holder is not None:
        theirs = Launched.read(store, holder.owner)
        if theirs is not None and (theirs.claim, theirs.work) == (holder.id, launched.work):
            return
        say(f"{describe(holder.owner)} has claimed the step meanwhile; what this one has launched is ended")
    launcher = launcher_of(launched.spec)
    if isinstance(launcher, Deferring):
        launcher.end(launched.spec, launched.fingerprint, launched.work)


def end_unclaimed(
    store: Store, owner: Owner, launched: Launched, launcher_of: LauncherOf, say: Callable[[str], None]
) -> None:
    """End what an earlier try of a step has launched without a claim, by which nobody else would find it."""
    with suppress(RecordFormatError):
        known = Launched.read(store, owner)
        if known is None or known.claim or known.work == launched.work:
            return
        launcher = launcher_of(known.spec)
        if isinstance(launcher, Deferring):
            try:
                launcher.end(known.spec, known.fingerprint, known.work)
            except StepError as error:
                say(f"what an earlier try may have launched could not be ended: {error}")


def come_back(store: Store, told: Mapping[str, str], owner: Owner) -> Launched:
    """Return what was launched before, of which a trigger has told.

    :param owner: who comes back; what it had to make again for others is told by the step.
    :raises StepError: if the store does not know it any more; its claim is given back then.
    """
    whose = replace(owner, pipeline=told["pipeline"], run=told["run"], step=told["step"])
    with suppress(RecordFormatError):
        launched = Launched.read(store, whose)
        if launched and (launched.claim, launched.work) == (told["claim"], told["work"]):
            return launched
    if told["claim"]:
        fingerprint_log.release(store, Claim(told["fingerprint"], told["claim"], 0, owner))
    message = f"what {describe(whose)} has launched is not known any more, its note was removed from the store: clear the task"
    raise StepError(message)


def abandon(  # noqa: PLR0913 -- what it was, whose, and why it is given up
    store: Store, owner: Owner, launcher_of: LauncherOf, error: str, moments: Mapping[str, str], *, own: bool = False
) -> Launched | None:
    """End what a step has launched and waited for in vain, and give its claim back with the error; return what it was.

    :param own: whether it failed by itself: it took too long.
    """
    launched = Launched.read(store, owner)
    if launched is None:
        return None
    log = fingerprint_log.Log.read(store, launched.fingerprint)
    if launched.claim and (log.holder is None or log.holder.id != launched.claim):  # others look after it
        return None
    launcher = launcher_of(launched.spec)
    try:
        if isinstance(launcher, Deferring):
            launcher.end(launched.spec, launched.fingerprint, launched.work)
    finally:
        if launched.claim:
            fingerprint_log.release(store, Claim(launched.fingerprint, launched.claim, 0, owner), error, own=own)
            store.remove(layout.beat(launched.fingerprint, launched.claim))
    note = {"outcome": "failed", "error": error, "own": own, "reasons": [], "plan": launched.plan}
    runs.write_note(store, owner.pipeline, owner.run, owner.step, note)
    journal.append(store, owner.pipeline, owner.run, moments, [journal.Use(owner.step, "failed")])
    return launched
