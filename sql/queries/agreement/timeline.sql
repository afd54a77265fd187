-- name: append_event(agreement_id, type, payload, occurred_at, corrects_seq)<!
-- Append a party's event to a timeline.
-- record: TimelineEvent
-- optional: occurred_at, corrects_seq
select
    e.id, e.agreement_id, e.seq, e.type, e.payload, e.occurred_at, e.recorded_at, e.credential_kind, e.user_id,
    e.organization_id, e.impersonator_id, e.corrects_seq
from agreement.append_event(:agreement_id, :type, :payload, :occurred_at, :corrects_seq) as e;

-- name: list_timeline(agreement_id, after, limit)
-- The events of one agreement, in order.
-- record: TimelineEvent
-- optional: after
select
    e.id, e.agreement_id, e.seq, e.type, e.payload, e.occurred_at, e.recorded_at, e.credential_kind, e.user_id,
    e.organization_id, e.impersonator_id, e.corrects_seq
from agreement.find_agreement(:agreement_id) as f (agreement_id)
cross join lateral (
    select *
    from agreement.timeline_events as t
    where t.agreement_id = f.agreement_id and t.seq > (select coalesce(:after::integer, 0))
    order by t.seq
    limit :limit
) as e
order by e.seq;

-- name: list_events(after, limit)
-- The events of all agreements of the caller's broker, in order of recording.
-- record: TimelineEvent
-- optional: after
select
    e.id, e.agreement_id, e.seq, e.type, e.payload, e.occurred_at, e.recorded_at, e.credential_kind, e.user_id,
    e.organization_id, e.impersonator_id, e.corrects_seq
from (
    -- One branch an index: an OR of the parties would walk the events of every tenant. No event is in both.
    (
        select *
        from agreement.timeline_events as f
        where f.from_broker_id = shared.acting_organization('agreements:read')
            and f.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
        order by f.id
        limit :limit
    )
    union all
    (
        select *
        from agreement.timeline_events as t
        where t.to_broker_id = shared.acting_organization('agreements:read')
            and t.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
        order by t.id
        limit :limit
    )
) as e
order by e.id
limit :limit;

-- name: current_position()$
-- An event identifier of this very moment: later events have greater ones.
select shared.uuidv7() as "id!";

-- name: list_chain(agreement_id)
-- The hash chain of one agreement: the exact text of each event and its hash.
-- record: ChainLink
select e.seq, agreement.event_body(e) as "body!", encode(e.hash, 'hex') as "hash!"
from agreement.find_agreement(:agreement_id) as f (agreement_id)
join agreement.timeline_events as e on e.agreement_id = f.agreement_id
order by e.seq;
