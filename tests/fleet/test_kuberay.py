"""`cluster/kuberay/`: fields, and what a run on machines that may be taken away needs of them.

KubeRay's own schema is not part of this repository. Where `RAYJOB_CRD` names the file
`ray.io_rayjobs.yaml` of a KubeRay release, the RayJob is validated against it; without it the
fields of RayJob and RayCluster are checked against the lists below, which were read off KubeRay's
v1 types, and the pods' own fields are not checked at all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from insetgan_batch import __version__, config
from tests.fleet.test_ray_cluster import RAY_VERSION

FOLDER = Path(__file__).parents[2] / "cluster/kuberay"
JOB_FIELDS = set(
    "entrypoint runtimeEnvYAML submissionMode backoffLimit submitterConfig activeDeadlineSeconds"
    " preRunningDeadlineSeconds shutdownAfterJobFinishes ttlSecondsAfterFinished deletionStrategy"
    " suspend managedBy entrypointNumCpus entrypointNumGpus entrypointResources rayClusterSpec"
    " submitterPodTemplate metadata clusterSelector jobId".split()
)
CLUSTER_FIELDS = set(
    "headGroupSpec workerGroupSpecs rayVersion enableInTreeAutoscaling autoscalerOptions"
    " authOptions suspend headServiceAnnotations gcsFaultToleranceOptions".split()
)
AUTOSCALER_FIELDS = set(
    "version idleTimeoutSeconds upscalingMode resources image imagePullPolicy env envFrom"
    " volumeMounts securityContext".split()
)
HEAD_FIELDS = {"serviceType", "headService", "enableIngress", "rayStartParams", "template"}
WORKER_FIELDS = set(
    "groupName replicas minReplicas maxReplicas numOfHosts rayStartParams template scaleStrategy"
    " idleTimeoutSeconds suspend".split()
)


def all_documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / "rayjob.yaml").read_text()))


def documents() -> dict[str, dict[str, Any]]:
    return {document["kind"]: document for document in all_documents()}


@pytest.fixture
def job() -> dict[str, Any]:
    return documents()["RayJob"]


@pytest.fixture
def spec(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]
    return found


@pytest.fixture
def head(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    return found


@pytest.fixture
def worker(spec: dict[str, Any]) -> dict[str, Any]:
    (group,) = spec["rayClusterSpec"]["workerGroupSpecs"]
    found: dict[str, Any] = group["template"]["spec"]
    return found


def test_kuberays_own_schema_takes_the_job(job: dict[str, Any]) -> None:
    if "RAYJOB_CRD" not in os.environ:
        pytest.skip("RAYJOB_CRD names no ray.io_rayjobs.yaml of a KubeRay release")
    crd = yaml.safe_load(Path(os.environ["RAYJOB_CRD"]).read_text())
    (version,) = [v for v in crd["spec"]["versions"] if v["name"] == "v1"]
    jsonschema.validate(job, _closed(version["schema"]["openAPIV3Schema"]))


def _closed(schema: Any) -> Any:
    """As the API server checks it: unknown fields are wrong, a number may be written as a text."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if closed.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(closed.get("properties"), dict) and closed.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


def test_fields_are_those_that_kuberay_has(job: dict[str, Any], spec: dict[str, Any]) -> None:
    assert job["apiVersion"] == "ray.io/v1"
    cluster = spec["rayClusterSpec"]
    assert spec.keys() <= JOB_FIELDS
    assert cluster.keys() <= CLUSTER_FIELDS
    assert cluster["autoscalerOptions"].keys() <= AUTOSCALER_FIELDS
    assert cluster["headGroupSpec"].keys() <= HEAD_FIELDS
    for group in cluster["workerGroupSpecs"]:
        assert group.keys() <= WORKER_FIELDS
    every = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    parameters = [value for group in every for value in group["rayStartParams"].values()]
    assert all(isinstance(value, str) for value in parameters)


def test_the_cluster_goes_when_the_run_has_ended(spec: dict[str, Any]) -> None:
    assert spec["shutdownAfterJobFinishes"] is True
    assert "deletionStrategy" not in spec  # the two exclude each other
    assert spec["submissionMode"] == "K8sJobMode"
    assert spec["backoffLimit"] >= 1
    assert spec["activeDeadlineSeconds"] > 0


def test_the_cluster_wants_a_token(spec: dict[str, Any]) -> None:
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}


def test_a_worker_has_more_time_to_end_than_its_drain_takes(worker: dict[str, Any]) -> None:
    (container,) = worker["containers"]
    (drain_s,) = [
        int(variable["value"])
        for variable in container["env"]
        if variable["name"] == "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"
    ]
    assert drain_s > 30  # Ray's default
    assert worker["terminationGracePeriodSeconds"] >= drain_s + 20


def test_workers_may_be_spot_and_the_head_may_not(
    worker: dict[str, Any], head: dict[str, Any]
) -> None:
    tolerated = {toleration["key"] for toleration in worker["tolerations"]}
    spot = {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"}
    assert spot | {"nvidia.com/gpu"} <= tolerated
    assert "tolerations" not in head
    chosen = head["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = chosen["nodeSelectorTerms"]
    assert spot <= {expression["key"] for expression in term["matchExpressions"]}
    assert all(e["operator"] in ("DoesNotExist", "NotIn") for e in term["matchExpressions"])


def test_no_work_is_placed_on_the_head(spec: dict[str, Any], worker: dict[str, Any]) -> None:
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert worker["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_pods_are_of_our_image_and_of_an_ordinary_user(
    spec: dict[str, Any], worker: dict[str, Any], head: dict[str, Any]
) -> None:
    assert spec["rayClusterSpec"]["rayVersion"].startswith(f"{RAY_VERSION}.")
    for pod in (head, worker):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 1000
        (container,) = pod["containers"]
        assert container["image"].endswith(f"insetgan-batch:{__version__}")
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_pods_may_do_no_more_than_they_need(
    spec: dict[str, Any], worker: dict[str, Any], head: dict[str, Any]
) -> None:
    submitter = spec["submitterPodTemplate"]["spec"]
    beside = spec["rayClusterSpec"]["autoscalerOptions"]
    for pod in (head, worker, submitter):
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["securityContext"]["runAsNonRoot"] is True
    for container in (*head["containers"], *worker["containers"], *submitter["containers"], beside):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False


def test_only_the_head_whose_autoscaler_needs_it_gets_a_token_of_kubernetes(
    spec: dict[str, Any], worker: dict[str, Any], head: dict[str, Any]
) -> None:
    assert worker["automountServiceAccountToken"] is False
    assert spec["submitterPodTemplate"]["spec"]["automountServiceAccountToken"] is False
    named = {pod["serviceAccountName"] for pod in (head, worker)}
    made = [d["metadata"]["name"] for d in all_documents() if d["kind"] == "ServiceAccount"]
    assert named == set(made)
    assert len(made) == 2


def test_the_network_lets_in_the_cluster_itself_the_operator_and_prometheus(
    spec: dict[str, Any], head: dict[str, Any]
) -> None:
    policy = documents()["NetworkPolicy"]["spec"]
    chosen = policy["podSelector"]["matchLabels"].items()
    cluster = spec["rayClusterSpec"]
    templates = [
        group["template"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    ]
    for template in (*templates, spec["submitterPodTemplate"]):
        assert chosen <= template["metadata"]["labels"].items()
    assert "Ingress" in policy["policyTypes"]
    within, *others = policy["ingress"]
    assert dict(within["from"][0]["podSelector"]["matchLabels"]) == dict(chosen)
    ports = {port["name"]: port["containerPort"] for port in head["containers"][0]["ports"]}
    operator, prometheus = ({port["port"] for port in rule["ports"]} for rule in others)
    assert operator == {ports["dashboard"]}
    scraped = ("insetgan", "metrics", "as-metrics", "dash-metrics")
    assert prometheus == {ports[name] for name in scraped}


def test_the_run_is_one_that_the_package_takes(spec: dict[str, Any], head: dict[str, Any]) -> None:
    (volume,) = head["volumes"]
    written = documents()["ConfigMap"]
    assert volume["configMap"]["name"] == written["metadata"]["name"]
    config.parse(yaml.safe_load(written["data"]["run.yaml"]), "run.yaml")
    (mount,) = head["containers"][0]["volumeMounts"]
    assert f"insetgan-batch run {mount['mountPath']}/run.yaml " in spec["entrypoint"]
    assert "--out s3://" in spec["entrypoint"]


def test_prometheus_finds_the_pods_and_the_run(spec: dict[str, Any], head: dict[str, Any]) -> None:
    monitor = yaml.safe_load((FOLDER / "podmonitor.yaml").read_text())
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    cluster = spec["rayClusterSpec"]
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert wanted <= group["template"]["metadata"]["labels"].items()
    scraped = {endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"]}
    ports = {port["name"]: port["containerPort"] for port in head["containers"][0]["ports"]}
    assert scraped == {"insetgan", "metrics", "as-metrics", "dash-metrics"}
    assert scraped <= ports.keys()
    assert f"--metrics-address 0.0.0.0:{ports['insetgan']}" in spec["entrypoint"]
