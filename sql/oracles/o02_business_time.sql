-- O2: A gated event lies outside its agreement's effectiveness, or a recorded time is not the database's.
-- axioms: A3
--
-- What an agreement was when an event was recorded is read off its timeline, not off its present status: an
-- agreement that is closed or void by now keeps the legal history of its effective days.
with moves as (
    select
        e.agreement_id, e.seq, coalesce(e.payload ->> 'to', e.payload ->> 'status') as status,
        lead(e.seq) over (partition by e.agreement_id order by e.seq) as next_seq
    from archive.all_timeline_events as e
    where e.type in (
        'AGREEMENT_CREATED', 'ESIGN_REQUESTED', 'ESIGN_COMPLETED', 'AGREEMENT_STATUS_CHANGED', 'DISPUTE_OPENED', 'DISPUTE_RESOLVED'
    )
),
gated as (
    select e.agreement_id, e.seq, case
        when a.effective_at is null then format('%s, but the agreement never was effective', e.type)
        when e.occurred_at < a.effective_at then format('%s occurred before effectiveness', e.type)
        when m.status is null or m.status not in ('effective', 'success') then format('%s was recorded while %s', e.type, coalesce(m.status, 'nothing'))
    end as finding
    from archive.all_timeline_events as e
    join agreement.agreements as a on a.id = e.agreement_id
    left join moves as m on m.agreement_id = e.agreement_id and e.seq >= m.seq and (m.next_seq is null or e.seq < m.next_seq)
    where e.type in ('PROPERTY_SHOWN', 'OFFER_MADE', 'ESIGN_COMPLETED', 'DEAL_CLOSED')
),
signatures as (
    select e.agreement_id, count(*) as signed, min(e.occurred_at) as occurred_at
    from archive.all_timeline_events as e
    where e.type = 'ESIGN_COMPLETED'
    group by e.agreement_id
),
effectiveness as (
    select a.id as agreement_id, null::integer as seq, case
        when a.effective_at is null and s.signed > 0 then 'effective_at was cleared'
        when a.effective_at is null and a.status in ('effective', 'success', 'disputed') then format('it is %s without an effective_at', a.status)
        when a.effective_at is not null and s.signed is null then 'effective_at was set without a signature'
        when s.signed > 1 then format('it was signed %s times', s.signed)
        when a.effective_at <> s.occurred_at then 'effective_at is not the time of its signature'
        when a.signed_at > a.effective_at then 'it was signed after it became effective'
    end as finding
    from agreement.agreements as a
    left join signatures as s on s.agreement_id = a.id
),
recorded as (
    select
        e.agreement_id, e.seq, e.occurred_at, e.recorded_at,
        lag(e.recorded_at) over (partition by e.agreement_id order by e.seq) as previous
    from archive.all_timeline_events as e
),
records as (
    select r.agreement_id, r.seq, case
        when r.recorded_at < r.previous then 'it is recorded before its predecessor'
        when r.occurred_at > r.recorded_at then 'it occurred after it was recorded'
        -- A standby has a clock of its own.
        when r.recorded_at > now() + interval '1 minute' then 'it is recorded in the future'
    end as finding
    from recorded as r
    where r.recorded_at < r.previous or r.occurred_at > r.recorded_at or r.recorded_at > now() + interval '1 minute'
)
select 'agreement/' || f.agreement_id as subject, f.finding, f.seq
from (
    select * from gated where finding is not null
    union all
    select * from effectiveness where finding is not null
    union all
    select * from records
) as f
order by subject, f.seq, f.finding;
