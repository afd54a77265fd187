"""With what each query of sql/queries is asked: by whom, and the values of its parameters as SQL expressions.

The ids are those of crowd.sql: number 80 is an agreement of north with south, effective, with a long timeline.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from tests.schema.stage import Actor, Stage


class Case(NamedTuple):
    """One way in which a query is asked."""

    query: str
    label: str
    by: str
    actor: Callable[[Stage], Awaitable[Actor]]
    arguments: dict[str, str]

    def __str__(self) -> str:
        """Name the test."""
        return " ".join(filter(None, [self.query, self.label, f"by {self.by}"]))


NORTH = "(select id from shared.organizations where slug = 'north')"
SOUTH = "(select id from shared.organizations where slug = 'south')"


def row(n: int) -> str:
    """Return the id of a row of the crowd by its number, as its function does."""
    return f"'{n:012x}70008000{0:012x}'::uuid"


def person(name: str) -> str:
    """Return the id of a person of the world."""
    return f"(select id from shared.users where email = '{name}@example.org')"


HALF = "sha256('the service''s half of the key that signs JWTs')"

# What most queries are given where a case says nothing else.
USUAL = {
    "limit": "20", "request_id": "'r'", "address": "null", "organization_id": NORTH, "environment_id": row(1),
    "project_id": row(1), "agreement_id": row(80), "referral_id": row(80), "key": "'key-7'",
    "before": "null", "after": "null", "after_price": "null", "status": "null", "region": "null", "deal_type": "null",
    "language": "null", "state": "null", "q": "null", "identifier": "null", "expected_version": "null",
    "restores": "null", "expires_at": "null", "max_versions": "null", "at": "null", "scopes": "'{agreements:read}'",
    "lifetime": "'1 hour'", "idle": "'1 hour'", "capacity": "10", "period": "'1 minute'", "role": "'agent'",
    "name": "'x'", "title": "'x'", "slug": "'a-new-one'", "type": "'PREVIEW'", "metadata": "'{}'", "action": "'x'",
    "subject": "'x'", "reason": "'x'", "route": "'x'", "request_digest": "sha256('x')", "response": "'x'::bytea",
    "purpose": "'to call'", "amount": "10", "currency": "'USD'", "fee_rate": "25", "protect_days": "90",
    "envelope_id": "'a new one'", "signed_at": "now()", "version": "null", "prefix": "''", "token_hint": "'abcd'",
    "digest": "sha256('new')", "device_digest": "sha256('new device')", "user_digest": "sha256('new code')",
    "token_digest": "sha256('new token')", "secret_digest": "sha256('new secret')", "secret_hint": "'abcd'",
    "public_digest": "sha256('new public')", "public_hint": "'abcd'", "grace": "'1 day'",
    "email": "'newcomer@example.org'", "full_name": "'x'", "salt": "decode(md5('x'), 'hex')",
    "method": "'$argon2id$v=19$m=8,t=1,p=1'", "stretched": "sha256('stretched')",
    "bucket": "'x'", "act": "'x'", "is_approved": "true", "one_time": "true", "half": HALF,
    "tickets": "'{}'", "seen_at": "'{}'", "ticket": "null", "held_ticket": "null",

    "api_identifier": "'api-new'", "payload": "'{}'", "occurred_at": "null", "corrects_seq": "null",
    "ciphertext": "sha256('a') || sha256('b')", "wrapped_key": "sha256('x')", "fein": "'12-3456789'",
    "price_min": "1", "price_max": "2", "property_type": "'flat'", "languages": "'{en}'", "sla_hours": "24",
    "candidate_user_id": person("rival"), "to_broker_id": SOUTH, "held_ids": "'{}'", "held_versions": "'{}'",
    "master_key_id": "'0123456789abcdef'", "issuer": "'https://id.example'", "verified_email": "null",
    "held": "null", "note": "'so'", "outcome": "'dismissed'",
}  # fmt: skip

CASES: list[Case] = []


def ask(query: str, by: str = "referrer", label: str = "", /, **arguments: str) -> None:
    """Add a case: a query asked by a person of the world."""

    async def actor(stage: Stage) -> Actor:
        found: Actor = getattr(stage, f"as_{by}")
        return found

    CASES.append(Case(query, label, by, actor, {**USUAL, **arguments}))


def program(query: str, /, **arguments: str) -> None:
    """Add a case: a query asked with the secret key of an environment of north."""

    async def actor(stage: Stage) -> Actor:
        return (await stage.given.keys())[0]

    CASES.append(Case(query, "", "a program", actor, {**USUAL, **arguments}))


def impersonator(query: str, /, **arguments: str) -> None:
    """Add a case: a query asked by a platform admin who acts as another."""

    async def actor(stage: Stage) -> Actor:
        return await stage.given.impersonator()

    CASES.append(Case(query, "", "an impersonator", actor, {**USUAL, **arguments}))


def writer(query: str, /, **arguments: str) -> None:
    """Add a case: a query asked by a writer who has reserved the number."""

    async def actor(stage: Stage) -> Actor:
        await stage.become("postgres")
        reserved = "update secretstore.secrets set reserved_in = pg_current_xact_id() where id = "
        await stage.run(reserved + arguments["secret_id"])
        return stage.as_referrer

    CASES.append(Case(query, "", "a writer", actor, {**USUAL, **arguments}))


def reader(query: str, /, **arguments: str) -> None:
    """Add a case: a query asked by a reader whose grants are new, however long the crowd took to come together."""

    async def actor(stage: Stage) -> Actor:
        await stage.become("postgres")
        await stage.run("set local session_replication_role to replica")
        await stage.run(f"update agreement.contact_reads set granted_at = shared.clock() where id = {arguments['id']}")
        await stage.run("set local session_replication_role to origin")
        return stage.as_referee

    CASES.append(Case(query, "", "a reader", actor, {**USUAL, **arguments}))


def pages(
    query: str, position: str = "after", /, *, at: str = row(120), by: str = "referrer", **arguments: str
) -> None:
    """Add the first page of a list and one amid it."""
    ask(query, by, "first page", **arguments)
    ask(query, by, "a page amid", **{**arguments, position: at})


# shared
ask("shared.whoami")
ask("shared.me")
ask("shared.create_invitation")
pages("shared.list_invitations", "before", at=row(30))
ask("shared.revoke_invitation", id=row(3))
pages("shared.list_received_invitations", "before", by="newcomer")
ask("shared.answer_invitation", "newcomer", id=row(3), state="'accepted'")
ask("shared.create_external_account", identifier="'a new one'")
pages("shared.list_external_accounts", at=row(10))
ask("shared.list_external_accounts", "referrer", "one", identifier="'account-7'")
ask("shared.get_external_account", id=row(7))
ask("shared.change_external_account", id=row(7))
ask("shared.delete_external_account", id=row(7))
ask("shared.get_own_environment", id=row(1))
ask("shared.list_axioms")
ask("shared.list_enforcing_objects")
ask("shared.create_organization")
pages("shared.list_organizations", at=NORTH)
ask("shared.get_organization", id=NORTH)
ask("shared.create_project")
pages("shared.list_projects", at=row(10))
ask("shared.get_project", id=row(7))
ask("shared.get_environment", id=row(7))
ask("shared.get_environment_of_project", id=row(7))
pages("shared.list_environments", at=row(10))
ask("shared.become_auditor", "postgres")
ask("shared.record_oracle_results", "nobody", results="'[]'")
ask("shared.find_response", key="'key-77'", route="'POST /api/agreements'")
ask("shared.store_response", key="'new'", status="201")
ask("shared.add_member")
pages("shared.list_members", at="md5('user5')::uuid")
ask("shared.change_member", user_id=person("colleague"), role="'viewer'")
ask("shared.remove_member", user_id=person("colleague"))
ask("shared.create_branch", name="'a-new-one'")
pages("shared.list_branches", at=row(10))
ask("shared.archive_branch", id=row(7))
ask("shared.record_denial")

# secretstore
ask("secretstore.reserve_version")
writer(
    "secretstore.put_version", secret_id=row(7), version="2",
    ciphertext="sha256('x')", wrapped_key="substring(sha256('x') || sha256('y') from 4)",
)  # fmt: skip
ask("secretstore.delete_secret")
ask("secretstore.undelete_secret", key="'key-8'")
ask("secretstore.destroy_version", version="1")
ask("secretstore.grant_reads", keys="'{key-7,key-8}'", request_ids="'{r,r}'", addresses='\'{"",""}\'')
ask("secretstore.take_reads", number="sha256('no grant')")
pages("secretstore.list_secrets", at="'key-20'")
ask("secretstore.list_secrets", "referrer", "a prefix", prefix="'key-9'")
ask("secretstore.count_secrets")
pages("secretstore.list_versions", "before", at="5")
ask("secretstore.record_secret_denials", keys="'{key-7,key-8}'")
ask("secretstore.list_readers", after="'00000000-0000-0000-0000-000000000000'")
ask(
    "secretstore.list_wrapped_keys", "nobody",
    master_key_id="'fedcba9876543210'", after_secret_id=row(10), after_version="1",
)  # fmt: skip
ask(
    "secretstore.rewrap_keys", "nobody", master_key_id="'fedcba9876543210'",
    secret_ids=f"array[{row(7)}]", versions="'{1}'", wrapped_keys="array[substring(sha256('x') || sha256('y') from 4)]",
    rewrapped_keys="array[substring(sha256('x') || sha256('z') from 4)]",
)  # fmt: skip

ask("secretstore.admit_master_keys", "nobody", ids="'{0123456789abcdef}'", proofs="array[sha256('proof')]")
ask("secretstore.keep_master_key", "nobody", id="'0123456789abcdef'", proof="sha256('proof')")

# apiauth
ask("apiauth.take_attempt", "nobody")
ask("apiauth.take_attempt_on", "nobody", account="'nobody@example.org'")
ask("apiauth.take_own_attempt")
ask("apiauth.find_stretching", "nobody", email="'user-7@example.net'")
ask("apiauth.find_stretching", "nobody", "unknown", email="'nobody@example.net'")
ask("apiauth.restretch_password", "nobody", email="'user-7@example.net'", key="sha256('password7')")
ask("apiauth.register", "nobody", email="'new@example.org'", key="sha256('new')")
ask("apiauth.request_device", "nobody", "", lifetime="'90 days'")
ask("apiauth.find_device", user_digest="sha256('code7')")
ask("apiauth.decide_device", user_digest="sha256('code7')")
ask("apiauth.redeem_device", "nobody", device_digest="sha256('device7')")
program(
    "apiauth.mint_jwt",
    scopes="'{}'",
    environment_id="(select environment_id from apiauth.environment_keys order by created_at desc limit 1)",
)
ask("apiauth.trust_key_halves", "nobody", halves=f"array[sha256('new'), {HALF}]")
ask("apiauth.keep_key_halves", "nobody", halves=f"array[{HALF}]")
ask("apiauth.trust_esign_keys", "nobody", digests="array[sha256('new'), sha256('the signing service''s secret')]")
ask(
    "apiauth.open_session", "nobody", email="'user-7@example.net'", key="'password7'", lifetime="'1 day'",
)  # fmt: skip
ask("apiauth.close_session")
pages("apiauth.list_sessions")
ask("apiauth.exchange_session", "nobody", digest="'session7'::bytea")
ask("apiauth.start_impersonation", "judge", user_id=person("rival"))
impersonator("apiauth.stop_impersonation")
ask("apiauth.revoke_sessions", id="null")
ask("apiauth.create_personal_token")
pages("apiauth.list_personal_tokens", at="gen_random_uuid()")
ask("apiauth.revoke_personal_token", id="gen_random_uuid()")
ask("apiauth.revoke_own_token")
ask(
    "apiauth.open_identity_session", "nobody", subject="'subject-7'", lifetime="'1 day'",
)  # fmt: skip
ask("apiauth.create_organization_token")
pages("apiauth.list_organization_tokens", at="gen_random_uuid()")
ask("apiauth.revoke_organization_token", id="gen_random_uuid()")
ask("apiauth.create_environment", project_id=row(7), slug="'new'")
ask("apiauth.get_environment_type", id=row(7))
ask("apiauth.issue_environment_keys", environment_id=row(7))

# vote
ask("vote.cast_vote")
ask("vote.withdraw_vote")
pages("vote.list_tallies", at="'api-3'")

# agreement
ask("agreement.issue_invoice")
pages("agreement.list_invoices")
ask("agreement.settle_invoice", id=row(80), status="'paid'")
ask("agreement.create_referral", id="gen_random_uuid()", region="'{Taipei}'", deal_type="'sale'")
ask("agreement.get_referral", id=row(80))
for order in ("newest", "oldest"):
    pages(f"agreement.list_referrals_{order}_first")
    pages(f"agreement.list_referrals_{order}_first", by="referee")
for order in ("cheapest", "dearest"):
    pages(f"agreement.list_referrals_{order}_first", at=row(120), after_price="120")
    pages(f"agreement.list_referrals_{order}_first", at=row(120), after_price="120", by="referee")
for order in ("newest", "oldest", "cheapest", "dearest"):
    ask(f"agreement.list_referrals_{order}_first", "referrer", "filtered", status="'cancelled'")
    ask(f"agreement.list_referrals_{order}_first", "referrer", "filtered", region="'Nowhere'")
ask("agreement.cancel_referral", id=row(84))
ask("agreement.rank_candidates", referral_id=row(84))
ask("agreement.append_event", type="'OFFER_MADE'")
pages("agreement.list_timeline", at="50")
for by in ("referrer", "referee"):
    pages("agreement.list_events", by=by)
    pages("agreement.list_agreements", by=by)
    pages("agreement.list_disputes", by=by)
    pages("agreement.list_invitations", by=by)
ask("agreement.list_agreements", "referee", "", status="'void'")
ask("agreement.list_agreements", "referrer", "filtered", status="'void'")
ask("agreement.list_invitations", "referee", "", state="'declined'")
ask("agreement.list_invitations", "referrer", "filtered", state="'declined'")
pages("agreement.list_disputes", by="judge")
ask("agreement.current_position")
ask("agreement.list_chain", agreement_id=row(84))
ask("agreement.seal_contact")
ask("agreement.shred_contact")
ask("agreement.grant_contact_read", "referee")
reader("agreement.consume_contact_read", id=row(80))
pages("agreement.list_contact_reads")
ask("agreement.list_wrapped_contacts", "nobody", after=row(10))
ask(
    "agreement.rewrap_contacts", "nobody", referral_ids=f"array[{row(80)}]",
    wrapped_keys="array[sha256('key')]", rewrapped_keys="array[sha256('another')]",
)  # fmt: skip
ask("agreement.register_broker", name="'North'")
ask("agreement.get_broker", id=SOUTH)
pages("agreement.list_brokers", at="md5('organization5')::uuid")
ask("agreement.list_brokers", "referrer", "filtered", q="'broker 7'")
ask("agreement.list_brokers", "referrer", "filtered", q="'nobody'")
ask("agreement.draft_agreement", referral_id=row(84))
ask("agreement.get_agreement", "referee", id=row(80))
ask("agreement.change_agreement", id=row(84), status="'pending_signature'")
ask("agreement.complete_signature", "esign", agreement_id=row(88))
ask("agreement.invite_candidate", referral_id=row(84))
pages("agreement.list_matches")
ask("agreement.answer_match", "referee", "", referral_id=row(4), id=row(4), state="'accepted'")
ask("agreement.open_dispute", "referee", agreement_id=row(60))
ask("agreement.resolve_dispute", "judge", id="(select id from agreement.disputes where agreement_id = " + row(76) + ")")
