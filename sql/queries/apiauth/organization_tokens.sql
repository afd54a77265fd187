-- name: create_organization_token(organization_id, name, digest, token_hint, scopes, lifetime)<!
-- Make a token of an organization, with no scope that the caller lacks.
-- record: OrganizationToken
-- optional: lifetime
select
    t.id as "id!", t.name as "name!", t.token_hint as "token_hint!", t.scopes as "scopes!", t.created_at as "created_at!",
    t.expires_at as "expires_at?", t.last_used_at as "last_used_at?"
from apiauth.create_organization_token(:organization_id, :name, :digest, :token_hint, :scopes, :lifetime) as t;

-- name: list_organization_tokens(organization_id, after, limit)
-- List the tokens of an organization that are not revoked, newest first.
-- record: OrganizationToken
-- optional: after
select
    t.id as "id!", t.name as "name!", t.token_hint as "token_hint!", t.scopes as "scopes!", t.created_at as "created_at!",
    t.expires_at as "expires_at?", t.last_used_at as "last_used_at?"
from apiauth.list_organization_tokens(:organization_id, :after, :limit) as t;

-- name: revoke_organization_token(organization_id, id)$
-- Revoke a token of an organization; false where there is no such token.
select apiauth.revoke_organization_token(:organization_id, :id) as "is_revoked!";
