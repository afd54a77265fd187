-- O14: A credential could be replayed, has no end, or acted after it.
-- axioms: A10
--
-- The guard describes the credentials; their digests stay there. A transaction that had entered when its credential
-- ended may finish, and none lasts as long as is allowed for here.
with credentials as (
    select * from apiauth.describe_credentials()
),
deeds as (
    select e.credential_id, max(e.recorded_at) as last_at
    from archive.all_timeline_events as e
    where e.credential_id is not null
    group by e.credential_id
    union all
    select l.credential_id, max(l.recorded_at)
    from archive.all_audit_log as l
    where l.credential_id is not null
    group by l.credential_id
)
select f.subject, f.finding
from (
    select c.kind || '/' || coalesce(c.id::text, c.user_id::text, c.created_at::text) as subject, c.finding
    from credentials as c
    where c.finding is not null
    union
    select c.kind || '/' || c.id, 'it acted after it had ended'
    from credentials as c
    join deeds as d on d.credential_id = c.id
    where d.last_at > least(c.expires_at, c.revoked_at) + interval '15 minutes'
) as f
order by f.subject, f.finding;
