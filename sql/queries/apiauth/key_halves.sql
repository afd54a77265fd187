-- name: trust_key_halves(halves)!
-- Introduce the service's halves of keys: the first ever, or beside one that is trusted.
select apiauth.trust_key_halves(:halves);

-- name: keep_key_halves(halves)!
-- Trust these halves and no others; for the operator, as the guard.
-- role: brokerflow_guard
select apiauth.keep_key_halves(:halves);   -- It grows with the halves that it forgets.
