-- What the events of deals leave: the end of each chain, a message and an audit row each.
insert into agreement.timeline_heads (agreement_id, seq, recorded_at, hash)
select distinct on (e.agreement_id) e.agreement_id, e.seq, e.recorded_at, e.hash
from deals as d join agreement.timeline_events as e on e.agreement_id = d.agreement_id
order by e.agreement_id, e.seq desc;

insert into shared.outbox (topic, event_id, payload, created_at)
select 'agreement.timeline', e.id, agreement.event_document(e), e.recorded_at
from deals as d join agreement.timeline_events as e on e.agreement_id = d.agreement_id;

insert into shared.audit_log (
    recorded_at, credential_kind, credential_id, user_id, organization_id, action, subject, outcome, detail
)
select
    e.recorded_at, e.credential_kind, e.credential_id, e.user_id, e.organization_id, 'agreement.' || lower(e.type::text),
    'agreement/' || e.agreement_id, 'done', jsonb_build_object('seq', e.seq)
from deals as d join agreement.timeline_events as e on e.agreement_id = d.agreement_id;
