-- Credentials, all owned by the guard. What is stored is the digest of what an entrance takes, which is itself a
-- digest of what its bearer holds: neither a dump nor a log replays.
-- depends: 0145_shared_external_accounts

set local role brokerflow_guard;

create table apiauth.passwords (
    user_id uuid primary key references shared.users (id) on delete cascade,
    salt bytea not null,
    method text not null,
    key_digest bytea not null,
    changed_at timestamptz not null default shared.clock(),
    constraint passwords_salt_is_16_bytes check (octet_length(salt) = 16),
    constraint passwords_method_is_argon2id check (method ~ '^[$]argon2id[$]v=19[$]m=[1-9][0-9]{0,7},t=[1-9][0-9]{0,3},p=1$'),
    constraint passwords_stored_as_digest check (octet_length(key_digest) = 32)
);

-- Serves the methods of those who have no password: each has his next neighbour's.
create index passwords_salt_idx on apiauth.passwords (salt);

comment on table apiauth.passwords is 'The service stretches a password with argon2id over the salt; this is the SHA-256 of the outcome.';
comment on column apiauth.passwords.method is 'How it was stretched, as PHC strings say it, so that what stretching costs may rise and nobody is locked out.';
comment on constraint passwords_stored_as_digest on apiauth.passwords is
    'Axiom A10: no credential at rest can be replayed. A password is stored as the digest of its argon2id key.';

-- One key for good, from which others are derived, each for a purpose of its own: the salt of an address without an
-- account, which is always the same like a real one, and this database's half of the keys that sign JWTs.
create table apiauth.root_keys (
    id smallint primary key default 1,
    key bytea not null,
    constraint root_keys_only_one check (id = 1)
);

comment on table apiauth.root_keys is 'The key from which others are derived. Alone it opens nothing.';

insert into apiauth.root_keys (key) values (apiauth.random_key());

-- No foreign keys: as in the audit log, what was done outlives both.
create table apiauth.impersonations (
    id uuid primary key default shared.uuidv7(),
    admin_id uuid not null,
    user_id uuid not null,
    reason text not null,
    started_at timestamptz not null default shared.clock(),
    ends_at timestamptz not null,
    stopped_at timestamptz,
    constraint impersonations_user_id_is_of_another check (user_id <> admin_id),
    constraint impersonations_reason_is_present check (reason ~ '\S' and length(reason) <= 500),
    constraint impersonations_last_an_hour_at_most check (ends_at > started_at and ends_at <= started_at + interval '1 hour')
);

-- Serves their stop.
create index impersonations_admin_id_idx on apiauth.impersonations (admin_id) where stopped_at is null;

comment on table apiauth.impersonations is 'Platform admins who act as users: why, and how long at most.';
comment on constraint impersonations_last_an_hour_at_most on apiauth.impersonations is
    'Axiom A10: expired never authenticates. Nobody acts as another for longer than an hour without saying why anew.';

create table apiauth.sessions (
    id uuid primary key default shared.uuidv7(),
    user_id uuid not null references shared.users (id) on delete cascade,
    impersonation_id uuid references apiauth.impersonations (id) on delete restrict,
    digest bytea not null,
    idle interval not null,
    created_at timestamptz not null default shared.clock(),
    last_seen_at timestamptz not null default shared.clock(),
    expires_at timestamptz not null,
    revoked_at timestamptz,
    constraint sessions_digest_key unique (digest),
    constraint sessions_stored_as_digest check (octet_length(digest) = 32),
    constraint sessions_idle_is_bounded check (idle between '1 second' and '30 days'),
    constraint sessions_end_within_30_days check (expires_at > created_at and expires_at <= created_at + interval '30 days')
);

-- Serve the foreign keys; the first also all sessions of a user.
create index sessions_user_id_idx on apiauth.sessions (user_id);
create index sessions_impersonation_id_idx on apiauth.sessions (impersonation_id) where impersonation_id is not null;

comment on table apiauth.sessions is 'Logins. A session ends when idle for too long, at expires_at, or when revoked, whichever comes first.';
comment on constraint sessions_stored_as_digest on apiauth.sessions is
    'Axiom A10: no credential at rest can be replayed. A session is stored as the digest of its token''s digest.';
comment on constraint sessions_end_within_30_days on apiauth.sessions is
    'Axiom A10: expired never authenticates. Each session has an end that no activity moves.';

-- A user's, not a session's: it also binds sessions that are not kept in this database.
create table apiauth.logouts (
    user_id uuid primary key references shared.users (id) on delete cascade,
    ended_before timestamptz not null
);

comment on table apiauth.logouts is 'Who was logged out everywhere. What was opened until then is over, wherever it is kept.';

create table apiauth.personal_tokens (
    id uuid primary key default shared.uuidv7(),
    user_id uuid not null references shared.users (id) on delete cascade,
    name text not null,
    digest bytea not null,
    token_hint text not null,
    scopes text[] not null,
    created_at timestamptz not null default shared.clock(),
    expires_at timestamptz not null,
    last_used_at timestamptz,
    revoked_at timestamptz,
    constraint personal_tokens_digest_key unique (digest),
    constraint personal_tokens_stored_as_digest check (octet_length(digest) = 32),
    constraint personal_tokens_name_is_present check (name ~ '\S' and length(name) <= 100),
    constraint personal_tokens_hint_is_four_characters check (token_hint ~ '^[0-9A-Za-z]{4}$'),
    constraint personal_tokens_scopes_are_known check (cardinality(scopes) > 0 and shared.are_known_scopes(scopes)),
    constraint personal_tokens_end_within_a_year check (expires_at > created_at and expires_at <= created_at + interval '365 days')
);

-- Serves the foreign key, and the list of a user's tokens, newest first.
create index personal_tokens_user_id_idx on apiauth.personal_tokens (user_id, id);

comment on table apiauth.personal_tokens is 'Access tokens that a user made for himself.';
comment on constraint personal_tokens_stored_as_digest on apiauth.personal_tokens is
    'Axiom A10: no credential at rest can be replayed. A token is stored as the digest of its digest.';
comment on constraint personal_tokens_end_within_a_year on apiauth.personal_tokens is
    'Axiom A10: expired never authenticates. Each token has an end, at most 365 days ahead.';

create table apiauth.organization_tokens (
    id uuid primary key default shared.uuidv7(),
    organization_id uuid not null references shared.organizations (id) on delete cascade,
    name text not null,
    digest bytea not null,
    token_hint text not null,
    scopes text[] not null,
    created_at timestamptz not null default shared.clock(),
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    constraint organization_tokens_digest_key unique (digest),
    constraint organization_tokens_stored_as_digest check (octet_length(digest) = 32),
    constraint organization_tokens_name_is_present check (name ~ '\S' and length(name) <= 100),
    constraint organization_tokens_hint_is_four_characters check (token_hint ~ '^[0-9A-Za-z]{4}$'),
    constraint organization_tokens_scopes_are_known check (cardinality(scopes) > 0 and shared.are_known_scopes(scopes)),
    constraint organization_tokens_scopes_record_no_person check (not shared.are_personal(scopes)),
    constraint organization_tokens_expire_later check (expires_at > created_at)
);

-- Serves the foreign key, and the list of an organization's tokens, newest first.
create index organization_tokens_organization_id_idx on apiauth.organization_tokens (organization_id, id);

comment on table apiauth.organization_tokens is 'Access tokens of an organization: they outlive whoever made them, and act in nobody''s name. Who that was is in the audit log.';
comment on constraint organization_tokens_stored_as_digest on apiauth.organization_tokens is
    'Axiom A10: no credential at rest can be replayed. A token is stored as the digest of its digest.';
comment on constraint organization_tokens_scopes_record_no_person on apiauth.organization_tokens is
    'Axiom A9: who asks is proved. What records a person is done by one, so an organization''s token has no scope for it.';

-- A row a key, not a pair of columns: while a rotation's grace lasts, there are two of each kind.
create table apiauth.environment_keys (
    id uuid primary key default shared.uuidv7(),
    organization_id uuid not null,
    environment_id uuid not null,
    kind shared.credential_kind not null,
    digest bytea not null,
    token_hint text not null,
    created_at timestamptz not null default shared.clock(),
    rotated_at timestamptz,
    expires_at timestamptz,
    last_used_at timestamptz,
    constraint environment_keys_environment_id_fkey foreign key (environment_id, organization_id)
        references shared.environments (id, organization_id) on delete cascade,
    constraint environment_keys_digest_key unique (digest),
    constraint environment_keys_secret_or_public check (kind in ('secret_key', 'public_key')),
    constraint environment_keys_stored_as_digest check (octet_length(digest) = 32),
    constraint environment_keys_hint_is_four_characters check (token_hint ~ '^[0-9A-Za-z]{4}$'),
    constraint environment_keys_end_when_rotated check ((rotated_at is null) = (expires_at is null)),
    constraint environment_keys_grace_is_bounded check (expires_at between rotated_at and rotated_at + interval '7 days')
);

-- Serves the rotation as well.
create unique index environment_keys_one_current on apiauth.environment_keys (environment_id, kind) where expires_at is null;

-- Serves the foreign key.
create index environment_keys_environment_id_idx on apiauth.environment_keys (environment_id, organization_id);

comment on table apiauth.environment_keys is 'Keys of environments. A secret key is its environment; a public key is in everybody''s hands and proves next to nothing.';
comment on constraint environment_keys_stored_as_digest on apiauth.environment_keys is
    'Axiom A10: no credential at rest can be replayed. A key is stored as the digest of its digest.';
comment on constraint environment_keys_grace_is_bounded on apiauth.environment_keys is
    'Axiom A10: expired never authenticates. A key that was rotated ends, at most seven days later.';

-- A JWT that may be used once is no row until it is; its row lives as long as it could have.
create table apiauth.used_jwts (
    jti uuid primary key,
    used_by bytea not null,
    expires_at timestamptz not null,
    constraint used_jwts_used_by_is_16_bytes check (octet_length(used_by) = 16)
);

-- Serves their removal.
create index used_jwts_expires_at_idx on apiauth.used_jwts (expires_at);

comment on table apiauth.used_jwts is 'One-time JWTs that were used, and by which request: its transactions are one use.';
comment on constraint used_jwts_pkey on apiauth.used_jwts is
    'Axiom A10: no credential is replayed. Of all requests that bring a one-time JWT at once, one has the row.';

-- Unlogged: written at every login, and worth nothing after a crash.
create unlogged table apiauth.rate_buckets (
    key bytea primary key,
    level double precision not null,
    filled_at timestamptz not null,
    is_taken boolean not null,
    full_before timestamptz not null,
    constraint rate_buckets_never_overdrawn check (level >= 0)
)
with (fillfactor = 50);

-- Serves their removal. In whole minutes, so that most updates change no index and stay on their page.
create index rate_buckets_full_before_idx on apiauth.rate_buckets (full_before);

comment on table apiauth.rate_buckets is 'Token buckets: how many attempts an address or a credential has left. The key is a MAC, so that neither stands here.';
comment on column apiauth.rate_buckets.full_before is 'A time by which the bucket is full again if nobody takes of it, so that it may go.';

create table apiauth.esign_keys (
    digest bytea primary key,
    trusted_at timestamptz not null default shared.clock(),
    revoked_at timestamptz,
    constraint esign_keys_stored_as_digest check (octet_length(digest) = 32)
);

comment on table apiauth.esign_keys is 'Webhook secrets of the signing service, by digest: who holds one may complete signatures, and nothing else.';
comment on constraint esign_keys_stored_as_digest on apiauth.esign_keys is
    'Axiom A10: no credential at rest can be replayed. A webhook secret is stored as the digest of its digest.';

-- The service's halves of the keys that sign JWTs and seal tickets. Whoever has read this database knows the other half,
-- and could bring one of his own if any were taken.
create table apiauth.key_halves (
    digest bytea primary key,
    trusted_at timestamptz not null default shared.clock(),
    constraint key_halves_stored_as_digest check (octet_length(digest) = 32)
);

comment on table apiauth.key_halves is 'The halves of keys that the service holds, by digest: with no other is a JWT or a ticket signed or believed.';
comment on constraint key_halves_stored_as_digest on apiauth.key_halves is
    'Axiom A10: no credential at rest can be replayed. A half is stored as its digest.';
