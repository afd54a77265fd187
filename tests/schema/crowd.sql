-- A user, an organization, an environment and each of their credentials, by one number.
--
-- For a superuser with session_replication_role = replica; brokerflow.crowd says how many.

create function pg_temp.u(kind text, n integer) returns uuid
language sql immutable as $$ select md5(kind || n)::uuid $$;
create function pg_temp.d(kind text, n integer) returns bytea
language sql immutable as $$ select sha256((kind || n)::bytea) $$;
create temporary table crowd as
select n from generate_series(1, current_setting('brokerflow.crowd')::integer) as n;

insert into shared.users (id, email, full_name)
select pg_temp.u('user', n), 'user-' || n || '@example.net', 'x' from crowd;
insert into shared.organizations (id, title, slug)
select pg_temp.u('organization', n), 'x', 'organization-' || n from crowd;
insert into shared.memberships (organization_id, user_id, role)
select pg_temp.u('organization', n), pg_temp.u('user', n), 'owner' from crowd;
insert into shared.projects (id, organization_id, name, slug)
select pg_temp.u('project', n), pg_temp.u('organization', n), 'x', 'x' from crowd;
insert into shared.environments (id, organization_id, project_id, slug, type)
select pg_temp.u('environment', n), pg_temp.u('organization', n), pg_temp.u('project', n), 'x', 'PREVIEW' from crowd;
insert into shared.preview_branches (environment_id, name) select pg_temp.u('environment', n), 'main' from crowd;

insert into apiauth.passwords (user_id, salt, method, key_digest)
select pg_temp.u('user', n), decode(md5('salt ' || n), 'hex'), '$argon2id$v=19$m=8,t=1,p=1', pg_temp.d('password', n) from crowd;
insert into apiauth.sessions (user_id, digest, idle, expires_at)
select pg_temp.u('user', n), pg_temp.d('session', n), '1 hour', now() + interval '1 day' from crowd;
insert into apiauth.personal_tokens (user_id, name, digest, token_hint, scopes, expires_at)
select pg_temp.u('user', n), 'x', pg_temp.d('personal', n), 'abcd', '{tokens:write}', now() + interval '1 day'
from crowd;
insert into apiauth.organization_tokens (organization_id, name, digest, token_hint, scopes)
select pg_temp.u('organization', n), 'x', pg_temp.d('organization', n), 'abcd', '{tokens:write}' from crowd;
insert into apiauth.environment_keys (organization_id, environment_id, kind, digest, token_hint)
select pg_temp.u('organization', n), pg_temp.u('environment', n), k.kind, pg_temp.d(k.kind::text, n), 'abcd'
from crowd, unnest('{secret_key,public_key}'::shared.credential_kind[]) as k (kind);
insert into apiauth.used_jwts (jti, used_by, expires_at)
select pg_temp.u('jwt', n), decode(md5('x'), 'hex'), now() + interval '1 day' from crowd;
insert into apiauth.rate_buckets (key, level, filled_at, is_taken, full_before)
select pg_temp.d('bucket', n), 1, now(), true, now() + interval '1 minute' from crowd;
insert into apiauth.identities (issuer, subject, user_id)
select 'https://id.example', 'subject-' || n, pg_temp.u('user', n) from crowd;
insert into apiauth.device_codes (device_digest, user_digest, name, address, scopes, token_lifetime, expires_at)
select pg_temp.d('device', n), pg_temp.d('code', n), 'x', '192.0.2.7', '{tokens:write}', '1 day',
    now() + interval '9 minutes'
from crowd;
insert into apiauth.esign_keys (digest) select pg_temp.d('esign', n) from crowd;
insert into apiauth.key_halves (digest) select pg_temp.d('half', n) from crowd;
insert into apiauth.logouts (user_id, ended_before) select pg_temp.u('user', n), '-infinity' from crowd;
insert into apiauth.ended_tickets (session_id, expires_at)
select pg_temp.u('ticket', n), now() + interval '1 day' from crowd;
insert into apiauth.impersonations (admin_id, user_id, reason, ends_at)
select pg_temp.u('user', n), pg_temp.u('user', n % 10000 + 1), 'x', now() + interval '59 minutes' from crowd;
