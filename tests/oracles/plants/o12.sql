-- it began by ESIGN_REQUESTED, as pending_signature
update agreement.timeline_events set type = 'ESIGN_REQUESTED' where agreement_id = :agreement and seq = 1;

-- it began by AGREEMENT_CREATED, as effective
update agreement.timeline_events
set payload = payload || '{"status": "effective"}'
where agreement_id = :agreement and seq = 1;

-- it was effective, and moved from draft
update agreement.timeline_events
set payload = payload || '{"from": "draft"}'
where agreement_id = :success and type = 'AGREEMENT_STATUS_CHANGED';

-- no edge leads from effective to draft by AGREEMENT_STATUS_CHANGED
update agreement.timeline_events
set payload = payload || '{"to": "draft"}'
where agreement_id = :success and type = 'AGREEMENT_STATUS_CHANGED';

-- no edge leads from effective to success by DISPUTE_OPENED
update agreement.timeline_events
set type = 'DISPUTE_OPENED'
where agreement_id = :success and type = 'AGREEMENT_STATUS_CHANGED';

-- it is effective, and the timeline ends at void
update agreement.agreements set status = 'effective' where id = :void_after_effective;

-- the agreement is gone, and its timeline is not
delete from agreement.agreements where id = :agreement;

-- the agreement is gone, and its head is not
delete from agreement.agreements where id = :agreement;
delete from agreement.timeline_events where agreement_id = :agreement;

-- it is open, with 0 pending, 1 effective and 0 former agreements
update agreement.referrals set status = 'open' where id = :referral;

-- it is signed, with 0 pending, 0 effective and 0 former agreements
update agreement.referrals set status = 'signed' where id = :open;

-- it is matched, with 0 pending, 0 effective and 0 former agreements
update agreement.referrals set status = 'matched' where id = :open;

-- it is open, with 0 pending, 0 effective and 1 former agreements
update agreement.referrals set status = 'open' where id = :shredded;

-- an invitation was accepted, and there is no agreement
update agreement.matches set state = 'accepted', responded_at = now() where id = :invited;

-- an agreement comes from an invitation that is declined
update agreement.matches as m
set state = 'declined'
from agreement.agreements as a
where a.match_id = m.id and a.id = :agreement;

-- it is a draft, and its referral is cancelled
update agreement.referrals as r
set status = 'cancelled', cancel_reason = 'sold'
from agreement.agreements as a
where a.referral_id = r.id and a.id = :agreement;
update agreement.agreements
set status = 'draft', envelope_id = null, signed_at = null, effective_at = null
where id = :agreement;
