-- the key has more than one response
alter table shared.idempotency_keys drop constraint idempotency_keys_once_an_actor cascade;
insert into shared.idempotency_keys (user_id, key, route, request_digest, status, response)
select user_id, key, route, request_digest, status, response from shared.idempotency_keys;

-- the response is bound to no request
alter table shared.idempotency_keys drop constraint idempotency_keys_digest_is_sha256 cascade;
update shared.idempotency_keys set request_digest = '';

-- the response is bound to no request
update shared.idempotency_keys set route = '';

-- the response is 409, which is no success
alter table shared.idempotency_keys drop constraint idempotency_keys_only_successes cascade;
update shared.idempotency_keys set status = 409;

-- the response is of the future
update shared.idempotency_keys set created_at = now() + interval '1 hour';

-- the key is nobody's
update shared.idempotency_keys set user_id = gen_random_uuid();
