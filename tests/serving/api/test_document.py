"""The OpenAPI document describes the service: schemathesis and hypothesis find no other answer."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import checks
from schemathesis.specs.openapi import checks as openapi_checks

from catimage.serving.api.bodies import ImagesBody, RouteBody
from catimage.serving.api.routes import ENDPOINTS
from tests.serving.api.harness import GENERATIONS, PROMPT
from tests.serving.api.server import Server
from tests.serving.cores import CANDIDATES

CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.missing_required_header,
    openapi_checks.unsupported_method,
]
"""All checks but those of accepted and refused data: a valid budget may still be too small."""
FIELDS = [f.alias or name for name, f in ImagesBody.model_fields.items()]
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=40)
    | st.sampled_from(["auto", "low", "png", "url", "64x64", "0x0", "mini-1", "\x00", "�"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


def test_document_has_every_route_and_its_errors(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    found = {(p, m.upper()) for p, operations in document["paths"].items() for m in operations}
    assert found == {(e.template, e.method) for e in ENDPOINTS}
    answers = document["paths"][GENERATIONS]["post"]["responses"]
    assert set(answers) >= {"200", "400", "401", "404", "408", "413", "415", "429", "500", "503"}
    assert "422" not in str(document["paths"])
    images = document["components"]["schemas"]["ImagesBody"]["properties"]
    assert set(CANDIDATES) < set(images["model"]["anyOf"][0]["enum"])
    assert images["size"]["anyOf"][0]["enum"] == ["auto", "64x64"]


def test_schemathesis_finds_no_undeclared_answer(server: Server) -> None:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    called: set[str] = set()
    for operation in schema.get_all_operations():
        found = operation.ok()
        examples = 8 if found.body else 2

        @given(case=found.as_strategy())
        @settings(max_examples=examples, deadline=None, database=None, derandomize=True)
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS)

        check()
        called.add(found.label)
    expected = {f"{e.method} {e.template}" for e in ENDPOINTS}
    assert called == expected - {"GET /openapi.json"}  # which schemathesis leaves out


@pytest.mark.parametrize("path", [GENERATIONS, "/v1/images/jobs", "/v1/route"])
def test_hypothesis_finds_no_server_error(client: httpx.Client, path: str) -> None:
    @given(body=st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=10), VALUES))
    @settings(
        max_examples=40,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    def check(body: dict[str, Any]) -> None:
        content = json.dumps({"prompt": PROMPT, **body})
        headers = {"Content-Type": "application/json"}
        response = client.post(path, content=content, headers=headers)
        assert response.status_code in (200, 202, 400, 404) and len(response.content) < 10_000
        if response.status_code >= 400:
            error = response.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert len(error["message"]) < 400

    check()


def test_misspelt_fields_are_named_for_every_field(client: httpx.Client) -> None:
    for model, path in ((ImagesBody, GENERATIONS), (RouteBody, "/v1/route")):
        for name, field in model.model_fields.items():
            wrong = (field.alias or name) + "x"
            if wrong in ("nx", "svgx"):
                continue
            error = client.post(path, json={"prompt": PROMPT, wrong: 1}).json()["error"]
            assert f"did you mean {field.alias or name!r}" in error["message"], error
