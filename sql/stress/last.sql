-- The last rows of what is written once, for who looks into a failure, as the auditor.

-- name: timeline()
-- The last fifty events.
select e.recorded_at, e.agreement_id, e.seq, e.type, e.payload, e.occurred_at, e.credential_kind, e.user_id
from agreement.timeline_events as e
order by e.id desc
limit 50;

-- name: outbox()
-- The last fifty messages.
select o.created_at, o.topic, o.event_id
from shared.outbox as o
order by o.event_id desc
limit 50;

-- name: audit()
-- The last fifty rows of the audit log.
select l.recorded_at, l.action, l.subject, l.outcome, l.reason, l.credential_kind, l.user_id, l.request_id
from shared.audit_log as l
order by l.id desc
limit 50;
