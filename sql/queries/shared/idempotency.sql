-- name: find_response(key, route, request_digest)^
-- The response that this key got before; none, and the key is this transaction's.
-- record: StoredResponse
select r.status as "status!", r.response as "response!"
from shared.find_response(:key, :route, :request_digest) as r;

-- name: store_response(key, route, request_digest, status, response)!
-- Store a response, in the transaction of its effect.
insert into shared.idempotency_keys (user_id, key, route, request_digest, status, response)
values (shared.current_user_id(), :key, :route, :request_digest, :status, :response);
