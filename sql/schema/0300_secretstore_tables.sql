-- Secrets, all owned by the vault: a key, its versions, and the grants by which a value is read once.
--
-- What stands here is ciphertext (AES-256-GCM, one data key a version) and that key, wrapped by a master key which
-- the database never sees. A value is sealed to its organization, environment, key and version, and to who put it, when
-- and until when: moved or told otherwise, it does not open.
-- depends: 0270_apiauth_impersonation

set local role brokerflow_owner;

-- The vault refers to what secrets belong to, and asks whose an environment is.
create policy select_vault on shared.environments for select to brokerflow_vault using (true);
grant select (id, organization_id), references (id, organization_id) on shared.environments to brokerflow_vault;
grant references (id) on shared.organizations to brokerflow_vault;

set local role brokerflow_vault;

create table secretstore.secrets (
    id uuid primary key default shared.uuidv7(),
    organization_id uuid not null references shared.organizations (id) on delete restrict,
    environment_id uuid,        -- null: the organization's own
    scope_id uuid not null generated always as (coalesce(environment_id, organization_id)) stored,
    key text collate "C" not null,
    version integer not null default 0,     -- the latest; 0 until the first is put
    reserved_in xid8 not null default pg_current_xact_id(),
    max_versions integer,
    created_at timestamptz not null default shared.clock(),
    updated_at timestamptz not null default shared.clock(),
    expires_at timestamptz,     -- that of the latest version
    deleted_at timestamptz,
    constraint secrets_one_per_key unique (organization_id, scope_id, key),
    constraint secrets_environment_of_organization foreign key (environment_id, organization_id)
        references shared.environments (id, organization_id) on delete restrict,
    constraint secrets_key_is_at_most_255_letters_digits_dots_dashes_slashes check (key ~ '^[A-Za-z0-9._/-]{1,255}$'),
    -- Neither an empty segment nor one that clients resolve before they send it.
    constraint secrets_key_has_no_dot_or_empty_segment check (key !~ '(^|/)(\.{0,2})(/|$)'),
    -- In a URL these words stand after or in place of a key.
    constraint secrets_key_ends_in_no_reserved_word check (
        key !~ '(^|/)(versions|rollback|undelete|destroy|who)$' and key not in ('batch', 'count')
    ),
    constraint secrets_version_is_counted check (version >= 0),
    constraint secrets_max_versions_is_positive check (max_versions between 1 and 10000)
);

-- Serves the foreign key.
create index secrets_environment_id_idx on secretstore.secrets (environment_id, organization_id) where environment_id is not null;

comment on table secretstore.secrets is 'Keys, each of one organization or one of its environments. What a key holds stands in secret_versions.';
comment on constraint secrets_one_per_key on secretstore.secrets is
    'Axiom A11: a secret''s value is sealed to its scope, key and version. One secret has the key in its scope, so that its versions are one row of numbers.';

comment on constraint secrets_environment_of_organization on secretstore.secrets is
    'Axiom A9: nobody touches another tenant''s rows. A secret''s environment is one of its own organization.';

create table secretstore.secret_versions (
    secret_id uuid not null references secretstore.secrets (id) on delete restrict,
    version integer not null,
    ciphertext bytea not null,
    wrapped_key bytea,
    master_key_id text not null,
    restores integer,
    expires_at timestamptz,
    -- The proved actor, and when he reserved the number.
    credential_kind shared.credential_kind not null,
    credential_id uuid,
    created_by uuid,
    created_at timestamptz not null,
    destroyed_at timestamptz,
    constraint secret_versions_gapless primary key (secret_id, version),
    constraint secret_versions_restores_own foreign key (secret_id, restores)
        references secretstore.secret_versions (secret_id, version) on delete restrict,
    constraint secret_versions_restores_earlier check (restores < version),
    -- A version byte, 12 bytes of nonce, a value of 1 byte to 1 MiB, 16 bytes of tag.
    constraint secret_versions_ciphertext_is_sealed check (octet_length(ciphertext) between 30 and 1048576 + 29),
    constraint secret_versions_wrapped_key_is_sealed check (octet_length(wrapped_key) = 32 + 29),
    constraint secret_versions_master_key_is_named check (master_key_id ~ '^[0-9a-f]{16}$'),
    constraint secret_versions_key_until_destroyed check ((wrapped_key is null) = (destroyed_at is not null))
);

-- Serve the foreign key of restores; and rotation, which looks for what an old master key wraps still.
create index secret_versions_restores_idx on secretstore.secret_versions (secret_id, restores) where restores is not null;
create index secret_versions_master_key_id_idx on secretstore.secret_versions (master_key_id, secret_id, version)
where wrapped_key is not null;

comment on table secretstore.secret_versions is 'What a key held and holds, sealed; who put it there and when.';
comment on constraint secret_versions_gapless on secretstore.secret_versions is
    'Axiom A11: versions are immutable. No two values share a number.';
comment on constraint secret_versions_restores_own on secretstore.secret_versions is
    'Axiom A11: a secret''s value is sealed to its scope, key and version. A rollback names the version of the same secret whose value it repeats.';
comment on constraint secret_versions_restores_earlier on secretstore.secret_versions is
    'Axiom A11: versions are immutable. A rollback is a new version that looks back.';
comment on constraint secret_versions_ciphertext_is_sealed on secretstore.secret_versions is
    'Axiom A11: a secret''s value is sealed. What is shorter than an envelope is not taken.';
comment on constraint secret_versions_key_until_destroyed on secretstore.secret_versions is
    'Axiom A11: a secret''s value is sealed. A destroyed version has no key and no longer opens for anybody; its row stays.';

-- Unlogged: a grant lives for seconds, and one that a crash takes opens nothing. Its trace in the audit log is logged.
create unlogged table secretstore.read_grants (
    digest bytea primary key,
    secret_ids uuid[] not null,
    versions integer[] not null,
    granted_at timestamptz not null default shared.clock(),
    granted_in xid8 not null default pg_current_xact_id(),
    constraint read_grants_stored_as_digest check (octet_length(digest) = 32)
);

-- Serves the removal of grants that nobody used.
create index read_grants_granted_at_idx on secretstore.read_grants (granted_at);

comment on table secretstore.read_grants is 'Reads that were granted and not yet made, by the digest of a number that only the granted reader has seen.';
comment on constraint read_grants_stored_as_digest on secretstore.read_grants is
    'Axiom A11: reads are audited. A grant is known by its digest, so that who sees the table reads nothing with it.';
