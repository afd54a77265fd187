-- What the peers of the benchmark keep: the agreements of BrokerFlow as a competent user would lay them out, with the
-- indexes that their queries want and without what BrokerFlow does besides (the audit log, the chain of hashes).
--
-- The FastAPI and Litestar services log in as bench_peer, the owner, and say in each query whose rows they mean.
-- PostGraphile logs in as bench_visitor, whom the policies show what is his.
create schema app_public;
create schema app_private;

create table app_public.brokers (
    id uuid primary key,
    name text not null
);

create table app_private.users (
    id uuid primary key,
    broker_id uuid not null references app_public.brokers (id),
    email text not null unique
);

create table app_private.tokens (
    id uuid primary key default gen_random_uuid(),
    user_id uuid not null references app_private.users (id),
    digest bytea not null unique,
    expires_at timestamptz not null,
    revoked_at timestamptz
);

create table app_public.referrals (
    id uuid primary key,
    broker_id uuid not null references app_public.brokers (id),
    region text[] not null,
    price_min numeric(14, 2) not null,
    price_max numeric(14, 2) not null,
    status text not null default 'open',
    created_by uuid not null references app_private.users (id),
    created_at timestamptz not null default now()
);

create index on app_public.referrals (broker_id, id);

create table app_public.matches (
    id uuid primary key,
    referral_id uuid not null references app_public.referrals (id),
    candidate_user_id uuid not null references app_private.users (id),
    candidate_broker_id uuid not null references app_public.brokers (id),
    state text not null default 'invited',
    created_at timestamptz not null default now(),
    responded_at timestamptz,
    unique (referral_id, candidate_user_id)
);

create index on app_public.matches (candidate_user_id, id);

create table app_public.agreements (
    id uuid primary key,
    referral_id uuid not null references app_public.referrals (id),
    match_id uuid unique references app_public.matches (id),
    from_broker_id uuid not null references app_public.brokers (id),
    to_broker_id uuid not null references app_public.brokers (id),
    region text[] not null,
    fee_rate numeric(7, 4) not null default 25,
    protect_days integer not null default 90,
    status text not null default 'draft',
    version integer not null default 1,
    last_seq integer not null default 0,
    envelope_id text unique,
    signed_at timestamptz,
    created_by uuid not null references app_private.users (id),
    created_at timestamptz not null default now(),
    effective_at timestamptz
);

create unique index agreements_one_live_per_referral on app_public.agreements (referral_id)
where status in ('pending_signature', 'effective', 'disputed');

create index on app_public.agreements (referral_id);
create index on app_public.agreements (from_broker_id, id);
create index on app_public.agreements (to_broker_id, id);

create table app_public.events (
    agreement_id uuid not null references app_public.agreements (id),
    seq integer not null,
    id uuid not null unique,
    type text not null,
    payload jsonb not null default '{}',
    occurred_at timestamptz not null,
    recorded_at timestamptz not null default now(),
    user_id uuid,
    broker_id uuid,
    primary key (agreement_id, seq)
);

create table app_private.outbox (
    id bigint generated always as identity primary key,
    topic text not null,
    event_id uuid not null unique,
    payload jsonb not null,
    created_at timestamptz not null default now()
);

-- As PostGraphile's documentation has it: what the request told is a setting, a definer function makes a person of it,
-- and the policies ask that once a statement.
create function app_public.current_broker_id() returns uuid
language sql stable security definer
set search_path = ''
as $$
    select u.broker_id
    from app_private.tokens as t
    join app_private.users as u on u.id = t.user_id
    where t.digest = decode(nullif(current_setting('jwt.claims.token_digest', true), ''), 'hex')
        and t.expires_at > now() and t.revoked_at is null
$$;

alter table app_public.agreements enable row level security;

create policy select_party on app_public.agreements for select to bench_visitor
using (
    from_broker_id = (select app_public.current_broker_id()) or to_broker_id = (select app_public.current_broker_id())
);

grant usage on schema app_public to bench_visitor;
grant select on app_public.agreements, app_public.brokers to bench_visitor;
