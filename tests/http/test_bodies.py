"""Bad input is a problem of its kind, and nothing of it is written."""

import json
from typing import Any

import httpx
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import Refusal
from app.shared.requests import decode
from tests.http.conftest import problem
from tests.http.probe import NewOrganization

Look = psycopg.Connection[tuple[object, ...]]

JSON = {"Content-Type": "application/json"}
GOOD = {"title": "North", "slug": "north"}


def post(client: httpx.Client, content: bytes, content_type: str | None = "application/json") -> httpx.Response:
    headers = {"Content-Type": content_type} if content_type else {}
    return client.post("/probe/organizations", content=content, headers=headers)


def count(look: Look) -> object:
    return (look.execute("select count(*) from shared.organizations").fetchone() or [None])[0]


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"title":"North","slug":"no',
        b'{"title":"North","slug":"north"} x',
        b'{"title":"North","slug":"\\ud800"}',
        b'{"title":"North","slug":"\\udc00\\ud800"}',
        b'{"title":"North","slug":"\xff"}',
        b'{"title":"\x01","slug":"north"}',
        b"{'title':1}",
        b'\xef\xbb\xbf{"title":"North","slug":"north"}',
        b"NaN",
        b'{"title":"x","slug":"y","extra":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"title":1,"slug":"north"',  # wrong in two ways: it is no JSON first of all
        b"",
    ],
)
def test_what_is_no_json_is_malformed(client: httpx.Client, look: Look, content: bytes) -> None:
    problem(post(client, content), 400, "malformed")
    assert count(look) == 0


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ([], ["body"]),
        ("x", ["body"]),
        (None, ["body"]),
        ({}, ["title", "slug"]),
        ({**GOOD, "role": "admin"}, ["role"]),
        ({**GOOD, "title": ""}, ["title"]),
        ({**GOOD, "title": 1}, ["title"]),
        ({**GOOD, "title": None}, ["title"]),
        ({**GOOD, "size": "1"}, ["size"]),
        ({**GOOD, "size": 1.5}, ["size"]),
        ({**GOOD, "size": True}, ["size"]),
        ({**GOOD, "size": 0}, ["size"]),
        ({**GOOD, "size": 10**30}, ["size"]),
        ({**GOOD, "fee": "NaN"}, ["fee"]),
        ({**GOOD, "fee": "-Infinity"}, ["fee"]),
        ({**GOOD, "fee": "1,5"}, ["fee"]),
        ({**GOOD, "extra": [1]}, ["extra"]),
        ({"title": "", "slug": 1, "x": 1, "y": 2}, ["slug", "title", "x", "y"]),
        ({**GOOD, "title": "a\0b"}, ["title"]),
        ({**GOOD, "extra": {"a": {"b": ["\0"]}}}, ["extra.a.b.0"]),
        ({**GOOD, "extra": {"a\0": 1}}, ["extra.a\0"]),
    ],
)
def test_each_wrong_field_is_named(client: httpx.Client, look: Look, body: Any, fields: list[str]) -> None:
    refused = problem(post(client, json.dumps(body).encode()), 422, "invalid")
    assert sorted(error["field"] for error in refused["errors"]) == sorted(fields)  # type: ignore[attr-defined]
    assert count(look) == 0


@pytest.mark.parametrize(
    "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/msgpack", "text/json"]
)
def test_a_body_that_is_not_said_to_be_json_is_refused(client: httpx.Client, content_type: str | None) -> None:
    problem(post(client, json.dumps(GOOD).encode(), content_type), 415, "unsupported_media_type")


def test_a_charset_beside_json_is_welcome(client: httpx.Client) -> None:
    assert post(client, json.dumps(GOOD).encode(), "application/json; charset=utf-8").status_code == 201


def test_a_body_of_ten_megabytes_is_too_large(client: httpx.Client, look: Look) -> None:
    body = json.dumps({**GOOD, "title": "x" * 10_000_000}).encode()
    problem(post(client, body), 413, "too_large")
    problem(client.post("/probe/organizations", content=iter([body[:5_000_000], body]), headers=JSON), 413, "too_large")
    assert count(look) == 0
    assert client.get("/probe/organizations").status_code == 200


def test_a_body_just_below_the_limit_is_read(client: httpx.Client) -> None:
    body = json.dumps({**GOOD, "extra": {"x": "y" * 2_000_000}}).encode()
    assert post(client, body).status_code == 201


def test_a_name_given_twice_is_fine(client: httpx.Client) -> None:
    assert post(client, b'{"title":"a","title":"North","slug":"north"}').json()["title"] == "North"


def test_texts_of_any_script_come_back_as_they_were(client: httpx.Client) -> None:
    title = "Zürich 東京 👩‍👩‍👧 \\u0000 \u2028 \"'%$1"
    assert post(client, json.dumps({**GOOD, "title": title}).encode()).json()["title"] == title


@given(st.binary())
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    try:
        decode(body, NewOrganization)
    except Refusal as refusal:
        assert refusal.kind.status in {400, 422}  # noqa: PT017 - either is fine


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(["title", "slug", "fee", "size", "extra", "more"]), JSON_VALUES))
def test_any_object_is_decoded_or_refused_field_by_field(body: dict[str, object]) -> None:
    try:
        decode(json.dumps(body).encode(), NewOrganization)
    except Refusal as refusal:
        assert refusal.kind.status == 400 or refusal.errors  # noqa: PT017


def test_a_raw_body_is_whole_and_of_any_type(anybody: httpx.Client) -> None:
    assert anybody.post("/probe/raw", content=b"\x00\xff" * 10).json() == {"bytes": 20}
