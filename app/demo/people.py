"""The people of the story, as clients of the service."""

from typing import Any, NamedTuple

import httpx

from app.demo.service import DemoError


class Part(NamedTuple):
    """Somebody's part in the story, before he has an account."""

    name: str
    full_name: str


ALMA = Part("Alma", "Alma Referrer")
BRUNO = Part("Bruno", "Bruno Referee")
CARLA = Part("Carla", "Carla Rival")
JUDITH = Part("Judith", "Judith Judge")
PARTS = {part.name.lower(): part for part in (ALMA, BRUNO, CARLA, JUDITH)}


class Person(NamedTuple):
    """Somebody who is logged in."""

    name: str
    email: str
    id: str
    token: str


def address(part: Part, namespace: str) -> str:
    """Return the e-mail address of a part; the domain is reserved, so it reaches nobody."""
    return f"{part.name.lower()}@{namespace}.brokerflow.example"


async def register(client: httpx.AsyncClient, part: Part, email: str, password: str) -> bool:
    """Register somebody; false when he is already."""
    body = {"email": email, "password": password, "full_name": part.full_name}
    answer = await client.post("/auth/register", json=body)
    if answer.status_code not in {httpx.codes.CREATED, httpx.codes.CONFLICT}:
        raise DemoError(f"{part.name} cannot register: {told(answer)}")
    return answer.status_code == httpx.codes.CREATED


async def log_in(client: httpx.AsyncClient, part: Part, email: str, password: str) -> Person:
    """Open a session; raises DemoError where the address has another password."""
    answer = await client.post("/auth/login", json={"email": email, "password": password})
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        raise DemoError(
            f"{email} does not log in: if it was registered with another BROKERFLOW_HOME or BROKERFLOW_MASTER_KEY, "
            "use that one again, or tell another copy with --namespace."
        )
    if not answer.is_success:
        raise DemoError(f"{part.name} cannot log in: {told(answer)}")
    session = answer.json()
    client.cookies.clear()  # the session's cookie is for browsers; here each request bears its token
    return Person(part.name, email, session["user"]["id"], session["token"])


def told(answer: httpx.Response) -> str:
    """Say in one line what an answer that was not expected is."""
    problem: dict[str, Any] = answer.json() if "json" in answer.headers.get("content-type", "") else {}
    request = f"{answer.request.method} {answer.request.url.path}"
    known = problem.get("errors") or problem.get("detail", "")
    return (
        f"{request} answered {answer.status_code} {problem.get('code', '')}: {known} ({problem.get('request_id', '')})"
    )
