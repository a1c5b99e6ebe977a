"""One command as many processes of one machine: what a launcher starts for a step with a distribution.

The starters are those that are there: ``torchrun`` and ``mpirun`` (Open MPI or MPICH, whichever is on the PATH).
Tensorflow has none, so `airflow_mlpipe.runtime.workers` stands in for it. A Python script is run by
`airflow_mlpipe.runtime.rank`; both are staged as modules of their own, so nothing of ours is needed in an image.

With ``outputs: first`` all ranks see the same paths, and rank 0 is the one that writes. With ``outputs: each`` a rank has
a path of its own, ``outputs/<name>/<rank>``, in its variables and its arguments: only the rank knows its number, so a
line of shell before its command puts it in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlpipe.exceptions import CommandFailedError
from airflow_mlpipe.runtime import command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_mlpipe.runtime.protocol import DistributionSpec, StepSpec

RANK_MODULE = "mlpipe_rank"
WORKERS_MODULE = "mlpipe_workers"
RANK = "@MLPIPE_RANK@"
"""Stands for the number of a rank in the paths of its outputs, until the rank itself puts it in."""

_RANK_VARIABLES = {
    "torchrun": "$RANK",
    "mpi": "${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-$PMIX_RANK}}",
    "tensorflow": "$MLPIPE_RANK",
}
"""Where the processes of each kind find their number."""

_MPIRUN = r"""
mlpipe_mpirun=$(command -v mpirun || command -v mpiexec) || {
  echo "mlpipe: this step needs mpirun: install openmpi-bin or mpich on the worker, or in the image of the step" >&2
  exit 127
}
mlpipe_version=$("$mlpipe_mpirun" --version 2>&1)
mlpipe_ranks=$1
shift
case $mlpipe_version in
*"Open MPI"* | *OpenRTE* | *PRRTE*)
  export OMPI_ALLOW_RUN_AS_ROOT="${OMPI_ALLOW_RUN_AS_ROOT-1}"
  export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="${OMPI_ALLOW_RUN_AS_ROOT_CONFIRM-1}"
  export PRTE_ALLOW_RUN_AS_ROOT="${PRTE_ALLOW_RUN_AS_ROOT-1}"
  export PRTE_ALLOW_RUN_AS_ROOT_CONFIRM="${PRTE_ALLOW_RUN_AS_ROOT_CONFIRM-1}"
  export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe-1}"
  export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy-none}"
  export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy-:oversubscribe}"
  export PRTE_MCA_hwloc_default_binding_policy="${PRTE_MCA_hwloc_default_binding_policy-none}"
  for mlpipe_name in ${MLPIPE_PASSED_ON-}; do set -- -x "$mlpipe_name" "$@"; done
  mlpipe_version=${mlpipe_version#*) }
  case ${mlpipe_version%%.*} in
  [1-4]) set -- --tag-output "$@" ;;
  *) set -- --output tag "$@" ;;
  esac
  ;;
*HYDRA* | *Hydra* | *Intel*) set -- -prepend-pattern '[1,%r]<stdout>:' "$@" ;;
esac
exec "$mlpipe_mpirun" -n "$mlpipe_ranks" "$@"
"""
"""Starts as many processes as its first argument says by the mpirun that is there; its options and the command follow.

There may be more ranks than cores, and none is bound to a core, since other steps may run beside this one and would bind
theirs to the same; options can say otherwise. ``MLPIPE_PASSED_ON`` names variables that ranks on other machines get, too. Each piece of output names its rank: `airflow_mlpipe.runtime.tagged`.
"""

_TELL = r"""
[ -z "$OMPI_COMM_WORLD_RANK" ] || exec "$@"
"$@"
mlpipe_code=$?
[ $mlpipe_code -eq 0 ] || echo "mlpipe: rank $PMI_RANK ended with exit code $mlpipe_code" >&2
exit $mlpipe_code
"""
"""Runs a rank of MPI, and tells how it failed where mpirun would not say which rank it was: that of MPICH does not."""

_EACH = r"""
mlpipe_rank=%s mlpipe_left=$#
while [ "$mlpipe_left" -gt 0 ]; do
  mlpipe_rest=$1 mlpipe_made= mlpipe_left=$((mlpipe_left - 1))
  shift
  while :; do
    case $mlpipe_rest in
    *@MLPIPE_RANK@*)
      mlpipe_made=$mlpipe_made${mlpipe_rest%%%%@MLPIPE_RANK@*}$mlpipe_rank mlpipe_rest=${mlpipe_rest#*@MLPIPE_RANK@}
      ;;
    *) break ;;
    esac
  done
  set -- "$@" "$mlpipe_made$mlpipe_rest"
done
"""
"""Puts the number of the rank into the arguments."""

_FOLDERS = """\
mkdir -p {folders} || exit 1
"""
_EXPORTS = """\
export MLPIPE_OUTPUT_{upper}="$MLPIPE_OUTPUT_{upper}/$mlpipe_rank"
export AZUREML_DATAREFERENCE_{name}="$MLPIPE_OUTPUT_{upper}"
"""


def command_line(spec: StepSpec, places: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the argument vector that a launcher starts on one machine: the command, or what makes many of it.

    :param places: as `airflow_mlpipe.runtime.layout.StepDirectory.places` returns them.
    :raises CommandFailedError: if there is no command, it refers to what the step does not have, or wants more than one
        machine.
    """
    given = spec.distribution
    if given is None:
        return command.arguments(spec, places)
    if given.nodes != 1:
        message = (
            f"step {spec.step!r} wants {given.nodes} nodes, and this compute target is one; use a kubernetes target"
        )
        raise CommandFailedError(message)
    return distributed(command.arguments(spec, of_each(spec, places)), spec)


def of_each(spec: StepSpec, places: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Return places in which the outputs hold `RANK`, where each rank has its own."""
    apart = spec.distribution is not None and spec.distribution.outputs == "each"
    return {
        (kind, name): f"{place}/{RANK}" if apart and kind == "output" else place
        for (kind, name), place in places.items()
    }


def distributed(argv: list[str], spec: StepSpec) -> list[str]:
    """Return the argument vector that runs a command as many times as the distribution of its step says.

    :param argv: what one process runs, with the places of `of_each`.
    :raises CommandFailedError: if the kind of distribution is unknown.
    """
    given = spec.distribution
    if given is None:
        return argv
    match given.kind:
        case "torchrun":
            return _torchrun(argv, spec, given)
        case "mpi":
            return _mpirun(argv, spec, given)
        case "tensorflow":
            start = [command.interpreter(spec), "-m", WORKERS_MODULE, str(given.processes), *given.options, "--"]
            return [*start, *of_rank(argv, spec)]
        case kind:
            message = f"a distribution of kind {kind!r} is unknown; a newer airflow-mlpipe may have written it"
            raise CommandFailedError(message)


def of_rank(argv: list[str], spec: StepSpec) -> list[str]:
    """Return what a rank runs: a Python script by our module, and before it what gives it outputs of its own."""
    given = spec.distribution
    if given is None:
        return argv
    shell = _shell(spec, given)
    own = _by_module(argv, spec) if given.kind in {"torchrun", "mpi"} else argv
    return ["sh", "-c", shell, "rank", *own] if shell else own


def _torchrun(argv: list[str], spec: StepSpec, given: DistributionSpec) -> list[str]:
    python = command.interpreter(spec)
    start = [
        *(python, "-m", "torch.distributed.run", "--nnodes=1"),
        # what --standalone is since torch 2: before, all of a machine met at one port, and ended each other
        *("--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0"),
        f"--nproc_per_node={given.processes}",
        "--monitor_interval=0.1",  # older ones look every five seconds whether a rank has ended
        *given.options,
    ]
    rank = of_rank(argv, spec)
    if rank[:2] == [python, "-m"]:
        return [*start, *rank[1:]]
    return [*start, "--no_python", *rank]


def _mpirun(argv: list[str], spec: StepSpec, given: DistributionSpec) -> list[str]:
    return ["sh", "-c", _MPIRUN, "mpirun", str(given.processes), *given.options, *of_rank(argv, spec)]


def _by_module(argv: list[str], spec: StepSpec) -> list[str]:
    """Return a command that is a Python script or module as one that our own module runs; any other as it is."""
    python, *rest = argv
    if python != command.interpreter(spec) or not rest or (rest[0].startswith("-") and rest[0] != "-m"):
        return argv
    return [python, "-m", RANK_MODULE, *rest]


def _shell(spec: StepSpec, given: DistributionSpec) -> str:
    """Return the shell before the command of a rank; empty if it needs none."""
    shell = ""
    if given.outputs == "each":
        names = list(spec.outputs)
        shell = _EACH % _RANK_VARIABLES[given.kind]
        if names:
            folders = " ".join(f'"$MLPIPE_OUTPUT_{name.upper()}"' for name in names)
            shell += _FOLDERS.format(folders=folders)
            shell += "".join(_EXPORTS.format(upper=name.upper(), name=name) for name in names)
    if given.kind == "mpi":
        return shell + _TELL
    return f'{shell}exec "$@"\n' if shell else ""
