-- O5: An event has no message, or two, or another's; or a state was written that nothing tells of.
-- axioms: A5
--
-- A message is its event's text: hashed behind the hash before, it yields the event's own hash. Each question is a
-- join of its own, so that only the one about texts carries them.
with messages as not materialized (
    select o.event_id, o.payload
    from archive.all_outbox as o
    where o.topic = 'agreement.timeline'
),
missing as (
    select e.agreement_id::text as agreement_id, e.seq::text as seq, 'the event left no message' as finding
    from archive.all_timeline_events as e
    where not exists (select from messages as m where m.event_id = e.id)
),
strays as (
    select m.payload ->> 'agreement_id' as agreement_id, m.payload ->> 'seq' as seq, 'the message tells of no event' as finding
    from messages as m
    where not exists (select from archive.all_timeline_events as e where e.id = m.event_id)
),
altered as (
    select e.agreement_id::text as agreement_id, e.seq::text as seq, 'the message is not its event''s' as finding
    from archive.all_timeline_events as e
    join messages as m on m.event_id = e.id
    where e.hash <> sha256(e.previous_hash || convert_to(m.payload::text, 'UTF8'))
),
repeats as (
    select min(o.payload ->> 'agreement_id') as agreement_id, min(o.payload ->> 'seq') as seq, format('the event left %s messages', count(*)) as finding
    from archive.all_outbox as o
    where o.event_id in (select r.event_id from archive.all_outbox as r group by r.event_id having count(*) > 1)
    group by o.event_id
),
versions as (
    select a.id::text as agreement_id, null::text as seq, format('it moved to version %s, and the timeline tells of %s', a.version, count(e.seq)) as finding
    from agreement.agreements as a
    left join archive.all_timeline_events as e
        on e.agreement_id = a.id
        and e.type in (
            'AGREEMENT_CREATED', 'ESIGN_REQUESTED', 'ESIGN_COMPLETED', 'AGREEMENT_STATUS_CHANGED', 'DISPUTE_OPENED', 'DISPUTE_RESOLVED'
        )
    group by a.id
    having a.version <> count(e.seq)
)
select coalesce(f.subject, 'agreement/' || f.agreement_id, 'outbox') as subject, f.finding, f.seq
from (
    select null as subject, * from missing
    union all
    select null, * from strays
    union all
    select null, * from altered
    union all
    select null, * from repeats
    union all
    select null, * from versions
    union all
    select 'invitation/' || i.id, null, null, 'the invitation left no message'
    from shared.invitations as i
    where not exists (select from archive.all_outbox as o where o.topic = 'organization.invitation' and o.event_id = i.id)
    union all
    select 'archive/outbox_' || to_char(m.month, 'YYYY_MM'), null, null, 'it has not as many messages as were archived'
    from archive.months as m
    where m.table_name = 'shared.outbox'
        and m.rows <> (select count(*) from archive.outbox as a where a.event_id >= m.from_id and a.event_id < m.before_id)
) as f
order by subject, f.seq, f.finding;
