-- name: open_identity_session(issuer, subject, verified_email, full_name, held, digest, idle, lifetime)$
-- Open a session of whom a provider has named, as the login role; tell when it ends.
-- optional: verified_email, held
select apiauth.open_identity_session(
    :issuer, :subject, :verified_email, :full_name, :held, :digest, :idle, :lifetime
) as "expires_at!";
