-- name: create_referral(id, region, price_min, price_max, property_type, deal_type, languages, sla_hours, ciphertext, wrapped_key)<!
-- Open a referral, with its client's sealed contact where that is known.
-- record: Referral
-- optional: ciphertext, wrapped_key
select
    r.id, r.broker_id, r.region, r.price_min, r.price_max, r.property_type, r.deal_type, r.languages, r.sla_hours,
    r.status, r.cancel_reason, r.created_by, r.created_at
from agreement.create_referral(
    :id, :region, :price_min, :price_max, :property_type, :deal_type, :languages, :sla_hours, :ciphertext, :wrapped_key
) as r;

-- name: get_referral(id)^
-- A referral of the caller's own broker.
-- record: Referral
select
    r.id, r.broker_id, r.region, r.price_min, r.price_max, r.property_type, r.deal_type, r.languages, r.sla_hours,
    r.status, r.cancel_reason, r.created_by, r.created_at
from agreement.referrals as r
where r.id = :id and r.broker_id = shared.current_organization_id();

-- name: list_referrals_newest_first(status, region, deal_type, language, after, limit)
-- The referrals of the caller's own broker, newest first.
-- record: Referral
-- optional: status, region, deal_type, language, after
select
    r.id, r.broker_id, r.region, r.price_min, r.price_max, r.property_type, r.deal_type, r.languages, r.sla_hours,
    r.status, r.cancel_reason, r.created_by, r.created_at
from agreement.referrals as r
-- Asked filtered, it grows with the caller's own referrals: it looks through them in order, until the page is full.
where r.broker_id = shared.current_organization_id()
    and (:status::agreement.referral_status is null or r.status = :status)
    and (:region::text is null or :region = any (r.region))
    and (:deal_type::text is null or r.deal_type = :deal_type)
    and (:language::text is null or :language = any (r.languages))
    and r.id < (select coalesce(:after::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by r.id desc
limit :limit;

-- name: list_referrals_oldest_first(status, region, deal_type, language, after, limit)
-- The referrals of the caller's own broker, oldest first.
-- record: Referral
-- optional: status, region, deal_type, language, after
select
    r.id, r.broker_id, r.region, r.price_min, r.price_max, r.property_type, r.deal_type, r.languages, r.sla_hours,
    r.status, r.cancel_reason, r.created_by, r.created_at
from agreement.referrals as r
-- Asked filtered, it grows with the caller's own referrals: it looks through them in order, until the page is full.
where r.broker_id = shared.current_organization_id()
    and (:status::agreement.referral_status is null or r.status = :status)
    and (:region::text is null or :region = any (r.region))
    and (:deal_type::text is null or r.deal_type = :deal_type)
    and (:language::text is null or :language = any (r.languages))
    and r.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
order by r.id
limit :limit;

-- name: list_referrals_cheapest_first(status, region, deal_type, language, after_price, after, limit)
-- The referrals of the caller's own broker, by price_min upwards.
-- record: Referral
-- optional: status, region, deal_type, language, after_price, after
select
    r.id, r.broker_id, r.region, r.price_min, r.price_max, r.property_type, r.deal_type, r.languages, r.sla_hours,
    r.status, r.cancel_reason, r.created_by, r.created_at
from agreement.referrals as r
-- Asked filtered, it grows with the caller's own referrals: it looks through them in order, until the page is full.
where r.broker_id = shared.current_organization_id()
    and (:status::agreement.referral_status is null or r.status = :status)
    and (:region::text is null or :region = any (r.region))
    and (:deal_type::text is null or r.deal_type = :deal_type)
    and (:language::text is null or :language = any (r.languages))
    and (:after::uuid is null or (r.price_min, r.id) > (:after_price::numeric, :after))
order by r.price_min, r.id
limit :limit;

-- name: list_referrals_dearest_first(status, region, deal_type, language, after_price, after, limit)
-- The referrals of the caller's own broker, by price_min downwards.
-- record: Referral
-- optional: status, region, deal_type, language, after_price, after
select
    r.id, r.broker_id, r.region, r.price_min, r.price_max, r.property_type, r.deal_type, r.languages, r.sla_hours,
    r.status, r.cancel_reason, r.created_by, r.created_at
from agreement.referrals as r
-- Asked a page amid, it grows with the referrals before: row security lets no numeric comparison into an index.
-- Asked filtered, it grows with the caller's own referrals: it looks through them in order, until the page is full.
where r.broker_id = shared.current_organization_id()
    and (:status::agreement.referral_status is null or r.status = :status)
    and (:region::text is null or :region = any (r.region))
    and (:deal_type::text is null or r.deal_type = :deal_type)
    and (:language::text is null or :language = any (r.languages))
    and (:after::uuid is null or (r.price_min, r.id) < (:after_price::numeric, :after))
order by r.price_min desc, r.id desc
limit :limit;

-- name: cancel_referral(id, reason)<!
-- Cancel a referral that is not signed, and void its pending agreement.
-- record: Referral
select
    r.id, r.broker_id, r.region, r.price_min, r.price_max, r.property_type, r.deal_type, r.languages, r.sla_hours,
    r.status, r.cancel_reason, r.created_by, r.created_at
from agreement.cancel_referral(:id, :reason) as r;

-- name: rank_candidates(referral_id)
-- Agents of other brokers for a referral, the likeliest first.
-- record: Candidate
select
    c.user_id as "user_id!", c.full_name as "full_name!", c.broker_id as "broker_id!", c.broker_name as "broker_name!",
    c.score as "score!", c.reasons as "reasons!"
-- It grows with the agents of all brokers: each is a candidate, and the likeliest may be anywhere.
from agreement.find_referral(:referral_id, shared.current_organization_id()) as f (referral_id)
cross join lateral agreement.rank_candidates(f.referral_id) as c
order by c.score desc, c.user_id;
