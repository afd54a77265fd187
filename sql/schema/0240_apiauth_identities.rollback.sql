revoke usage on schema apiauth from brokerflow_login;
drop function apiauth.open_identity_session(text, text, text, text, bytea, bytea, interval, interval, text, bytea);
drop function apiauth.link_identity(text, text, text, text, bytea, text, bytea);
drop function apiauth.disown(uuid);
drop table apiauth.identities;
