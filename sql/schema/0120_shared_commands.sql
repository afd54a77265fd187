-- What may be asked of shared: organizations and their members, stored responses, denials, platform admins.
-- depends: 0110_shared_rules

set local role brokerflow_owner;

-- Crosses row security, since the policies on memberships ask it. An array, so that indexes serve the comparison.
-- Spared by scripts/mutate: function shared.current_organization_ids(): owned by brokerflow_guard. The guard sees every membership too, and this asks for nothing else.
create function shared.current_organization_ids() returns uuid[]
language sql stable parallel restricted security definer
set search_path = ''
as $$
    select array(
        select m.organization_id from shared.memberships as m where m.user_id = (select shared.current_user_id())
        union all
        select a.organization_id from shared.current_actor() as a where a.kind = 'organization_token'
    )
$$;

comment on function shared.current_organization_ids() is 'Axiom A9: nobody sees another tenant''s rows. The organizations of the proved user, however many he works in; that of an organization''s token.';
revoke execute on function shared.current_organization_ids() from public;
grant execute on function shared.current_organization_ids() to brokerflow_app;

-- Crosses row security, likewise.
-- Spared by scripts/mutate: function shared.member_role_in(organization_id uuid): as its caller. Everybody sees his own memberships; this look costs no policy again.
create function shared.member_role_in(organization_id uuid) returns shared.member_role
language sql stable parallel restricted security definer
set search_path = ''
as $$
    select m.role
    from shared.memberships as m
    where m.organization_id = member_role_in.organization_id
        and m.user_id = (select shared.current_user_id())
$$;

comment on function shared.member_role_in(uuid) is 'The role of the actor''s user in an organization, or null.';
revoke execute on function shared.member_role_in(uuid) from public;
grant execute on function shared.member_role_in(uuid) to brokerflow_app, brokerflow_guard;

-- Policies compare a row's person with this. It raises, so that a credential without the scope is told so.
create function shared.acting_user(scope text) returns uuid
language plpgsql stable parallel restricted
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
begin
    if not acting_user.scope = any (coalesce(v_actor.scopes, array[acting_user.scope])) then
        perform shared.refuse(
            'credential_scope', format('the credential lacks the scope %s', acting_user.scope), 'insufficient_privilege'
        );
    end if;
    return v_actor.user_id;
end;
$$;

comment on function shared.acting_user(text) is 'Axiom A9: who asks is proved. The actor''s user, or null, if his credential bears the scope; policies that ask for a person compare with it.';
grant execute on function shared.acting_user(text) to brokerflow_app, brokerflow_guard;

-- Policies ask it where the tenant is another question.
create function shared.can_use(scope text) returns boolean
language plpgsql stable parallel restricted
set search_path = ''
as $$
begin
    perform shared.acting_user(can_use.scope);
    return true;
end;
$$;

comment on function shared.can_use(text) is 'Whether the actor''s credential bears a scope; raises where it does not.';
grant execute on function shared.can_use(text) to brokerflow_app, brokerflow_guard;

-- The organization in question need not be the one the actor works in. A member of too low a role is told so (403);
-- to a stranger the organization does not exist (404).
create function shared.can_administer(organization_id uuid, minimum shared.member_role default 'admin') returns boolean
language plpgsql stable parallel restricted
set search_path = ''
as $$
declare
    v_role shared.member_role := shared.member_role_in(can_administer.organization_id);
begin
    if can_administer.organization_id = shared.current_organization_id() then
        perform shared.acting_person();
    end if;
    if v_role is null or not shared.can_use('organizations:write') then
        return false;
    end if;
    if v_role < can_administer.minimum then
        perform shared.refuse(
            'member_role', format('this takes the role %s, yours is %s', can_administer.minimum, v_role), 'insufficient_privilege'
        );
    end if;
    return true;
end;
$$;

comment on function shared.can_administer(uuid, shared.member_role) is 'Whether the actor has at least this role in an organization; raises where he is a member and his role or credential is too weak.';
grant execute on function shared.can_administer(uuid, shared.member_role) to brokerflow_app, brokerflow_guard;

-- Roles and tokens are given by persons, lest a leaked token appoint its successors. Projects and environments are
-- also a program's to make.
create function shared.can_build(organization_id uuid) returns boolean
language plpgsql stable parallel restricted
set search_path = ''
as $$
begin
    if (shared.current_actor()).kind = 'organization_token' and can_build.organization_id = shared.current_organization_id() then
        return shared.can_use('organizations:write');
    end if;
    return shared.can_administer(can_build.organization_id);
end;
$$;

comment on function shared.can_build(uuid) is 'Whether the actor may make projects, environments and keys in an organization: its admins, and its tokens with organizations:write.';
grant execute on function shared.can_build(uuid) to brokerflow_app, brokerflow_guard;

-- A command, because the new row is visible to its founder only after the trigger has made him a member: by its slug,
-- since an id that may be chosen could be another's.
create function shared.create_organization(title text, slug text) returns shared.organizations
language plpgsql volatile
set search_path = ''
as $$
declare
    v_organization shared.organizations;
begin
    insert into shared.organizations (title, slug) values (create_organization.title, create_organization.slug);
    select * into v_organization from shared.organizations as o where o.slug = create_organization.slug;
    return v_organization;
end;
$$;

comment on function shared.create_organization(text, text) is 'Creates an organization that its founder owns.';
grant execute on function shared.create_organization(text, text) to brokerflow_app;

-- As add_member, its one caller: an admin may find by address whom he cannot see yet.
create function shared.find_user_by_email(email text) returns uuid
language sql stable
set search_path = ''
as $$
    select u.id
    from shared.users as u
    where shared.address_key(u.email) = shared.address_key(find_user_by_email.email)
        and exists (select from shared.memberships as m where m.user_id = shared.current_user_id() and m.role >= 'admin')
$$;

comment on function shared.find_user_by_email(text) is 'The user of an address, for an actor who administers some organization. Granted to nobody: add_member calls it.';
revoke execute on function shared.find_user_by_email(text) from public;

-- Crosses the membership policy: who is added is known by his address, and by nothing else. Were a plain INSERT
-- granted, an admin could make any user whose id he has seen his own member, and read his address.
create function shared.add_member(organization_id uuid, email text, role shared.member_role) returns shared.memberships
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_user_id uuid := shared.find_user_by_email(add_member.email);
    v_membership shared.memberships;
begin
    if not shared.can_administer(add_member.organization_id, greatest(add_member.role, 'admin')) then
        perform shared.refuse('memberships_organization_id_fkey', 'there is no such organization, or it is not yours', 'no_data_found');
    end if;
    if v_user_id is null then
        perform shared.refuse('memberships_user_id_fkey', 'nobody is registered with this email', 'no_data_found');
    end if;
    insert into shared.memberships as m (organization_id, user_id, role)
    values (add_member.organization_id, v_user_id, add_member.role)
    on conflict on constraint memberships_pkey do nothing
    returning m.* into v_membership;
    if not found then
        perform shared.refuse('memberships_pkey', 'who is added is a member already', 'unique_violation');
    end if;
    return v_membership;
end;
$$;

comment on function shared.add_member(uuid, text, shared.member_role) is
    'Axiom A9: nobody sees another tenant''s rows. Adds a user by his address to an organization that the actor administers; an owner is made by an owner.';
revoke execute on function shared.add_member(uuid, text, shared.member_role) from public;
grant execute on function shared.add_member(uuid, text, shared.member_role) to brokerflow_app;

-- A command, since a plain INSERT would tell a stranger that he may not, rather than that there is no such thing.
create function shared.create_project(organization_id uuid, name text, slug text) returns shared.projects
language plpgsql volatile
set search_path = ''
as $$
declare
    v_project shared.projects;
begin
    if not shared.can_build(create_project.organization_id) then
        perform shared.refuse('not_found', 'there is no such organization, or it is not yours', 'no_data_found');
    end if;
    insert into shared.projects as p (organization_id, name, slug)
    values (create_project.organization_id, create_project.name, create_project.slug)
    returning p.* into v_project;
    return v_project;
end;
$$;

comment on function shared.create_project(uuid, text, text) is 'Creates a project of an organization in which the actor may build.';
grant execute on function shared.create_project(uuid, text, text) to brokerflow_app;

create function shared.create_environment(project_id uuid, slug text, type shared.environment_type) returns shared.environments
language plpgsql volatile
set search_path = ''
as $$
declare
    v_environment shared.environments;
begin
    insert into shared.environments as e (organization_id, project_id, slug, type)
    select p.organization_id, p.id, create_environment.slug, create_environment.type
    from shared.projects as p
    where p.id = create_environment.project_id
    returning e.* into v_environment;
    if not found then
        perform shared.refuse('not_found', 'there is no such project, or it is not yours', 'no_data_found');
    end if;
    return v_environment;
end;
$$;

comment on function shared.create_environment(uuid, text, shared.environment_type) is 'Creates an environment of a project, in an organization in which the actor may build.';
grant execute on function shared.create_environment(uuid, text, shared.environment_type) to brokerflow_app;

create function shared.create_branch(environment_id uuid, name text) returns shared.preview_branches
language plpgsql volatile
set search_path = ''
as $$
declare
    v_branch shared.preview_branches;
begin
    insert into shared.preview_branches as b (environment_id, name)
    select e.id, create_branch.name
    from shared.environments as e
    where e.id = create_branch.environment_id
    returning b.* into v_branch;
    if not found then
        perform shared.refuse('not_found', 'there is no such environment, or it is not yours', 'no_data_found');
    end if;
    return v_branch;
end;
$$;

comment on function shared.create_branch(uuid, text) is 'Creates a branch of a PREVIEW environment, in an organization in which the actor may build.';
grant execute on function shared.create_branch(uuid, text) to brokerflow_app;

-- A second command with the same key waits for nobody: the lock is tried, and a taken one is said to be in flight.
-- Spared by scripts/mutate: function shared.find_response(key text, route text, request_digest bytea): as its owner. It asks for the actor's own key in so many words, and the policy says the same.
create function shared.find_response(key text, route text, request_digest bytea) returns table (status smallint, response bytea)
language plpgsql volatile
set search_path = ''
as $$
declare
    v_actor_id uuid := shared.current_actor_id();
    v_stored shared.idempotency_keys;
begin
    if not pg_try_advisory_xact_lock(hashtextextended(find_response.key, hashtextextended(v_actor_id::text, 0))) then
        perform shared.refuse('idempotency_keys_once_an_actor', 'a request with this key is being answered', 'lock_not_available');
    end if;
    select * into v_stored from shared.idempotency_keys as k where k.actor_id = v_actor_id and k.key = find_response.key;
    if not found then
        return;
    end if;
    if (v_stored.route, v_stored.request_digest) is distinct from (find_response.route, find_response.request_digest) then
        perform shared.refuse('idempotency_keys_once_an_actor', 'the key was used with another request');
    end if;
    return query select v_stored.status, v_stored.response;
end;
$$;

comment on function shared.find_response(text, text, bytea) is
    'Axiom A6: a command with an Idempotency-Key happens once. The stored response, or nothing and the key is this transaction''s; another request or one in flight is refused.';
grant execute on function shared.find_response(text, text, bytea) to brokerflow_app;

-- Crosses into the audit log. It can only say that the proved actor was denied: nobody denies in another's name.
create function shared.record_denial(action text, subject text, reason text, request_id text) returns void
language plpgsql volatile security definer
set search_path = ''
as $$
begin
    if shared.current_actor() is null then
        perform shared.refuse('current_actor', 'a denial names a proved actor', 'invalid_authorization_specification');
    end if;
    perform shared.write_audit(record_denial.action, record_denial.subject, 'denied', record_denial.reason, request_id => record_denial.request_id);
end;
$$;

-- Spared by scripts/mutate: function shared.record_denial(action text, subject text, reason text, request_id text): owned by brokerflow_guard. The guard may write the audit log too, and this does nothing else.
comment on function shared.record_denial(text, text, text, text) is
    'Axiom A8: a refused attempt leaves a denial in the audit log. It runs in a transaction of its own, since the refused one takes its traces along.';
revoke execute on function shared.record_denial(text, text, text, text) from public;
grant execute on function shared.record_denial(text, text, text, text) to brokerflow_app;

-- For the operator, as the owner: granted to nobody.
create function shared.grant_platform_admin(email text) returns boolean
language sql volatile
set search_path = ''
as $$
    with granted as (
        insert into shared.platform_admins (user_id)
        select u.id from shared.users as u
        where shared.address_key(u.email) = shared.address_key(grant_platform_admin.email)
        on conflict (user_id) do update set granted_at = platform_admins.granted_at
        returning user_id
    )
    select exists (select from granted)
$$;

comment on function shared.grant_platform_admin(text) is 'Makes a user judge disputes; false where there is no such user.';

create function shared.revoke_platform_admin(email text) returns boolean
language sql volatile
set search_path = ''
as $$
    with revoked as (
        delete from shared.platform_admins as a
        using shared.users as u
        where u.id = a.user_id and shared.address_key(u.email) = shared.address_key(revoke_platform_admin.email)
        returning a.user_id
    )
    select exists (select from revoked)
$$;

comment on function shared.revoke_platform_admin(text) is 'Ends it; false where the user was none.';
