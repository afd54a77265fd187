-- A crowd of legal agreements of ten events each, chained as the triggers would, without running them.
--
-- For a superuser with session_replication_role = replica, on a database that is else empty; brokerflow.crowd says how
-- many. Nine of ten agreements succeed and close, the tenth is voided by an upheld dispute.

insert into shared.users (id, email, full_name)
select shared.uuidv7(), name || '@example.org', name from unnest(array['referrer', 'referee', 'judge']) as n (name);

insert into shared.organizations (id, title, slug)
select shared.uuidv7(), initcap(name), name from unnest(array['north', 'south']) as n (name);

insert into shared.memberships (organization_id, user_id, role)
select o.id, u.id, 'owner'
from (values ('north', 'referrer'), ('south', 'referee')) as m (slug, name)
join shared.organizations as o on o.slug = m.slug
join shared.users as u on u.full_name = m.name;

insert into agreement.brokers (id, name) select o.id, o.title from shared.organizations as o;

insert into apiauth.sessions (user_id, digest, idle, expires_at)
select u.id, sha256(convert_to(u.full_name, 'UTF8')), '1 day', shared.clock() + interval '1 day' from shared.users as u;

create temporary table cast_of_crowd as
select
    (select u.id from shared.users as u where u.full_name = 'referrer') as referrer,
    (select u.id from shared.users as u where u.full_name = 'referee') as referee,
    (select u.id from shared.users as u where u.full_name = 'judge') as judge,
    (select o.id from shared.organizations as o where o.slug = 'north') as north,
    (select o.id from shared.organizations as o where o.slug = 'south') as south;

create temporary table crowd as
select
    n.number, shared.uuidv7() as referral_id, shared.uuidv7() as agreement_id, shared.uuidv7() as read_id,
    shared.uuidv7() as invoice_id, shared.uuidv7() as dispute_id, n.number % 10 = 0 as is_disputed,
    shared.clock() - interval '1 hour' as began_at
from generate_series(1, current_setting('brokerflow.crowd')::integer) as n (number);

insert into agreement.referrals (
    id, broker_id, region, price_min, price_max, property_type, deal_type, sla_hours, status, created_by, created_at
)
select c.referral_id, k.north, '{Taipei}', 1, 2, 'flat', 'sale', 24, 'closed', k.referrer, c.began_at
from crowd as c cross join cast_of_crowd as k;

insert into agreement.agreements (
    id, referral_id, from_broker_id, to_broker_id, region, status, version, envelope_id, signed_at, created_by, created_at, effective_at
)
select
    c.agreement_id, c.referral_id, k.north, k.south, '{Taipei}',
    case when c.is_disputed then 'void' else 'closed' end::agreement.agreement_status, 5,
    'envelope ' || c.number, c.began_at + interval '3 minutes', k.referrer, c.began_at, c.began_at + interval '3 minutes'
from crowd as c cross join cast_of_crowd as k;

insert into agreement.timeline_heads (agreement_id, seq, recorded_at, hash)
select c.agreement_id, 0, c.began_at, sha256(convert_to('brokerflow timeline ' || c.agreement_id, 'UTF8')) from crowd as c;

insert into agreement.contact_reads (id, agreement_id, user_id, organization_id, purpose, granted_at, consumed_at)
select
    c.read_id, c.agreement_id, k.referee, k.south, 'to call',
    c.began_at + interval '6 minutes', c.began_at + interval '6 minutes 1 second'
from crowd as c cross join cast_of_crowd as k;

insert into agreement.disputes (
    id, agreement_id, reason, opened_by, opened_by_broker_id, opened_at, outcome, resolved_by, resolved_at
)
select
    c.dispute_id, c.agreement_id, 'late', k.referee, k.south, c.began_at + interval '9 minutes', 'upheld', k.judge,
    c.began_at + interval '10 minutes'
from crowd as c cross join cast_of_crowd as k
where c.is_disputed;

insert into agreement.invoices (id, agreement_id, amount, currency, status, created_by, settled_at)
select
    c.invoice_id, c.agreement_id, 10, 'USD', case when c.is_disputed then 'invalidated' else 'paid' end::agreement.invoice_status,
    k.referrer, case when not c.is_disputed then c.began_at + interval '8 minutes' end
from crowd as c cross join cast_of_crowd as k;

-- One statement a step, for all agreements at once: each event takes the hash of the one before from the head.
do $$
begin
    for v_seq in 1..10 loop
        insert into agreement.timeline_events
        select
            (h.event).agreement_id, (h.event).seq, (h.event).id, (h.event).type, (h.event).payload,
            (h.event).occurred_at, (h.event).recorded_at, (h.event).credential_kind, (h.event).credential_id,
            (h.event).user_id, (h.event).organization_id, (h.event).impersonator_id, (h.event).from_broker_id, (h.event).to_broker_id,
            (h.event).corrects_seq, h.previous_hash, sha256(h.previous_hash || convert_to(agreement.event_body(h.event), 'UTF8'))
        from (
            select t.hash as previous_hash, row(
                c.agreement_id, v_seq, shared.uuidv7(), s.type, s.payload, c.began_at + make_interval(mins => v_seq),
                c.began_at + make_interval(mins => v_seq), s.kind, s.credential_id, s.user_id, s.organization_id, null,
                k.north, k.south, case when v_seq = 8 then 4 end, t.hash, t.hash
            )::agreement.timeline_events as event
            from crowd as c
            cross join cast_of_crowd as k
            join agreement.timeline_heads as t on t.agreement_id = c.agreement_id
            cross join lateral (
                select
                    (case v_seq
                        when 1 then 'AGREEMENT_CREATED' when 2 then 'ESIGN_REQUESTED' when 3 then 'ESIGN_COMPLETED'
                        when 4 then 'CLIENT_CONTACTED' when 5 then 'PROPERTY_SHOWN' when 6 then 'PII_VIEWED'
                        when 7 then 'OFFER_MADE' when 8 then 'CORRECTION_ADDED'
                        when 9 then case when c.is_disputed then 'DISPUTE_OPENED' else 'AGREEMENT_STATUS_CHANGED' end
                        else case when c.is_disputed then 'DISPUTE_RESOLVED' else 'AGREEMENT_STATUS_CHANGED' end
                    end)::agreement.event_type as type,
                    case v_seq
                        when 1 then jsonb_build_object(
                            'status', 'draft', 'referral_id', c.referral_id, 'match_id', null,
                            'from_broker_id', k.north, 'to_broker_id', k.south, 'region', array['Taipei'], 'fee_rate', '25.0000', 'protect_days', 90
                        )
                        when 2 then '{"from": "draft", "to": "pending_signature"}'
                        when 3 then '{"from": "pending_signature", "to": "effective"}'
                        when 6 then jsonb_build_object('read_id', c.read_id, 'purpose', 'to call')
                        when 9 then case
                            when c.is_disputed then jsonb_build_object(
                                'from', 'effective', 'to', 'disputed', 'dispute_id', c.dispute_id, 'outcome', null
                            )
                            else '{"from": "effective", "to": "success"}'
                        end
                        when 10 then case
                            when c.is_disputed then jsonb_build_object(
                                'from', 'disputed', 'to', 'void', 'dispute_id', c.dispute_id, 'outcome', 'upheld'
                            )
                            else '{"from": "success", "to": "closed"}'
                        end
                        else jsonb_build_object('note', 'one of ' || c.number)
                    end as payload,
                    a.kind, u.user_id, u.organization_id,
                    (select l.id from apiauth.sessions as l where l.user_id = u.user_id) as credential_id
                from (select case when v_seq = 3 then 'esign' else 'session' end::shared.credential_kind as kind) as a
                cross join lateral (
                    select
                        case
                            when v_seq = 3 then null
                            when v_seq = 10 and c.is_disputed then k.judge
                            when v_seq in (1, 2) then k.referrer
                            else k.referee
                        end as user_id,
                        case
                            when v_seq = 3 or (v_seq = 10 and c.is_disputed) then null
                            when v_seq in (1, 2) then k.north
                            else k.south
                        end as organization_id
                ) as u
            ) as s
            offset 0
        ) as h;
        update agreement.timeline_heads as h set seq = e.seq, recorded_at = e.recorded_at, hash = e.hash
        from agreement.timeline_events as e where e.agreement_id = h.agreement_id and e.seq = v_seq;
    end loop;
end;
$$;

insert into shared.outbox (topic, event_id, payload)
select 'agreement.timeline', e.id, agreement.event_document(e) from agreement.timeline_events as e;

insert into shared.audit_log (
    recorded_at, credential_kind, credential_id, user_id, organization_id, action, subject, outcome, detail
)
select
    e.recorded_at, e.credential_kind, e.credential_id, e.user_id, e.organization_id, 'agreement.' || lower(e.type::text),
    'agreement/' || e.agreement_id, 'done', jsonb_build_object('seq', e.seq)
from agreement.timeline_events as e;

insert into shared.audit_log (credential_kind, action, subject, outcome, detail)
select 'session', 'invoice.' || s.status, 'agreement/' || c.agreement_id, 'done', jsonb_build_object('invoice_id', c.invoice_id)
from crowd as c
cross join lateral unnest(
    case when c.is_disputed then array['issued', 'frozen', 'invalidated'] else array['issued', 'paid'] end
) with ordinality as s (status, step)
order by s.step;

insert into shared.idempotency_keys (user_id, key, route, request_digest, status, response)
select k.referrer, 'key-' || c.number, 'POST /api/agreements', sha256('x'), 201, ''
from crowd as c cross join cast_of_crowd as k;

insert into agreement.contacts (referral_id, ciphertext, wrapped_key)
select c.referral_id, sha256('client') || sha256(convert_to(c.number::text, 'UTF8')), sha256('key') from crowd as c;

insert into shared.audit_log (credential_kind, action, subject, outcome)
select 'session', 'contact.seal', 'referral/' || c.referral_id, 'done' from crowd as c;
