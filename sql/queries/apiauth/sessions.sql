-- name: open_session(email, key, digest, idle, lifetime)<!
-- Prove a password and open a session.
-- record: OpenedSession
select
    s.session_id as "session_id!", s.expires_at as "expires_at!", s.user_id as "user_id!", s.user_email as "email!",
    s.full_name as "full_name!", s.created_at as "created_at!"
from apiauth.open_session(:email, :key, :digest, :idle, :lifetime) as s;

-- name: close_session(tickets, half)$
-- End the session that asks, by its ticket where it has one; false where the credential is none.
-- optional: half
select apiauth.close_session(:tickets, :half) as "is_closed!";

-- name: list_sessions(tickets, seen_at, half, after, limit)
-- List the live sessions of the user whose session asks, newest first.
-- record: Session
-- optional: half, after
select
    s.id as "id!", s.created_at as "created_at!", s.last_seen_at as "last_seen_at!", s.expires_at as "expires_at!",
    s.is_current as "is_current!"
from apiauth.list_sessions(:tickets, :seen_at, :half) as s
where :after::uuid is null or s.id < :after
order by s.id desc
limit :limit;

-- name: revoke_sessions(id, tickets, half)$
-- End one session of the user whose session asks, or all of them; tell how many.
-- optional: id, half
select apiauth.revoke_sessions(:id, :tickets, :half) as "revoked!";

-- name: exchange_session(digest, half)$
-- Take a session that was just opened out of its table; returns the ticket that says the same.
select apiauth.exchange_session(:digest, :half) as "ticket!";
