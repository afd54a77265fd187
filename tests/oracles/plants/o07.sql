-- its region changed
update agreement.agreements set region = '{Tainan}' where id = :agreement;

-- its fee_rate changed
update agreement.agreements set fee_rate = 1 where id = :agreement;

-- its protect_days changed
update agreement.agreements set protect_days = 1 where id = :agreement;

-- its to_broker_id changed
update agreement.agreements set to_broker_id = :rival_broker where id = :agreement;

-- its region is not its referral's
update agreement.referrals set region = '{Tainan}' where id = :referral;
