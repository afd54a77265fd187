-- name: create_branch(environment_id, name)<!
-- Create a branch of a PREVIEW environment.
-- record: Branch
select b.id, b.environment_id, b.name, b.created_at, b.archived_at
from shared.create_branch(:environment_id, :name) as b;

-- name: list_branches(environment_id, after, limit)
-- List the branches of an environment, in order of their creation.
-- record: Branch
-- optional: after
select b.id, b.environment_id, b.name, b.created_at, b.archived_at
from shared.preview_branches as b
where b.environment_id = :environment_id and b.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
order by b.id
limit :limit;

-- name: archive_branch(environment_id, id)^
-- Archive a live branch; its name may be taken again.
-- record: Branch
update shared.preview_branches as b
set archived_at = shared.clock()
where b.id = :id and b.environment_id = :environment_id and b.archived_at is null
returning b.id, b.environment_id, b.name, b.created_at, b.archived_at;
