-- A brokerage of brokerflow.size agreements, above the people and the credentials of tests/schema/crowd.sql.
--
-- For a superuser with session_replication_role = replica. Of the agreements north, a broker of the world, has a
-- quarter, and one of them tells a tenth as many events; south has twenty whatever the size. The hashes are no chain.

create function pg_temp.id(n integer) returns uuid
language sql immutable as $$ select (lpad(to_hex(n), 12, '0') || '70008000' || repeat('0', 12))::uuid $$;
create function pg_temp.broker(slug text) returns uuid
language sql immutable as $$ select o.id from shared.organizations as o where o.slug = broker.slug $$;
create function pg_temp.person(email text) returns uuid
language sql immutable as $$ select u.id from shared.users as u where u.email = person.email || '@example.org' $$;

insert into agreement.brokers (id, name)
select pg_temp.u('organization', n), 'Broker ' || n from crowd;
insert into agreement.broker_registrations (broker_id, fein)
select pg_temp.u('organization', n), '12-3456789' from crowd;

create temporary table deals as
select
    d.n, d.made_at,
    case when d.n % 4 = 0 then k.north else pg_temp.u('organization', 1 + d.n % k.crowd) end as from_broker_id,
    case when d.n % 4 = 0 then k.referrer else pg_temp.u('user', 1 + d.n % k.crowd) end as from_user_id,
    case
        when d.n % 4 = 0 and d.n <= 80 then k.south
        when d.n % 4 = 1 then k.north
        else pg_temp.u('organization', 1 + (d.n + 1) % k.crowd)
    end as to_broker_id,
    case
        when d.n % 4 = 0 and d.n <= 80 then k.referee
        when d.n % 4 = 1 then k.referrer
        else pg_temp.u('user', 1 + (d.n + 1) % k.crowd)
    end as to_user_id,
    case d.n / 4 % 5
        when 0 then 'effective' when 1 then 'draft' when 2 then 'pending_signature' when 3 then 'success' else 'disputed'
    end::agreement.agreement_status as status
from (
    select n, shared.clock() - interval '1 day' + make_interval(secs => n::double precision / 10) as made_at
    from generate_series(1, current_setting('brokerflow.size')::integer) as n
) as d
cross join (
    select
        pg_temp.broker('north') as north, pg_temp.broker('south') as south, pg_temp.person('referrer') as referrer,
        pg_temp.person('referee') as referee, current_setting('brokerflow.crowd')::integer as crowd
) as k;

insert into agreement.referrals (
    id, broker_id, region, price_min, price_max, property_type, deal_type, languages, sla_hours, status, created_by, created_at
)
select
    pg_temp.id(d.n), d.from_broker_id, array['Region ' || d.n % 7], d.n, d.n + 1, 'flat', 'sale', '{en}', 24,
    case d.status
        when 'draft' then 'open' when 'pending_signature' then 'matched' when 'success' then 'closed' else 'signed'
    end::agreement.referral_status,
    d.from_user_id, d.made_at
from deals as d;

insert into agreement.matches (
    id, referral_id, broker_id, candidate_user_id, candidate_broker_id, state, invited_by, created_at, responded_at
)
select
    pg_temp.id(d.n), pg_temp.id(d.n), d.from_broker_id, d.to_user_id, d.to_broker_id,
    case when d.status = 'draft' then 'invited' else 'accepted' end::agreement.match_state, d.from_user_id, d.made_at,
    case when d.status <> 'draft' then d.made_at end
from deals as d;

insert into agreement.agreements (
    id, referral_id, match_id, from_broker_id, to_broker_id, region, status, envelope_id, signed_at, created_by,
    created_at, effective_at
)
select
    pg_temp.id(d.n), pg_temp.id(d.n), case when d.status <> 'draft' then pg_temp.id(d.n) end, d.from_broker_id,
    d.to_broker_id, array['Region ' || d.n % 7], d.status, e.envelope_id, e.signed_at, d.from_user_id, d.made_at, e.signed_at
from deals as d
left join lateral (select 'envelope ' || d.n as envelope_id, d.made_at as signed_at) as e
    on d.status not in ('draft', 'pending_signature');

-- One event each, and the long timeline of number 80.
create temporary table events as
select d.n, s.seq, row_number() over (order by s.seq, d.n)::integer as number
from deals as d
cross join lateral generate_series(
    1, case when d.n = 80 then current_setting('brokerflow.size')::integer / 10 else 1 end
) as s (seq);

insert into agreement.timeline_events (
    agreement_id, seq, id, type, occurred_at, recorded_at, credential_kind, user_id, organization_id, from_broker_id,
    to_broker_id, previous_hash, hash
)
select
    pg_temp.id(e.n), e.seq, pg_temp.id(e.number), 'CLIENT_CONTACTED', d.made_at, d.made_at, 'session', d.from_user_id,
    d.from_broker_id, d.from_broker_id, d.to_broker_id, sha256('earlier'), sha256('this')
from events as e join deals as d on d.n = e.n;

insert into agreement.timeline_heads (agreement_id, seq, recorded_at, hash)
select e.agreement_id, max(e.seq), max(e.recorded_at), sha256('this')
from agreement.timeline_events as e group by e.agreement_id;

insert into shared.outbox (topic, event_id, payload, created_at)
select 'agreement.timeline', pg_temp.id(e.number), '{}', shared.clock() from events as e;

insert into shared.audit_log (id, credential_kind, user_id, organization_id, action, subject, outcome)
select
    pg_temp.id(e.number), 'session', d.from_user_id, d.from_broker_id, 'agreement.client_contacted',
    'agreement/' || pg_temp.id(e.n), 'done'
from events as e join deals as d on d.n = e.n;

-- As many reads, invoices and disputes of one agreement as it has events, besides those of the others.
insert into agreement.contact_reads (id, agreement_id, user_id, organization_id, purpose, granted_in)
select pg_temp.id(e.number), pg_temp.id(e.n), d.to_user_id, d.to_broker_id, 'to call', '3'
from events as e join deals as d on d.n = e.n;

insert into agreement.invoices (id, agreement_id, amount, currency, created_by)
select pg_temp.id(e.number), pg_temp.id(e.n), 10, 'USD', d.from_user_id
from events as e join deals as d on d.n = e.n;

insert into agreement.disputes (id, agreement_id, reason, opened_by, opened_by_broker_id, outcome, resolved_by, resolved_at)
select
    pg_temp.id(e.number), pg_temp.id(e.n), 'late', d.to_user_id, d.to_broker_id,
    r.outcome, r.resolved_by, r.resolved_at
from events as e
join deals as d on d.n = e.n
left join lateral (
    select 'dismissed'::agreement.dispute_outcome as outcome, pg_temp.person('judge') as resolved_by, shared.clock() as resolved_at
) as r on d.status <> 'disputed';

insert into agreement.contacts (referral_id, ciphertext, wrapped_key)
select pg_temp.id(d.n), sha256('client') || sha256('x'), sha256('key') from deals as d;

insert into shared.idempotency_keys (user_id, key, route, request_digest, status, response)
select pg_temp.person('referrer'), 'key-' || d.n, 'POST /api/agreements', sha256('x'), 201, '' from deals as d;

-- What north has that is no agreement: members, invitations, projects, environments, branches, accounts and secrets.
create temporary table things as
select n from generate_series(1, current_setting('brokerflow.size')::integer / 10) as n;

insert into shared.memberships (organization_id, user_id, role)
select pg_temp.broker('north'), pg_temp.u('user', n), 'viewer' from crowd;

insert into shared.invitations (id, organization_id, email, role, invited_by)
select pg_temp.id(n), pg_temp.broker('north'), 'guest-' || n || '@example.net', 'agent', pg_temp.person('referrer') from things;

insert into shared.projects (id, organization_id, name, slug)
select pg_temp.id(n), pg_temp.broker('north'), 'x', 'p-' || n from things;

insert into shared.environments (id, organization_id, project_id, slug, type)
select pg_temp.id(n), pg_temp.broker('north'), pg_temp.id(1), 'e-' || n, 'PREVIEW' from things;

insert into shared.preview_branches (id, environment_id, name)
select pg_temp.id(n), pg_temp.id(1), 'branch-' || n from things;

insert into shared.external_accounts (id, organization_id, environment_id, identifier)
select pg_temp.id(n), pg_temp.broker('north'), pg_temp.id(1), 'account-' || n from things;

insert into secretstore.secrets (id, organization_id, environment_id, key, version, deleted_at)
select pg_temp.id(n), pg_temp.broker('north'), pg_temp.id(1), 'key-' || n, 1, case when n = 8 then shared.clock() end from things;

insert into secretstore.secret_versions (secret_id, version, ciphertext, wrapped_key, master_key_id, credential_kind, created_at)
select pg_temp.id(n), 1, sha256('x'), substring(sha256('x') || sha256('y') from 4), '0123456789abcdef', 'session', shared.clock() from things;

insert into apiauth.organization_tokens (organization_id, name, digest, token_hint, scopes)
select pg_temp.broker('north'), 'x', pg_temp.d('token', n), 'abcd', '{tokens:write}' from things;

insert into apiauth.personal_tokens (user_id, name, digest, token_hint, scopes, expires_at)
select pg_temp.person('referrer'), 'x', pg_temp.d('token', n), 'abcd', '{tokens:write}', now() + interval '1 day' from things;

insert into vote.votes (user_id, api_identifier)
select pg_temp.u('user', n), 'api-' || a from crowd cross join generate_series(1, 10) as a;
