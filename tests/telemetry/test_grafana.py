"""The dashboard in docs/grafana.json, against what the server tells."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text
from tests.telemetry import rows as usage
from tests.telemetry.test_metrics import metrics

from headstart.types import Usage

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", ())]


def told() -> dict[str, set[str]]:
    """The names of all labels, by the sample they are on."""
    every = metrics()
    for model in (*sorted(usage.MODELS), "other"):
        row: Usage = usage.PLAIN._replace(model=model, error="server_error")
        every.take(row, (1, *usage.NO_GAPS[1:]))
    return {
        sample.name: set(sample.labels)
        for family in parse_text(every.render()[0].decode())
        for sample in family.samples
    }


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS, ids=[title for title, _ in EXPRESSIONS])
def test_expressions_name_what_exists(title: str, expression: str) -> None:
    """Every metric of an expression is told, and has the labels it is selected by; brackets match."""
    known = told()
    named = re.findall(r"(headstart_\w+)(?:\{([^}]*)\})?", expression)
    assert named
    for name, selector in named:
        assert name in known
        assert set(re.findall(r"(\w+)=~?\"", selector)) <= known[name]
    grouped = set(itertools.chain(*(re.split(r",\s*", found) for found in re.findall(r"by \(([^)]*)\)", expression))))
    assert grouped <= set().union(*(known[name] for name, _ in named))
    assert expression.count("(") == expression.count(")")


def test_rates_are_of_counters_only() -> None:
    """A rate of a gauge means nothing, and a counter that isn't rated neither."""
    for _, expression in EXPRESSIONS:
        for name in re.findall(r"headstart_\w+", expression):
            rated = re.search(rf"(rate|increase)\({name}\b", expression) is not None
            assert rated == name.endswith(("_total", "_bucket")), name


def test_labels_of_legends_are_grouped_by() -> None:
    """A legend can only name what its expression keeps."""
    for panel in PANELS:
        for target in panel.get("targets", ()):
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert f"by ({label})" in target["expr"]


def test_everything_told_is_on_it() -> None:
    """But for what a picture has no use for."""
    shown = set(re.findall(r"headstart_\w+", " ".join(expression for _, expression in EXPRESSIONS)))
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in told()}
    assert families - {re.sub(r"_bucket$", "", name) for name in shown} == {
        "headstart_build_info",
        "headstart_cache_hit_ratio",
    }


def test_panels_have_ids_and_places_of_their_own() -> None:
    """Grafana drops what shares an id, and moves what overlaps."""
    ids = [panel["id"] for panel in PANELS]
    assert len(set(ids)) == len(ids)
    cells = set()
    for place in (panel["gridPos"] for panel in PANELS):
        assert place["w"] > 0
        assert place["x"] + place["w"] <= 24
        own = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert not own & cells
        cells |= own


def test_it_can_be_imported() -> None:
    """A schema of Grafana 10 or 11, no numeric id, and a data source to be chosen."""
    assert 38 <= DASHBOARD["schemaVersion"] <= 41
    assert "id" not in DASHBOARD
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["DS_PROMETHEUS"]["type"] == "datasource"
    assert variables["DS_PROMETHEUS"]["query"] == "prometheus"
    assert variables["model"]["query"]["query"] == "label_values(headstart_input_tokens_total, model)"
    for panel in PANELS:
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
            assert panel["description"].endswith(".")
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
