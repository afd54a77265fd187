-- O8: An event or an audit row has no proved actor, or the two name different ones.
-- axioms: A9
--
-- Who acts as another does so while his hour lasts; the minutes are for a transaction that had entered when it ended.
-- The signing service is of no tenant; a judge is of neither party; who accepts an invitation may work for another
-- organization just then, but is its candidate. Anybody else who writes a timeline is a party.
with actors as (
    select e.agreement_id, e.seq::text as seq, case
        when e.credential_kind is null then 'it has no actor'
        when e.credential_kind = 'esign' and num_nonnulls(e.credential_id, e.user_id, e.organization_id) > 0 then 'the signing service acts as a person'
        when e.credential_kind <> 'esign' and num_nulls(e.credential_id, e.user_id) > 0 then 'its actor is nobody'
        when (e.credential_kind = 'esign') <> (e.type = 'ESIGN_COMPLETED') then format('%s came by %s', e.type, e.credential_kind)
        when e.type = 'AGREEMENT_CREATED' and m.id is not null then
            case when e.user_id is distinct from m.candidate_user_id then 'the invitation was accepted by another than its candidate' end
        when e.type = 'DISPUTE_RESOLVED' and e.payload ->> 'outcome' <> 'withdrawn' then null
        when e.credential_kind <> 'esign' and (e.organization_id is null or e.organization_id not in (e.from_broker_id, e.to_broker_id))
            then 'its actor is no party'
    end as finding
    from archive.all_timeline_events as e
    left join agreement.agreements as a on e.type = 'AGREEMENT_CREATED' and a.id = e.agreement_id
    left join agreement.matches as m on m.id = a.match_id
),
traces as (
    select e.agreement_id, coalesce(e.seq::text, l.detail ->> 'seq') as seq, l.subject, case
        when l.id is null then 'the audit log has no row of the event'
        when e.id is null then 'the audit log tells of an event that is not there'
        else 'the audit log names another actor'
    end as finding
    from archive.all_timeline_events as e
    full join (
        select * from archive.all_audit_log where action like 'agreement.%' and outcome = 'done'
    ) as l on l.subject = 'agreement/' || e.agreement_id and l.detail ->> 'seq' = e.seq::text and l.action = 'agreement.' || lower(e.type::text)
    where (e.credential_kind, e.credential_id, e.user_id, e.organization_id, e.impersonator_id)
        is distinct from (l.credential_kind, l.credential_id, l.user_id, l.organization_id, l.impersonator_id)
        or l.id is null or e.id is null
),
audited as (
    select l.subject, null::text as seq, format('%s was %s by nobody', l.action, l.outcome) as finding
    from archive.all_audit_log as l
    -- Who logs in is nobody yet, also when that links his identity, and so is a machine that was approved; and the
    -- operator is nobody of ours.
    where l.credential_kind is null
        and not (
            l.outcome = 'done'
            and (
                l.action in (
                    'session.open', 'identity.link', 'device.redeem', 'user.revoke_all', 'secret.rewrap', 'contact.rewrap', 'master_key.keep'
                )
                or l.action like 'membership.%'
            )
        )
),
impersonated as (
    select l.subject, null::text as seq, case
        when l.outcome = 'done' and split_part(l.action, '.', 1) not in ('agreement', 'invoice', 'session', 'impersonation')
            then format('%s was done by who acted as another', l.action)
        when not exists (
            select from apiauth.describe_impersonations() as i
            where i.admin_id = l.impersonator_id and i.user_id = l.user_id
                and l.recorded_at between i.started_at and i.ended_at + interval '15 minutes'
        ) then format('%s was %s by who had no right to act as another', l.action, l.outcome)
    end as finding
    from archive.all_audit_log as l
    where l.impersonator_id is not null
)
select coalesce(f.subject, 'agreement/' || f.agreement_id) as subject, f.finding, f.seq
from (
    select agreement_id, null::text as subject, finding, seq from actors where finding is not null
    union all
    select agreement_id, subject, finding, seq from traces
    union all
    select null, subject, finding, seq from audited
    union all
    select null, subject, finding, seq from impersonated where finding is not null
    union all
    select null, 'archive/audit_log_' || to_char(m.month, 'YYYY_MM'), 'it has not as many rows as were archived', null
    from archive.months as m
    where m.table_name = 'shared.audit_log'
        and m.rows <> (select count(*) from archive.audit_log as a where a.id >= m.from_id and a.id < m.before_id)
) as f
order by 1, f.seq, f.finding;
