-- name: password_salt(email)$
-- Return the salt over which a password is stretched; a stable decoy for an unknown address.
select apiauth.password_salt(:email) as "salt!";

-- name: register(email, full_name, salt, key)<!
-- Create a user with a password.
-- record: RegisteredUser
select u.id, u.email, u.full_name, u.created_at
from apiauth.register(:email, :full_name, :salt, :key) as u;
