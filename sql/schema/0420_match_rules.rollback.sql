drop trigger matches_never_deleted on agreement.matches;
drop trigger matches_on_open_referral on agreement.matches;
drop function agreement.matches_accepting_agrees();
drop trigger matches_answered_once on agreement.matches;
drop function agreement.matches_answered_once();
drop trigger matches_answered_by_candidate on agreement.matches;
drop function agreement.matches_answered_by_candidate();
drop trigger matches_candidate_is_agent on agreement.matches;
drop function agreement.matches_candidate_is_agent();
