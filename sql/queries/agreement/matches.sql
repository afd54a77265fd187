-- name: invite_candidate(referral_id, candidate_user_id)<!
-- Invite an agent of another broker to take a referral.
-- record: Match
select
    m.id, m.referral_id, m.broker_id, m.candidate_user_id, m.candidate_broker_id, m.state, m.invited_by, m.created_at,
    m.responded_at
from agreement.invite_candidate(:referral_id, :candidate_user_id) as m;

-- name: list_matches(referral_id, after, limit)
-- The invitations of one referral.
-- record: Match
-- optional: after
select
    m.id, m.referral_id, m.broker_id, m.candidate_user_id, m.candidate_broker_id, m.state, m.invited_by, m.created_at,
    m.responded_at
from agreement.find_referral(:referral_id) as f (referral_id)
cross join lateral (
    select *
    from agreement.matches as t
    where t.referral_id = f.referral_id and t.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
    order by t.broker_id, t.id     -- one broker, as the index has them
    limit :limit
) as m
order by m.id;

-- name: list_invitations(state, after, limit)
-- The caller's own invitations, newest first, each with what the referral offers.
-- record: Invitation
-- optional: state, after
select
    m.id, m.referral_id, m.broker_id, b.name as broker_name, m.candidate_user_id, m.candidate_broker_id, m.state,
    m.created_at, m.responded_at, r.region, r.price_min, r.price_max, r.property_type, r.deal_type, r.languages, r.sla_hours
from agreement.matches as m
join agreement.referrals as r on r.id = m.referral_id
join agreement.brokers as b on b.id = m.broker_id
-- Asked filtered, it grows with the caller's own invitations: it looks through them in order, until the page is full.
where m.candidate_user_id = shared.current_user_id()
    and (:state::agreement.match_state is null or m.state = :state)
    and m.id < (select coalesce(:after::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
order by m.id desc
limit :limit;

-- name: answer_match(referral_id, id, state)<!
-- Accept or decline an invitation.
-- Accepting answers with the agreement, also when it was accepted before; agreement_id is null where there is none.
-- record: AnsweredMatch
select
    m.id, m.referral_id, m.broker_id, m.candidate_user_id, m.candidate_broker_id, m.state, m.invited_by, m.created_at,
    m.responded_at,
    a.id as "agreement_id?", a.from_broker_id as "from_broker_id!", a.to_broker_id as "to_broker_id!",
    a.region as "agreement_region!", a.fee_rate as "fee_rate!", a.protect_days as "protect_days!",
    a.status as "agreement_status!", a.version as "agreement_version!", a.envelope_id as "envelope_id?",
    a.signed_at as "signed_at?", a.created_by as "agreement_created_by!", a.created_at as "agreement_created_at!",
    a.effective_at as "effective_at?"
from agreement.answer_match(:referral_id, :id, :state) as m
left join lateral agreement.agreement_of_match(m.id) as a on true;
