"""Every path below the root of a store, and the way back; nothing else builds a path.

::

    log/<fp[:2]>/<fp>/000001.json ...         the log of one fingerprint
    beat/<fp>/<claim>                         overwritten by its holder
    outputs/<fp>/<claim>/<name>/...           a file or a folder, written once
    outputs/<fp>/<claim>/.result.json         the result of the step, written last
    outputs/<fp>/<claim>/.spec.json           what a pod runs
    outputs/<fp>/<claim>/.nodes/<id>/<node>   that a node of many has ended well
    outputs/<fp>/<claim>/.inputs/<name>/...   what was brought for it from a worker's disk, while it runs
    checkpoints/<fp>/<id>/...                 what the next try of a step begins with; removed when it is recorded
    snapshots/<digest>.tar .json .blob        packed source directories, their file lists, texts such as locks
    runs/<pipeline>/<run>/pin.json plan.json notes/<step>.json launched/<step>.json
    journal/<pipeline>/<day>/<time>.json      how steps ended, in the order of time
    latest/<pipeline>/<step>.json             what a step was made from the last time
    copies/<pipeline>.json.gz                 of small files that its plans read together
    delivered/<destination>.json              what was put at a destination, so that only that is replaced
    work/<claim>                              step directories, of local stores only
    probe/<filesystem>                        that this filesystem creates exclusively
    pins/record/<fp>.json                     that a person wants the records of a fingerprint kept
    pins/run/<pipeline>/<run>.json            that a person wants what a run used kept
    condemned/<kind>-<id>.json                what retention removes next time, if nobody refers to it by then
"""

from __future__ import annotations

import re

from airflow_mlpipe.naming import from_path_segment, path_segment

LOG = "log"
BEATS = "beat"
OUTPUTS = "outputs"
CHECKPOINTS = "checkpoints"
SNAPSHOTS = "snapshots"
RUNS = "runs"
JOURNAL = "journal"
COPIES = "copies"
COPIES_END = ".json.gz"
LATEST = "latest"
WORK = "work"
PINS = "pins"
CONDEMNED = "condemned"
DELIVERED = "delivered"

_ENTRY = re.compile(r"([0-9]{6,})\.json\Z")
_LOG_ENTRY = re.compile(r"[^/]*/([A-Za-z0-9_][A-Za-z0-9_.-]*)/([0-9]{6,})\.json\Z")
_SNAPSHOT = re.compile(r"([0-9a-f]{64})\.(?:tar|json|blob)\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_OUTPUT_PARTS = 4
_RESULT = ".result.json"


def log_folder(fingerprint: str) -> str:
    """Return the folder of a fingerprint's log."""
    return f"{LOG}/{_plain(fingerprint)[:2]}/{fingerprint}"


def log_entry(fingerprint: str, number: int) -> str:
    """Return the path of one entry of a log."""
    return f"{log_folder(fingerprint)}/{number:06d}.json"


def entry_number(name: str) -> int | None:
    """Return the number of an entry by its file name; None for what is no entry."""
    match = _ENTRY.match(name)
    return int(match[1]) if match else None


def log_parts(path: str) -> tuple[str, int] | None:
    """Return fingerprint and number of an entry by its path below `LOG`; None for any other file there."""
    match = _LOG_ENTRY.match(path)
    return (match[1], int(match[2])) if match else None


def beat(fingerprint: str, claim: str) -> str:
    """Return the path of a holder's sign of life."""
    return f"{BEATS}/{_plain(fingerprint)}/{_plain(claim)}"


def outputs(fingerprint: str, claim: str) -> str:
    """Return the folder of what one claim published."""
    return f"{OUTPUTS}/{_plain(fingerprint)}/{_plain(claim)}"


def output(fingerprint: str, claim: str, name: str) -> str:
    """Return the path of one published output, a file or a folder."""
    return f"{outputs(fingerprint, claim)}/{_plain(name)}"


def result(fingerprint: str, claim: str) -> str:
    """Return the path of the result of a step that published its own outputs; it is written after all of them."""
    return f"{outputs(fingerprint, claim)}/{_RESULT}"


def spec(fingerprint: str, claim: str) -> str:
    """Return the path of the message into a step that fetches it from the store."""
    return f"{outputs(fingerprint, claim)}/.spec.json"


def nodes(fingerprint: str, claim: str) -> str:
    """Return the folder in which the nodes of a step say that they have ended well."""
    return f"{outputs(fingerprint, claim)}/.nodes"


def node(fingerprint: str, claim: str, attempt: str, number: int) -> str:
    """Return the path of what one node says; each attempt has its own."""
    return f"{nodes(fingerprint, claim)}/{_plain(attempt)}/{number}"


def brought_inputs(fingerprint: str, claim: str) -> str:
    """Return the folder of the inputs that were brought from a worker's disk for a step that does not reach that."""
    return f"{outputs(fingerprint, claim)}/.inputs"


def brought_input(fingerprint: str, claim: str, name: str) -> str:
    """Return the path of one of them, a file or a folder."""
    return f"{brought_inputs(fingerprint, claim)}/{_plain(name)}"


def checkpoints(fingerprint: str) -> str:
    """Return the folder of what the tries of a step have saved."""
    return f"{CHECKPOINTS}/{_plain(fingerprint)}"


def checkpoint(fingerprint: str, name: str) -> str:
    """Return the folder of one saved state."""
    return f"{checkpoints(fingerprint)}/{_plain(name)}"


def latest_checkpoint(fingerprint: str) -> str:
    """Return the path of what says which saved state is whole; it is written last."""
    return f"{checkpoints(fingerprint)}/latest.json"


def result_parts(path: str) -> tuple[str, str] | None:
    """Return ``(fingerprint, claim)`` of the path of a result; None for any other."""
    match path.split("/"):
        case [top, fingerprint, claim, name] if (top, name) == (OUTPUTS, _RESULT):
            return fingerprint, claim
    return None


def output_parts(path: str) -> tuple[str, str, str] | None:
    """Return ``(fingerprint, claim, name)`` of a path at or below an output; None for any other."""
    parts = path.split("/")
    if len(parts) < _OUTPUT_PARTS or parts[0] != OUTPUTS or not _PLAIN.match(parts[3]):
        return None
    return parts[1], parts[2], parts[3]


def snapshot(digest: str) -> str:
    """Return the path of a packed source directory."""
    return f"{SNAPSHOTS}/{_hex(digest)}.tar"


def snapshot_manifest(digest: str) -> str:
    """Return the path of the list of files of a packed source directory; it is written last."""
    return f"{SNAPSHOTS}/{_hex(digest)}.json"


def blob(digest: str) -> str:
    """Return the path of a text kept among the snapshots."""
    return f"{SNAPSHOTS}/{_hex(digest)}.blob"


def snapshot_digest(name: str) -> str | None:
    """Return the digest that a file among the snapshots is named by; None for what is none."""
    match = _SNAPSHOT.match(name)
    return f"sha256:{match[1]}" if match else None


def pipeline(name: str) -> str:
    """Return the folder of the runs of a pipeline."""
    return f"{RUNS}/{path_segment(name)}"


def run(pipeline_name: str, run_id: str) -> str:
    """Return the folder of one run."""
    return f"{pipeline(pipeline_name)}/{path_segment(run_id)}"


def plan(pipeline_name: str, run_id: str) -> str:
    """Return the path of a run's plan."""
    return f"{run(pipeline_name, run_id)}/plan.json"


def pin(pipeline_name: str, run_id: str) -> str:
    """Return the path of what keeps a run's outputs from retention."""
    return pin_in(run(pipeline_name, run_id))


def pin_in(run_folder: str) -> str:
    """Return the same by the folder of the run."""
    return f"{run_folder}/pin.json"


def notes(pipeline_name: str, run_id: str) -> str:
    """Return the folder of a run's notes."""
    return f"{run(pipeline_name, run_id)}/notes"


def note(pipeline_name: str, run_id: str, step: str) -> str:
    """Return the path of what a run keeps of one step."""
    return f"{notes(pipeline_name, run_id)}/{path_segment(step)}.json"


def launched(pipeline_name: str, run_id: str, step: str) -> str:
    """Return the path of what a step of a run began that goes on without its worker."""
    return f"{run(pipeline_name, run_id)}/launched/{path_segment(step)}.json"


def journal(pipeline_name: str) -> str:
    """Return the folder of how the steps of a pipeline ended."""
    return f"{JOURNAL}/{path_segment(pipeline_name)}"


def journal_day(pipeline_name: str, day: str) -> str:
    """Return the folder of one day, ``2025-01-31``."""
    return f"{journal(pipeline_name)}/{_plain(day)}"


def journal_entry(pipeline_name: str, day: str, time: str) -> str:
    """Return the path of how steps of a run ended at one time."""
    return f"{journal_day(pipeline_name, day)}/{_plain(time)}.json"


def latest(pipeline_name: str, step: str) -> str:
    """Return the path of what a step of a pipeline was made from the last time."""
    return f"{latest_of(pipeline_name)}/{path_segment(step)}.json"


def latest_of(pipeline_name: str) -> str:
    """Return the folder of what the steps of a pipeline were made from the last time."""
    return f"{LATEST}/{path_segment(pipeline_name)}"


def copies(pipeline_name: str) -> str:
    """Return the path of the copies of small files that the plans of a pipeline read."""
    return f"{COPIES}/{path_segment(pipeline_name)}{COPIES_END}"


def delivered(destination: str) -> str:
    """Return the path of what was put at a destination, which is named by a digest."""
    return f"{DELIVERED}/{_plain(destination)}.json"


def work(claim: str) -> str:
    """Return the path of a local step directory."""
    return f"{WORK}/{_plain(claim)}"


def work_spec(claim: str) -> str:
    """Return the path of the message into a local step directory."""
    return f"{work(claim)}/spec.json"


def record_pin(fingerprint: str) -> str:
    """Return the path of what a person says to keep the records of a fingerprint."""
    return f"{PINS}/record/{_plain(fingerprint)}.json"


def run_pin(pipeline_name: str, run_id: str) -> str:
    """Return the path of what a person says to keep all that a run used."""
    return f"{PINS}/run/{path_segment(pipeline_name)}/{path_segment(run_id)}.json"


def condemned(name: str) -> str:
    """Return the path of a list of what retention removes next time."""
    return f"{CONDEMNED}/{_plain(name)}.json"


def probed(filesystem: str) -> str:
    """Return the path of the note that a filesystem creates exclusively here."""
    return f"probe/{path_segment(filesystem)}"


def name_of(segment: str) -> str | None:
    """Return the pipeline, run or step that a path segment stands for; None if the name was too long to be in it."""
    try:
        return from_path_segment(segment)
    except ValueError:
        return None


def _plain(part: str) -> str:
    if not _PLAIN.match(part):
        message = f"not a part of a path in the store: {part!r}"
        raise ValueError(message)
    return part


def _hex(digest: str) -> str:
    digits = digest.removeprefix("sha256:")
    if not _HEX.match(digits):
        message = f"not a digest: {digest!r}"
        raise ValueError(message)
    return digits
