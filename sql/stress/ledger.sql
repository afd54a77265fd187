-- What the ledger compares with what the clients were told, as the auditor and in one snapshot. Each query returns all
-- rows of a kind: the mark that its maker gave it, its id, whether all that belongs to it is there, and whether it took
-- effect.

-- name: referrals()
-- A referral, and the contact that was sealed with it together with a trace.
with contacts as materialized (
    select c.referral_id from agreement.describe_contacts() as c
)
select
    r.property_type as mark, r.id,
    exists (select from contacts as c where c.referral_id = r.id)
        = exists (select from shared.audit_log as l where l.subject = 'referral/' || r.id and l.action = 'contact.seal') as whole,
    true as done
from agreement.referrals as r;

-- name: invitations()
-- An invitation.
select m.referral_id || ' ' || m.candidate_user_id as mark, m.id, true as whole, true as done
from agreement.matches as m;

-- name: answers()
-- An answer to one: accepted, it is an agreement.
select
    m.id || ' ' || m.state as mark, m.id,
    (m.state = 'accepted') = exists (select from agreement.agreements as a where a.match_id = m.id) as whole,
    true as done
from agreement.matches as m
where m.state <> 'invited';

-- name: drafts()
-- A drafted agreement, with its first event.
select
    trim_scale(a.fee_rate)::text as mark, a.id,
    exists (select from agreement.timeline_events as e where e.agreement_id = a.id and e.seq = 1 and e.type = 'AGREEMENT_CREATED') as whole,
    true as done
from agreement.agreements as a
where a.match_id is null;

-- name: moves()
-- A state that an agreement came to, by its version, which counts the events that tell of states.
select
    concat_ws(
        ' ', e.agreement_id, row_number() over (partition by e.agreement_id order by e.seq),
        -- The first tells where it began; who sends it there once more is answered that it is there.
        coalesce(e.payload ->> 'to', e.payload ->> 'status')
    ) as mark,
    e.agreement_id as id, true as whole, true as done
from agreement.timeline_events as e
where e.type in ('AGREEMENT_CREATED', 'ESIGN_REQUESTED', 'ESIGN_COMPLETED', 'AGREEMENT_STATUS_CHANGED', 'DISPUTE_OPENED', 'DISPUTE_RESOLVED');

-- name: signatures()
-- A signature: the agreement took effect, and its event left.
select
    a.envelope_id as mark, a.id,
    a.effective_at is not null and exists (
        select
        from agreement.timeline_events as e
        join shared.outbox as o on o.event_id = e.id
        where e.agreement_id = a.id and e.type = 'ESIGN_COMPLETED' and e.payload ->> 'envelope_id' = a.envelope_id
    ) as whole,
    true as done
from agreement.agreements as a
where a.envelope_id is not null;

-- name: reads()
-- A read of a contact, with its trace in timeline and audit log; done when the contact left.
select
    r.purpose as mark, r.id,
    exists (
        select
        from agreement.timeline_events as e
        join shared.audit_log as l on l.subject = 'agreement/' || e.agreement_id and l.detail = jsonb_build_object('seq', e.seq)
        where e.agreement_id = r.agreement_id and e.type = 'PII_VIEWED' and e.payload ->> 'read_id' = r.id::text
            and l.action = 'agreement.pii_viewed' and l.user_id = r.user_id
    ) as whole,
    r.consumed_at is not null as done
from agreement.contact_reads as r;

-- name: events()
-- An event of a party's: its message, and its audit row.
select
    e.payload ->> 'mark' as mark, e.id,
    exists (select from shared.outbox as o where o.event_id = e.id)
        and exists (
            select from shared.audit_log as l
            where l.subject = 'agreement/' || e.agreement_id and l.detail = jsonb_build_object('seq', e.seq)
                and l.action = 'agreement.' || lower(e.type::text)
        ) as whole,
    true as done
from agreement.timeline_events as e
where e.type in ('CLIENT_CONTACTED', 'PROPERTY_SHOWN', 'OFFER_MADE', 'DEAL_CLOSED', 'CORRECTION_ADDED');

-- name: disputes()
-- A dispute: the agreement was told.
select
    d.reason as mark, d.id,
    exists (
        select from agreement.timeline_events as e
        where e.agreement_id = d.agreement_id and e.type = 'DISPUTE_OPENED' and e.payload ->> 'dispute_id' = d.id::text
    ) as whole,
    true as done
from agreement.disputes as d;

-- name: verdicts()
-- A verdict: the agreement was told, and nothing stays frozen.
select
    d.note as mark, d.id,
    exists (
        select from agreement.timeline_events as e
        where e.agreement_id = d.agreement_id and e.type = 'DISPUTE_RESOLVED' and e.payload ->> 'dispute_id' = d.id::text
            and e.payload ->> 'outcome' = d.outcome::text
    ) as whole,
    true as done
from agreement.disputes as d
where d.outcome in ('upheld', 'dismissed');

-- name: invoices()
-- An invoice, with its audit row.
select
    i.amount::text as mark, i.id,
    exists (
        select from shared.audit_log as l
        where l.subject = 'agreement/' || i.agreement_id and l.action = 'invoice.issued' and l.detail ->> 'invoice_id' = i.id::text
    ) as whole,
    true as done
from agreement.invoices as i;

-- name: settlements()
-- An invoice that is settled, with its audit row.
select
    i.id || ' ' || i.status as mark, i.id,
    exists (
        select from shared.audit_log as l
        where l.subject = 'agreement/' || i.agreement_id and l.action = 'invoice.' || i.status and l.detail ->> 'invoice_id' = i.id::text
    ) as whole,
    true as done
from agreement.invoices as i
where i.status in ('paid', 'written_off');

-- name: cancellations()
-- A cancelled referral: nothing of it waits for a signature.
select
    r.cancel_reason as mark, r.id,
    not exists (
        select from agreement.agreements as a where a.referral_id = r.id and a.status in ('draft', 'pending_signature')
    ) as whole,
    true as done
from agreement.referrals as r
where r.status = 'cancelled';

-- name: votes()
-- A vote.
select v.api_identifier as mark, null::uuid as id, true as whole, true as done
from vote.votes as v;

-- name: secrets()
-- A secret, and its latest version.
select
    s.key as mark, s.id,
    exists (select from secretstore.secret_versions as v where v.secret_id = s.id and v.version = s.version) as whole,
    true as done
from secretstore.secrets as s;

-- name: answered()
-- An Idempotency-Key under which an answer is stored.
select k.key as mark, null::uuid as id, true as whole, true as done
from shared.idempotency_keys as k;

-- name: refusals()
-- What refused each request, by its number.
select l.request_id, l.reason
from shared.audit_log as l
where l.outcome = 'denied' and l.request_id is not null;

-- name: events_of(organization_id)
-- The events that a broker is to hear of.
select e.id
from agreement.timeline_events as e
where :organization_id in (e.from_broker_id, e.to_broker_id);
