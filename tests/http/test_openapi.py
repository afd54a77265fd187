"""The description of the API is complete, and its page needs no network."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from pydantic import SecretStr

from app.agreement.queries import DisputeOutcome
from app.database import Kind
from app.main import create_app
from app.settings import Settings
from app.shared import tokens
from app.shared.tokens import Prefix

METHODS = {"get", "put", "post", "patch", "delete"}
PROBLEMS = {"Problem", "Unhealthy"}


@pytest.fixture
def described(anybody: httpx.Client) -> Any:
    return anybody.get("/schema/openapi.json").json()


def test_it_is_openapi_3_1_in_json_and_yaml(anybody: httpx.Client, described: Any) -> None:
    assert described["openapi"] == "3.1.0"
    assert anybody.get("/schema/openapi.yaml").status_code == 200


def test_its_page_loads_everything_from_the_service(anybody: httpx.Client) -> None:
    page = anybody.get("/schema").text
    head = page[: page.index("<body")]
    addresses = re.findall(r"""(?:src|href)=["']([^"']+)""", head)
    assert len(addresses) == 4
    for address in addresses:
        assert address.startswith("/schema/assets/")
        assert anybody.get(address).status_code == 200
    assert not re.search(r"https?://|//cdn", head)
    # The page's script and style load nothing either.
    assert "url(http" not in anybody.get("/schema/assets/swagger-ui.css").text


def test_every_route_lists_its_problems(described: Any) -> None:
    create = described["paths"]["/probe/organizations"]["post"]
    assert set(create["responses"]) == {"201", "400", "401", "403", "409", "413", "415", "422", "429", "500", "503"}
    read = described["paths"]["/probe/organizations/{organization_id}"]["get"]
    assert set(read["responses"]) == {"200", "400", "401", "403", "404", "429", "500", "503"}
    change = described["paths"]["/probe/organizations/{organization_id}"]["patch"]
    assert "412" in change["responses"]
    for path in described["paths"].values():
        for method in METHODS & path.keys():
            for status, response in path[method]["responses"].items():
                if status >= "400":
                    [(media_type, content)] = response["content"].items()
                    assert media_type == "application/problem+json"
                    assert content["schema"]["$ref"] in {f"#/components/schemas/{name}" for name in PROBLEMS}
                    assert content["examples"]


def test_a_service_that_cannot_work_tells_why_in_a_problem(described: Any) -> None:
    unhealthy, plain = (described["components"]["schemas"][name] for name in ("Unhealthy", "Problem"))
    assert unhealthy["properties"].keys() - plain["properties"].keys() == {"database", "schema", "session_store"}
    assert unhealthy["properties"]["status"] == {"type": "integer"}
    lost = {"database_unavailable", "session_store_unavailable"}
    for path, codes in (("/healthz", lost), ("/api/system/health", lost | {"schema_mismatch"})):
        content = described["paths"][path]["get"]["responses"]["503"]["content"]["application/problem+json"]
        assert content["schema"] == {"$ref": "#/components/schemas/Unhealthy"}
        examples = [each["value"] for each in content["examples"].values()]
        assert {example["code"] for example in examples} == codes
        for example in examples:
            assert set(unhealthy["required"]) <= example.keys() <= unhealthy["properties"].keys()


def test_headers_and_security_are_told(described: Any) -> None:
    paths = described["paths"]

    def parameters(path: str, method: str) -> set[str]:
        return {each["name"] for each in paths[path][method].get("parameters", ())}

    one = "/probe/organizations/{organization_id}"
    assert parameters("/probe/organizations", "post") == {"X-Organization", "Idempotency-Key"}
    assert parameters("/probe/organizations", "get") == {"X-Organization", "limit", "cursor"}
    assert parameters(one, "patch") == {"X-Organization", "Idempotency-Key", "If-Match", "organization_id"}
    assert parameters("/probe/anybody", "post") == set()
    assert paths["/probe/anybody"]["post"]["security"] == []
    assert paths[one]["get"]["security"] == [{"session": []}, {"personal_token": []}, {"session_cookie": []}]
    schemes = described["components"]["securitySchemes"]
    assert schemes.keys() == {*get_args(Kind), "session_cookie"} - {"esign", "ticket"}
    assert all(scheme["scheme"] == "bearer" for name, scheme in schemes.items() if name != "session_cookie")


def test_rows_and_pages_are_described(described: Any) -> None:
    row = described["components"]["schemas"]["Organization"]
    assert row["properties"]["payload"] == {"type": "object", "additionalProperties": True}
    assert row["properties"]["price"] == {"type": "string"}
    page = described["paths"]["/probe/organizations"]["get"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    assert page["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Organization"}
    assert page["required"] == ["items", "next_cursor"]
    body = described["components"]["schemas"]["NewOrganization"]
    assert body["properties"]["slug"]["examples"] == ["north"]


def test_every_reference_leads_somewhere(described: Any) -> None:
    references = re.findall(r'"#/([^"]+)"', json.dumps(described))
    assert len(references) > 10
    for reference in references:
        place = described
        for part in reference.split("/"):
            place = place[part]


@pytest.fixture
def real(tmp_path: Path) -> Any:
    """The description of the real application."""
    app = create_app(Settings(app_url=SecretStr("postgresql://nobody@127.0.0.1:1/nothing"), home=tmp_path))
    return app.openapi_schema.to_schema()


def operations(described: Any) -> dict[str, Any]:
    found = {
        f"{method.upper()} {path}": operation
        for path, item in described["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }
    assert len(found) > 60
    return found


def test_the_real_application_describes_itself(real: Any) -> None:
    for name, operation in operations(real).items():
        assert operation.get("description"), name
        assert operation.get("tags"), name


def test_no_two_operations_have_one_name(real: Any) -> None:
    for name in ("operationId", "summary"):
        told = Counter(operation[name] for operation in operations(real).values())
        assert [each for each, times in told.items() if times > 1] == []


def test_every_example_of_a_token_is_well_formed(real: Any) -> None:
    examples = re.findall(rf"\b(?:{'|'.join(Prefix)})\w+", json.dumps(real))
    assert {tokens.prefix_of(each) for each in examples} == {
        Prefix.SESSION, Prefix.PERSONAL, Prefix.ORGANIZATION, Prefix.SECRET_STAGING, Prefix.PUBLIC_STAGING,
    }  # fmt: skip
    hinted = [each["properties"] for each in real["components"]["schemas"].values() if "token" in each["properties"]]
    told = [(each["token"]["examples"], each["token_hint"]["examples"]) for each in hinted if "token_hint" in each]
    assert len(told) == 2
    for [token], [hint] in told:
        assert token.endswith(hint)
        assert len(hint) == 4


def test_every_outcome_of_a_dispute_is_told_where_it_comes_from(real: Any) -> None:
    told = operations(real)
    decide = told["PATCH /api/disputes/{dispute_id}"]["description"]
    for outcome in get_args(DisputeOutcome):
        assert f"`{outcome}`" in decide
    assert "withdraws the dispute" in told["PATCH /api/agreements/{agreement_id}"]["description"]
