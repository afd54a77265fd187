drop trigger referrals_cancelling_voids on agreement.referrals;
drop function agreement.referrals_cancelling_voids();
drop trigger referrals_cancelled_by_creator_or_admin on agreement.referrals;
drop function agreement.referrals_cancelled_by_creator_or_admin();
drop trigger referrals_terms_fixed on agreement.referrals;
drop function agreement.referrals_terms_fixed();
drop trigger referrals_follow_transitions on agreement.referrals;
drop function agreement.referrals_follow_transitions();
