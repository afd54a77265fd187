-- O6: Money moved against a dispute, or a dispute was decided by who may not.
-- axioms: A12
--
-- How an invoice went is read off the audit log, step by step: which of two that met came first, times alone do not
-- tell. Paid invoices are spared by an upheld dispute, so they are no finding.
with steps as (
    select
        l.subject, (l.detail ->> 'invoice_id') as invoice_id, substring(l.action from 9) as status,
        lag(substring(l.action from 9)) over (partition by l.detail ->> 'invoice_id' order by l.id) as before
    from archive.all_audit_log as l
    where l.action like 'invoice.%' and l.outcome = 'done'
),
histories as (
    select s.subject, s.invoice_id, case when s.before is null then format('the invoice began as %s', s.status)
        else format('the invoice went from %s to %s', s.before, s.status) end as finding
    from steps as s
    where (coalesce(s.before, 'none'), s.status) not in (
        ('none', 'issued'), ('issued', 'paid'), ('issued', 'written_off'), ('issued', 'frozen'),
        ('frozen', 'issued'), ('frozen', 'invalidated')
    )
),
last_steps as (
    select distinct on (l.detail ->> 'invoice_id') l.detail ->> 'invoice_id' as invoice_id, substring(l.action from 9) as status
    from archive.all_audit_log as l
    where l.action like 'invoice.%' and l.outcome = 'done'
    order by l.detail ->> 'invoice_id', l.id desc
),
invoices as (
    select 'agreement/' || i.agreement_id as subject, i.id::text as invoice_id, case
        when s.status is distinct from i.status::text then format('the invoice is %s, and the audit log says %s', i.status, coalesce(s.status, 'nothing'))
        when i.status = 'frozen' and d.open = 0 then 'the invoice is frozen without an open dispute'
        when i.status = 'issued' and d.open > 0 then 'the invoice is not frozen by its dispute'
        when i.status = 'invalidated' and d.upheld = 0 then 'the invoice is invalidated without an upheld dispute'
        when i.status in ('issued', 'frozen') and d.upheld > 0 then format('the invoice is %s under an upheld dispute', i.status)
    end as finding
    from agreement.invoices as i
    left join last_steps as s on s.invoice_id = i.id::text
    cross join lateral (
        select count(*) filter (where d.outcome is null) as open, count(*) filter (where d.outcome = 'upheld') as upheld
        from agreement.disputes as d
        where d.agreement_id = i.agreement_id
    ) as d
),
told as (
    select
        e.payload ->> 'dispute_id' as dispute_id,
        max(e.user_id::text) filter (where e.type = 'DISPUTE_OPENED') as opened_by,
        max(e.payload ->> 'outcome') filter (where e.type = 'DISPUTE_RESOLVED') as outcome,
        max(e.user_id::text) filter (where e.type = 'DISPUTE_RESOLVED') as resolved_by,
        max(e.organization_id::text) filter (where e.type = 'DISPUTE_RESOLVED') as resolved_for
    from archive.all_timeline_events as e
    where e.type in ('DISPUTE_OPENED', 'DISPUTE_RESOLVED')
    group by e.payload ->> 'dispute_id'
),
disputes as (
    select 'agreement/' || d.agreement_id as subject, null::text as invoice_id, case
        when d.outcome is null and a.status <> 'disputed' then format('a dispute is open, and the agreement is %s', a.status)
        when d.outcome = 'upheld' and a.status not in ('void', 'closed') then format('a dispute was upheld, and the agreement is %s', a.status)
        when (t.opened_by, t.outcome, t.resolved_by) is distinct from (d.opened_by::text, d.outcome::text, d.resolved_by::text)
            then 'the timeline tells otherwise of the dispute'
        when d.outcome = 'withdrawn' and t.resolved_for is distinct from d.opened_by_broker_id::text then 'the dispute was withdrawn by another than its opener'
        when d.outcome in ('upheld', 'dismissed') and (
            d.resolved_by = d.opened_by or t.resolved_for in (a.from_broker_id::text, a.to_broker_id::text)
            -- He may have joined afterwards; the minute is for one who joined while he judged.
            or exists (
                select from shared.memberships as m
                where m.user_id = d.resolved_by and m.organization_id in (a.from_broker_id, a.to_broker_id)
                    and m.created_at < d.resolved_at - interval '1 minute'
            )
            or exists (
                select from archive.all_timeline_events as e
                where e.agreement_id = d.agreement_id
                    and (e.impersonator_id = d.resolved_by or e.user_id = d.resolved_by and e.type <> 'DISPUTE_RESOLVED')
                    and e.recorded_at < d.resolved_at
            )
            -- He may have left before.
            or exists (
                select from archive.all_audit_log as l
                where l.subject in ('organization/' || a.from_broker_id, 'organization/' || a.to_broker_id)
                    and l.action like 'membership.%' and l.outcome = 'done' and l.detail ->> 'user_id' = d.resolved_by::text
                    and l.recorded_at >= a.created_at and l.recorded_at < d.resolved_at - interval '1 minute'
            )
        ) then 'a party judged the dispute'
    end as finding
    from agreement.disputes as d
    join agreement.agreements as a on a.id = d.agreement_id
    left join told as t on t.dispute_id = d.id::text
),
agreements as (
    select 'agreement/' || a.id as subject, null::text as invoice_id, format('it is disputed, with %s open disputes', count(d.id)) as finding
    from agreement.agreements as a
    left join agreement.disputes as d on d.agreement_id = a.id and d.outcome is null
    where a.status = 'disputed'
    group by a.id
    having count(d.id) <> 1
)
select f.subject, f.finding, f.invoice_id
from (
    select * from histories
    union all
    select * from invoices where finding is not null
    union all
    select * from disputes where finding is not null
    union all
    select * from agreements
) as f
order by f.subject, f.invoice_id, f.finding;
