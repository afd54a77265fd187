-- A longer timeline for each of depths: events by the receiving party, one after the other, as the chain needs them.
do $$
declare
    v_deal record;
    v_event agreement.timeline_events;
begin
    for v_deal in
        select d.agreement_id, p.depth, t.session_id, t.user_id, t.organization_id
        from depths as p join deals as d on d.n = p.n join tenants as t on t.n = d.to_tenant
    loop
        select * into strict v_event from agreement.timeline_events as e where e.agreement_id = v_deal.agreement_id and e.seq = 3;
        v_event.type := 'CLIENT_CONTACTED';
        v_event.payload := '{"by": "phone"}';
        v_event.credential_kind := 'session';
        v_event.credential_id := v_deal.session_id;
        v_event.user_id := v_deal.user_id;
        v_event.organization_id := v_deal.organization_id;
        while v_event.seq < v_deal.depth loop
            v_event.seq := v_event.seq + 1;
            v_event.id := shared.uuidv7();
            v_event.previous_hash := v_event.hash;
            v_event.recorded_at := v_event.recorded_at + interval '1 millisecond';
            v_event.occurred_at := v_event.recorded_at;
            v_event.hash := sha256(v_event.previous_hash || convert_to(agreement.event_body(v_event), 'UTF8'));
            insert into agreement.timeline_events select v_event.*;
        end loop;
    end loop;
end;
$$;
