-- name: find_stretching(email)<!
-- Return over which salt and how a password is stretched; of an unknown address as if it were known.
-- record: Stretching
select s.salt as "salt!", s.method as "method?"
from apiauth.find_stretching(:email) as s;

-- name: restretch_password(email, key, salt, stretched, method)$
-- Keep a proved password as it is stretched anew; false where another login has just done so.
select apiauth.restretch_password(:email, :key, :salt, :stretched, :method) as "is_stretched!";

-- name: register(email, full_name, salt, key, method)<!
-- Create a user with a password.
-- record: RegisteredUser
select u.id, u.email, u.full_name, u.created_at
from apiauth.register(:email, :full_name, :salt, :key, :method) as u;
