-- What a session may do does not grow behind its back: whoever is given more rights proves anew that it is he.
--
-- Rights are read with each request, so a token that leaked in spring would rise in autumn with its user. What is taken
-- from him the next request knows, and nobody need log in for it. Who joins or founds an organization keeps his
-- sessions: there he has what that organization gives, and nothing that he had elsewhere became more.
-- depends: 0250_apiauth_device_codes

set local role brokerflow_guard;

-- Who has just logged in has just proved what would be asked of him.
create function apiauth.end_outgrown_sessions(user_id uuid) returns void
language sql volatile
set search_path = ''
as $$ select from apiauth.end_sessions(end_outgrown_sessions.user_id, shared.clock() - interval '5 minutes') $$;

comment on function apiauth.end_outgrown_sessions(uuid) is
    'Ends the sessions of a user that are older than five minutes, wherever they are kept. Granted to nobody: triggers call it.';

create function apiauth.memberships_rise_ends_sessions() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    perform apiauth.end_outgrown_sessions(new.user_id);
    return null;
end;
$$;

comment on function apiauth.memberships_rise_ends_sessions() is 'Crosses into the guard''s sessions.';

create function apiauth.platform_admins_rise_ends_sessions() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    perform apiauth.end_outgrown_sessions(new.user_id);
    return null;
end;
$$;

comment on function apiauth.platform_admins_rise_ends_sessions() is 'Crosses into the guard''s sessions.';

revoke execute on function apiauth.memberships_rise_ends_sessions(), apiauth.platform_admins_rise_ends_sessions() from public;
grant execute on function apiauth.memberships_rise_ends_sessions(), apiauth.platform_admins_rise_ends_sessions() to brokerflow_owner;

set local role brokerflow_owner;

create trigger memberships_rise_ends_sessions
after update of role on shared.memberships
for each row when (new.role > old.role)
execute function apiauth.memberships_rise_ends_sessions();

create trigger platform_admins_rise_ends_sessions
after insert on shared.platform_admins
for each row execute function apiauth.platform_admins_rise_ends_sessions();

comment on trigger memberships_rise_ends_sessions on shared.memberships is
    'Axiom A9: who asks is proved. Who is given a higher role logs in again, lest a token that leaked before rise with him.';
comment on trigger platform_admins_rise_ends_sessions on shared.platform_admins is
    'Axiom A9: who asks is proved. Who becomes a platform admin logs in again, lest a token that leaked before rise with him.';

-- PostgreSQL asks for the right when a trigger is made, and not when it fires: nobody shall make another.
set local role brokerflow_guard;

revoke execute on function apiauth.memberships_rise_ends_sessions(), apiauth.platform_admins_rise_ends_sessions() from brokerflow_owner;
