-- name: record_denial(action, subject, reason, request_id)!
-- Write down that the caller was refused, in a transaction of its own.
select shared.record_denial(:action, :subject, :reason, :request_id);
