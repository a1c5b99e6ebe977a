"""The life of a step, from its bound spec to its record: look up, claim, launch, commit.

Plain Python: an operator gives it the launcher and says in its log what happens here.
"""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from airflow_mlpipe.exceptions import ClaimLostError, InputLostError, MlpipeError, StepError, StoreError
from airflow_mlpipe.fingerprint import fingerprint as digest_of
from airflow_mlpipe.operators.claims import Turn, Wait, Waited, describe, held
from airflow_mlpipe.operators.repair import repair
from airflow_mlpipe.planning.explain import Reason, dump_reasons, summary
from airflow_mlpipe.planning.plan import Decision, Found, Missing, Task, decide
from airflow_mlpipe.resolving.records import found, make_body, use_of
from airflow_mlpipe.runtime.protocol import dump
from airflow_mlpipe.store import journal, layout, runs
from airflow_mlpipe.store import log as fingerprint_log

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_mlpipe.operators.claims import HandOver
    from airflow_mlpipe.resolving.decide import History, StoreLookUp
    from airflow_mlpipe.resolving.site import Site
    from airflow_mlpipe.runtime.protocol import OutputRef, StepResult, StepSpec
    from airflow_mlpipe.store.log import Claim, Owner, Record

    Launch: TypeAlias = Callable[[StepSpec, str, str], StepResult]
    """Runs a spec under a fingerprint and a claim, and publishes its outputs; raises StepError when it fails."""

_REPAIRS = 3
"""How often one input of a step may be lost, beyond once for each."""

Result: TypeAlias = Literal["reused", "ran", "waited"]


@dataclass(frozen=True)
class Outcome:
    """How a step ended. ``seconds`` is what the command took, also where an earlier run's output was reused."""

    result: Result
    spec: StepSpec
    fingerprint: str
    number: int
    outputs: Mapping[str, OutputRef]
    metrics: Mapping[str, float]
    seconds: float
    reasons: tuple[Reason, ...] = ()
    made_by: Mapping[str, str] = field(default_factory=dict)

    def line(self) -> str:
        """Return the outcome and its reason in one line."""
        match self.result:
            case "reused":
                return f"reused: nothing it depends on has changed since run {self.made_by.get('run', '?')}"
            case "waited":
                return f"waited: {summary(self.reasons)}"
            case "ran":
                return f"ran: {summary(self.reasons)}"

    def note(self) -> dict[str, Any]:
        """Return what a run keeps of the step, as plain JSON data."""
        return {
            "outcome": self.result,
            "fingerprint": self.fingerprint,
            "entry": self.number,
            "reasons": dump_reasons(self.reasons),
            "seconds": self.seconds,
            "outputs": {name: dump(output) for name, output in self.outputs.items()},
            "metrics": dict(self.metrics),
            "made_by": dict(self.made_by),
        }

    def use(self) -> journal.Use:
        """Return what the journal keeps of the step."""
        record = Found(self.number, self.outputs, self.metrics, self.seconds, self.made_by)
        return use_of(self.spec, self.result, self.fingerprint, record)


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
    reasons: tuple[Reason, ...] = ()

    def live(self, task: Task) -> Outcome:
        """Reuse, wait for, or run a step whose inputs are all known; an input that is lost is made again first.

        :raises StepError: if its command fails; nothing is recorded then.
        :raises StoreError: if the store cannot be read or written.
        """
        try:
            outcome = self._with_repairs(task)
            self._deliver(outcome)
        except MlpipeError as error:
            self._failed(error)
            raise
        self.history.note(outcome.spec, outcome.fingerprint, self.owner.run)
        self._note(outcome.note())
        self._write_down(outcome.use())
        return outcome

    def _failed(self, error: MlpipeError) -> None:
        """Keep that the step failed, if a later try of it does not speak for it by now; the error itself matters more."""
        if isinstance(error, ClaimLostError) and error.by_later_try:
            return
        try:
            self._note({"outcome": "failed", "error": str(error), "reasons": dump_reasons(self.reasons)})
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
        before, self.before = self.before, Wait()
        if decision.found and not before.awaited:
            return self._reused("reused", decision, decision.found)
        self.reasons = decision.reasons
        if not task.allow_reuse:
            self.say(f"runs: {summary(decision.reasons)}")
            return self._run(decision, None)
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
            self.say(f"runs: {summary(decision.reasons)}")
            with fingerprint_log.Beat(self.site.store, claim):
                return self._run(decision, claim)
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
            decision.reasons if result == "waited" else (),
            record.made_by,
        )

    def _run(self, decision: Decision, claim: Claim | None) -> Outcome:
        fingerprint = str(decision.fingerprint)
        if claim is None:
            claim_id = uuid.uuid4().hex
            result = self._launch(decision.spec, fingerprint, claim_id)
            record = fingerprint_log.commit_unclaimed(
                self.site.store, fingerprint, claim_id, self._body(decision.spec, result)
            )
            return self._ran(decision, record, result)
        result = self._launch(decision.spec, fingerprint, claim.id)
        record = self._commit(claim, self._body(decision.spec, result))
        return self._ran(decision, record, result)

    def _commit(self, claim: Claim, body: Mapping[str, Any]) -> Record:
        """Record what was made; nobody will ever name it if somebody else has the claim by now, so it goes then."""
        try:
            return fingerprint_log.commit(self.site.store, claim, body)
        except ClaimLostError:
            with suppress(StoreError):  # retention finds it
                self.site.store.remove(layout.outputs(claim.fingerprint, claim.id))
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
            fingerprint_log.release(self.site.store, claim, str(error) if isinstance(error, StepError) else None)
        except StoreError as failure:  # others see that its process has ended, or that its beat has
            self.say(f"the claim could not be given back: {failure}")

    def _body(self, spec: StepSpec, result: StepResult) -> dict[str, Any]:
        made_by = {"pipeline": self.owner.pipeline, "run": self.owner.run, "step": self.owner.step}
        return make_body(spec, result, made_by)

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


def destination_key(uri: str) -> str:
    """Return the key under which a destination is claimed, as fingerprints are."""
    return digest_of({"destination": uri})
