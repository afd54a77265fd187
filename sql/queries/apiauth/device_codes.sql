-- name: request_device(device_digest, user_digest, name, address, scopes, lifetime)<!
-- Let a machine ask for a token of whoever will approve it.
-- record: RequestedDevice
-- optional: address
select
    round(extract(epoch from d.expires_at - shared.clock()))::integer as "expires_in!",
    extract(epoch from d.poll_interval)::integer as "interval!"
from apiauth.request_device(:device_digest, :user_digest, :name, :address::text::inet, :scopes, :lifetime) as d;

-- name: find_device(user_digest)^
-- Return the machine that shows this code and waits.
-- record: DeviceRequest
select
    d.name as "name!", d.address as "address?", d.scopes as "scopes!",
    d.token_days as "token_days!", d.created_at as "created_at!", d.expires_at as "expires_at!"
from apiauth.find_device(:user_digest) as d;

-- name: decide_device(user_digest, is_approved)$
-- Let the machine that shows this code act for the caller, or not; false where none waits.
select apiauth.decide_device(:user_digest, :is_approved) as "is_decided!";

-- name: redeem_device(device_digest, token_digest, token_hint)<!
-- Make the token of an approved code, once; otherwise tell what the machine is to do.
-- record: RedeemedDevice
select
    d.outcome as "outcome!", extract(epoch from d.poll_interval)::integer as "interval?", d.token_id as "token_id?",
    d.name as "name?", d.scopes as "scopes?", d.expires_at as "expires_at?",
    floor(extract(epoch from d.expires_at - shared.clock()))::integer as "expires_in?"
from apiauth.redeem_device(:device_digest, :token_digest, :token_hint) as d;
