"""
Alert rules and dashboard: what they ask for is what a recorder serves, and the rules do what they are for.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from loopback import entries, recording, simulator, until
from test_endpoint import config, fetched, listening

DEPLOY = Path(__file__).parent.parent / "deploy"
RULES = DEPLOY / "prometheus" / "drift-recorder.rules.yml"
DASHBOARD = DEPLOY / "grafana" / "drift-recorder.json"
_NAME = re.compile(r"\b(drift_recorder_[a-z_]+|process_[a-z_]+)\b(?:\{([^}]*)\})?")


@pytest.fixture
def promtool():
    """
    Prometheus' own checker; in CI it must be there.
    """
    found = shutil.which("promtool")
    if found is None and os.environ.get("CI"):
        pytest.fail("promtool is not installed: apt-get install prometheus")
    if found is None:
        pytest.skip("promtool is not installed: the rules are NOT checked (apt-get install prometheus)")

    def run(*arguments, text=None):
        return subprocess.run([found, *map(str, arguments)], input=text, capture_output=True, text=True, timeout=60)

    return run


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """
    What a recorder under way serves.
    """
    root = tmp_path_factory.mktemp("served")

    async def scenario():
        async with simulator() as url, recording(root, text=config(url, root)) as recorder:
            await listening(recorder)
            await until(lambda: len(entries(root)) > 150)
            return (await fetched(recorder, "/metrics"))[1]

    return asyncio.run(scenario())


def labels_by_name(text):
    """
    The labels of each sample's name.
    """
    told = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            told.setdefault(sample.name, set()).update(sample.labels)
    return told


def queries():
    """
    (where, expression) of all that rules and dashboard ask.
    """
    for number, line in enumerate(RULES.read_text().replace(">\n", " ").splitlines()):
        if "expr:" in line or "drift_recorder_" in line:
            yield f"rules {number}", line.split("#")[0]
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        yield variable["name"], variable["query"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def test_whatever_is_asked_for_is_served(served):
    """
    A panel or an alert on a name that does not exist is empty for ever, and looks like peace.
    """
    told = labels_by_name(served)
    # There only once something is known: the pace of a disk takes minutes, a seal an hour.
    later = {"drift_recorder_disk_left_seconds", "drift_recorder_last_sealed_hour_rows"}
    later |= {"drift_recorder_last_sealed_hour_bytes"}
    source = (DEPLOY.parent / "recorder" / "daemon" / "metrics.py").read_text()
    asked = [(where, match[1], match[2] or "") for where, text in queries() for match in _NAME.finditer(text)]

    assert len(asked) > 60
    for where, name, selector in asked:
        if name in later:
            assert f'"{name.removeprefix("drift_recorder_")}"' in source, (where, name)
            continue
        assert name in told, (where, name)
        matched = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", selector)) - {"instance", "job"}
        assert matched <= told[name], (where, name, selector)


def test_grouping_is_by_labels_there_are(served):
    """
    `by (connexion)` gives one number where ten were meant, without an error.
    """
    known = set().union(*labels_by_name(served).values()) | {"instance", "job", "le"}
    grouped = [(where, re.findall(r"by \(([^)]*)\)", text)) for where, text in queries()]

    for where, groups in grouped:
        for group in groups:
            assert {label.strip() for label in group.split(",")} <= known, (where, group)


def test_the_rules_are_sound_and_do_what_they_are_for(promtool):
    """
    Prometheus' own checks, and unit tests in which each alert fires when it should.
    """
    checked = promtool("check", "rules", RULES)
    tested = promtool("test", "rules", RULES.with_name("drift-recorder.test.yml"))

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert tested.returncode == 0, tested.stdout + tested.stderr
    alerts = set(re.findall(r"- alert: (\w+)", RULES.read_text()))
    assert alerts == set(re.findall(r"DriftRecorder\w+", RULES.with_name("drift-recorder.test.yml").read_text()))


def test_a_rule_that_asks_wrongly_is_noticed(promtool, tmp_path):
    """
    The tests of the rules can fail.
    """
    for path in RULES.parent.iterdir():
        text = path.read_text().replace("drift_recorder_ready == 0", "drift_recorder_ready == 2")
        (tmp_path / path.name).write_text(text)

    assert promtool("test", "rules", tmp_path / "drift-recorder.test.yml").returncode != 0


def test_prometheus_finds_no_fault_with_the_metrics(promtool, served):
    """
    Names, units, help: by its own linter.
    """
    checked = promtool("check", "metrics", text=served)

    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_every_alert_says_what_to_do():
    """
    And is in the runbook by its name.
    """
    text = RULES.read_text()
    blocks = text.split("- alert: ")[1:]

    for block in blocks:
        assert re.search(r"severity: (critical|warning)", block), block
        assert "summary:" in block, block
        assert "action:" in block, block
