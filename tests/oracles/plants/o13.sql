-- its referral is of another broker
update agreement.referrals set broker_id = :rival_broker where id = :referral;

-- its invitation is of other brokers, or of another referral
update agreement.agreements set to_broker_id = :rival_broker where id = :agreement;

-- its two parties are one
alter table agreement.agreements drop constraint agreements_between_two_brokers cascade;
update agreement.agreements set to_broker_id = from_broker_id where id = :agreement;

-- an invitation to it is of another broker
update agreement.matches set broker_id = :rival_broker where id = :invited;

-- an invitation to it is of another broker
alter table agreement.matches drop constraint matches_candidate_of_another_broker cascade;
update agreement.matches set candidate_broker_id = broker_id where id = :invited;

-- event 1 names other parties
update agreement.timeline_events set to_broker_id = :stranger_broker where agreement_id = :agreement and seq = 1;

-- a dispute was opened by a stranger
update agreement.disputes set opened_by_broker_id = :stranger_broker where id = :upheld_dispute;

-- the broker is no organization
delete from shared.organizations where id = :stranger_broker;

-- its project is of another organization
update shared.environments set organization_id = :rival_broker;

-- its environment is of another organization
update shared.external_accounts set organization_id = :rival_broker;

-- its environment is no preview
update shared.environments set type = 'STAGING';
