"""The OpenAPI document of the running service, as schemathesis reads it: no 5xx, and every answer is as it says."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.api.conftest import Caller, bearer

CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance,
]  # fmt: skip
ENDLESS = "/api/events/stream"
# What ends the caller's own session comes last.
ENDING = ["POST /auth/logout", "DELETE /api/sessions"]


def test_every_operation_answers_as_the_document_says(address: str, referrer: Caller) -> None:
    document = schemathesis.openapi.from_url(f"{address}/schema/openapi.json")
    operations = [each.ok() for each in document.get_all_operations() if isinstance(each, Ok)]
    found: list[str] = []
    for operation in sorted(operations, key=lambda each: each.label in ENDING):
        if operation.path == ENDLESS:
            continue

        @seed(1)
        @settings(max_examples=5, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy())
        def attack(case: Any) -> None:
            response = case.call(headers=bearer(referrer.token))
            try:
                case.validate_response(response, checks=CHECKS)
            except FailureGroup as failures:
                found.append(f"{case.operation.label}: {failures}")

        attack()
    assert len(operations) > 60
    assert found == []
