-- People and organizations, and what every domain leaves behind: stored responses, the outbox, the audit log.
-- depends: 0040_session

set local role brokerflow_owner;

-- The rules of the house, in words. Each object that enforces one says so in its comment.
create table shared.axioms (
    id text primary key,
    rule text not null,
    constraint axioms_id_is_numbered check (id ~ '^A[1-9][0-9]?$')
);

comment on table shared.axioms is 'What this database promises, whatever the path.';

insert into shared.axioms (id, rule)
values
    ('A1', 'A referral has at most one live agreement.'),
    ('A2', 'A client''s contact is readable only through the accessor, only by a party of an effective agreement.'),
    ('A3', 'Business time is the database''s: no caller sets a recorded time, gated events lie between effectiveness and now, and effective_at is set once.'),
    ('A4', 'The timeline is written once: append-only, gapless 1..n per agreement, hash-chained.'),
    ('A5', 'An effect leaves only through the outbox, in the transaction that caused it.'),
    ('A6', 'A command with an Idempotency-Key happens once; the key is bound to its actor, route and request.'),
    ('A7', 'Every read of a contact has a committed audit row before the value leaves; no rollback can erase it.'),
    ('A8', 'An agreement moves only along the state machine; it is never deleted; its region never changes; a refused attempt is recorded.'),
    ('A9', 'Who asks is proved to the database, not told to it; nobody sees or touches another tenant''s rows.'),
    ('A10', 'No credential at rest can be replayed; expired or revoked never authenticates, from the next statement on.'),
    ('A11', 'A secret''s value is sealed to its scope, key and version; versions are immutable; reads, writes and denials are audited.'),
    ('A12', 'A dispute governs the money: opening freezes, upheld voids and invalidates, dismissed restores; a party never judges its own case.'),
    ('A13', 'One vote a user an API.');

-- NFKC before, so that full-width letters have a case; and after, since some capitals are composed in small letters only.
create function shared.address_key(email text) returns text
language sql immutable parallel safe
as $$ select normalize(lower(normalize(address_key.email, nfkc)), nfkc) $$;

comment on function shared.address_key(text) is 'What is one email address, in whatever case and Unicode form it is written.';
grant execute on function shared.address_key(text) to brokerflow_app, brokerflow_guard;

do $$
begin
    if lower(U&'\00C4') <> U&'\00E4' then
        raise warning 'this database knows the case of ASCII letters only, so email addresses in others have several accounts: create it with a UTF-8 locale';
    end if;
end;
$$;

create table shared.users (
    id uuid primary key default shared.uuidv7(),
    email text not null,
    full_name text not null,
    created_at timestamptz not null default shared.clock(),
    constraint users_email_is_an_address check (email ~ '^[^@\s]+@[^@\s]+\.[^@\s]+$' and length(email) <= 254),
    constraint users_full_name_is_present check (full_name ~ '\S' and length(full_name) <= 200)
);

-- One person, one account: neither case nor Unicode form makes another address. Serves the login as well.
create unique index users_email_in_any_case on shared.users (shared.address_key(email));

comment on table shared.users is 'People. Credentials are in apiauth; a row here lets nobody in.';

create table shared.organizations (
    id uuid primary key default shared.uuidv7(),
    title text not null,
    slug text not null,
    created_at timestamptz not null default shared.clock(),
    constraint organizations_slug_key unique (slug),
    constraint organizations_slug_is_lowercase_letters_digits_and_hyphens check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and length(slug) <= 63),
    constraint organizations_title_is_present check (title ~ '\S' and length(title) <= 200)
);

comment on table shared.organizations is 'Tenants.';

create table shared.memberships (
    organization_id uuid not null references shared.organizations (id) on delete cascade,
    user_id uuid not null references shared.users (id) on delete cascade,
    role shared.member_role not null,
    created_at timestamptz not null default shared.clock(),
    accepted_at timestamptz,    -- when he founded it, or took its invitation; null: an admin added him
    constraint memberships_pkey primary key (organization_id, user_id)
);

-- Serves every entrance: the organizations of a user, those that he chose first, and of these the earliest.
create index memberships_user_id_accepted_at_idx on shared.memberships (user_id, accepted_at, created_at, organization_id);

comment on table shared.memberships is 'Who belongs to which organization, and as what.';

-- Two columns are one key to the environments, so that a foreign key carries the organization along.
create table shared.projects (
    id uuid primary key default shared.uuidv7(),
    organization_id uuid not null references shared.organizations (id) on delete cascade,
    name text not null,
    slug text not null,
    created_at timestamptz not null default shared.clock(),
    constraint projects_slug_once_an_organization unique (organization_id, slug),
    constraint projects_organization_key unique (id, organization_id),
    constraint projects_slug_is_lowercase_letters_digits_and_hyphens check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and length(slug) <= 63),
    constraint projects_name_is_present check (name ~ '\S' and length(name) <= 200)
);

-- Serves the projects of an organization, in order.
create index projects_organization_id_idx on shared.projects (organization_id, id);

comment on table shared.projects is 'What an organization builds; its environments hold its secrets and its keys.';

create type shared.environment_type as enum ('DEVELOPMENT', 'STAGING', 'PREVIEW', 'PRODUCTION');

create table shared.environments (
    id uuid primary key default shared.uuidv7(),
    organization_id uuid not null,
    project_id uuid not null,
    slug text not null,
    type shared.environment_type not null,
    created_at timestamptz not null default shared.clock(),
    constraint environments_of_their_projects_organization foreign key (project_id, organization_id)
        references shared.projects (id, organization_id) on delete cascade,
    constraint environments_slug_once_a_project unique (project_id, slug),
    constraint environments_organization_key unique (id, organization_id),
    constraint environments_type_key unique (id, type),
    constraint environments_slug_is_lowercase_letters_digits_and_hyphens check (slug ~ '^[a-z0-9]+(-[a-z0-9]+)*$' and length(slug) <= 63)
);

-- Serve the foreign key, and the environments of a project, in order.
create index environments_project_id_organization_id_idx on shared.environments (project_id, organization_id);
create index environments_project_id_idx on shared.environments (project_id, id);

comment on table shared.environments is 'Where a project runs. Its type is fixed: keys say it in their prefix.';
comment on constraint environments_of_their_projects_organization on shared.environments is
    'Axiom A9: nobody touches another tenant''s rows. The organization of an environment is its project''s, so whoever checks the one has checked the other.';

-- A constant column, so that a foreign key can tell one type of environment from the others.
create table shared.preview_branches (
    id uuid primary key default shared.uuidv7(),
    environment_id uuid not null,
    environment_type shared.environment_type not null generated always as ('PREVIEW') stored,
    name text not null,
    created_at timestamptz not null default shared.clock(),
    archived_at timestamptz,
    constraint preview_branches_environment_id_is_of_a_preview_environment foreign key (environment_id, environment_type)
        references shared.environments (id, type) on delete cascade,
    -- As git allows it, and in a header: visible ASCII.
    constraint preview_branches_name_is_a_branch check (
        name ~ '^[\x21-\x7e]{1,255}$' and name !~ '[~^:?*[\\]|[.][.]|@[{]|//|(^|/)[.]|[.](lock)?(/|$)|^[-/]|/$|^@$'
    )
);

-- Serves the entrance as well.
create unique index preview_branches_name_once_live on shared.preview_branches (environment_id, name) where archived_at is null;

-- Serve the foreign key, and the branches of an environment, in order.
create index preview_branches_environment_id_environment_type_idx on shared.preview_branches (environment_id, environment_type);
create index preview_branches_environment_id_idx on shared.preview_branches (environment_id, id);

comment on table shared.preview_branches is 'What is tried side by side in a PREVIEW environment, each for as long as its branch lives. An archived name may be taken again.';

create table shared.platform_admins (
    user_id uuid primary key references shared.users (id) on delete cascade,
    granted_at timestamptz not null default shared.clock()
);

comment on table shared.platform_admins is 'Users who judge disputes. Written by the owner alone: no route and no role of the service can make one.';

-- A key is its user's; a program's, its environment's or organization's. The first of them is the actor.
create table shared.idempotency_keys (
    user_id uuid references shared.users (id) on delete cascade,
    environment_id uuid references shared.environments (id) on delete cascade,
    organization_id uuid references shared.organizations (id) on delete cascade,
    actor_id uuid not null generated always as (coalesce(user_id, environment_id, organization_id)) stored,
    key text not null,
    route text not null,
    request_digest bytea not null,
    status smallint not null,
    response bytea not null,    -- sealed by the service: it may hold a token that is shown once
    created_at timestamptz not null default shared.clock(),
    constraint idempotency_keys_once_an_actor primary key (actor_id, key),
    constraint idempotency_keys_key_is_visible check (key ~ '^[\x21-\x7e]{1,255}$'),
    constraint idempotency_keys_digest_is_sha256 check (octet_length(request_digest) = 32),
    constraint idempotency_keys_only_successes check (status between 200 and 299)
);

-- Serve the foreign keys.
create index idempotency_keys_user_id_idx on shared.idempotency_keys (user_id) where user_id is not null;
create index idempotency_keys_environment_id_idx on shared.idempotency_keys (environment_id) where environment_id is not null;
create index idempotency_keys_organization_id_idx on shared.idempotency_keys (organization_id) where organization_id is not null;

comment on table shared.idempotency_keys is 'Responses that were sent, each stored in the transaction of its effect.';

comment on constraint idempotency_keys_once_an_actor on shared.idempotency_keys is
    'Axiom A6: a command with an Idempotency-Key happens once. The key is its actor''s own, and the response commits with the effect or not at all.';

-- By month of the event: its id is a UUIDv7, whose first 48 bits are the time. So no key needs the time beside it, and
-- two messages of one event meet in one partition. 0800_partitions makes the months; what belongs to none is caught.
create table shared.outbox (
    event_id uuid not null,
    topic text not null,
    payload jsonb not null,
    created_at timestamptz not null default shared.clock(),
    constraint outbox_one_message_per_event primary key (event_id)
) partition by range (event_id);

create table partitions.outbox_default partition of shared.outbox default;

comment on table shared.outbox is 'Messages that must leave. Insert is granted to nobody: triggers behind the timeline write it.';

comment on constraint outbox_one_message_per_event on shared.outbox is
    'Axiom A5: an effect leaves only through the outbox, in the transaction that caused it. Commit leaves exactly one message.';

-- No foreign keys: the log outlives what it speaks of.
create table shared.audit_log (
    id uuid primary key default shared.uuidv7(),
    recorded_at timestamptz not null default shared.clock(),
    credential_kind shared.credential_kind,
    credential_id uuid,
    user_id uuid,
    organization_id uuid,
    environment_id uuid,
    branch_id uuid,
    impersonator_id uuid,   -- who acted as the user
    action text not null,
    subject text not null,
    outcome text not null,
    reason text,
    detail jsonb not null default '{}',
    request_id text,
    constraint audit_log_outcome_is_known check (outcome in ('done', 'denied')),
    constraint audit_log_denial_has_a_reason check (outcome <> 'denied' or reason is not null)
) partition by range (id);

create table partitions.audit_log_default partition of shared.audit_log default;

-- Serves "what happened to this": the subject's rows in order.
create index audit_log_subject_idx on shared.audit_log (subject, id);

comment on table shared.audit_log is 'Who did what, and who was refused what. Written by triggers and by record_denial, by nobody directly.';

-- Where months go that are archived, whole: a partition keeps its constraints, so these have none of their own.
-- Waived primary_keys: archive.outbox. Its partitions have theirs.
-- Waived primary_keys: archive.audit_log. Likewise.
create table archive.outbox (like shared.outbox) partition by range (event_id);
create table archive.audit_log (like shared.audit_log) partition by range (id);

comment on table archive.outbox is 'Messages of archived months.';
comment on table archive.audit_log is 'The audit log of archived months.';

create view archive.all_outbox with (security_invoker = true) as
select * from shared.outbox union all select * from archive.outbox;

create view archive.all_audit_log with (security_invoker = true) as
select * from shared.audit_log union all select * from archive.audit_log;

comment on view archive.all_outbox is 'Every message, archived or not.';
comment on view archive.all_audit_log is 'The whole audit log, archived or not.';

create table archive.months (
    table_name text not null,
    month date not null,
    from_id uuid not null,
    before_id uuid not null,
    rows bigint,    -- counted after the move, when nobody waits for it
    archived_at timestamptz not null default shared.clock(),
    constraint months_pkey primary key (table_name, month),
    constraint months_month_is_its_first_day check (extract(day from month) = 1),
    constraint months_rows_are_counted check (rows >= 0),
    constraint months_bounds_are_in_order check (from_id < before_id)
);

comment on table archive.months is 'Which months of which tables were archived, with the bounds of their ids and how many rows there were.';
