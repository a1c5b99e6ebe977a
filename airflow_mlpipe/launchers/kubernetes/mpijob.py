"""A step of MPI on many nodes as an MPIJob of Kubeflow's operator; pure.

The launcher's pod is node 0: it is the pod that a step on a single node would have, whose command is ``mpirun``, and
rank 0 runs in it (``runLauncherAsWorker``), so that its sidecar finds the outputs. The other nodes are workers: the same
image with the same inputs, where ``sshd`` waits for ``mpirun``. It is told everything by its command line, so that it does
not matter what the image has configured, and to whom the home of its user belongs.

The launcher is made when all workers answer. What fails is not begun again by the operator: its log would be lost.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_mlpipe.launchers.docker.container import INSIDE
from airflow_mlpipe.launchers.kubernetes.members import base_of, distribution_of, metadata_of, template_of
from airflow_mlpipe.launchers.kubernetes.pod import BASE, PUBLISH, pod_for, target_of
from airflow_mlpipe.runtime import command
from airflow_mlpipe.runtime.distribution import distributed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow_mlpipe.definitions.compute import KubernetesCompute
    from airflow_mlpipe.launchers.kubernetes.identity import PodIdentity, Supplies
    from airflow_mlpipe.runtime.protocol import DistributionSpec, StepSpec

Json = dict[str, Any]

GROUP, VERSION, PLURAL = "kubeflow.org", "v2beta1", "mpijobs"
SSH_PORT = 2222
"""Where the workers listen: anybody may, unlike on port 22."""

_KEYS = "/mlpipe-ssh"
_KEYS_OF_ROOT = "/root/.ssh"
"""The only place for which the operator gives the keys a mode that ssh accepts from root."""
_HOSTS = "/etc/mpi/hostfile"
_AT = str(INSIDE.temporary / "mlpipe-ssh")

_AGENT = """\
cat >"$2" <<END || exit 74
#!/bin/sh
exec ssh -F /dev/null -p $1 -i "$0/id_rsa" -o IdentitiesOnly=yes -o StrictHostKeyChecking=no \\
  -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -o BatchMode=yes -o ConnectTimeout=10 "\\$@"
END
chmod 755 "$2"
"""
"""Makes what reaches the other nodes by their port and keys: ``$0`` is where the keys are, ``$1`` the port, ``$2`` its place.

Every node needs it: ``mpirun`` has them reach each other where they are many, and looks for it in any case.
"""

_WORKER = """\
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
mlpipe_sshd=$(PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v sshd) || {
  echo "mlpipe: the image of an MPI step on many nodes needs sshd, ssh and mpirun: install openssh-server in it" >&2
  exit 127
}
exec "$mlpipe_sshd" -D -e -f /dev/null -p "$1" -h "$0/id_rsa" -o "AuthorizedKeysFile=$0/authorized_keys" \\
  -o StrictModes=no -o UsePAM=no -o PasswordAuthentication=no -o KbdInteractiveAuthentication=no -o PidFile=none \\
  -o PrintMotd=no -o LogLevel=ERROR -o "SetEnv=PATH=$PATH${LD_LIBRARY_PATH:+ LD_LIBRARY_PATH=$LD_LIBRARY_PATH}"
"""
"""Waits for ``mpirun`` at the port. Ranks find programs and libraries where the image says."""

_LAUNCHER = """\
mlpipe_agent=$2
shift 2
mlpipe_answers() {
  mlpipe_tries=60
  until mlpipe_said=$("$mlpipe_agent" -n "$1" true 2>&1); do
    case $1 in "$HOSTNAME".*) case $mlpipe_said in *resolve*) ;; *) return 0 ;; esac ;; esac
    mlpipe_tries=$((mlpipe_tries - 1))
    [ "$mlpipe_tries" -gt 0 ] || { echo "mlpipe: the node $1 does not answer: $mlpipe_said" >&2; return 1; }
    sleep 1
  done
}
sed 's/ *slots=/:/' /etc/mpi/hostfile >"$mlpipe_agent.hosts"
mlpipe_asked=
while IFS=: read -r mlpipe_host mlpipe_slots; do
  mlpipe_answers "$mlpipe_host" &
  mlpipe_asked="$mlpipe_asked $!"
done <"$mlpipe_agent.hosts"
for mlpipe_one in $mlpipe_asked; do wait "$mlpipe_one" || exit 1; done
exec "$@"
"""
"""Starts ``mpirun`` once all workers, and its own name, are known to the network."""


def mpijob_for(spec: StepSpec, identity: PodIdentity, supplies: Supplies) -> Json:
    """Return the manifest of the MPIJob that runs a step on many nodes, as plain data.

    :raises StepError: if the step cannot run so; it says what to do.
    :raises CommandFailedError: if the step has no command.
    """
    target = target_of(spec)
    given = distribution_of(spec, target)
    keys = _KEYS if target.user else _KEYS_OF_ROOT
    pod = pod_for(spec, identity, supplies, _argv(spec, given, keys))
    replicas = {"Launcher": _replica(1, _launcher(pod, target, spec))}
    if given.nodes > 1:
        replicas["Worker"] = _replica(given.nodes - 1, _worker(pod, target, keys))
    version, kind = identity.made
    job = {
        "slotsPerWorker": given.processes,
        "runLauncherAsWorker": True,
        "launcherCreationPolicy": "WaitForWorkersReady",
        "sshAuthMountPath": keys,
        "mpiImplementation": "OpenMPI",
        "runPolicy": {"cleanPodPolicy": "Running", "backoffLimit": 0},
        "mpiReplicaSpecs": replicas,
    }
    return {"apiVersion": version, "kind": kind, "metadata": metadata_of(pod), "spec": job}


def _replica(count: int, template: Json) -> Json:
    return {"replicas": count, "restartPolicy": "Never", "template": template}


def _argv(spec: StepSpec, given: DistributionSpec, keys: str) -> list[str]:
    argv = command.arguments(spec, INSIDE.places(spec))
    whole = replace(given, nodes=1, processes=given.nodes * given.processes)
    mpirun = distributed(argv, replace(spec, distribution=whole))
    return ["sh", "-c", _AGENT + _LAUNCHER, keys, str(SSH_PORT), _AT, *mpirun]


def _template(pod: Json, target: KubernetesCompute) -> Json:
    """Return a pod as the operator takes it: that knows the container of the command by its being the first."""
    template = template_of(pod)
    inside = template["spec"]
    del inside["restartPolicy"]
    if not target.user:  # it would make the keys of root readable for a group, which ssh refuses
        inside["securityContext"] = {
            name: value for name, value in inside["securityContext"].items() if not name.startswith("fsGroup")
        }
    return template


def _launcher(pod: Json, target: KubernetesCompute, spec: StepSpec) -> Json:
    template = _template(pod, target)
    base = base_of(pod)
    passed_on = [variable["name"] for variable in base["env"]]
    ours = {
        "MLPIPE_PASSED_ON": " ".join(dict.fromkeys([*passed_on, "PYTHONPATH", *spec.environment.secrets])),
        "OMPI_MCA_plm_rsh_agent": _AT,
        "PRTE_MCA_plm_ssh_agent": _AT,
        "PRTE_MCA_prte_default_hostfile": _HOSTS,
        "HYDRA_LAUNCHER": "ssh",
        "HYDRA_LAUNCHER_EXEC": _AT,
        "HYDRA_HOST_FILE": f"{_AT}.hosts",
    }
    base["env"] = [*base["env"], *({"name": name, "value": value} for name, value in ours.items())]
    template["spec"]["containers"] = _first(base, template["spec"]["containers"])
    return template


def _worker(pod: Json, target: KubernetesCompute, keys: str) -> Json:
    """Return the template of a worker: it publishes nothing, so nothing ends it but its deletion."""
    template = _template(pod, target)
    inside = template["spec"]
    inside["initContainers"] = [given for given in inside["initContainers"] if given["name"] != PUBLISH]
    base = {name: value for name, value in base_of(pod).items() if name not in {"env", "envFrom"}}
    base["command"] = ["sh", "-c", (_AGENT + _WORKER).replace("$", "$$"), keys, str(SSH_PORT), _AT]
    base["readinessProbe"] = {"tcpSocket": {"port": SSH_PORT}, "periodSeconds": 1, "failureThreshold": 300}
    inside["containers"] = _first(base, inside["containers"])
    return template


def _first(base: Json, containers: Iterable[Json]) -> list[Json]:
    return [base, *(given for given in containers if given["name"] != BASE)]
