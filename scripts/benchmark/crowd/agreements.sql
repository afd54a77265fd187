-- The agreements of deals, with the events, messages and audit rows that the triggers would have left, chained alike.
insert into agreement.referrals (
    id, broker_id, region, price_min, price_max, property_type, deal_type, sla_hours, status, created_by, created_at
)
select
    d.referral_id, f.organization_id, '{Lakeside}', 350000, 520000, 'house', 'purchase', 48,
    (array['open', 'matched', 'signed'])[d.steps]::agreement.referral_status, f.user_id, d.began_at
from deals as d join tenants as f on f.n = d.from_tenant;

insert into agreement.agreements (
    id, referral_id, from_broker_id, to_broker_id, region, status, version, envelope_id, signed_at, created_by, created_at, effective_at
)
select
    d.agreement_id, d.referral_id, f.organization_id, t.organization_id, '{Lakeside}',
    (array['draft', 'pending_signature', 'effective'])[d.steps]::agreement.agreement_status, d.steps,
    case when d.steps = 3 then 'envelope ' || d.n end, case when d.steps = 3 then d.began_at + interval '3 minutes' end,
    f.user_id, d.began_at, case when d.steps = 3 then d.began_at + interval '3 minutes' end
from deals as d join tenants as f on f.n = d.from_tenant join tenants as t on t.n = d.to_tenant;

do $$
begin
    for v_seq in 1..3 loop
        insert into agreement.timeline_events (
            agreement_id, seq, id, type, payload, occurred_at, recorded_at, credential_kind, credential_id, user_id,
            organization_id, impersonator_id, from_broker_id, to_broker_id, corrects_seq, previous_hash, hash
        )
        select
            (h.event).agreement_id, (h.event).seq, (h.event).id, (h.event).type, (h.event).payload, (h.event).occurred_at,
            (h.event).recorded_at, (h.event).credential_kind, (h.event).credential_id, (h.event).user_id,
            (h.event).organization_id, null, (h.event).from_broker_id, (h.event).to_broker_id, null, h.previous_hash,
            sha256(h.previous_hash || convert_to(agreement.event_body(h.event), 'UTF8'))
        from (
            select p.previous_hash, e.event
            from deals as d
            join tenants as f on f.n = d.from_tenant
            join tenants as t on t.n = d.to_tenant
            left join agreement.timeline_events as b on b.agreement_id = d.agreement_id and b.seq = v_seq - 1
            cross join lateral (
                select coalesce(b.hash, sha256(convert_to('brokerflow timeline ' || d.agreement_id, 'UTF8'))) as previous_hash
            ) as p
            cross join lateral (select jsonb_populate_record(null::agreement.timeline_events, jsonb_build_object(
                'agreement_id', d.agreement_id, 'seq', v_seq, 'id', shared.uuidv7(),
                'type', (array['AGREEMENT_CREATED', 'ESIGN_REQUESTED', 'ESIGN_COMPLETED'])[v_seq],
                'payload', case v_seq
                    when 1 then jsonb_build_object(
                        'status', 'draft', 'referral_id', d.referral_id, 'match_id', null,
                        'from_broker_id', f.organization_id, 'to_broker_id', t.organization_id, 'region', array['Lakeside'],
                        'fee_rate', '25.0000', 'protect_days', 90
                    )
                    when 2 then '{"from": "draft", "to": "pending_signature"}'
                    else '{"from": "pending_signature", "to": "effective"}'
                end,
                'occurred_at', d.began_at + make_interval(mins => v_seq), 'recorded_at', d.began_at + make_interval(mins => v_seq),
                'credential_kind', case when v_seq = 3 then 'esign' else 'session' end,
                'credential_id', case when v_seq < 3 then f.session_id end,
                'user_id', case when v_seq < 3 then f.user_id end,
                'organization_id', case when v_seq < 3 then f.organization_id end,
                'from_broker_id', f.organization_id, 'to_broker_id', t.organization_id
            )) as event) as e
            where d.steps >= v_seq
            offset 0
        ) as h;
    end loop;
end;
$$;
