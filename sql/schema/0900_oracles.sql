-- What the oracles need beyond the auditor's eyes: contacts and credentials by description, and a place for results.
-- depends: 0800_partitions

set local role brokerflow_vault;

-- Crosses into the vault: the auditor judges contacts without reading one. What leaves opens nothing; the digest of
-- the ciphertext is what a receipt of shredding publishes.
create function agreement.describe_contacts()
returns table (
    referral_id uuid, has_key boolean, sealed_at timestamptz, shredded_at timestamptz, ciphertext_length integer, ciphertext_sha256 text
)
language sql stable security definer
set search_path = ''
as $$
    select c.referral_id, c.wrapped_key is not null, c.sealed_at, c.shredded_at,
        octet_length(c.ciphertext), encode(sha256(c.ciphertext), 'hex')
    from agreement.contacts as c
$$;

comment on function agreement.describe_contacts() is 'Crosses into the vault for the auditor: of each contact all but what it holds.';
revoke execute on function agreement.describe_contacts() from public;
grant execute on function agreement.describe_contacts() to brokerflow_auditor;

set local role brokerflow_guard;

-- Crosses into the guard's tables: the auditor judges credentials without reading one. No digest and no salt leaves,
-- only whose the credential is, when it ends, and what is wrong with how it is stored.
create function apiauth.describe_credentials()
returns table (kind text, id uuid, user_id uuid, created_at timestamptz, expires_at timestamptz, revoked_at timestamptz, finding text)
language sql stable security definer
set search_path = ''
as $$
    select 'session', s.id, s.user_id, s.created_at, s.expires_at, s.revoked_at,
        case
            when octet_length(s.digest) is distinct from 32 then 'it is not stored as a digest'
            when count(*) over (partition by s.digest) > 1 then 'another has the same digest'
            when s.expires_at is null or s.expires_at > s.created_at + interval '30 days' then 'it has no end within 30 days'
        end
    from apiauth.sessions as s
    union all
    select 'ticket', t.session_id, null, null, t.expires_at, t.ended_at, null
    from apiauth.ended_tickets as t
    union all
    select 'personal_token', t.id, t.user_id, t.created_at, t.expires_at, t.revoked_at,
        case
            when octet_length(t.digest) is distinct from 32 then 'it is not stored as a digest'
            when count(*) over (partition by t.digest) > 1 then 'another has the same digest'
            when t.expires_at is null or t.expires_at > t.created_at + interval '365 days' then 'it has no end within a year'
        end
    from apiauth.personal_tokens as t
    union all
    select 'organization_token', t.id, null, t.created_at, t.expires_at, t.revoked_at,
        case
            when octet_length(t.digest) is distinct from 32 then 'it is not stored as a digest'
            when count(*) over (partition by t.digest) > 1 then 'another has the same digest'
        end
    from apiauth.organization_tokens as t
    union all
    select k.kind::text, k.id, null, k.created_at, k.expires_at, null,
        case
            when octet_length(k.digest) is distinct from 32 then 'it is not stored as a digest'
            when count(*) over (partition by k.digest) > 1 then 'another has the same digest'
        end
    from apiauth.environment_keys as k
    union all
    select 'device_code', c.id, c.user_id, c.created_at, c.expires_at, null,
        case
            when octet_length(c.device_digest) is distinct from 32 or octet_length(c.user_digest) is distinct from 32
                then 'it is not stored as a digest'
            when count(*) over (partition by c.device_digest) > 1 or count(*) over (partition by c.user_digest) > 1
                then 'another has the same digest'
            when c.expires_at is null or c.expires_at > c.created_at + interval '10 minutes' then 'it has no end within 10 minutes'
            when c.token_id is not null and (c.is_approved and c.redeemed_at between c.decided_at and c.expires_at) is not true
                then 'it yielded a token unapproved, or after its end'
            when t.user_id is distinct from case when c.token_id is not null then c.user_id end
                then 'its token is not of the user who approved it'
        end
    from apiauth.device_codes as c
    left join apiauth.personal_tokens as t on t.id = c.token_id
    union all
    select 'password', null, p.user_id, p.changed_at, null, null,
        case
            when octet_length(p.key_digest) is distinct from 32 then 'it is not stored as a digest'
            when octet_length(p.salt) is distinct from 16 then 'its salt is not 16 bytes'
        end
    from apiauth.passwords as p
    union all
    select 'esign_key', null, null, k.trusted_at, null, k.revoked_at,
        case when octet_length(k.digest) is distinct from 32 then 'it is not stored as a digest' end
    from apiauth.esign_keys as k
    union all
    select 'key_half', null, null, k.trusted_at, null, null,
        case when octet_length(k.digest) is distinct from 32 then 'it is not stored as a digest' end
    from apiauth.key_halves as k
    union all
    select 'identity', i.id, i.user_id, i.linked_at, null, null,
        case
            when count(*) over (partition by i.issuer, i.subject) > 1 then 'it opens the accounts of two users'
            when count(*) over (partition by i.user_id, i.issuer) > 1 then 'its user has another of the same provider'
        end
    from apiauth.identities as i
$$;

comment on function apiauth.describe_credentials() is
    'Crosses into credentials for the auditor: of each its bearer and its end, and what is wrong with how it is stored.';
revoke execute on function apiauth.describe_credentials() from public;
grant execute on function apiauth.describe_credentials() to brokerflow_auditor;

-- Crosses into the guard's table, likewise.
create function apiauth.describe_impersonations()
returns table (id uuid, admin_id uuid, user_id uuid, started_at timestamptz, ended_at timestamptz)
language sql stable security definer
set search_path = ''
as $$ select i.id, i.admin_id, i.user_id, i.started_at, least(i.ends_at, i.stopped_at) from apiauth.impersonations as i $$;

comment on function apiauth.describe_impersonations() is 'Crosses into impersonations for the auditor: who acted as whom, from when to when.';
revoke execute on function apiauth.describe_impersonations() from public;
grant execute on function apiauth.describe_impersonations() to brokerflow_auditor;

set local role brokerflow_owner;

-- To call the functions above. No table of the schema is granted to the auditor.
grant usage on schema apiauth to brokerflow_auditor;

create table shared.oracle_results (
    oracle text primary key,
    axioms text[] not null,     -- empty: the oracle watches them all
    violations bigint not null,
    seconds double precision not null,
    checked_at timestamptz not null default shared.clock(),
    constraint oracle_results_oracle_is_numbered check (oracle ~ '^O[1-9][0-9]?$'),
    constraint oracle_results_violations_are_counted check (violations >= 0),
    constraint oracle_results_seconds_have_passed check (seconds >= 0)
);

comment on table shared.oracle_results is 'How many violations each oracle found when it was last asked.';

-- Crosses into the results, which nobody writes directly. The time is the database's; an oracle that is no more has
-- no result any more.
create function shared.record_oracle_results(results jsonb) returns void
language sql volatile security definer
set search_path = ''
as $$
    delete from shared.oracle_results as o
    where not exists (
        select from jsonb_to_recordset(record_oracle_results.results) as r (oracle text) where r.oracle = o.oracle
    );
    insert into shared.oracle_results as o (oracle, axioms, violations, seconds)
    select r.oracle, r.axioms, r.violations, r.seconds
    from jsonb_to_recordset(record_oracle_results.results)
        as r (oracle text, axioms text[], violations bigint, seconds double precision)
    order by r.oracle
    on conflict on constraint oracle_results_pkey do update
    set axioms = excluded.axioms, violations = excluded.violations, seconds = excluded.seconds, checked_at = excluded.checked_at
$$;

comment on function shared.record_oracle_results(jsonb) is 'Crosses into the results for the auditor, who writes nothing else.';
revoke execute on function shared.record_oracle_results(jsonb) from public;
grant execute on function shared.record_oracle_results(jsonb) to brokerflow_auditor;

-- Everybody may know whether the rules hold. What was found is told to who asks the oracles, and stored nowhere.
alter table shared.oracle_results enable row level security;
-- Waived policies_open_to_the_service: shared.oracle_results select_anyone. Numbers of violations, and no row of any.
create policy select_anyone on shared.oracle_results for select to public using (true);
grant select on shared.oracle_results to brokerflow_app, brokerflow_auditor;
