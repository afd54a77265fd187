-- What a superuser needs to plant more than one row at a time; it lives as long as his session.

-- An event that no trigger wrote, after the last: its number follows, its hash is invented.
create function pg_temp.forge(
    agreement uuid, type agreement.event_type, payload jsonb default '{}', earlier interval default '0',
    step integer default 1
) returns void
language sql
as $$
    insert into agreement.timeline_events (
        agreement_id, seq, id, type, payload, occurred_at, recorded_at, credential_kind, credential_id, user_id,
        organization_id, from_broker_id, to_broker_id, previous_hash, hash
    )
    select
        e.agreement_id, e.seq + forge.step, gen_random_uuid(), forge.type, forge.payload, e.recorded_at - forge.earlier,
        e.recorded_at, e.credential_kind, e.credential_id, e.user_id, e.organization_id, e.from_broker_id, e.to_broker_id,
        e.hash, sha256('forged')
    from agreement.timeline_events as e
    where e.agreement_id = forge.agreement
    order by e.seq desc
    limit 1
$$;

-- A grant that no trigger allowed.
create function pg_temp.forge_grant(agreement uuid) returns uuid
language sql
as $$
    insert into agreement.contact_reads (agreement_id, user_id, organization_id, purpose)
    select e.agreement_id, e.user_id, e.organization_id, 'forged'
    from agreement.timeline_events as e
    where e.agreement_id = forge_grant.agreement
    order by e.seq desc
    limit 1
    returning id
$$;

-- A grant and the event that tells of it.
create function pg_temp.forge_read(agreement uuid) returns void
language sql
as $$
    select pg_temp.forge(
        forge_read.agreement, 'PII_VIEWED', jsonb_build_object('read_id', pg_temp.forge_grant(forge_read.agreement))
    )
$$;

-- A step of an invoice in the audit log.
create function pg_temp.log_step(invoice uuid, status text) returns void
language sql
as $$
    insert into shared.audit_log (credential_kind, action, subject, outcome, detail)
    values ('session', 'invoice.' || log_step.status, 'forged', 'done', jsonb_build_object('invoice_id', log_step.invoice))
$$;
