from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_mlpipe.definitions import Workspace
from airflow_mlpipe.exceptions import StepError
from airflow_mlpipe.launchers.kubernetes import work as work_module
from airflow_mlpipe.launchers.kubernetes.fates import failed
from airflow_mlpipe.launchers.kubernetes.identity import Supplies
from airflow_mlpipe.launchers.kubernetes.launcher import KubernetesLauncher
from airflow_mlpipe.launchers.kubernetes.nodes import work_of
from airflow_mlpipe.launchers.kubernetes.pod import pod_for
from airflow_mlpipe.resolving.launched import Launched
from airflow_mlpipe.resolving.site import Site
from airflow_mlpipe.store import layout, log
from airflow_mlpipe.store.digests import StatIndex
from airflow_mlpipe.store.store import Store
from tests.launchers.kubernetes.pods import FINGERPRINT, container, step
from tests.launchers.kubernetes.states import ended, pod
from tests.launchers.kubernetes.test_fates import TARGET, TORCH, node
from tests.launchers.kubernetes.test_gathering import thing
from tests.launchers.steps import Bench

LATE = {"MLFLOW_RUN_ID": "r1"}
TOKEN = {"MLFLOW_TRACKING_TOKEN": "connection:mlflow.password"}


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPIPE_CACHE", str(tmp_path / "cache"))
    store = Store.open(str(tmp_path / "store"))
    return Site(Workspace(), store, StatIndex.open(), {}.__getitem__)


def begun(site, spec):
    """Return the claim under which a step was begun, as it was written down before it was launched."""
    owner = log.Owner.here("churn", "r1", "train")
    claim = log.claim(site.store, FINGERPRINT, owner)
    Launched(FINGERPRINT, claim.id, claim.id, spec).write(site.store, owner)
    return claim.id


def test_who_goes_on_with_a_pod_does_so_where_and_as_it_was_begun(site):
    claim = begun(site, step({"namespace": "before"}))
    work = work_of(site, step({"namespace": "now"}), FINGERPRINT, claim)
    assert (work.target.namespace, work.identity.run) == ("before", "r1")


def test_a_script_in_a_pod_is_told_of_its_mlflow_run_and_gets_the_login_as_a_secret(site):
    spec = step()
    claim = begun(site, spec)
    told = replace(spec, late=LATE, environment=replace(spec.environment, secrets=TOKEN))
    work = work_of(site, told, FINGERPRINT, claim)
    supplies = Supplies("s3://models/mlpipe", secrets=bool(work.spec.environment.secrets))
    base = container(pod_for(work.spec, work.identity, supplies), "base")
    assert {"name": "MLFLOW_RUN_ID", "value": "r1"} in base["env"]
    assert base["envFrom"] == [{"secretRef": {"name": work.identity.environment_secret}}]


class FakeCluster:
    """Has one object that makes pods, and some pods; or one pod alone."""

    namespace = "ml"

    def __init__(self, thing=None, pods=(), happened=()):
        self.pods = list(pods)
        self.happened = dict(happened)
        self.api = self
        self.deleted = []
        self.hook = SimpleNamespace(
            custom_object_client=SimpleNamespace(get_namespaced_custom_object=lambda **_: thing)
        )

    def list_namespaced_pod(self, _namespace, label_selector):
        wanted = dict(pair.split("=") for pair in label_selector.split(","))
        return SimpleNamespace(items=[pod for pod in self.pods if wanted.items() <= pod["metadata"]["labels"].items()])

    def read(self, _name):
        return self.pods[0]

    def put_secret(self, *_, **__):
        pass

    def events(self, _name, uid=None):
        return self.happened.get(uid, [])

    def another_api(self):
        return self

    def delete(self, name, **_):
        self.deleted.append(name)

    def delete_namespaced_pod(self, name, _namespace):
        self.deleted.append(name)


def of_attempt(made, attempt, name):
    made["metadata"]["labels"] = {"mlpipe/work": name, "mlpipe/attempt": str(attempt)}
    return made


def test_a_pod_of_an_earlier_attempt_that_does_not_go_away_is_no_reason_to_begin_again(site):
    spec = step(distribution=TORCH)
    work = work_of(site, spec, FINGERPRINT, begun(site, spec))
    left = of_attempt(node(1, conditions=[TARGET], deleted=5), 1, work.name)
    left["metadata"]["uid"] = "of before"
    now = [of_attempt(node(number, ended("base", 1), phase="Failed"), 2, work.name) for number in range(3)]
    work.__dict__["cluster"] = FakeCluster(
        {**thing(), "metadata": {"annotations": {"mlpipe/attempt": "2"}}}, [left, *now]
    )
    assert work.taken_away({"thing": thing(), "pods": [left]}) is not None
    seen = work.read()
    assert seen["pods"] == now
    assert work.taken_away(seen) is None
    assert "deleted" not in str(failed(seen["pods"], work.name, [], TORCH))


@pytest.mark.parametrize("given", [None, TORCH], ids=["one pod", "nodes"])
def test_what_took_an_earlier_pod_of_the_same_name_away_took_not_this_one(site, given):
    spec = step(distribution=given)
    work = work_of(site, spec, FINGERPRINT, begun(site, spec))
    leaving = node(1, deleted=5)
    seen = {"thing": thing(), "pods": [leaving]} if given else leaving
    taken = [{"reason": "Preempted", "message": "by another"}]
    for uid, words in (("before", None), (leaving["metadata"]["uid"], "Preempted: by another")):
        work.__dict__["cluster"] = FakeCluster(happened={uid: taken})
        assert work.taken_away(seen) == words


def test_a_deleted_pod_that_stays_is_waited_for_and_that_is_said(site, monkeypatch):
    monkeypatch.setattr(work_module, "supplies_of", lambda *_: Supplies("s3://models/mlpipe"))
    spec, said = step(), []
    work = work_of(site, spec, FINGERPRINT, begun(site, spec))
    leaving = pod(leaving=True)
    leaving["metadata"]["uid"] = "u"
    work.__dict__["cluster"] = FakeCluster(pods=[leaving])
    assert work.begin({}, said.append, 2) == leaving
    assert said == [
        f"the pod {work.name} was deleted and is still there, as when its node does not answer; waits until it is gone"
    ]


@pytest.mark.parametrize("how", ["failed", "ended by others"])
def test_what_was_brought_for_a_pod_goes_with_it_however_that_ends(site, tmp_path, monkeypatch, how):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").touch()
    spec = step(inputs={"data": Bench.external(tmp_path / "data")})
    claim = begun(site, spec)
    brought = layout.brought_inputs(FINGERPRINT, claim)
    site.store.write(f"{brought}/data/a.csv", b"1")
    cluster = FakeCluster(pods=[None])
    monkeypatch.setattr(work_module, "Cluster", lambda _: cluster)
    if how == "failed":
        with pytest.raises(StepError, match="lies on this machine"):
            KubernetesLauncher(site).launch(spec, FINGERPRINT, claim, {}, [].append)
    else:
        KubernetesLauncher(site).end(spec, FINGERPRINT, claim)
    assert cluster.deleted == [work_of(site, spec, FINGERPRINT, claim).name]
    assert site.store.sizes(brought) == {}
