"""The shell around the command in the user's container, and the files by which it and the sidecar understand each other.

It is a static busybox that the init container brought, so the image needs no shell of its own. It

- tells when the command begins (`BEGUN`) and with which exit code it ended (`ENDED`); where it is killed with the
  command, as by the kernel when memory runs out, there is no such file, and nothing is published;
- ends what the command left running, then waits until the sidecar is `DONE`, and ends with the exit code that says:
  so the pod ends when all is safe;
- hands SIGTERM on to the command, ends it where it does not listen, and tells no exit code then: a command that was
  stopped has not succeeded, whatever it says. It says that it was (`CUT`): a sidecar that is still starting then does
  not hear its own SIGTERM, as the first process of a container ignores what it does not handle yet.

The command runs in the background of a shell, so that SIGINT is ignored in it, unless it handles that itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TOOLS = ".bin"
BEGUN = ".begun"
ENDED = ".exit"
CUT = ".stopped"
DONE = ".done"

STOPPED = 143
"""The exit code of a command that was stopped."""
UNPUBLISHED = 65
"""The exit code of the container where the command succeeded, but its outputs could not be published."""
DISK_FULL = 74
"""The exit code where not even the exit code could be written down."""

_SCRIPT = """\
mlpipe_box="$0/.bin/busybox" mlpipe_grace=$1 mlpipe_command= mlpipe_stopped=
shift
unset SHLVL KUBERNETES_SERVICE_HOST KUBERNETES_SERVICE_PORT KUBERNETES_SERVICE_PORT_HTTPS KUBERNETES_PORT \
KUBERNETES_PORT_443_TCP KUBERNETES_PORT_443_TCP_ADDR KUBERNETES_PORT_443_TCP_PORT KUBERNETES_PORT_443_TCP_PROTO
export PYTHONPATH="$0/private/python${PYTHONPATH:+:$PYTHONPATH}"
mlpipe_stop() {
  mlpipe_stopped=1
  [ -n "$mlpipe_command" ] || return 0
  kill -TERM "$mlpipe_command" 2>/dev/null
  ("$mlpipe_box" sleep "$mlpipe_grace"; kill -KILL "$mlpipe_command") >/dev/null 2>&1 &
}
mlpipe_cut() {
  : >"$0/.stopped"
  exit 143
}
trap mlpipe_stop TERM INT
: >"$0/.begun" || exit 74
"$@" &
mlpipe_command=$!
[ -z "$mlpipe_stopped" ] || mlpipe_stop
wait "$mlpipe_command"; mlpipe_code=$?
while kill -0 "$mlpipe_command" 2>/dev/null; do wait "$mlpipe_command"; mlpipe_code=$?; done
[ -z "$mlpipe_stopped" ] || mlpipe_cut
if [ $$ -eq 1 ] && kill -TERM -1 2>/dev/null; then
  mlpipe_turn=0
  while [ $mlpipe_turn -lt 10 ] && kill -0 -1 2>/dev/null; do "$mlpipe_box" sleep 0.1; mlpipe_turn=$((mlpipe_turn + 1)); done
  kill -KILL -1 2>/dev/null
fi
echo "$mlpipe_code" >"$0/.exit" || exit 74
until [ -e "$0/.done" ]; do [ -z "$mlpipe_stopped" ] || exit 143; "$mlpipe_box" sleep 0.1; done
read -r mlpipe_done <"$0/.done"
[ "$mlpipe_code" -ne 0 ] || mlpipe_code=$mlpipe_done
exit "$mlpipe_code"
"""


def wrapped(argv: Sequence[str], root: Path, grace: int) -> list[str]:
    """Return the command line that runs a command and says how it ended.

    :param root: the step directory, as the container sees it.
    :param grace: seconds that the command has to end by itself after SIGTERM.
    """
    return [str(root / TOOLS / "sh"), "-c", _SCRIPT, str(root), str(grace), *argv]


def exit_code(root: Path) -> int | None:
    """Return with which code the command ended; None while it runs, and where it was killed or stopped."""
    try:
        text = (root / ENDED).read_text("ascii")
    except FileNotFoundError:
        return None
    return int(text) if text.endswith("\n") else None


def is_cut(root: Path) -> bool:
    """Say whether the command was stopped, and has ended."""
    return (root / CUT).exists()


def seconds(root: Path) -> float:
    """Return how long the command ran, by the clock of its node."""
    return max(0.0, (root / ENDED).stat().st_mtime - (root / BEGUN).stat().st_mtime)


def is_done(root: Path) -> bool:
    """Say whether the user's container was told to end."""
    return (root / DONE).exists()


def say_done(root: Path, code: int) -> None:
    """Let the user's container end, with a code if its command succeeded."""
    aside = root / f"{DONE}.tmp"
    aside.write_text(f"{code}\n", "ascii")
    aside.replace(root / DONE)
