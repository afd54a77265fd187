-- Invitations that await an answer, from tenant 1 to the agent of tenant 2, numbered from bench.from to bench.to.
insert into agreement.referrals (
    id, broker_id, region, price_min, price_max, property_type, deal_type, sla_hours, status, created_by
)
select pg_temp.id(1, i.n), f.organization_id, '{Lakeside}', 350000, 520000, 'house', 'purchase', 48, 'open', f.user_id
from generate_series(current_setting('bench.from')::bigint, current_setting('bench.to')::bigint) as i (n)
join tenants as f on f.n = 1;

insert into agreement.matches (id, referral_id, broker_id, candidate_user_id, candidate_broker_id, state, invited_by)
select pg_temp.id(3, i.n), pg_temp.id(1, i.n), f.organization_id, t.user_id, t.organization_id, 'invited', f.user_id
from generate_series(current_setting('bench.from')::bigint, current_setting('bench.to')::bigint) as i (n)
join tenants as f on f.n = 1
join tenants as t on t.n = 2;
