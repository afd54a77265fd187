-- Who is there before the stress begins: made by the service's role, through what the service calls.

-- name: register(email, name, key)
-- Register a person. No password was stretched for the key: it is random.
select u.id
from apiauth.register(:email, :name, decode(repeat('00', 16), 'hex'), :key, '$argon2id$v=19$m=65536,t=3,p=1') as u;

-- name: log_in(email, key, digest)
-- Open a session.
select s.session_id as id
from apiauth.open_session(:email, :key, :digest, interval '1 day', interval '2 days') as s;

-- name: found(title, slug)
-- Found an organization.
select o.id
from shared.create_organization(:title, :slug) as o;

-- name: found_broker(organization_id, name)
-- Make it a broker.
select b.id
from agreement.register_broker(:organization_id, :name, '12-3456789') as b;

-- name: join_broker(organization_id, email, role)
-- Take somebody on.
select m.user_id as id
from shared.add_member(:organization_id, :email, :role::shared.member_role) as m;

-- name: trust(digest)
-- Introduce the signing service's secret, as the service does when it starts.
select apiauth.trust_esign_keys(array[:digest::bytea]) as id;

-- name: appoint(email)
-- Make somebody a judge, as the owner.
select shared.grant_platform_admin(:email) as is_judge;

-- name: inhabited()
-- Databases of this server, but those of tests, in which the service's role may do something.
select distinct d.datname
from pg_catalog.pg_shdepend as s
join pg_catalog.pg_database as d
    on d.oid = s.dbid or (s.dbid = 0 and s.classid = 'pg_catalog.pg_database'::regclass and d.oid = s.objid)
where s.refobjid = to_regrole('brokerflow_app') and d.datname !~ '^brokerflow_(test|stress)_'
order by d.datname;
