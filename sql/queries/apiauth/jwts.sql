-- name: mint_jwt(environment_id, scopes, lifetime, one_time, half)<!
-- Mint a JWT of the environment whose secret key asks.
-- record: MintedJwt
select j.token as "token!", j.jti as "jti!", j.expires_at as "expires_at!"
from apiauth.mint_jwt(:environment_id, :scopes, :lifetime::interval, :one_time, :half) as j;
