-- name: create_project(organization_id, name, slug)<!
-- Create a project of an organization.
-- record: Project
select p.id, p.organization_id, p.name, p.slug, p.created_at
from shared.create_project(:organization_id, :name, :slug) as p;

-- name: list_projects(organization_id, after, limit)
-- List the projects of one of the caller's organizations, in order of their creation.
-- record: Project
-- optional: after
select p.id, p.organization_id, p.name, p.slug, p.created_at
from shared.projects as p
where p.organization_id = :organization_id and p.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
order by p.id
limit :limit;

-- name: get_project(id)^
-- Return a project that the caller may see.
-- record: Project
select p.id, p.organization_id, p.name, p.slug, p.created_at
from shared.projects as p
where p.id = :id;

-- name: get_environment(id)^
-- Return an environment that the caller may see.
-- record: Environment
select e.id, e.organization_id, e.project_id, e.slug, e.type, e.created_at
from shared.environments as e
where e.id = :id;

-- name: get_environment_of_project(id, project_id)^
-- Return an environment that the caller may see, if it is of this project.
-- record: Environment
select e.id, e.organization_id, e.project_id, e.slug, e.type, e.created_at
from shared.environments as e
where e.id = :id and e.project_id = :project_id;

-- name: list_environments(project_id, after, limit)
-- List the environments of a project, in order of their creation.
-- record: Environment
-- optional: after
select e.id, e.organization_id, e.project_id, e.slug, e.type, e.created_at
from shared.environments as e
where e.project_id = :project_id and e.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
order by e.id
limit :limit;
