-- name: trust_esign_keys(digests)!
-- Introduce the service's webhook secrets: the first ever, or beside one that is trusted.
select apiauth.trust_esign_keys(:digests);
