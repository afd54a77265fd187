"""A11, told afterwards: who could read a secret at a time and who had, from what was audited and what still stands."""

import hashlib

from tests.schema.conftest import Refused
from tests.schema.stage import Given, Party, Rows, Stage

READERS = (
    "select name, role, could_read, reads, denials from secretstore.list_readers('key', %s, %s, null, 20) "
    "order by kind, role desc nulls last, name"
)
GRANT = "select refusal from secretstore.grant_reads(%s, array['key'], %s, null, '{r}', null)"


async def test_members_are_told_by_their_roles_and_programs_by_their_scopes(given: Given, as_referrer: Party) -> None:
    before = await as_referrer.value("select clock_timestamp()")
    await given.secret()
    await given.read_grant(by="colleague")
    program = await as_referrer.organization_token("secrets:read")
    await as_referrer.organization_token("secrets:write")  # reads nothing
    assert await program(GRANT, hashlib.sha256(b"once").digest(), None) == [(None,)]
    members: Rows = [(None, "owner", True, 0, 0), (None, "agent", True, 1, 0)]
    assert await as_referrer(READERS, None, None) == [("a token", None, True, 1, 0), *members]
    await as_referrer("delete from shared.memberships where user_id = %s", given.stage.people["colleague"].user_id)
    assert await as_referrer(READERS, None, None) == [
        ("a token", None, True, 1, 0), members[0], (None, None, False, 1, 0),
    ]  # fmt: skip
    assert await as_referrer(READERS, None, before) == []


async def test_where_there_is_no_value_there_are_none_who_could_read(given: Given, as_referrer: Party) -> None:
    await given.secret()
    assert await as_referrer(READERS, None, None) != []
    await as_referrer("select secretstore.delete_secret('key', null, null, 'r', null)")
    assert await as_referrer(READERS, None, None) == []
    await as_referrer("select secretstore.undelete_secret('key', null, null, 'r', null)")
    assert await as_referrer(READERS, None, None) != []
    await as_referrer("select secretstore.destroy_version('key', null, 1, null, 'r', null)")
    assert await as_referrer(READERS, None, None) == []


async def test_the_keys_of_an_environment_read_there(given: Given, as_referrer: Party) -> None:
    program, _ = await given.keys()
    place = await program.value("select shared.current_environment_id()")
    await given.secret(environment=place)
    assert await program(GRANT, hashlib.sha256(b"once").digest(), None) == [(None,)]
    told = await as_referrer(READERS, place, None)
    assert [reads for name, _, could_read, reads, _ in told if name and could_read] == [1]


async def test_a_person_asks_who_may_write(stage: Stage, given: Given, refused: Refused, as_referrer: Party) -> None:
    await given.secret()
    async with refused("member_role", "42501"):
        await stage.as_colleague(READERS, None, None)
    async with refused("actor_is_person", "42501"):
        await (await as_referrer.organization_token("secrets:write"))(READERS, None, None)
    async with refused("not_found", "P0002"):
        await stage.as_mentor(READERS, None, None)


async def test_what_strangers_call_a_key_puts_them_on_no_list(
    given: Given, as_referrer: Party, as_stranger: Party
) -> None:
    """They may write down that they were denied whatever they name."""
    await given.secret()
    subject = f"secret/{as_referrer.organization_id}/-/key"
    before = await as_referrer(READERS, None, None)
    await as_stranger("select shared.record_denial('secret.read', %s, 'x', null)", subject)
    assert await as_referrer(READERS, None, None) == before
