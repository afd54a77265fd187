-- name: create_personal_token(name, digest, token_hint, scopes, lifetime)<!
-- Make a token of the caller's user, with no scope that the caller lacks.
-- record: PersonalToken
select
    t.id as "id!", t.name as "name!", t.token_hint as "token_hint!", t.scopes as "scopes!", t.created_at as "created_at!",
    t.expires_at as "expires_at!", t.last_used_at as "last_used_at?"
from apiauth.create_personal_token(:name, :digest, :token_hint, :scopes, :lifetime) as t;

-- name: list_personal_tokens(after, limit)
-- List the caller's tokens that are not revoked, newest first.
-- record: PersonalToken
-- optional: after
select
    t.id as "id!", t.name as "name!", t.token_hint as "token_hint!", t.scopes as "scopes!", t.created_at as "created_at!",
    t.expires_at as "expires_at!", t.last_used_at as "last_used_at?"
from apiauth.list_personal_tokens(:after, :limit) as t;

-- name: revoke_personal_token(id)$
-- Revoke one of the caller's tokens; false where there is no such token.
select apiauth.revoke_personal_token(:id) as "is_revoked!";

-- name: revoke_own_token()$
-- Revoke the token that asks; false where it is no personal access token.
select apiauth.revoke_own_token() as "is_revoked!";
