-- Who may see and touch what in shared. The policy stands before the grant; what is not granted is said.
-- depends: 0120_shared_commands

set local role brokerflow_owner;

alter table shared.axioms enable row level security;
alter table shared.users enable row level security;
alter table shared.organizations enable row level security;
alter table shared.memberships enable row level security;
alter table shared.projects enable row level security;
alter table shared.environments enable row level security;
alter table shared.preview_branches enable row level security;
alter table shared.platform_admins enable row level security;
alter table shared.idempotency_keys enable row level security;
alter table shared.outbox enable row level security;
alter table shared.audit_log enable row level security;
alter table archive.outbox enable row level security;
alter table archive.audit_log enable row level security;
alter table archive.months enable row level security;

-- Everybody may know the rules.
-- Waived policies_open_to_the_service: shared.axioms select_anyone. They are printed in the README.
create policy select_anyone on shared.axioms for select to public using (true);
grant select on shared.axioms to brokerflow_app, brokerflow_auditor;

-- A person sees himself and those he shares an organization with. Insert is the guard's (registration).
create policy select_colleague on shared.users for select to brokerflow_app
using (
    id = (select shared.current_user_id())
    or exists (
        select from shared.memberships as m
        where m.user_id = users.id and m.organization_id = any ((select shared.current_organization_ids())::uuid[])
    )
);
grant select on shared.users to brokerflow_app;

create policy select_guard on shared.users for select to brokerflow_guard using (true);
create policy insert_guard on shared.users for insert to brokerflow_guard with check (true);
grant select, insert (email, full_name), references (id) on shared.users to brokerflow_guard;

-- A key sees the organization, project and environment that it is of, and nobody's name.
create policy select_member on shared.organizations for select to brokerflow_app
using (id = any ((select shared.current_organization_ids())::uuid[]));
-- Waived policies_side_by_side: shared.organizations for r to brokerflow_app. A person's and a program's way in; no credential has both.
create policy select_key on shared.organizations for select to brokerflow_app
using (id = (select shared.current_organization_id()));
create policy insert_founder on shared.organizations for insert to brokerflow_app
with check ((select shared.acting_person()) is not null and shared.can_use('organizations:write'));
grant select, insert (title, slug) on shared.organizations to brokerflow_app;

create policy select_guard on shared.organizations for select to brokerflow_guard using (true);
grant select, references (id) on shared.organizations to brokerflow_guard;

-- Insert is not granted: add_member asks for an address. An owner is made by an owner. One may always leave; removing
-- others takes an admin, removing an owner an owner.
create policy select_member on shared.memberships for select to brokerflow_app
using (organization_id = any ((select shared.current_organization_ids())::uuid[]));
create policy update_admin on shared.memberships for update to brokerflow_app
using (shared.can_administer(organization_id, greatest(role, 'admin')))
with check (shared.can_administer(organization_id, greatest(role, 'admin')));
create policy delete_admin on shared.memberships for delete to brokerflow_app
using (
    (user_id = (select shared.current_user_id()) and shared.can_use('organizations:write'))
    or shared.can_administer(organization_id, greatest(role, 'admin'))
);
grant select, update (role), delete on shared.memberships to brokerflow_app;

create policy select_guard on shared.memberships for select to brokerflow_guard using (true);
grant select on shared.memberships to brokerflow_guard;

-- Update and delete are not granted: a slug is in the configuration of programs, a type in the prefix of keys.
create policy select_member on shared.projects for select to brokerflow_app
using (organization_id = any ((select shared.current_organization_ids())::uuid[]));
-- Waived policies_side_by_side: shared.projects for r to brokerflow_app. As above.
create policy select_key on shared.projects for select to brokerflow_app
using (id = (select e.project_id from shared.environments as e where e.id = (select shared.current_environment_id())));
create policy insert_builder on shared.projects for insert to brokerflow_app
with check (shared.can_build(organization_id));
grant select, insert (organization_id, name, slug) on shared.projects to brokerflow_app;

-- Waived policies_without_an_index: shared.environments select_member. They are asked for by project, and that has one.
create policy select_member on shared.environments for select to brokerflow_app
using (organization_id = any ((select shared.current_organization_ids())::uuid[]));
-- Waived policies_side_by_side: shared.environments for r to brokerflow_app. As above.
create policy select_key on shared.environments for select to brokerflow_app
using (id = (select shared.current_environment_id()));
create policy insert_builder on shared.environments for insert to brokerflow_app
with check (shared.can_build(organization_id));
grant select, insert (organization_id, project_id, slug, type) on shared.environments to brokerflow_app;

create policy select_guard on shared.environments for select to brokerflow_guard using (true);
grant select, references (id, organization_id) on shared.environments to brokerflow_guard;

-- Who sees an environment sees its branches. Delete is not granted: branches are archived.
create policy select_member on shared.preview_branches for select to brokerflow_app
using (exists (select from shared.environments as e where e.id = environment_id));
create policy insert_builder on shared.preview_branches for insert to brokerflow_app
with check (shared.can_build((select e.organization_id from shared.environments as e where e.id = environment_id)));
create policy update_builder on shared.preview_branches for update to brokerflow_app
using (shared.can_build((select e.organization_id from shared.environments as e where e.id = environment_id)));
grant select, insert (environment_id, name), update (archived_at) on shared.preview_branches to brokerflow_app;

create policy select_guard on shared.preview_branches for select to brokerflow_guard using (true);
grant select on shared.preview_branches to brokerflow_guard;

create policy select_guard on shared.platform_admins for select to brokerflow_guard using (true);
grant select on shared.platform_admins to brokerflow_guard;

-- Update and delete are not granted: what was answered was answered.
create policy select_actor on shared.idempotency_keys for select to brokerflow_app
using (actor_id = (select shared.current_actor_id()));
create policy insert_actor on shared.idempotency_keys for insert to brokerflow_app
with check (actor_id = (select shared.current_actor_id()));
grant select, insert (user_id, environment_id, organization_id, key, route, request_digest, status, response) on shared.idempotency_keys to brokerflow_app;

-- The service has no grant on outbox, audit_log and platform_admins: triggers and commands write them.

create policy select_auditor on shared.users for select to brokerflow_auditor using (true);
create policy select_auditor on shared.organizations for select to brokerflow_auditor using (true);
create policy select_auditor on shared.memberships for select to brokerflow_auditor using (true);
create policy select_auditor on shared.projects for select to brokerflow_auditor using (true);
create policy select_auditor on shared.environments for select to brokerflow_auditor using (true);
create policy select_auditor on shared.preview_branches for select to brokerflow_auditor using (true);
create policy select_auditor on shared.platform_admins for select to brokerflow_auditor using (true);
create policy select_auditor on shared.idempotency_keys for select to brokerflow_auditor using (true);
create policy select_auditor on shared.outbox for select to brokerflow_auditor using (true);
create policy select_auditor on shared.audit_log for select to brokerflow_auditor using (true);
create policy select_auditor on archive.outbox for select to brokerflow_auditor using (true);
create policy select_auditor on archive.audit_log for select to brokerflow_auditor using (true);
create policy select_auditor on archive.months for select to brokerflow_auditor using (true);
grant select on
    shared.users, shared.organizations, shared.memberships, shared.projects, shared.environments, shared.preview_branches,
    shared.platform_admins, shared.idempotency_keys, shared.outbox, shared.audit_log,
    archive.outbox, archive.audit_log, archive.all_outbox, archive.all_audit_log, archive.months
to brokerflow_auditor;
