"""Requests RunPod refuses are refused the same way."""

from __future__ import annotations

import pytest

from tests.contract.local_cloud import Emulator

CREATE = 'mutation {{ podFindAndDeployOnDemand(input: {{gpuTypeId: "NVIDIA L40S", imageName: "i", {0}}}) {{ id }} }}'


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("query { myself { pods { id color } } }", "Cannot query field 'color' on type 'Pod'"),
        (CREATE.format("colour: 1"), "colour"),
        (CREATE.format('gpuCount: "two"'), "Int cannot represent non-integer value"),
        (CREATE.format("cloudType: PRIVATE"), "Value 'PRIVATE' does not exist in 'CloudTypeEnum' enum"),
        (CREATE.format('stopAfter: "1h"'), "DateTime cannot represent"),
        ("query { myself { pods { id }", "Syntax Error"),
        ("query { pod { id } ", "Syntax Error"),
        ("mutation { podRestart(input: {}) { id } }", "Cannot query field 'podRestart'"),
        ("mutation { podStop(input: {}) { id } }", "podId"),
        ("query { __schema { types { name } } }", "introspection"),
        ('mutation { podTerminate(input: {podId: "x"}) { id } }', "must not have a selection"),
    ],
)
def test_a_query_that_does_not_fit_the_schema_is_answered_with_errors(
    emulator: Emulator, query: str, words: str
) -> None:
    answer = emulator.graphql(query)
    assert words in answer["errors"][0]["message"]
    assert "data" not in answer
    assert answer["errors"][0]["extensions"]["code"].startswith("GRAPHQL_")
    assert emulator.control("GET", "/status")["pods"] == {}


def test_a_variable_that_does_not_fit_is_answered_with_errors(emulator: Emulator) -> None:
    query = "mutation ($input: PodFindAndDeployOnDemandInput) { podFindAndDeployOnDemand(input: $input) { id } }"
    for value in ({"color": "red"}, {"terminateAfter": "24h"}):
        answer = emulator.graphql(query, variables={"input": value})
        assert answer["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
        assert not answer.get("data")


def test_stop_after_is_accepted_and_ignored(emulator: Emulator) -> None:
    times = 'stopAfter: "2020-01-01T00:00:00Z", terminateAfter: "2020-01-01T00:00:00+02:00"'
    pod_id = emulator.graphql(CREATE.format(times))["data"]["podFindAndDeployOnDemand"]["id"]
    assert emulator.control("GET", "/status")["pods"] == {pod_id: "RUNNING"}


def test_a_key_may_come_in_the_address(emulator: Emulator) -> None:
    import requests

    url = f"{emulator.info['url']}/graphql?api_key={emulator.info['key']}"
    answer = requests.post(url, json={"query": "query { myself { email } }"}, timeout=10).json()
    assert answer["data"]["myself"]["email"]
    assert requests.post(url + "x", json={"query": "query { myself { email } }"}, timeout=10).status_code == 401


def test_a_body_without_a_query_is_a_bad_request(emulator: Emulator) -> None:
    bodies: tuple[object, ...] = ({}, [], {"query": 5})
    for body in bodies:
        assert emulator.call("POST", "/graphql", body).status_code == 400


def test_only_loopback_is_listened_on(emulator: Emulator) -> None:
    from pathlib import Path

    port = f"{int(emulator.info['url'].rpartition(':')[2]):04X}"
    sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = {fields[1] for fields in sockets if fields[3] == "0A" and fields[1].endswith(f":{port}")}
    assert listening == {f"0100007F:{port}"}
