"""Dashboard and alerts ask only for metrics and labels that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import promql_parser as promql
import pytest
from ray.dashboard.modules.reporter.reporter_agent import METRICS_GAUGES

from pipeline.distributed.metrics import BACKLOG, ERRORS, IMAGES_SCORED, STAGE_SECONDS
from tests.infra.manifests import CLUSTERS, ROOT, load, pod_templates

MONITORING = ROOT / "infra/monitoring"
DASHBOARD = json.loads((MONITORING / "dashboard.json").read_text())
RULES = [
    rule
    for group in load(MONITORING / "alerts.yaml")[0]["spec"]["groups"]
    for rule in group["rules"]
]
# As Ray's exporter spells them, which tests/distributed/test_metrics.py reads from a running node.
OURS = {
    f"ray_{BACKLOG}": {"source"},
    f"ray_{IMAGES_SCORED}_total": {"source"},
    f"ray_{ERRORS}_total": {"source", "code"},
    f"ray_{STAGE_SECONDS}_total": {"source", "stage"},
}
OTHERS = {
    **{f"ray_{name}": {"instance", "namespace"} for name in METRICS_GAUGES},
    # kube-state-metrics
    "kube_job_failed": {"namespace", "job_name", "condition"},
    "kube_cronjob_status_last_successful_time": {"namespace", "cronjob"},
    # The KubeRay operator's own, since 1.4
    "kuberay_job_deployment_status": {"namespace", "name", "deployment_status"},
}
KNOWN = OURS | OTHERS


def queries() -> Iterator[tuple[str, str]]:
    """Every query: where it stands, and itself with Grafana's variables filled in."""
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            query = re.sub(r"\$__(rate_interval|range)", "5m", target["expr"])
            yield panel["title"], query.replace("$source", ".*")
    for rule in RULES:
        yield rule["alert"], rule["expr"]


def asked_for(query: str) -> list[tuple[set[str], set[str]]]:
    """Names of the metrics, and labels, of each selector."""
    found = []

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.VectorSelector):
            labels = {each.name: each.value for each in node.matchers.matchers}
            pattern = node.name or labels.pop("__name__")
            names = {name for name in KNOWN if re.fullmatch(pattern, name)}
            found.append((names or {pattern}, set(labels)))

    promql.walk(promql.parse(query), visit)
    return found


def grouped_by(query: str) -> set[str]:
    labels: set[str] = set()

    def visit(node: promql.Expr) -> None:
        if isinstance(node, promql.AggregateExpr) and node.modifier:
            labels.update(node.modifier.labels)

    promql.walk(promql.parse(query), visit)
    return labels


@pytest.mark.parametrize(("title", "query"), list(queries()))
def test_queries_ask_for_metrics_that_exist(title: str, query: str) -> None:
    selectors = asked_for(query)
    assert selectors
    having: set[str] = set()
    for names, labels in selectors:
        for name in names:
            assert labels <= KNOWN[name], f"{title}: {name} has no {labels - KNOWN[name]}"
            having |= KNOWN[name]
    assert grouped_by(query) <= having


def test_every_metric_of_ours_is_shown() -> None:
    shown = {name for _, query in queries() for names, _ in asked_for(query) for name in names}
    assert set(OURS) <= shown
    assert {"ray_node_gpus_utilization", "ray_node_gram_used"} <= shown


def test_a_query_with_a_mistake_is_noticed() -> None:
    assert asked_for("rate(ray_adaclip_image_total[5m])") == [({"ray_adaclip_image_total"}, set())]
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql.parse("sum by (source) (rate(ray_adaclip_errors_total[5m]")


def test_panels_have_places_of_their_own() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_dashboard_variables_are_defined() -> None:
    defined = {each["name"] for each in DASHBOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)\}?", json.dumps(DASHBOARD["panels"])))
    assert {name for name in used if not name.startswith("__")} == defined


def test_the_monitor_selects_the_pods_of_every_cluster_and_their_port() -> None:
    (monitor,) = load(MONITORING / "podmonitor.yaml")
    selected = dict(monitor["spec"]["selector"]["matchLabels"])
    assert selected.pop("ray.io/is-ray-node") == "yes"  # KubeRay puts it on every Ray pod
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    for cluster in CLUSTERS.values():
        templates = list(pod_templates(cluster))
        assert len(templates) == 3
        for template in templates:
            assert selected.items() <= template["metadata"]["labels"].items()
            ports = {p["name"]: p for p in template["spec"]["containers"][0]["ports"]}
            port = str(ports[endpoint["port"]]["containerPort"])
            assert template["metadata"]["annotations"]["prometheus.io/port"] == port
