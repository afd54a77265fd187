-- O4: A contact was read before effectiveness, without a grant of its own, or without a trace.
-- axioms: A7
--
-- A grant is an event, and the event has an audit row. Whether the agreement was effective is read off the timeline
-- at the event's place, which the lock on the agreement settles; the clock alone could not, to the microsecond.
with moves as (
    select
        e.agreement_id, e.seq, coalesce(e.payload ->> 'to', e.payload ->> 'status') as status,
        lead(e.seq) over (partition by e.agreement_id order by e.seq) as next_seq
    from archive.all_timeline_events as e
    where e.type in (
        'AGREEMENT_CREATED', 'ESIGN_REQUESTED', 'ESIGN_COMPLETED', 'AGREEMENT_STATUS_CHANGED', 'DISPUTE_OPENED', 'DISPUTE_RESOLVED'
    )
),
viewed as (
    select e.agreement_id, e.seq, e.user_id, e.organization_id, e.payload ->> 'read_id' as read_id
    from archive.all_timeline_events as e
    where e.type = 'PII_VIEWED'
),
findings as (
    select coalesce(r.agreement_id, v.agreement_id) as agreement_id, v.seq, r.id as read_id, case
        when r.id is null then 'a read was told that was not granted'
        when v.seq is null then 'a grant was not told to the timeline'
        when (r.agreement_id, r.user_id, r.organization_id) is distinct from (v.agreement_id, v.user_id, v.organization_id)
            then 'the grant is not its teller''s'
        when a.effective_at is null or r.granted_at < a.effective_at - interval '1 minute' then 'it was granted before effectiveness'
        when m.status is distinct from 'effective' then format('it was granted while %s', coalesce(m.status, 'nothing'))
        when r.consumed_at not between r.granted_at and r.granted_at + interval '1 minute' then 'it was used outside its minute'
        when l.id is null then 'the audit log has no row of it'
    end as finding
    from agreement.contact_reads as r
    full join viewed as v on v.read_id = r.id::text
    left join agreement.agreements as a on a.id = coalesce(r.agreement_id, v.agreement_id)
    left join moves as m on m.agreement_id = v.agreement_id and v.seq >= m.seq and (m.next_seq is null or v.seq < m.next_seq)
    left join archive.all_audit_log as l
        on l.action = 'agreement.pii_viewed' and l.outcome = 'done'
        and l.subject = 'agreement/' || v.agreement_id and l.detail ->> 'seq' = v.seq::text
        and l.user_id = r.user_id and l.organization_id = r.organization_id
)
select 'agreement/' || f.agreement_id as subject, f.finding, f.seq, f.read_id
from findings as f
where f.finding is not null
order by subject, f.seq, f.finding;
