drop function apiauth.enter_esign(bytea);
drop function apiauth.enter_token(bytea, text);
drop function apiauth.enter_session(bytea, text);
drop function apiauth.admit(shared.credential_kind, uuid, uuid, text[], text);
drop function apiauth.seal_actor(shared.credential_kind, uuid, uuid, uuid, shared.member_role, text[], boolean);
drop function apiauth.refuse_credential();
