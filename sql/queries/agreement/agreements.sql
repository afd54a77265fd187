-- name: draft_agreement(referral_id, to_broker_id, fee_rate, protect_days)<!
-- Draft an agreement about a referral of the caller's broker.
-- record: Agreement
select
    a.id, a.referral_id, a.match_id, a.from_broker_id, a.to_broker_id, a.region, a.fee_rate, a.protect_days, a.status,
    a.version, a.envelope_id, a.signed_at, a.created_by, a.created_at, a.effective_at
from agreement.draft_agreement(:referral_id, :to_broker_id, :fee_rate, :protect_days) as a;

-- name: get_agreement(id)^
-- An agreement that the caller's broker is a party of.
-- record: Agreement
select
    a.id, a.referral_id, a.match_id, a.from_broker_id, a.to_broker_id, a.region, a.fee_rate, a.protect_days, a.status,
    a.version, a.envelope_id, a.signed_at, a.created_by, a.created_at, a.effective_at
from agreement.agreements as a
where a.id = :id;

-- name: list_agreements(status, after, limit)
-- The agreements of the caller's broker, newest first.
-- record: Agreement
-- optional: status, after
select
    a.id, a.referral_id, a.match_id, a.from_broker_id, a.to_broker_id, a.region, a.fee_rate, a.protect_days, a.status,
    a.version, a.envelope_id, a.signed_at, a.created_by, a.created_at, a.effective_at
-- Asked filtered, it grows with the caller's own agreements: it looks through them in order, until the page is full.
from (
    -- One branch an index: an OR of the parties would walk the agreements of every tenant. No agreement is in both.
    (
        select *
        from agreement.agreements as f
        where f.from_broker_id = shared.acting_organization('agreements:read')
            and (:status::agreement.agreement_status is null or f.status = :status)
            and f.id < (select coalesce(:after::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        order by f.id desc
        limit :limit
    )
    union all
    (
        select *
        from agreement.agreements as t
        where t.to_broker_id = shared.acting_organization('agreements:read')
            and (:status::agreement.agreement_status is null or t.status = :status)
            and t.id < (select coalesce(:after::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
        order by t.id desc
        limit :limit
    )
) as a
order by a.id desc
limit :limit;

-- name: change_agreement(id, status, region, version)<!
-- Move an agreement along the state machine, if it still is at the version that the caller saw.
-- record: Agreement
-- optional: status, region, version
select
    a.id, a.referral_id, a.match_id, a.from_broker_id, a.to_broker_id, a.region, a.fee_rate, a.protect_days, a.status,
    a.version, a.envelope_id, a.signed_at, a.created_by, a.created_at, a.effective_at
from agreement.change_agreement(:id, :status, :region, :version) as a;

-- name: complete_signature(agreement_id, signed_at, envelope_id)<!
-- Make an agreement effective, as the signing service.
-- Again with the same envelope it changes nothing.
-- record: Agreement
select
    a.id, a.referral_id, a.match_id, a.from_broker_id, a.to_broker_id, a.region, a.fee_rate, a.protect_days, a.status,
    a.version, a.envelope_id, a.signed_at, a.created_by, a.created_at, a.effective_at
from agreement.complete_signature(:agreement_id, :signed_at, :envelope_id) as a;
