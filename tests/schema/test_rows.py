"""What a row must hold, whoever writes it: no null that says nothing, no id of nobody, no key twice, no excess."""

from collections.abc import Awaitable

import psycopg
from psycopg.errors import CheckViolation, ForeignKeyViolation, NotNullViolation, UniqueViolation

from app.errors import proposition_of
from tests.schema.stage import Given, Rows, Stage, keeps, user_code
from tests.schema.test_a09_tenants import SCHEMAS, TABLES, populate
from tests.schema.test_a10_device_codes import APPROVE, take

# Where a null says something: not yet, never, nobody, or none. Everywhere else it is refused.
NULLABLE = {
    "shared.audit_log": "credential_kind credential_id user_id organization_id environment_id branch_id "
    "impersonator_id reason request_id",
    "shared.preview_branches": "archived_at",
    "shared.memberships": "accepted_at",
    "shared.invitations": "invited_by settled_at",
    "shared.idempotency_keys": "user_id environment_id organization_id",
    "apiauth.sessions": "revoked_at impersonation_id",
    "apiauth.impersonations": "stopped_at",
    "apiauth.personal_tokens": "last_used_at revoked_at",
    "apiauth.organization_tokens": "expires_at last_used_at revoked_at",
    "apiauth.environment_keys": "rotated_at expires_at last_used_at",
    "apiauth.device_codes": "address polled_at user_id is_approved decided_at token_id redeemed_at",
    "apiauth.esign_keys": "revoked_at",
    "secretstore.secrets": "environment_id max_versions expires_at deleted_at",
    "secretstore.secret_versions": "wrapped_key restores expires_at credential_id created_by destroyed_at",
    "agreement.referrals": "cancel_reason",
    "agreement.matches": "responded_at",
    "agreement.agreements": "match_id envelope_id signed_at effective_at",
    "agreement.timeline_events": "credential_id user_id organization_id impersonator_id corrects_seq",
    "agreement.contact_reads": "consumed_at",
    "agreement.contacts": "wrapped_key shredded_at",
    "agreement.disputes": "outcome note resolved_by resolved_at",
    "agreement.invoices": "settled_at",
}
# Ids that refer to nothing: a row's own, and those that a trace or a chain keeps when what they name is gone.
OWN = {"id", "jti", "scope_id", "actor_id"}
KEPT = {
    "shared.audit_log": "credential_id user_id organization_id environment_id branch_id impersonator_id",
    "apiauth.impersonations": "admin_id user_id",
    "apiauth.ended_tickets": "session_id",
    "shared.outbox": "event_id",
    "secretstore.secret_versions": "credential_id created_by",
    "agreement.timeline_events": "credential_id user_id organization_id impersonator_id from_broker_id to_broker_id",
}
# What there is once of each. Partial keys have tests of their own.
KEYS = {
    "shared.axioms": {"axioms_pkey": "id"},
    "shared.oracle_results": {"oracle_results_pkey": "oracle"},
    "shared.users": {"users_pkey": "id", "users_email_in_any_case": "email"},
    "shared.organizations": {"organizations_pkey": "id", "organizations_slug_key": "slug"},
    "shared.memberships": {"memberships_pkey": "organization_id user_id"},
    "shared.projects": {"projects_pkey": "id", "projects_slug_once_an_organization": "organization_id slug"},
    "shared.environments": {"environments_pkey": "id", "environments_slug_once_a_project": "project_id slug"},
    "shared.preview_branches": {"preview_branches_pkey": "id"},
    "shared.invitations": {"invitations_pkey": "id"},
    "shared.external_accounts": {
        "external_accounts_pkey": "id", "external_accounts_identifier_once_an_environment": "environment_id identifier",
    },
    "shared.platform_admins": {"platform_admins_pkey": "user_id"},
    "shared.outbox": {"outbox_one_message_per_event": "event_id"},
    "shared.audit_log": {"audit_log_pkey": "id"},
    "apiauth.seal_keys": {"seal_keys_pkey": "id"},
    "apiauth.root_keys": {"root_keys_pkey": "id"},
    "apiauth.passwords": {"passwords_pkey": "user_id"},
    "apiauth.identities": {
        "identities_pkey": "id", "identities_of_one_user": "issuer subject",
        "identities_one_a_user_an_issuer": "user_id issuer",
    },
    "apiauth.sessions": {"sessions_pkey": "id", "sessions_digest_key": "digest"},
    "apiauth.personal_tokens": {"personal_tokens_pkey": "id", "personal_tokens_digest_key": "digest"},
    "apiauth.organization_tokens": {"organization_tokens_pkey": "id", "organization_tokens_digest_key": "digest"},
    "apiauth.environment_keys": {"environment_keys_pkey": "id", "environment_keys_digest_key": "digest"},
    "apiauth.impersonations": {"impersonations_pkey": "id"},
    "apiauth.ended_tickets": {"ended_tickets_pkey": "session_id"},
    "apiauth.device_codes": {
        "device_codes_pkey": "id", "device_codes_device_digest_key": "device_digest",
        "device_codes_user_digest_key": "user_digest",
    },
    "apiauth.used_jwts": {"used_jwts_pkey": "jti"},
    "apiauth.rate_buckets": {"rate_buckets_pkey": "key"},
    "apiauth.esign_keys": {"esign_keys_pkey": "digest"},
    "apiauth.key_halves": {"key_halves_pkey": "digest"},
    "secretstore.secrets": {"secrets_pkey": "id", "secrets_one_per_key": "organization_id environment_id key"},
    "secretstore.secret_versions": {"secret_versions_gapless": "secret_id version"},
    "secretstore.read_grants": {"read_grants_pkey": "digest"},
    "secretstore.master_keys": {"master_keys_pkey": "id"},
    "agreement.brokers": {"brokers_pkey": "id"},
    "agreement.broker_registrations": {"broker_registrations_pkey": "broker_id"},
    "agreement.referrals": {"referrals_pkey": "id"},
    "agreement.matches": {
        "matches_pkey": "id", "matches_one_invitation_per_candidate": "referral_id candidate_user_id",
    },
    "agreement.transitions": {"transitions_pkey": "from_status to_status"},
    "agreement.referral_transitions": {"referral_transitions_pkey": "from_status to_status"},
    "agreement.timeline_heads": {"timeline_heads_pkey": "agreement_id"},
    "agreement.timeline_events": {"timeline_events_gapless": "agreement_id seq"},
    "agreement.contact_reads": {"contact_reads_pkey": "id"},
    "agreement.contacts": {"contacts_pkey": "referral_id"},
    "agreement.disputes": {"disputes_pkey": "id"},
    "agreement.invoices": {"invoices_pkey": "id"},
    "vote.votes": {"votes_one_a_user_an_api": "user_id api_identifier"},
}  # fmt: skip
# What each value is bounded by, and a value beyond.
BOUNDS = [
    ("shared.users", "email = 'x'", "users_email_is_an_address"),
    ("shared.users", "full_name = ' '", "users_full_name_is_present"),
    ("shared.organizations", "slug = 'A'", "organizations_slug_is_lowercase_letters_digits_and_hyphens"),
    ("shared.organizations", "title = ' '", "organizations_title_is_present"),
    ("shared.projects", "name = ' '", "projects_name_is_present"),
    ("shared.projects", "slug = 'a-'", "projects_slug_is_lowercase_letters_digits_and_hyphens"),
    ("shared.environments", "slug = '-a'", "environments_slug_is_lowercase_letters_digits_and_hyphens"),
    ("shared.audit_log", "outcome = 'denied', reason = null", "audit_log_denial_has_a_reason"),
    ("shared.audit_log", "outcome = 'lost'", "audit_log_outcome_is_known"),
    ("shared.axioms", "id = 'B1'", "axioms_id_is_numbered"),
    ("shared.oracle_results", "oracle = 'X'", "oracle_results_oracle_is_numbered"),
    ("shared.oracle_results", "seconds = -1", "oracle_results_seconds_have_passed"),
    ("shared.oracle_results", "violations = -1", "oracle_results_violations_are_counted"),
    ("shared.invitations", "settled_at = now()", "invitations_settled_unless_open"),
    ("apiauth.impersonations", "user_id = admin_id", "impersonations_user_id_is_of_another"),
    ("apiauth.impersonations", "reason = ' '", "impersonations_reason_is_present"),
    ("apiauth.impersonations", "ends_at = started_at", "impersonations_last_an_hour_at_most"),
    ("apiauth.seal_keys", "inner_block = '\\x00'", "seal_keys_blocks_are_64_bytes"),
    ("apiauth.passwords", "salt = '\\x00'", "passwords_salt_is_16_bytes"),
    ("apiauth.passwords", "method = '$argon2i$v=19$m=65536,t=3,p=1'", "passwords_method_is_argon2id"),
    ("apiauth.passwords", "method = '$argon2id$v=19$m=65536,t=0,p=1'", "passwords_method_is_argon2id"),
    ("apiauth.personal_tokens", "name = ' '", "personal_tokens_name_is_present"),
    ("apiauth.personal_tokens", "token_hint = 'abc'", "personal_tokens_hint_is_four_characters"),
    ("apiauth.organization_tokens", "name = ' '", "organization_tokens_name_is_present"),
    ("apiauth.organization_tokens", "token_hint = 'abc-'", "organization_tokens_hint_is_four_characters"),
    ("apiauth.organization_tokens", "scopes = '{}'", "organization_tokens_scopes_are_known"),
    ("apiauth.organization_tokens", "expires_at = created_at", "organization_tokens_expire_later"),
    ("apiauth.environment_keys", "token_hint = 'abcde'", "environment_keys_hint_is_four_characters"),
    ("apiauth.environment_keys", "kind = 'session'", "environment_keys_secret_or_public"),
    ("apiauth.environment_keys", "rotated_at = now(), expires_at = null", "environment_keys_end_when_rotated"),
    (
        "apiauth.device_codes",
        "user_id = gen_random_uuid(), is_approved = null, decided_at = null",
        "device_codes_decided_by_a_user_in_time",
    ),
    ("apiauth.device_codes", "poll_interval = '1 second'", "device_codes_poll_interval_is_bounded"),
    ("apiauth.used_jwts", "used_by = '\\x00'", "used_jwts_used_by_is_16_bytes"),
    ("apiauth.rate_buckets", "level = -1", "rate_buckets_never_overdrawn"),
    ("secretstore.secrets", "max_versions = 0", "secrets_max_versions_is_positive"),
    ("secretstore.secrets", "version = -1", "secrets_version_is_counted"),
    ("secretstore.secret_versions", "master_key_id = 'x'", "secret_versions_master_key_is_named"),
    ("secretstore.secret_versions", "wrapped_key = '\\x00'", "secret_versions_wrapped_key_is_sealed"),
    ("secretstore.master_keys", "id = 'x'", "master_keys_id_is_named"),
    ("secretstore.master_keys", "digest = '\\x00'", "master_keys_stored_as_digest"),
    ("agreement.brokers", "name = ' '", "brokers_name_is_present"),
    ("agreement.broker_registrations", "fein = '1'", "broker_registrations_fein_is_well_formed"),
    ("agreement.referrals", "region = '{}'", "referrals_region_is_named"),
    ("agreement.referrals", "region = '{{a,b},{c,d}}'", "referrals_region_is_named"),
    ("agreement.referrals", "region = '[2:2]={a}'", "referrals_region_is_named"),
    ("agreement.referrals", "region = '{a,null}'", "referrals_region_is_named"),
    ("agreement.referrals", "price_min = -1", "referrals_price_min_is_at_most_price_max"),
    ("agreement.referrals", "property_type = ' '", "referrals_property_type_is_a_label"),
    ("agreement.referrals", "deal_type = ' '", "referrals_deal_type_is_a_label"),
    ("agreement.referrals", "languages = '{\" \"}'", "referrals_languages_are_labels"),
    ("agreement.referrals", "sla_hours = 0", "referrals_sla_hours_is_reasonable"),
    ("agreement.referrals", "status = 'cancelled', cancel_reason = ' '", "referrals_cancel_reason_is_present"),
    ("agreement.referrals", "status = 'cancelled', cancel_reason = null", "referrals_cancelled_with_a_reason"),
    ("agreement.matches", "responded_at = null", "matches_answer_is_dated"),
    ("agreement.matches", "candidate_broker_id = broker_id", "matches_candidate_of_another_broker"),
    ("agreement.agreements", "envelope_id = ' '", "agreements_envelope_id_is_present"),
    ("agreement.agreements", "envelope_id = null", "agreements_signature_is_whole"),
    ("agreement.agreements", "protect_days = -1", "agreements_protect_days_is_reasonable"),
    ("agreement.timeline_heads", "hash = '\\x00'", "timeline_heads_hash_is_sha256"),
    ("agreement.timeline_events", "payload = '[]'", "timeline_events_payload_is_an_object"),
    ("agreement.contact_reads", "purpose = ' '", "contact_reads_purpose_is_present"),
    (
        "agreement.contact_reads",
        "consumed_at = granted_at - interval '1 second'",
        "contact_reads_consumed_after_grant",
    ),
    ("agreement.contacts", "ciphertext = '\\x00'", "contacts_ciphertext_is_sealed"),
    ("agreement.disputes", "reason = ' '", "disputes_reason_is_present"),
    ("agreement.disputes", "note = repeat('x', 4001)", "disputes_note_is_bounded"),
    ("agreement.invoices", "settled_at = now()", "invoices_settled_is_dated"),
]


async def columns(stage: Stage, condition: str) -> list[tuple[str, str]]:
    """Return the columns of our tables that are not generated and meet a condition."""
    rows = await stage.as_postgres(
        "select c.oid::regclass::text, a.attname::text from pg_attribute as a join pg_class as c on c.oid = a.attrelid "
        f"where c.relkind in ('r', 'p') and c.relnamespace::regnamespace::text in {SCHEMAS} "
        f"and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' and {condition} order by 1, a.attnum"
    )
    return [(table, column) for table, column in rows]


async def is_refused(stage: Stage, statement: Awaitable[Rows], error: type[psycopg.Error], name: str) -> bool:
    """Say whether a statement is refused as it should be, by this constraint or for this column; undo it if not."""
    try:
        async with stage.connection.transaction(force_rollback=True):
            await statement
    except error as refusal:
        return name in {proposition_of(refusal.diag.constraint_name), refusal.diag.column_name, ""}
    return False


@keeps("not null")
async def test_a_null_is_refused_where_it_says_nothing(given: Given, stage: Stage) -> None:
    await populate(given)
    assert [
        (table, column)
        for table, column in await columns(stage, "true")
        if column not in NULLABLE.get(table, "").split()
        and not await is_refused(stage, stage.unbound(f"update {table} set {column} = null"), NotNullViolation, column)
    ] == []


async def leave_more(given: Given) -> None:
    """Leave rows in which ids stand that are mostly null."""
    await given.judged(await given.dispute(await given.agreement("effective")), "upheld")
    referrer = given.stage.party("referrer")
    await given.device("taken")
    await referrer(APPROVE, user_code("taken"))
    await take(given.stage.as_nobody, "taken")
    secret, _ = await given.keys()
    for program, column, its in (
        (secret, "environment_id", "shared.current_environment_id()"),
        (await referrer.organization_token("agreements:read"), "organization_id", "shared.current_organization_id()"),
    ):
        await program(
            f"insert into shared.idempotency_keys ({column}, key, route, request_digest, status, response) "
            f"values ({its}, 'another', 'r', sha256('x'), 200, '')"
        )


@keeps("constraint")
async def test_an_id_is_somebodys(given: Given, stage: Stage) -> None:
    """Of every row: a null or another key beside it may keep one from being looked at."""
    await populate(given)
    await leave_more(given)
    await stage.become("postgres")
    await stage.run("set constraints all immediate")
    # Neither our triggers nor those by which a row keeps the ids that others know it by.
    for table, trigger in await stage.run(
        f"select tgrelid::regclass::text, tgname::text from pg_trigger where tgrelid::regclass::text in ({TABLES}) "
        "and (not tgisinternal or tgname like 'RI_ConstraintTrigger_a%')"
    ):
        await stage.run(f'alter table {table} disable trigger "{trigger}"')
    ids = [
        (table, column)
        for table, column in await columns(stage, "a.atttypid = 'uuid'::regtype")
        if column not in OWN and column not in KEPT.get(table, "").split()
    ]
    free = []
    for table, column in [*ids, ("agreement.brokers", "id")]:
        for (row,) in await stage.run(f"select ctid::text from {table} where {column} is not null"):
            change = f"update {table} set {column} = gen_random_uuid() where ctid = '{row}'"
            if not await is_refused(stage, stage.run(change), ForeignKeyViolation, ""):
                free.append((table, column, row))
    assert free == []


@keeps("constraint")
async def test_a_key_is_there_once(given: Given, stage: Stage) -> None:
    await populate(given)
    twice = []
    for table, keys in KEYS.items():
        its = await stage.as_postgres(
            "select attname::text, format_type(atttypid, null) from pg_attribute "
            "where attrelid = %s::regclass and attnum > 0 and not attisdropped and attgenerated = ''",
            table,
        )
        for key in keys:
            others = {column for other in keys if other != key for column in keys[other].split()} - {*keys[key].split()}
            values = [fresh(*column) if column[0] in others else column[0] for column in its]
            copy = (
                f"insert into {table} ({', '.join(column for column, _ in its)}) overriding system value "
                f"select {', '.join(values)} from {table} limit 1"
            )
            if not await is_refused(stage, stage.unbound(copy), UniqueViolation, key):
                twice.append(key)
    assert twice == []


def fresh(column: str, type_: str) -> str:
    """Write a value of a column that no row has."""
    text = "'x' || substr(md5(random()::text), 1, 20)"
    return {
        "email": f"{text} || '@example.org'",
        "issuer": f"'https://id.example/' || {text}",
        "uuid": "gen_random_uuid()",
        "bytea": "sha256(uuid_send(gen_random_uuid()))",
        "text": text,
    }.get(column if column in {"email", "issuer"} else type_, f"{column} + 1000")


@keeps("constraint")
async def test_a_value_is_within_its_bounds(given: Given, stage: Stage) -> None:
    await populate(given)
    assert [
        bound
        for table, change, bound in BOUNDS
        if not await is_refused(stage, stage.unbound(f"update {table} set {change}"), CheckViolation, bound)
    ] == []
