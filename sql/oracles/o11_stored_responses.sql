-- O11: A key has two responses, or one that is bound to no request or was no success.
-- axioms: A6
with keys as (
    select
        k.actor_id, k.key, case
            when count(*) over (partition by k.actor_id, k.key) > 1 then 'the key has more than one response'
            when octet_length(k.request_digest) <> 32 or k.route = '' then 'the response is bound to no request'
            when k.status not between 200 and 299 then format('the response is %s, which is no success', k.status)
            when k.created_at > now() + interval '1 minute' then 'the response is of the future'
            when coalesce(u.id, e.id, o.id) is null then 'the key is nobody''s'
        end as finding
    from shared.idempotency_keys as k
    left join shared.users as u on u.id = k.user_id
    left join shared.environments as e on e.id = k.environment_id
    left join shared.organizations as o on o.id = k.organization_id
)
select 'actor/' || k.actor_id as subject, k.finding, k.key
from keys as k
where k.finding is not null
order by subject, k.key, k.finding;
