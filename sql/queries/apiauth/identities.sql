-- name: open_identity_session(issuer, subject, verified_email, full_name, held, digest, idle, lifetime, held_ticket, half)$
-- Open a session of whom a provider has named, as the login role; tell when it ends.
-- optional: verified_email, held, held_ticket, half
-- role: brokerflow_login
select apiauth.open_identity_session(
    :issuer, :subject, :verified_email, :full_name, :held, :digest, :idle, :lifetime, :held_ticket, :half
) as "expires_at!";
