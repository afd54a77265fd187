-- name: register_broker(organization_id, name, fein)<!
-- Make an organization a broker, or rename it.
-- record: Broker
select b.id, b.name, :fein::text as "fein?", b.created_at
from agreement.register_broker(:organization_id, :name, :fein) as b;

-- name: get_broker(id)^
-- A broker; fein for its own members only.
-- record: Broker
select b.id, b.name, r.fein as "fein?", b.created_at
from agreement.brokers as b
left join agreement.broker_registrations as r on r.broker_id = b.id
where b.id = :id;

-- name: list_brokers(q, after, limit)
-- Brokers whose name contains q, in order of their making.
-- record: Broker
-- optional: q, after
select b.id, b.name, r.fein as "fein?", b.created_at
from agreement.brokers as b
left join agreement.broker_registrations as r on r.broker_id = b.id
-- Asked filtered, it grows with the brokers: it looks through them in order, until the page is full.
where (:q::text is null or position(lower(:q) in lower(b.name)) > 0)
    and b.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
order by b.id
limit :limit;
