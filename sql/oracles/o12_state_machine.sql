-- O12: An agreement or its referral is where no edge leads, or an agreement was deleted.
-- axioms: A8
--
-- The timeline is walked from the first event on: each move begins where the one before ended and is an edge, and the
-- last ends where the agreement is. A referral follows its agreements, and only a live or a former one moves it.
with told as (
    select
        e.agreement_id, e.seq, e.type, e.payload ->> 'from' as from_status,
        coalesce(e.payload ->> 'to', e.payload ->> 'status') as status,
        lag(coalesce(e.payload ->> 'to', e.payload ->> 'status')) over w as before,
        lead(e.seq) over w is null as is_last
    from archive.all_timeline_events as e
    where e.type in (
        'AGREEMENT_CREATED', 'ESIGN_REQUESTED', 'ESIGN_COMPLETED', 'AGREEMENT_STATUS_CHANGED', 'DISPUTE_OPENED', 'DISPUTE_RESOLVED'
    )
    window w as (partition by e.agreement_id order by e.seq)
),
edges as (
    select t.from_status::text, t.to_status::text, t.event_type from agreement.transitions as t
),
moves as (
    select 'agreement/' || t.agreement_id as subject, case
        when t.seq = 1 then case
            when t.type <> 'AGREEMENT_CREATED' or coalesce(t.status not in ('draft', 'pending_signature'), true)
                then format('it began by %s, as %s', t.type, coalesce(t.status, 'nothing'))
        end
        when t.from_status is distinct from t.before then format('it was %s, and moved from %s', coalesce(t.before, 'nothing'), coalesce(t.from_status, 'nothing'))
        when e.event_type is null then format('no edge leads from %s to %s by %s', t.from_status, t.status, t.type)
    end as finding, t.seq
    from told as t
    left join edges as e on e.from_status = t.from_status and e.to_status = t.status and e.event_type = t.type
),
ends as (
    select 'agreement/' || a.id as subject, format('it is %s, and the timeline ends at %s', a.status, coalesce(t.status, 'nothing')) as finding, t.seq
    from agreement.agreements as a
    left join (select * from told where is_last) as t on t.agreement_id = a.id
    where t.status is distinct from a.status::text
),
deleted as (
    select 'agreement/' || t.agreement_id as subject, 'the agreement is gone, and its timeline is not' as finding, t.seq
    from told as t
    where t.is_last and not exists (select from agreement.agreements as a where a.id = t.agreement_id)
    union all
    select 'agreement/' || h.agreement_id, 'the agreement is gone, and its head is not', h.seq
    from agreement.timeline_heads as h
    where not exists (select from agreement.agreements as a where a.id = h.agreement_id)
),
stranded as (
    select 'agreement/' || a.id as subject, 'it is a draft, and its referral is cancelled' as finding, null::integer as seq
    from agreement.agreements as a
    join agreement.referrals as r on r.id = a.referral_id
    where a.status = 'draft' and r.status = 'cancelled'
),
signed as (
    select
        a.referral_id,
        count(*) filter (where a.status = 'pending_signature') as pending,
        count(*) filter (where a.status in ('effective', 'disputed')) as effective,
        count(*) filter (where a.status in ('success', 'void', 'closed') and a.effective_at is not null) as former
    from agreement.agreements as a
    group by a.referral_id
),
referrals as (
    select 'referral/' || r.id as subject, format(
        'it is %s, with %s pending, %s effective and %s former agreements',
        r.status, coalesce(s.pending, 0), coalesce(s.effective, 0), coalesce(s.former, 0)
    ) as finding, null::integer as seq
    from agreement.referrals as r
    left join signed as s on s.referral_id = r.id
    where r.status::text is distinct from case
        when s.effective > 0 then 'signed'
        when s.former > 0 then 'closed'
        when s.pending > 0 then 'matched'
        when r.status = 'cancelled' then 'cancelled'
        else 'open'
    end
),
matches as (
    select 'referral/' || m.referral_id as subject, case
        when a.id is null then 'an invitation was accepted, and there is no agreement'
        else format('an agreement comes from an invitation that is %s', m.state)
    end as finding, null::integer as seq
    from agreement.matches as m
    left join agreement.agreements as a on a.match_id = m.id
    where (m.state = 'accepted') <> (a.id is not null)
)
select f.subject, f.finding, f.seq
from (
    select * from moves where finding is not null
    union all
    select * from ends
    union all
    select * from deleted
    union all
    select * from stranded
    union all
    select * from referrals
    union all
    select * from matches
) as f
order by f.subject, f.seq, f.finding;
