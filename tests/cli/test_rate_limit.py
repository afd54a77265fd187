"""Two processes of the service together let no more through than the limit."""

import time
from collections.abc import Callable

import httpx

from tests.api.conftest import at_once, problem
from tests.cli.conftest import Variables

PERSON = {"email": "nora@north.example", "password": "correct horse battery staple"}
LIMIT = 12


def test_one_more_than_the_limit_is_429_across_processes(
    variables: Variables, serve: Callable[[Variables], str]
) -> None:
    variables["BROKERFLOW_RATE_LIMIT"] = str(LIMIT)
    with (
        httpx.Client(base_url=serve(variables), timeout=30) as one,
        httpx.Client(base_url=serve(variables), timeout=30) as two,
    ):
        one.post("/auth/register", json={**PERSON, "full_name": "Nora"}).raise_for_status()
        token = one.post("/auth/login", json=PERSON).json()["token"]
        one.cookies.clear()
        headers = {"Authorization": f"Bearer {token}"}
        begun = time.monotonic()
        statuses = at_once([lambda client=client: client.get("/api/me", headers=headers).status_code  # type: ignore[misc]
                            for client in (one, two) for _ in range(LIMIT)])  # fmt: skip
        refilled = (time.monotonic() - begun) * LIMIT / 60
        assert set(statuses) == {200, 429}
        assert LIMIT <= statuses.count(200) <= LIMIT + refilled
        if refilled < 1:
            for client in (one, two):
                refused = client.get("/api/me", headers=headers)
                problem(refused, 429, "too_many_requests")
                assert 1 <= int(refused.headers["Retry-After"]) <= 60 / LIMIT
