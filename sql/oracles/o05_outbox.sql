-- O5: An event has no message, or two, or another's; or a state was written that nothing tells of.
-- axioms: A5
--
-- A message is its event's text: hashed behind the hash before, it yields the event's own hash.
with messages as (
    select
        coalesce(e.agreement_id::text, o.payload ->> 'agreement_id', 'unknown') as agreement_id,
        coalesce(e.seq::text, o.payload ->> 'seq') as seq, case
            when o.id is null then 'the event left no message'
            when e.id is null then 'the message tells of no event'
            when e.hash <> sha256(e.previous_hash || convert_to(o.payload::text, 'UTF8')) then 'the message is not its event''s'
        end as finding
    from agreement.timeline_events as e
    full join (select * from shared.outbox where topic = 'agreement.timeline') as o on o.event_id = e.id
),
repeats as (
    select min(o.payload ->> 'agreement_id') as agreement_id, min(o.payload ->> 'seq') as seq, format('the event left %s messages', count(*)) as finding
    from shared.outbox as o
    group by o.event_id
    having count(*) > 1
),
versions as (
    select a.id::text as agreement_id, null::text as seq, format('it moved to version %s, and the timeline tells of %s', a.version, count(e.seq)) as finding
    from agreement.agreements as a
    left join agreement.timeline_events as e
        on e.agreement_id = a.id
        and e.type in (
            'AGREEMENT_CREATED', 'ESIGN_REQUESTED', 'ESIGN_COMPLETED', 'AGREEMENT_STATUS_CHANGED', 'DISPUTE_OPENED', 'DISPUTE_RESOLVED'
        )
    group by a.id
    having a.version <> count(e.seq)
)
select 'agreement/' || f.agreement_id as subject, f.finding, f.seq
from (
    select * from messages where finding is not null
    union all
    select * from repeats
    union all
    select * from versions
) as f
order by subject, f.seq, f.finding;
