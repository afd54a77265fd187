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
