-- name: whoami()<!
-- Tell what the credential that asks proves; null scopes are all.
-- record: Whoami
select
    a.kind as "kind!", a.credential_id as "credential_id!", a.user_id as "user_id?", a.organization_id as "organization_id?",
    (select o.slug from shared.organizations as o where o.id = a.organization_id) as "organization?",
    a.environment_id as "environment_id?",
    (select e.slug from shared.environments as e where e.id = a.environment_id) as "environment?",
    (select b.name from shared.preview_branches as b where b.id = a.branch_id) as "branch?",
    a.role as "role?", a.scopes as "scopes?", a.is_platform_admin as "is_platform_admin!",
    a.impersonator_id as "impersonator_id?"
from shared.current_actor() as a;

-- name: me()<!
-- Return the user whose credential asks.
-- record: User
select u.id, u.email, u.full_name, u.created_at
from shared.users as u
where u.id = shared.current_user_id();
