"""The manifests: accepted by the schemas at hand, and their commands by the jobs' own parsers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from pipeline.commands import submit
from pipeline.commands.nightly import NightlyConfig
from pipeline.config import ScoreConfig
from pipeline.nightly.scans import load_scans
from tests.infra.manifests import (
    CLUSTERS,
    MANIFESTS,
    ROOT,
    command_lines,
    containers,
    job_spec,
    parse_job,
    pod_templates,
)

KUBERNETES = "1.33"  # the oldest release with support by its makers, when this was written

# The fields of KubeRay's own types, from its generated API reference of 1.6.2; no package has its
# schemas. 1.6 is the first release with RayCronJob and with authOptions.secretName.
KUBERAY = {
    "RayCronJobSpec": {"jobTemplate", "schedule", "suspend"},
    "RayJobSpec": {
        *("activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy"),
        *("entrypoint", "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId"),
        *("managedBy", "metadata", "preRunningDeadlineSeconds", "rayClusterSpec"),
        *("runtimeEnvYAML", "shutdownAfterJobFinishes", "submissionMode", "submitterConfig"),
        *("submitterPodTemplate", "suspend", "ttlSecondsAfterFinished"),
    },
    "RayClusterSpec": {
        *("authOptions", "autoscalerOptions", "enableInTreeAutoscaling"),
        *("gcsFaultToleranceOptions", "headGroupSpec", "headServiceAnnotations", "managedBy"),
        *("rayVersion", "suspend", "upgradeStrategy", "workerGroupSpecs"),
    },
    "AuthOptions": {"enableK8sTokenAuth", "mode", "secretName"},
    "AutoscalerOptions": {
        *("env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources"),
        *("securityContext", "upscalingMode", "version", "volumeMounts"),
    },
    "HeadGroupSpec": {
        *("enableIngress", "headService", "labels", "rayStartParams", "resources"),
        *("serviceType", "template"),
    },
    "WorkerGroupSpec": {
        *("groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas"),
        *("numOfHosts", "rayStartParams", "replicas", "resources", "scaleStrategy", "suspend"),
        "template",
    },
}
DOCUMENTS = [(name, each) for name, documents in MANIFESTS.items() for each in documents]
TEMPLATES = [(name, each) for name, document in DOCUMENTS for each in pod_templates(document)]
CONTAINERS = [(name, each) for name, template in TEMPLATES for each in containers(template)]
RAY_JOBS = ["rayjob-scan.yaml", "raycronjob-nightly.yaml"]


def test_every_manifest_is_one_that_is_looked_at() -> None:
    assert sorted(MANIFESTS) == [
        "accounts.yaml",
        "cronjob-maintenance.yaml",
        "cronjob-nightly.yaml",
        "raycluster.yaml",
        "raycronjob-nightly.yaml",
        "rayjob-scan.yaml",
        "scans.yaml",
    ]
    assert len(TEMPLATES) == 13
    assert {d["metadata"].get("namespace", "adaclip") for _, d in DOCUMENTS} == {"adaclip"}


@pytest.mark.parametrize(("name", "document"), DOCUMENTS)
def test_kubernetes_own_objects_fit_their_schemas(name: str, document: dict[str, Any]) -> None:
    if document["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    for template in pod_templates(document):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, **template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_kuberays_objects_have_only_fields_that_it_knows() -> None:
    cron = MANIFESTS["raycronjob-nightly.yaml"][0]
    assert (cron["apiVersion"], cron["kind"]) == ("ray.io/v1", "RayCronJob")
    assert set(cron["spec"]) <= KUBERAY["RayCronJobSpec"]
    for name in RAY_JOBS:
        assert set(job_spec(name)) <= KUBERAY["RayJobSpec"]
    for cluster in CLUSTERS.values():
        assert set(cluster) <= KUBERAY["RayClusterSpec"]
        assert set(cluster["authOptions"]) <= KUBERAY["AuthOptions"]
        assert set(cluster["autoscalerOptions"]) <= KUBERAY["AutoscalerOptions"]
        assert set(cluster["headGroupSpec"]) <= KUBERAY["HeadGroupSpec"]
        for group in cluster["workerGroupSpecs"]:
            assert set(group) <= KUBERAY["WorkerGroupSpec"]


def test_all_clusters_are_the_same() -> None:
    first, *others = CLUSTERS.values()
    assert all(each == first for each in others)


def test_the_cluster_scales_its_gpus_from_zero_and_keeps_tasks_off_the_head() -> None:
    cluster = CLUSTERS["raycluster.yaml"]
    assert cluster["authOptions"]["mode"] == "token"
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    # Ray's jobs start reading before a node can come: see Resources.plan.
    cpu, gpu = cluster["workerGroupSpecs"]
    assert (cpu["minReplicas"], gpu["minReplicas"], gpu["replicas"]) == (1, 0, 0)
    (worker,) = gpu["template"]["spec"]["containers"]
    assert worker["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert gpu["template"]["spec"]["tolerations"]
    assert gpu["template"]["spec"]["nodeSelector"]
    for group in (cluster["headGroupSpec"], cpu, gpu):
        # KubeRay refuses any other policy with the autoscaler's version 2.
        assert group["template"]["spec"]["restartPolicy"] == "Never"


def test_the_clusters_ray_is_the_one_that_the_tests_ran_with() -> None:
    pinned = re.search(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned
    assert {each["rayVersion"] for each in CLUSTERS.values()} == {pinned[1]}


@pytest.mark.parametrize("name", RAY_JOBS)
def test_a_ray_job_ends_and_cleans_up(name: str) -> None:
    spec = job_spec(name)
    assert spec["backoffLimit"] == 1
    assert 0 < spec["preRunningDeadlineSeconds"] < spec["activeDeadlineSeconds"] < 24 * 3600
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0


def test_nights_of_the_cronjob_do_not_overlap() -> None:
    for name in ("cronjob-nightly.yaml", "cronjob-maintenance.yaml"):
        spec = MANIFESTS[name][0]["spec"]
        assert spec["concurrencyPolicy"] == "Forbid"
        assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 24 * 3600
        assert spec["jobTemplate"]["spec"]["ttlSecondsAfterFinished"] > 0


@pytest.mark.parametrize(("name", "container"), CONTAINERS)
def test_containers_are_bounded_and_have_no_privileges(
    name: str, container: dict[str, Any]
) -> None:
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert requests["memory"] == limits["memory"]  # or the node's, not the pod's, runs out first
    assert set(requests) == set(limits) >= {"cpu", "memory"}
    assert not container["image"].endswith(":latest")


def test_all_containers_run_one_image() -> None:
    assert len({container["image"] for _, container in CONTAINERS}) == 1


def test_accounts_exist_and_only_the_head_talks_to_kubernetes() -> None:
    found = {
        each["metadata"]["name"]: each
        for each in MANIFESTS["accounts.yaml"]
        if each["kind"] == "ServiceAccount"
    }
    heads = [id(each["headGroupSpec"]["template"]) for each in CLUSTERS.values()]
    for _, template in TEMPLATES:
        account = found[template["spec"]["serviceAccountName"]]
        mounted = template["spec"].get(
            "automountServiceAccountToken", account.get("automountServiceAccountToken", True)
        )
        assert mounted is (id(template) in heads)


def test_no_secret_is_in_a_manifest() -> None:
    assert not [name for name, each in DOCUMENTS if each["kind"] == "Secret"]
    for _, container in CONTAINERS:
        for variable in container.get("env", []):
            secret = "TOKEN" in variable["name"] or "KEY" in variable["name"]
            assert secret == ("valueFrom" in variable)


@pytest.mark.parametrize(("name", "arguments"), list(command_lines()))
def test_every_command_is_one_that_the_real_parsers_take(name: str, arguments: list[str]) -> None:
    if arguments[:2] == ["python", "/app/jobs/submit.py"]:
        config = submit.parse(arguments[2:])
        assert config.address == "http://adaclip-head-svc:8265"
        arguments = [*config.entrypoint]
    script, config = parse_job(arguments)
    assert (ROOT / Path(script).relative_to("/app")).is_file()
    if isinstance(config, NightlyConfig):
        # Where every cluster's head has the ConfigMap of scans.yaml.
        head = CLUSTERS["raycluster.yaml"]["headGroupSpec"]["template"]["spec"]
        (mount,) = head["containers"][0]["volumeMounts"]
        (volume,) = head["volumes"]
        scans = MANIFESTS["scans.yaml"][0]
        assert volume["configMap"]["name"] == scans["metadata"]["name"]
        assert Path(config.config).parent == Path(mount["mountPath"])
        assert Path(config.config).name in scans["data"]


def test_a_command_with_a_mistake_is_noticed() -> None:
    with pytest.raises(SystemExit):
        parse_job(["python", "/app/jobs/score_bucket.py", "--inputs", "a", "--output", "b"])
    with pytest.raises(SystemExit):
        submit.parse(["--adress=x", "--", "python"])


def scoring(monkeypatch: pytest.MonkeyPatch, folder: Path) -> list[ScoreConfig]:
    """The scoring settings of all manifests."""
    monkeypatch.setenv("ADACLIP_WEBHOOK", "https://hooks.example.com/services/token")
    (folder / "scans.yaml").write_text(MANIFESTS["scans.yaml"][0]["data"]["scans.yaml"])
    scans = load_scans(str(folder / "scans.yaml"))
    assert all(source.webhook and source.alert for source in scans.sources)
    parsed = [parse_job(arguments)[1] for name, arguments in command_lines() if name in RAY_JOBS]
    return [
        *(source.config for source in scans.sources),
        *(each for each in parsed if isinstance(each, ScoreConfig)),
    ]


def test_scans_ask_for_no_more_gpus_than_the_pool_may_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A scan that waits for a GPU that never comes would wait until its deadline."""
    _, gpu = CLUSTERS["raycluster.yaml"]["workerGroupSpecs"]
    configs = scoring(monkeypatch, tmp_path)
    assert len(configs) == 3
    for config in configs:
        assert config.num_actors == gpu["maxReplicas"]
        assert config.gpus_per_actor == 1


def test_every_output_is_maintained_and_where_the_roles_allow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    outputs = {config.output for config in scoring(monkeypatch, tmp_path)}
    lines = [each for name, each in command_lines() if name == "cronjob-maintenance.yaml"]
    maintained = {"Compact": set[str](), "Vacuum": set[str]()}
    for arguments in lines:
        config: Any = parse_job(arguments)[1]
        maintained[type(config).__name__].add(config.output)
    assert maintained == {"Compact": outputs, "Vacuum": outputs}
    assert all(output.startswith("s3://adaclip-output/scans/") for output in outputs)
