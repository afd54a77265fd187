drop trigger platform_admins_rise_ends_sessions on shared.platform_admins;
drop trigger memberships_rise_ends_sessions on shared.memberships;
drop function apiauth.platform_admins_rise_ends_sessions();
drop function apiauth.memberships_rise_ends_sessions();
drop function apiauth.end_outgrown_sessions(uuid);
