-- name: list_readers(key, environment_id, at, after, limit)
-- Who could read a secret at a time, and who had until then; a former member is an id without a name.
-- record: Reader
-- optional: environment_id, at, after
select
    r.kind as "kind!", r.id as "id!", coalesce(u.full_name, r.name) as "name?", r.role, r.could_read as "could_read!",
    r.since, r.reads as "reads!", r.denials as "denials!", r.last_read_at
from secretstore.list_readers(:key, :environment_id, :at, :after, :limit) as r
left join shared.users as u on r.kind = 'user' and u.id = r.id
order by r.id;
