-- Who could read a secret at a time, and who had: memberships as the audit log tells of them, credentials by the times
-- that they bear, the secret by its versions and its own rows of the log.
--
-- What it does not know: whether a member had a session just then (he could have opened one), who held a master key and
-- could reach the server, and what was changed past the triggers. A JWT is its environment's, whose key minted it.
-- depends: 0330_secretstore_access

set local role brokerflow_owner;

-- Crosses into the audit log, the archived months of it included.
create function shared.members_at(organization_id uuid, moment timestamptz)
returns table (user_id uuid, role shared.member_role, since timestamptz)
language sql stable security definer
set search_path = ''
as $$
    select *
    from (
        select distinct on (l.detail ->> 'user_id')
            (l.detail ->> 'user_id')::uuid, (l.detail ->> 'to')::shared.member_role as role, l.recorded_at
        from archive.all_audit_log as l
        where l.subject = 'organization/' || members_at.organization_id and l.action like 'membership.%'
            and l.recorded_at <= members_at.moment
        order by l.detail ->> 'user_id', l.id desc
    ) as m
    where m.role is not null
$$;

comment on function shared.members_at(uuid, timestamptz) is 'Crosses into the audit log: who belonged to an organization at a time, as what, and since when. Granted to the vault.';

-- Crosses into the audit log, where strangers may have been denied what they called by the same name. Who read is a
-- user, whatever he proved himself with; or else a program.
create function shared.accesses_until(organization_id uuid, subject text, action text, moment timestamptz)
returns table (kind text, id uuid, reads bigint, denials bigint, last_read_at timestamptz)
language sql stable security definer
set search_path = ''
as $$
    select a.kind, a.id, count(*) filter (where a.outcome = 'done'), count(*) filter (where a.outcome = 'denied'),
        max(a.recorded_at) filter (where a.outcome = 'done')
    from (
        select
            case when l.user_id is null then l.credential_kind::text else 'user' end as kind,
            coalesce(l.user_id, case l.credential_kind when 'jwt' then l.environment_id else l.credential_id end) as id,
            l.outcome, l.recorded_at
        from archive.all_audit_log as l
        where l.subject = accesses_until.subject and l.action = accesses_until.action and l.recorded_at <= accesses_until.moment
            and l.organization_id = accesses_until.organization_id
    ) as a
    group by a.kind, a.id
$$;

comment on function shared.accesses_until(uuid, text, text, timestamptz) is 'Crosses into the audit log: by whom something was done to a subject until a time, how often, and how often it was denied. Granted to the vault.';

-- Crosses into the audit log.
create function shared.last_told(subject text, actions text[], moment timestamptz) returns shared.audit_log
language sql stable security definer
set search_path = ''
as $$
    select l.*
    from archive.all_audit_log as l
    where l.subject = last_told.subject and l.action = any (last_told.actions) and l.outcome = 'done'
        and l.recorded_at <= last_told.moment
    order by l.id desc
    limit 1
$$;

comment on function shared.last_told(text, text[], timestamptz) is 'Crosses into the audit log: the last row of a subject until a time. Granted to the vault.';

revoke execute on function
    shared.members_at(uuid, timestamptz), shared.accesses_until(uuid, text, text, timestamptz),
    shared.last_told(text, text[], timestamptz)
from public;
grant execute on function
    shared.members_at(uuid, timestamptz), shared.accesses_until(uuid, text, text, timestamptz),
    shared.last_told(text, text[], timestamptz)
to brokerflow_vault;

set local role brokerflow_guard;

-- Crosses into the credentials, of which it names no digest.
create function apiauth.programs_with(scope text, organization_id uuid, environment_id uuid)
returns table (kind shared.credential_kind, id uuid, name text, began_at timestamptz, ended_at timestamptz)
language sql stable security definer
set search_path = ''
as $$
    select 'organization_token'::shared.credential_kind, t.id, t.name, t.created_at, least(t.expires_at, t.revoked_at)
    from apiauth.organization_tokens as t
    where t.organization_id = programs_with.organization_id and programs_with.scope = any (t.scopes)
    union all
    select k.kind, k.id, '...' || k.token_hint, k.created_at, k.expires_at
    from apiauth.environment_keys as k
    where k.organization_id = programs_with.organization_id and k.environment_id = programs_with.environment_id
        and programs_with.scope = any (apiauth.scopes_of(k.kind))
$$;

comment on function apiauth.programs_with(text, uuid, uuid) is 'Crosses into the credentials: the tokens of an organization and the keys of an environment that ever bore a scope, and from when to when. Granted to the vault.';

revoke execute on function apiauth.programs_with(text, uuid, uuid) from public;
grant execute on function apiauth.programs_with(text, uuid, uuid) to brokerflow_vault;

set local role brokerflow_vault;

create function secretstore.was_readable(secret secretstore.secrets, moment timestamptz) returns boolean
language plpgsql stable
set search_path = ''
as $$
declare
    v_subject text := secretstore.subject_of((was_readable.secret).organization_id, (was_readable.secret).environment_id, (was_readable.secret).key);
    v_told shared.audit_log := shared.last_told(
        v_subject, array['secret.write', 'secret.rollback', 'secret.delete', 'secret.undelete'], was_readable.moment
    );
    v_put shared.audit_log := shared.last_told(v_subject, array['secret.write', 'secret.rollback'], was_readable.moment);
begin
    return coalesce(v_told.action <> 'secret.delete', false)
        and coalesce((v_put.detail ->> 'expires_at')::timestamptz > was_readable.moment, true)
        and not exists (
            select from secretstore.secret_versions as v
            where v.secret_id = (was_readable.secret).id and v.version = (v_put.detail ->> 'version')::integer
                and v.destroyed_at <= was_readable.moment
        );
end;
$$;

comment on function secretstore.was_readable(secretstore.secrets, timestamptz) is 'Whether a key had a value at a time: put, neither deleted nor expired nor destroyed.';

-- Crosses into what the audit log and the credentials tell the vault. It names persons, so a person asks.
create function secretstore.list_readers(key text, environment_id uuid, moment timestamptz, after uuid, count integer)
returns table (
    kind text, id uuid, name text, role shared.member_role, could_read boolean, since timestamptz, reads bigint, denials bigint,
    last_read_at timestamptz
)
language plpgsql stable security definer
set search_path = ''
as $$
declare
    v_scope secretstore.scope := secretstore.acting_scope('secrets:write', list_readers.environment_id);
    v_moment timestamptz := coalesce(list_readers.moment, shared.clock());
    v_secret secretstore.secrets;
    v_readable boolean;
begin
    perform shared.acting_person();
    select * into v_secret from secretstore.secrets as s where s.scope_id = v_scope.id and s.key = list_readers.key;
    if not found then
        perform shared.refuse('not_found', 'there is no such secret, or it is not yours', 'no_data_found');
    end if;
    v_readable := secretstore.was_readable(v_secret, v_moment);
    return query
    with able as (
        select 'user' as kind, m.user_id as id, null as name, m.role, m.since, m.role >= shared.minimum_role('secrets:read') as is_able
        from shared.members_at(v_scope.organization_id, v_moment) as m
        union all
        select p.kind::text, p.id, p.name, null, p.began_at, p.began_at <= v_moment and coalesce(p.ended_at > v_moment, true)
        from apiauth.programs_with('secrets:read', v_scope.organization_id, v_scope.environment_id) as p
    )
    select
        r.kind, r.id, a.name, a.role, coalesce(a.is_able, false) and v_readable, case when a.is_able then a.since end,
        coalesce(d.reads, 0), coalesce(d.denials, 0), d.last_read_at
    from able as a
    full join shared.accesses_until(
        v_scope.organization_id, secretstore.subject_of(v_scope.organization_id, v_scope.environment_id, list_readers.key),
        'secret.read', v_moment
    ) as d using (kind, id) as r
    where (a.is_able and v_readable or d.id is not null) and coalesce(r.id > list_readers.after, true)
    order by r.id
    limit list_readers.count;
end;
$$;

comment on function secretstore.list_readers(text, uuid, timestamptz, uuid, integer) is
    'Crosses into memberships, credentials and the audit log: who could read a key at a time, and who had until then, in the order of their ids.';

revoke execute on function secretstore.list_readers(text, uuid, timestamptz, uuid, integer) from public;
grant execute on function secretstore.list_readers(text, uuid, timestamptz, uuid, integer) to brokerflow_app;
