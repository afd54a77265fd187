-- name: start_impersonation(user_id, reason, lifetime, digest, ticket, half)<!
-- Act as a user from now on, as the platform admin whose session asks, under a new token.
-- record: StartedImpersonation
-- optional: ticket, half
select
    i.impersonation_id as "id!", i.started_at as "started_at!", i.ends_at as "ends_at!", i.new_ticket as "ticket?"
from apiauth.start_impersonation(:user_id, :reason, :lifetime, :digest, :ticket, :half) as i;

-- name: stop_impersonation(digest, ticket, half)<!
-- Be oneself again, under a new token.
-- record: StoppedImpersonation
-- optional: ticket, half
select i.expires_at as "expires_at!", i.new_ticket as "ticket?"
from apiauth.stop_impersonation(:digest, :ticket, :half) as i;
