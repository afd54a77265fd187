-- name: add_member(organization_id, email, role)<!
-- Add a registered user to an organization.
-- record: Membership
select m.organization_id, m.user_id, m.role, m.created_at
from shared.add_member(:organization_id, :email, :role) as m;

-- name: list_members(organization_id, after, limit)
-- List the members of one of the caller's organizations.
-- record: Member
-- optional: after
select m.user_id, u.email, u.full_name, m.role, m.created_at
from shared.memberships as m
join shared.users as u on u.id = m.user_id
where m.organization_id = :organization_id and m.user_id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
order by m.user_id
limit :limit;

-- name: change_member(organization_id, user_id, role)^
-- Give a member another role.
-- record: Membership
update shared.memberships as m
set role = :role
where m.organization_id = :organization_id and m.user_id = :user_id
returning m.organization_id, m.user_id, m.role, m.created_at;

-- name: remove_member(organization_id, user_id)^
-- Remove a member, or leave.
-- record: Membership
delete from shared.memberships as m
where m.organization_id = :organization_id and m.user_id = :user_id
returning m.organization_id, m.user_id, m.role, m.created_at;
