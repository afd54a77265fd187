-- O10: A contact is within reach of another than the vault, was read by a stranger, or was shredded without a receipt.
-- axioms: A2
--
-- The vault describes its contacts; what they hold stays there.
with moves as (
    select
        e.agreement_id, coalesce(e.payload ->> 'to', e.payload ->> 'status') as status, e.recorded_at,
        lead(e.recorded_at) over (partition by e.agreement_id order by e.seq) as ended_at
    from archive.all_timeline_events as e
    where e.type in (
        'AGREEMENT_CREATED', 'ESIGN_REQUESTED', 'ESIGN_COMPLETED', 'AGREEMENT_STATUS_CHANGED', 'DISPUTE_OPENED', 'DISPUTE_RESOLVED'
    )
),
reads as (
    select 'agreement/' || r.agreement_id as subject, case
        when r.organization_id not in (a.from_broker_id, a.to_broker_id) then 'its contact was granted to a stranger'
        -- consumed_at is taken before the lock on the agreement, so a wait may lie between the two.
        when r.consumed_at is not null and not exists (
            select from moves as m
            where m.agreement_id = r.agreement_id and m.status = 'effective'
                and r.consumed_at >= m.recorded_at - interval '1 minute' and r.consumed_at <= coalesce(m.ended_at, 'infinity')
        ) then 'its contact was read while it was not effective'
    end as finding
    from agreement.contact_reads as r
    join agreement.agreements as a on a.id = r.agreement_id
),
receipts as (
    select l.subject, l.action, l.detail ->> 'ciphertext_sha256' as ciphertext_sha256
    from archive.all_audit_log as l
    where l.action in ('contact.seal', 'contact.shred') and l.outcome = 'done'
),
contacts as (
    select 'referral/' || c.referral_id as subject, case
        when c.ciphertext_length < 28 then 'the contact is not sealed'
        when c.has_key <> (c.shredded_at is null) then 'the contact is neither sealed nor shredded'
        when not exists (
            select from receipts as t where t.subject = 'referral/' || c.referral_id and t.action = 'contact.seal'
        ) then 'nobody is known to have sealed the contact'
        when c.shredded_at is not null and not exists (
            select from receipts as t
            where t.subject = 'referral/' || c.referral_id and t.action = 'contact.shred' and t.ciphertext_sha256 = c.ciphertext_sha256
        ) then 'the contact was shredded without a receipt'
        when c.shredded_at is not null and exists (
            select from agreement.agreements as a
            where a.referral_id = c.referral_id and a.created_at < c.shredded_at - interval '1 minute'
                and not exists (
                    select from archive.all_timeline_events as e where e.agreement_id = a.id and e.type = 'CONTACT_SHREDDED'
                )
        ) then 'a timeline does not tell that the contact was shredded'
    end as finding
    from agreement.describe_contacts() as c
),
vault as (
    select c.oid, c.relowner, c.relacl, c.relrowsecurity and c.relforcerowsecurity as is_secured
    from pg_catalog.pg_class as c
    where c.relname = 'contacts' and c.relnamespace = (select n.oid from pg_catalog.pg_namespace as n where n.nspname = 'agreement')
),
reach as (
    select format('it belongs to %s', v.relowner::regrole) as finding
    from vault as v where v.relowner::regrole::text <> 'brokerflow_vault'
    union all
    select 'row security is not forced on it' from vault as v where not v.is_secured
    union all
    select format('%s was granted %s on it', case g.grantee when 0 then 'everybody' else g.grantee::regrole::text end, g.privilege_type)
    from vault as v
    cross join lateral (
        select * from aclexplode(v.relacl)
        union all
        select x.*
        from pg_catalog.pg_attribute as a
        cross join aclexplode(a.attacl) as x
        where a.attrelid = v.oid
    ) as g
    where g.grantee <> v.relowner
    union all
    select format('the policy %s admits another than the vault', p.polname)
    from vault as v
    join pg_catalog.pg_policy as p on p.polrelid = v.oid
    where p.polroles::regrole[]::text[] <> '{brokerflow_vault}'
    union all
    select format('%s is a member of the vault', r.rolname)
    from pg_catalog.pg_roles as r
    join pg_catalog.pg_roles as o on o.rolname = 'brokerflow_vault' and o.oid <> r.oid
    where r.rolname in ('brokerflow_app', 'brokerflow_auditor', 'brokerflow_guard', 'brokerflow_owner') and pg_has_role(r.oid, o.oid, 'member')
)
select f.subject, f.finding
from (
    select * from reads where finding is not null
    union all
    select * from contacts where finding is not null
    union all
    select 'table/agreement.contacts', finding from reach
) as f
order by f.subject, f.finding;
