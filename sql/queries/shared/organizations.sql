-- name: create_organization(title, slug)<!
-- Create an organization that its founder owns.
-- record: Organization
select o.id, o.title, o.slug, o.created_at
from shared.create_organization(:title, :slug) as o;

-- name: list_organizations(after, limit)
-- List the organizations of the caller, in order of their creation.
-- record: Organization
-- optional: after
select o.id, o.title, o.slug, o.created_at
from shared.organizations as o
-- As their policies say, once more: of two policies no index finds the rows.
where o.id = any (shared.current_organization_ids() || shared.current_organization_id()) and o.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
order by o.id
limit :limit;

-- name: get_organization(id)^
-- Return one of the caller's organizations.
-- record: Organization
select o.id, o.title, o.slug, o.created_at
from shared.organizations as o
where o.id = :id;
