-- name: find_response(key, route, request_digest)^
-- The response that this key got before; none, and the key is this transaction's.
-- record: StoredResponse
select r.status as "status!", r.response as "response!"
from shared.find_response(:key, :route, :request_digest) as r;

-- name: store_response(key, route, request_digest, status, response)!
-- Store a response, in the transaction of its effect.
insert into shared.idempotency_keys (user_id, environment_id, organization_id, key, route, request_digest, status, response)
select
    coalesce(a.impersonator_id, a.user_id), case when a.user_id is null then a.environment_id end,
    case when a.user_id is null and a.environment_id is null then a.organization_id end,
    :key, :route, :request_digest, :status, :response
from shared.current_actor() as a;
