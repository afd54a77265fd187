"""The description of the API is complete, and its page needs no network."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from pydantic import SecretStr

from app.database import Kind
from app.main import create_app
from app.settings import Settings

METHODS = {"get", "put", "post", "patch", "delete"}


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
                if status >= "400" and "application/json" not in response["content"]:
                    content = response["content"]["application/problem+json"]
                    assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                    assert content["examples"]


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
    for reference in re.findall(r'"#/([^"]+)"', json.dumps(described)):
        place = described
        for part in reference.split("/"):
            place = place[part]


def test_the_real_application_describes_itself(tmp_path: Path) -> None:
    app = create_app(Settings(app_url=SecretStr("postgresql://nobody@127.0.0.1:1/nothing"), home=tmp_path))
    described = app.openapi_schema.to_schema()
    operations = [
        (path, method, operation)
        for path, item in described["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]
    for path, method, operation in operations:
        assert operation.get("description"), (method, path)
        assert operation.get("tags"), (method, path)
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(names) == len(set(names))
