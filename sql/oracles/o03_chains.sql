-- O3: A timeline has a gap, a repeat, a broken chain or a head that is not its end.
-- axioms: A4
--
-- Every hash is computed again, from the text that a proof carries. What is archived is no less a part of its chain.
with linked as (
    select
        e.agreement_id, e.seq, e.recorded_at, e.previous_hash, e.hash,
        lag(e.seq, 1, 0) over w as previous_seq,
        lag(e.hash) over w as hash_before,
        lead(e.seq) over w is null as is_last
    from archive.all_timeline_events as e
    window w as (partition by e.agreement_id order by e.seq)
),
links as (
    select l.agreement_id, l.seq, case
        when l.seq = l.previous_seq then 'the number is given twice'
        when l.seq <> l.previous_seq + 1 then format('the event before it is %s', l.previous_seq)
        else 'it is not linked to the event before it'
    end as finding
    from linked as l
    where l.seq <> l.previous_seq + 1
        or l.previous_hash <> coalesce(l.hash_before, sha256(convert_to('brokerflow timeline ' || l.agreement_id, 'UTF8')))
),
bodies as (
    select e.agreement_id, e.seq, 'its hash is not that of its text' as finding
    from archive.all_timeline_events as e
    where e.hash <> sha256(e.previous_hash || convert_to(agreement.event_body(row(e.*)::agreement.timeline_events), 'UTF8'))
),
heads as (
    select coalesce(h.agreement_id, l.agreement_id) as agreement_id, coalesce(l.seq, h.seq) as seq, case
        when h.agreement_id is null then 'the timeline has no head'
        when l.agreement_id is null then 'the head has no timeline'
        else 'the head is not the end of the timeline'
    end as finding
    from agreement.timeline_heads as h
    full join (select * from linked where is_last) as l on l.agreement_id = h.agreement_id
    where (h.seq, h.recorded_at, h.hash) is distinct from (l.seq, l.recorded_at, l.hash)
),
agreements as (
    select a.id as agreement_id, null::integer as seq, 'the agreement has no timeline' as finding
    from agreement.agreements as a
    where not exists (select from agreement.timeline_heads as h where h.agreement_id = a.id)
),
corrections as (
    select e.agreement_id, e.seq, 'it corrects no earlier event of its agreement' as finding
    from archive.all_timeline_events as e
    where (e.type = 'CORRECTION_ADDED' or e.corrects_seq is not null)
        and not exists (
            select from archive.all_timeline_events as c
            where e.type = 'CORRECTION_ADDED' and c.agreement_id = e.agreement_id and c.seq = e.corrects_seq and c.seq < e.seq
        )
)
select coalesce(f.subject, 'agreement/' || f.agreement_id) as subject, f.finding, f.seq
from (
    select null as subject, * from links
    union all
    select null, * from bodies
    union all
    select null, * from heads
    union all
    select null, * from agreements
    union all
    select null, * from corrections
    union all
    select 'archive/timeline_events_' || to_char(m.month, 'YYYY_MM'), null, null, 'it has not as many events as were archived'
    from archive.months as m
    where m.table_name = 'agreement.timeline_events'
        and m.rows <> (select count(*) from archive.timeline_events as a where a.agreement_id >= m.from_id and a.agreement_id < m.before_id)
) as f
order by subject, f.seq, f.finding;
