-- As much as BrokerFlow is given by scripts/benchmark/crowd: brokers 1 and 2, of whom the benchmark holds tokens, and
-- others. Run as the owner, with bench.agreements, bench.organizations, bench.once, bench.referrer and bench.referee set.
create function pg_temp.id(kind integer, n bigint) returns uuid
language sql immutable
as $$ select (lpad(to_hex(n), 12, '0') || '70008000' || lpad(to_hex(kind), 12, '0'))::uuid $$;

insert into app_public.brokers (id, name)
select pg_temp.id(10, n), 'Tenant ' || n from generate_series(1, current_setting('bench.organizations')::integer) as n;

insert into app_private.users (id, broker_id, email)
select pg_temp.id(11, n), pg_temp.id(10, n), 'tenant-' || n || '@broker.example'
from generate_series(1, current_setting('bench.organizations')::integer) as n;

insert into app_private.tokens (user_id, digest, expires_at)
select pg_temp.id(11, n), case n when 1 then decode(current_setting('bench.referrer'), 'hex')
    when 2 then decode(current_setting('bench.referee'), 'hex') else uuid_send(gen_random_uuid()) end, now() + interval '7 days'
from generate_series(1, current_setting('bench.organizations')::integer) as n;

-- status: every tenth is effective, the others drafts; then those that await a signature, and invitations.
create temporary table deals as
select
    n, case when n % 10 = 0 then 'effective' else 'draft' end as status,
    case when n % 4 < 2 then 1 else 3 + (n / 2) % o.others end as from_n,
    case when n % 4 < 2 then 2 else 3 + (n / 2 + 1) % o.others end as to_n
from generate_series(1, current_setting('bench.agreements')::integer) as n
cross join (select current_setting('bench.organizations')::integer - 2 as others) as o
union all
select 200000000 + n, 'pending_signature', 1, 2 from generate_series(0, current_setting('bench.once')::integer - 1) as n
union all
select 100000000, 'effective', 1, 2;

insert into app_public.referrals (id, broker_id, region, price_min, price_max, status, created_by)
select
    pg_temp.id(1, d.n), pg_temp.id(10, d.from_n), array['Lakeside'], 350000, 520000,
    case d.status when 'effective' then 'signed' when 'draft' then 'open' else 'matched' end, pg_temp.id(11, d.from_n)
from deals as d
union all
select pg_temp.id(1, 300000000 + n), pg_temp.id(10, 1), array['Lakeside'], 350000, 520000, 'open', pg_temp.id(11, 1)
from generate_series(0, current_setting('bench.once')::integer - 1) as n;

insert into app_public.matches (id, referral_id, candidate_user_id, candidate_broker_id)
select pg_temp.id(3, 300000000 + n), pg_temp.id(1, 300000000 + n), pg_temp.id(11, 2), pg_temp.id(10, 2)
from generate_series(0, current_setting('bench.once')::integer - 1) as n;

insert into app_public.agreements (
    id, referral_id, from_broker_id, to_broker_id, region, status, version, last_seq, envelope_id, signed_at, created_by, effective_at
)
select
    pg_temp.id(2, d.n), pg_temp.id(1, d.n), pg_temp.id(10, d.from_n), pg_temp.id(10, d.to_n), array['Lakeside'], d.status, s.steps, s.steps,
    case when s.steps = 3 then 'envelope ' || d.n end, case when s.steps = 3 then now() end, pg_temp.id(11, d.from_n),
    case when s.steps = 3 then now() end
from deals as d
cross join lateral (select case d.status when 'effective' then 3 when 'draft' then 1 else 2 end as steps) as s;

insert into app_public.events (agreement_id, seq, id, type, payload, occurred_at, user_id, broker_id)
select
    a.id, e.seq, gen_random_uuid(), (array['AGREEMENT_CREATED', 'ESIGN_REQUESTED', 'ESIGN_COMPLETED'])[e.seq],
    jsonb_build_object('status', a.status, 'referral_id', a.referral_id), now(), a.created_by, a.from_broker_id
from app_public.agreements as a
cross join lateral generate_series(1, a.last_seq) as e (seq);

insert into app_private.outbox (topic, event_id, payload)
select 'agreement.timeline', e.id, to_jsonb(e) from app_public.events as e;
