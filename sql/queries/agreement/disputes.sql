-- name: open_dispute(agreement_id, reason)<!
-- Open a dispute, which freezes the agreement's money.
-- record: Dispute
select
    d.id, d.agreement_id, d.reason, d.opened_by, d.opened_by_broker_id, d.opened_at, d.outcome, d.note, d.resolved_by,
    d.resolved_at
from agreement.open_dispute(:agreement_id, :reason) as d;

-- name: list_disputes(after, limit)
-- The disputes of the caller's agreements, or all for a platform admin, newest first.
-- record: Dispute
-- optional: after
select
    d.id, d.agreement_id, d.reason, d.opened_by, d.opened_by_broker_id, d.opened_at, d.outcome, d.note, d.resolved_by,
    d.resolved_at
-- Asked first page, it grows with the caller's own agreements: a dispute is theirs, and few have one.
-- Asked a page amid, it grows with them likewise.
from agreement.disputes as d
where d.id < (select coalesce(:after::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by d.id desc
limit :limit;

-- name: resolve_dispute(id, outcome, note)^
-- Uphold or dismiss a dispute, as a platform admin of neither party.
-- record: Dispute
update agreement.disputes as d
set outcome = :outcome, note = :note
where d.id = :id
returning
    d.id, d.agreement_id, d.reason, d.opened_by, d.opened_by_broker_id, d.opened_at, d.outcome, d.note, d.resolved_by,
    d.resolved_at;
