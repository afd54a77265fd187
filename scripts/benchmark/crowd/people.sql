-- Who takes part: the two brokers of the benchmark, as tenants 1 and 2, and as many others as it says.
--
-- For a superuser with session_replication_role = replica, in the session that loads the rest. Set bench.organizations,
-- and fill known_digests with what the entrance takes of the tokens of as many others, from tenant 3 on.
create function pg_temp.id(kind integer, n bigint) returns uuid
language sql immutable
as $$ select (lpad(to_hex(n), 12, '0') || '70008000' || lpad(to_hex(kind), 12, '0'))::uuid $$;

create temporary table tenants as
select
    n, pg_temp.id(10, n) as organization_id, pg_temp.id(11, n) as user_id, pg_temp.id(12, n) as session_id
from generate_series(3, current_setting('bench.organizations')::integer) as n;

insert into shared.users (id, email, full_name)
select t.user_id, 'tenant-' || t.n || '@broker.example', 'Tenant ' || t.n from tenants as t;

insert into shared.organizations (id, title, slug)
select t.organization_id, 'Tenant ' || t.n, 'tenant-' || t.n from tenants as t;

insert into shared.memberships (organization_id, user_id, role)
select t.organization_id, t.user_id, 'owner' from tenants as t;

insert into agreement.brokers (id, name)
select t.organization_id, 'Tenant ' || t.n from tenants as t;

insert into agreement.broker_registrations (broker_id, fein)
select t.organization_id, '12-3456789' from tenants as t;

insert into apiauth.sessions (id, user_id, digest, idle, expires_at)
select t.session_id, t.user_id, sha256(coalesce(k.digest, uuid_send(gen_random_uuid()))), '1 day', shared.clock() + interval '7 days'
from tenants as t
left join known_digests as k on k.n = t.n;

insert into tenants
select b.n, o.id, u.id, s.id
from (values (1, 'north'), (2, 'south')) as b (n, slug)
join shared.organizations as o on o.slug = b.slug
join shared.users as u on u.email = b.slug || '@broker.example'
cross join lateral (select * from apiauth.sessions as l where l.user_id = u.id order by l.created_at limit 1) as s;

create unique index on tenants (n);

-- What is loaded next. steps: 1 a draft, 2 pending, 3 effective.
create temporary table deals (
    n bigint primary key, referral_id uuid not null, agreement_id uuid not null, steps integer not null,
    from_tenant integer not null, to_tenant integer not null, began_at timestamptz not null
);
