"""The stage: who is on it, what they made so far, and how anything is done, looked at or refused."""

from typing import Any, NamedTuple

import httpx

from app.demo.people import Person, told
from app.demo.service import DemoError
from app.demo.telling import Teller
from app.settings import Settings

Json = dict[str, Any]


class Call(NamedTuple):
    """A request in somebody's name."""

    who: str
    method: str
    path: str
    body: object = None


class Stage:
    """One copy of the story, in a namespace of its own."""

    def __init__(self, client: httpx.AsyncClient, settings: Settings, namespace: str, teller: Teller) -> None:
        self.client = client
        self.settings = settings
        self.namespace = namespace
        self.tell = teller
        self.people: dict[str, Person] = {}
        self.matches: dict[str, Json] = {}
        self.referral: Json = {}
        self.agreement: Json = {}
        self.winner = ""

    async def do(self, deed: str, call: Call, step: str) -> Any:
        """Do what succeeds, once however often the story is told; return the answer's body."""
        answer = await self.send(call, key=self.key(step))
        if not answer.is_success:
            raise DemoError(f"{deed}: that should succeed, but {told(answer)}")
        self.tell.done(deed, was_there="Idempotency-Replayed" in answer.headers)
        return answer.json() if answer.content else None

    async def refused(self, tried: str, call: Call, *, key: str | None = None, version: int | None = None) -> None:
        """Try what is refused at any time."""
        self.expect_refusal(tried, await self.send(call, key=key, version=version))

    async def refused_while(self, status: str, tried: str, call: Call) -> None:
        """Try what is refused in this status of the agreement; in a later one it may be the caller's right."""
        if (await self.current())["status"] == status:
            await self.refused(tried, call)

    async def send(self, call: Call, *, key: str | None = None, version: int | None = None) -> httpx.Response:
        """Send a request; `key` is its Idempotency-Key, `version` what If-Match names."""
        headers = {"Authorization": f"Bearer {self.people[call.who].token}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        if version is not None:
            headers["If-Match"] = f'"{version}"'
        return await self.client.request(call.method, call.path, json=call.body, headers=headers)

    def expect_refusal(self, tried: str, answer: httpx.Response) -> None:
        """Tell a refusal; raises DemoError when the answer is none."""
        if not answer.is_client_error:
            raise DemoError(f"{tried}: that must be refused, but {told(answer)}")
        self.tell.refused(tried, answer.json())

    async def look(self, who: str, path: str) -> Any:
        """Read, without telling it."""
        answer = await self.send(Call(who, "GET", path))
        if not answer.is_success:
            raise DemoError(f"{who} cannot look: {told(answer)}")
        return answer.json()

    async def current(self) -> Json:
        """Return the agreement as it is now."""
        agreement: Json = await self.look("Alma", self.path())
        return agreement

    def path(self, rest: str = "") -> str:
        """Return a path under the agreement's."""
        return f"/api/agreements/{self.agreement['id']}{rest}"

    def match(self, who: str) -> str:
        """Return the path of somebody's invitation."""
        return f"/api/referrals/{self.referral['id']}/matches/{self.matches[who]['id']}"

    def key(self, step: str) -> str:
        """Return a step's Idempotency-Key."""
        return f"{self.namespace}:{step}"
