-- it has 2 live agreements
drop index agreement.agreements_one_live_per_referral;
update agreement.agreements
set referral_id = (select referral_id from agreement.agreements where id = :pending_signature)
where id = :effective;
