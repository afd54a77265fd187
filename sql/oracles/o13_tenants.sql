-- O13: A row is another tenant's than the rows it belongs to.
-- axioms: A9
select f.subject, f.finding
from (
    select 'agreement/' || a.id as subject, 'its referral is of another broker' as finding
    from agreement.agreements as a
    left join agreement.referrals as r on r.id = a.referral_id
    where r.broker_id is distinct from a.from_broker_id
    union all
    select 'agreement/' || a.id, 'its invitation is of other brokers, or of another referral'
    from agreement.agreements as a
    left join agreement.matches as m on m.id = a.match_id
    where a.match_id is not null
        and (m.referral_id, m.broker_id, m.candidate_broker_id) is distinct from (a.referral_id, a.from_broker_id, a.to_broker_id)
    union all
    select 'agreement/' || a.id, 'its two parties are one'
    from agreement.agreements as a
    where a.from_broker_id = a.to_broker_id
    union all
    select 'referral/' || m.referral_id, 'an invitation to it is of another broker'
    from agreement.matches as m
    left join agreement.referrals as r on r.id = m.referral_id
    where r.broker_id is distinct from m.broker_id or m.broker_id = m.candidate_broker_id
    union all
    select 'agreement/' || e.agreement_id, format('event %s names other parties', e.seq)
    from archive.all_timeline_events as e
    join agreement.agreements as a on a.id = e.agreement_id
    where (e.from_broker_id, e.to_broker_id) <> (a.from_broker_id, a.to_broker_id)
    union all
    select 'agreement/' || d.agreement_id, 'a dispute was opened by a stranger'
    from agreement.disputes as d
    left join agreement.agreements as a on a.id = d.agreement_id
    where coalesce(d.opened_by_broker_id not in (a.from_broker_id, a.to_broker_id), true)
    union all
    select 'broker/' || b.id, 'the broker is no organization'
    from agreement.brokers as b
    where not exists (select from shared.organizations as o where o.id = b.id)
    union all
    select 'environment/' || e.id, 'its project is of another organization'
    from shared.environments as e
    left join shared.projects as p on p.id = e.project_id
    where p.organization_id is distinct from e.organization_id
    union all
    select x.subject, 'its environment is of another organization'
    from (
        select 'account/' || a.id as subject, a.environment_id, a.organization_id from shared.external_accounts as a
        union all
        select 'secret/' || s.id, s.environment_id, s.organization_id from secretstore.secrets as s where s.environment_id is not null
    ) as x
    left join shared.environments as e on e.id = x.environment_id
    where e.organization_id is distinct from x.organization_id
    union all
    select 'branch/' || b.id, 'its environment is no preview'
    from shared.preview_branches as b
    left join shared.environments as e on e.id = b.environment_id
    where e.type is distinct from 'PREVIEW'
) as f
order by f.subject, f.finding;
