"""The life of a step, from its bound spec to its record: look up, claim, launch, commit.

Plain Python: an operator gives it the launcher and says in its log what happens here.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_mlpipe.exceptions import (
    ClaimLostError,
    InputLostError,
    MlpipeError,
    StepError,
    StepStoppedError,
    StoreError,
)
from airflow_mlpipe.fingerprint import fingerprint as digest_of
from airflow_mlpipe.launchers.base import Deferring
from airflow_mlpipe.operators.claims import Turn, Wait, Waited, describe, held
from airflow_mlpipe.operators.compose import compose, make_trials
from airflow_mlpipe.operators.leaving import GoesOnError, end_lost, end_unclaimed, left_behind
from airflow_mlpipe.operators.outcome import Outcome, Result
from airflow_mlpipe.operators.repair import repair
from airflow_mlpipe.planning.explain import Reason, dump_reasons, summary
from airflow_mlpipe.planning.plan import Decision, Found, Missing, Task, decide
from airflow_mlpipe.resolving.launched import Launched, discard
from airflow_mlpipe.resolving.records import found, make_body
from airflow_mlpipe.store import checkpoints, journal, runs
from airflow_mlpipe.store import log as fingerprint_log
from airflow_mlpipe.store.log import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.operators.claims import HandOver
    from airflow_mlpipe.operators.leaving import Adoption, LauncherOf, Resumed
    from airflow_mlpipe.resolving.decide import History, StoreLookUp
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import StepResult, StepSpec
    from airflow_mlpipe.store.log import Owner, Record

    Launch: TypeAlias = Callable[[StepSpec, str, str], StepResult]
    """Runs a spec under a fingerprint and a claim, and publishes its outputs.

    It raises StepError when the step fails, and GoesOnError when what it has launched goes on without this process.
    """

_REPAIRS = 3
"""How often one input of a step may be lost, beyond once for each."""


@dataclass
class Life:
    """Takes one step through its life on behalf of one run."""

    site: Site
    look_up: StoreLookUp
    history: History
    owner: Owner
    launch: Launch
    say: Callable[[str], None]
    plan: str = ""
    moments: Mapping[str, str] = field(default_factory=dict)
    hand_over: Callable[[str], HandOver] | None = None
    """Takes over waiting for a fingerprint; without it this process waits."""
    before: Wait = field(default_factory=Wait)
    """What came of a wait that was handed over."""
    depth: int = 0
    """How many steps are waiting for this one to make their lost input again."""
    launcher_of: LauncherOf = lambda _: None
    resumed: Resumed | None = None
    """What was launched before, in another process, and is come back to."""
    reasons: tuple[Reason, ...] = ()
    trials_here: bool = True
    """Whether the trials of a sweep that are missing run in this process; else tasks of their own have run them."""
    began: bool = field(default=False, init=False)
    """Whether its command has begun."""

    def live(self, task: Task) -> Outcome:
        """Reuse, wait for, or run a step whose inputs are all known; an input that is lost is made again first.

        :raises StepError: if its command fails; nothing is recorded then.
        :raises StoreError: if the store cannot be read or written.
        """
        try:
            outcome = self._with_repairs(task)
            self._deliver(outcome)
        except MlpipeError as error:
            self._failed(error, own=error.own)
            raise
        except AirflowTaskTimeout as error:
            if self.began:
                self._failed(error, own=True)
            raise
        self.history.note(outcome.spec, outcome.fingerprint, self.owner.run)
        self._note(outcome.note())
        self._write_down(outcome.use())
        if outcome.spec.checkpoint and outcome.result != "reused":
            with suppress(StoreError):  # it only takes room
                key = replace(outcome.spec, tries=self._tries(task)).saved_under(outcome.fingerprint)
                checkpoints.remove(self.site.store, key)
        return outcome

    def _failed(self, error: BaseException, *, own: bool) -> None:
        """Keep that the step failed, if a later try of it does not speak for it by now; the error itself matters more.

        :param own: whether by itself, and not for what it runs on; a sweep may do without such a trial.
        """
        if isinstance(error, ClaimLostError) and error.by_later_try:
            return
        try:
            reasons = dump_reasons(self.reasons)
            self._note({"outcome": "failed", "error": str(error), "own": own, "reasons": reasons})
            self._write_down(journal.Use(self.owner.step, "failed"))
        except StoreError as failure:
            self.say(f"that the step failed could not be written down: {failure}")

    def _write_down(self, use: journal.Use) -> None:
        journal.append(self.site.store, self.owner.pipeline, self.owner.run, self.moments, [use])

    def _note(self, note: Mapping[str, Any]) -> None:
        owner = self.owner
        runs.write_note(self.site.store, owner.pipeline, owner.run, owner.step, {**note, "plan": self.plan})

    def _with_repairs(self, task: Task) -> Outcome:
        for _ in range(_REPAIRS + len(task.spec.inputs)):
            try:
                return self._outcome(task)
            except InputLostError as lost:  # noqa: PERF203 -- once in a while
                task = repair(self, task, lost)
        return self._outcome(task)

    def _outcome(self, task: Task) -> Outcome:
        decision = self._decide(task)
        if self.resumed and self.resumed.launched.fingerprint == decision.fingerprint:
            resumed, self.resumed = self.resumed, None
            return self._come_back(task, decision, resumed)
        before, self.before = self.before, Wait()
        if decision.found and not before.awaited:
            return self._reused("reused", decision, decision.found)
        self.reasons = decision.reasons
        make_trials(self, task, decision)
        if not task.allow_reuse:
            self.say(f"runs: {summary(decision.reasons)}")
            launched = self._launched(task, decision, work=uuid.uuid4().hex)
            return self._run(decision, launched, self._launching(launched))
        turn = self._turn(str(decision.fingerprint), before).take(until_commit=not task.regenerate)
        if isinstance(turn, Waited):
            again = self._decide_again(task, decision)
            if again.found is None:
                return self._outcome(task)
            waited = Reason("wait", f"{describe(turn.holder)} computed it in the meantime")
            return self._reused("waited", replace(again, reasons=(waited,)), again.found)
        return self._held(task, decision, turn)

    def _held(self, task: Task, decision: Decision, claim: Claim) -> Outcome:
        """Look again now that nobody else can begin, then reuse or run; the claim ends with this, however it ends."""
        try:
            again = self._decide_again(task, decision)
            if again.found:
                fingerprint_log.release(self.site.store, claim)
                return self._reused("reused", again, again.found)
            with fingerprint_log.Beat(self.site.store, claim) as beat:
                left = self._left_behind(task, decision, claim)
                if left is None or left.result is None:
                    launched = self._launched(task, decision, claim.id, left.work.id if left else claim.id)
                    if left:  # there it goes on, wherever this step would run
                        launched = replace(launched, spec=replace(launched.spec, target=left.target))
                    return self._run(decision, launched, self._launching(launched), claim, beat)
                made_by = left.work.owner
                body = make_body(decision.spec, left.result, _named(made_by))
                fingerprint_log.commit(self.site.store, claim, body, left.work.id)
        except GoesOnError:
            raise
        except BaseException as error:
            self._give_up(claim, error)
            raise
        return self._recorded(task, decision, made_by)

    def _left_behind(self, task: Task, decision: Decision, claim: Claim) -> Adoption | None:
        """Return what an earlier holder has left to go on with, and say what happens now."""
        left = left_behind(self.site.store, decision.spec, claim, self.launcher_of, own_run=task.regenerate)
        if left is None:
            self.say(f"runs: {summary(decision.reasons)}")
        else:
            what = "made its outputs" if left.result else "begun what still goes on"
            self.say(f"takes over what is there: {describe(left.work.owner)} has {what}")
        return left

    def _recorded(self, task: Task, decision: Decision, made_by: Owner) -> Outcome:
        """Return how a step ended whose outcome an earlier holder had made, if that can be reused here."""
        again = self._decide_again(task, decision)
        if again.found is None:
            return self._outcome(task)
        if _named(made_by) == _named(self.owner):
            return self._reused("ran", replace(again, reasons=decision.reasons), again.found)
        reason = Reason("wait", f"{describe(made_by)} computed it, and did not come to say so")
        return self._reused("waited", replace(again, reasons=(reason,)), again.found)

    def _come_back(self, task: Task, decision: Decision, resumed: Resumed) -> Outcome:
        """Go on with what was launched in another process, under the same claim, if that is still ours."""
        self.reasons, launched = decision.reasons, resumed.launched
        if not launched.claim:
            return self._run(decision, launched, resumed.finish)
        store, fingerprint = self.site.store, launched.fingerprint
        try:
            claim = fingerprint_log.move(store, Claim(fingerprint, launched.claim, 0, self.owner), self.owner)
        except ClaimLostError as lost:
            if lost.by_later_try:
                raise
            if fingerprint_log.Log.read(store, fingerprint).record_of(launched.work):
                return self._recorded(task, decision, self.owner)
            end_lost(store, launched, self.launcher_of, self.say)
            return self._outcome(task)
        try:
            with fingerprint_log.Beat(store, claim) as beat:
                return self._run(decision, launched, resumed.finish, claim, beat)
        except GoesOnError:
            raise
        except BaseException as error:
            self._give_up(claim, error)
            raise

    def _decide_again(self, task: Task, decision: Decision) -> Decision:
        self.look_up.refresh(str(decision.fingerprint))
        return self._decide(task)

    def _turn(self, fingerprint: str, before: Wait) -> Turn:
        hand_over = self.hand_over(fingerprint) if self.hand_over else None
        return Turn(self.site.store, fingerprint, self.owner, self.say, hand_over, before)

    def _decide(self, task: Task) -> Decision:
        decision = decide(task, self._find, self.history.explain)
        if task.regenerate and decision.fingerprint:
            own = self.look_up.find(decision.spec, decision.fingerprint, only_this_run=True)
            if isinstance(own, Found):
                return replace(decision, found=own)
        return decision

    def _find(self, spec: StepSpec, fingerprint: str) -> Found | Missing:
        return self.look_up.find(spec, fingerprint)

    def _reused(self, result: Result, decision: Decision, record: Found) -> Outcome:
        return Outcome(
            result,
            decision.spec,
            str(decision.fingerprint),
            record.number,
            record.outputs,
            record.metrics,
            record.seconds,
            () if result == "reused" else decision.reasons,
            record.made_by,
        )

    def _launched(self, task: Task, decision: Decision, claim: str = "", work: str = "") -> Launched:
        fingerprint, spec = str(decision.fingerprint), replace(decision.spec, tries=self._tries(task))
        return Launched(fingerprint, claim, work, spec, self.plan, task.regenerate, task.allow_reuse)

    def _tries(self, task: Task) -> str:
        """Return whose checkpoints a step goes on from: its own alone where it takes nothing from other runs (rule 11)."""
        if not task.spec.checkpoint or (task.allow_reuse and not task.regenerate):
            return ""
        return digest_of({"tries of": _named(self.owner), "task instance": self.owner.task_instance})

    def _launching(self, launched: Launched) -> Callable[[], StepResult]:
        """Return what launches a step, after it was written down where the worker need not live to its end."""

        def launch() -> StepResult:
            if launched.spec.is_composite:
                return compose(self, launched)
            if isinstance(self.launcher_of(launched.spec), Deferring):
                end_unclaimed(self.site.store, self.owner, launched, self.launcher_of, self.say)
                launched.write(self.site.store, self.owner)
            return self._launch(launched.spec, launched.fingerprint, launched.work)

        return launch

    def _run(
        self,
        decision: Decision,
        launched: Launched,
        make: Callable[[], StepResult],
        claim: Claim | None = None,
        beat: fingerprint_log.Beat | None = None,
    ) -> Outcome:
        """Make the outputs and record them.

        :param claim: None if nobody had to claim anything.
        """
        self.began = not launched.spec.is_composite
        try:
            result = make()
        except GoesOnError as goes_on:
            goes_on.launched, goes_on.owner = launched, self.owner
            self._leave(goes_on, claim, beat)
            raise
        body = make_body(decision.spec, result, _named(self.owner))
        if claim is None:
            record = fingerprint_log.commit_unclaimed(self.site.store, launched.fingerprint, launched.work, body)
        else:
            record = self._commit(claim, body, launched.work)
        return self._ran(decision, record, result)

    def _leave(self, goes_on: GoesOnError, claim: Claim | None, beat: fingerprint_log.Beat | None) -> None:
        """Keep the claim without this process; where that cannot be said, what was launched is ended."""
        try:
            if claim and beat:
                beat.leave()
                fingerprint_log.move(self.site.store, claim, self.owner.anywhere())
        except MlpipeError:
            goes_on.end()
            raise

    def _commit(self, claim: Claim, body: Mapping[str, Any], work: str) -> Record:
        """Record what was made; nobody will ever name it if somebody else has recorded the step by now, so it goes then."""
        store = self.site.store
        try:
            return fingerprint_log.commit(store, claim, body, "" if work == claim.id else work)
        except ClaimLostError:
            with suppress(StoreError):  # retention finds it
                discard(store, claim.fingerprint, work)
            raise

    def _launch(self, spec: StepSpec, fingerprint: str, claim_id: str) -> StepResult:
        """Launch the step; a transfer has its destination to itself meanwhile (rule 13)."""
        destination = spec.outputs["data"].destination if spec.kind == "data_transfer" else None
        if destination is None:
            return self.launch(spec, fingerprint, claim_id)
        with held(self.site.store, destination_key(destination), self.owner, self.say):
            return self.launch(spec, fingerprint, claim_id)

    def _give_up(self, claim: Claim, error: BaseException) -> None:
        """Release the claim, saying why; whoever waits now fails with it, and the next one tries again."""
        try:
            told = isinstance(error, StepError) and not isinstance(error, StepStoppedError)  # another may succeed
            own = isinstance(error, StepError) and error.own
            fingerprint_log.release(self.site.store, claim, str(error) if told else None, own=own)
        except StoreError as failure:  # others see that its process has ended, or that its beat has
            self.say(f"the claim could not be given back: {failure}")

    def _ran(self, decision: Decision, record: Record, result: StepResult) -> Outcome:
        view = found(record, result.outputs)
        return Outcome(
            "ran",
            decision.spec,
            str(decision.fingerprint),
            record.number,
            result.outputs,
            result.metrics,
            result.seconds,
            decision.reasons,
            view.made_by,
        )

    def _deliver(self, outcome: Outcome) -> None:
        """Copy outputs to their destinations where those do not hold them (yet)."""
        if outcome.spec.kind == "data_transfer":
            return
        for name, output in outcome.spec.outputs.items():
            if output.destination is None:
                continue
            key = destination_key(output.destination)
            with held(self.site.store, key, self.owner, self.say):
                if not self.site.holds(output.destination, output.datastore, outcome.outputs[name].content):
                    self.say(f"copies output {name} to {output.destination}")
                    self.site.deliver(outcome.outputs[name], output.destination, output.datastore)


def _named(owner: Owner) -> dict[str, str]:
    return {"pipeline": owner.pipeline, "run": owner.run, "step": owner.step}


def destination_key(uri: str) -> str:
    """Return the key under which a destination is claimed, as fingerprints are."""
    return digest_of({"destination": uri})
