-- name: open_session(email, key, digest, idle, lifetime)<!
-- Prove a password and open a session.
-- record: OpenedSession
select
    s.session_id as "session_id!", s.expires_at as "expires_at!", s.user_id as "user_id!", s.user_email as "email!",
    s.full_name as "full_name!", s.created_at as "created_at!"
from apiauth.open_session(:email, :key, :digest, :idle, :lifetime) as s;

-- name: close_session()$
-- End the session that asks; false where the credential is none.
select apiauth.close_session() as "is_closed!";

-- name: list_sessions(after, limit)
-- List the live sessions of the user whose session asks, newest first.
-- record: Session
-- optional: after
select
    s.id as "id!", s.created_at as "created_at!", s.last_seen_at as "last_seen_at!", s.expires_at as "expires_at!",
    s.is_current as "is_current!"
from apiauth.list_sessions() as s
where s.id < (select coalesce(:after::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by s.id desc
limit :limit;

-- name: revoke_sessions(id)$
-- End one session of the user whose session asks, or all of them; tell how many.
-- optional: id
select apiauth.revoke_sessions(:id) as "revoked!";
