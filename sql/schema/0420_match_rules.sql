-- How an invitation is made and answered: to an agent of another broker, by the candidate, once; accepting makes
-- the agreement.
-- depends: 0410_referral_rules

set local role brokerflow_owner;

-- Fills in what the caller may not choose: whose referral it is and whom the candidate works for. Crosses row
-- security, since the candidate's membership is another tenant's; the referral must be the actor's own.
create function agreement.matches_candidate_is_agent() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    select r.broker_id into new.broker_id
    from agreement.referrals as r
    where r.id = new.referral_id and r.broker_id = shared.acting_organization('agreements:write') and r.status = 'open'
    for key share;
    if not found then
        perform shared.refuse('matches_on_open_referral', 'only an open referral takes invitations');
    end if;
    select m.organization_id into new.candidate_broker_id
    from shared.memberships as m
    join agreement.brokers as b on b.id = m.organization_id
    where m.user_id = new.candidate_user_id and m.role >= 'agent' and m.organization_id <> new.broker_id
    order by m.created_at, m.organization_id
    limit 1;
    if not found then
        perform shared.refuse('matches_candidate_is_agent', 'the candidate is not an agent of another broker');
    end if;
    new.invited_by := shared.current_user_id();
    new.state := 'invited';
    new.responded_at := null;
    return new;
end;
$$;

comment on function agreement.matches_candidate_is_agent() is 'Crosses into memberships of other tenants to find the candidate''s broker.';
revoke execute on function agreement.matches_candidate_is_agent() from public;

create trigger matches_candidate_is_agent
before insert on agreement.matches
for each row execute function agreement.matches_candidate_is_agent();

comment on trigger matches_candidate_is_agent on agreement.matches is
    'Axiom A9: nobody touches another tenant''s rows. An invitation starts as invited, from the actor''s own open referral, to an agent of another broker.';

-- Compares the row with what it was and with the actor.
create function agreement.matches_answered_by_candidate() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if shared.current_user_id() is distinct from old.candidate_user_id then
        perform shared.refuse('matches_answered_by_candidate', 'an invitation is answered by its candidate', 'insufficient_privilege');
    end if;
    if new.state = 'accepted' and coalesce(shared.member_role_in(old.candidate_broker_id) < 'agent', true) then
        perform shared.refuse(
            'matches_answered_by_candidate', 'an invitation is accepted by an agent of the invited broker', 'insufficient_privilege'
        );
    end if;
    new.responded_at := shared.clock();
    return new;
end;
$$;

create trigger matches_answered_by_candidate
before update on agreement.matches
for each row execute function agreement.matches_answered_by_candidate();

comment on trigger matches_answered_by_candidate on agreement.matches is
    'Axiom A9: who asks is proved. The inviting broker cannot accept in the candidate''s name, nor can a candidate who left bind his former broker.';

create function agreement.matches_answered_once() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform shared.refuse('matches_answered_once', format('the invitation was %s already', old.state));
    return null;
end;
$$;

create trigger matches_answered_once
before update on agreement.matches
for each row when (
    old.state <> 'invited' or new.state = 'invited'
    or (old.id, old.referral_id, old.broker_id, old.candidate_user_id, old.candidate_broker_id, old.invited_by, old.created_at)
        is distinct from (new.id, new.referral_id, new.broker_id, new.candidate_user_id, new.candidate_broker_id, new.invited_by, new.created_at)
)
execute function agreement.matches_answered_once();

comment on trigger matches_answered_once on agreement.matches is
    'Axiom A8: an agreement moves only along the state machine. An invitation is answered once: who accepted cannot decline afterwards.';

-- Crosses into the referrer's referral and makes the agreement. The referral is locked first, so that acceptances
-- of one referral queue; the second then meets the index of A1.
create function agreement.matches_accepting_agrees() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_status agreement.referral_status;
begin
    select r.status into v_status from agreement.referrals as r where r.id = new.referral_id for no key update;
    if v_status in ('cancelled', 'closed') then
        perform shared.refuse('matches_on_open_referral', format('the referral is %s', v_status));
    end if;
    insert into agreement.agreements (referral_id, match_id, from_broker_id, to_broker_id, status)
    values (new.referral_id, new.id, new.broker_id, new.candidate_broker_id, 'pending_signature');
    return null;
end;
$$;

comment on function agreement.matches_accepting_agrees() is 'Crosses into the referrer''s referral.';
revoke execute on function agreement.matches_accepting_agrees() from public;

create trigger matches_on_open_referral
after update on agreement.matches
for each row when (old.state = 'invited' and new.state = 'accepted')
execute function agreement.matches_accepting_agrees();

comment on trigger matches_on_open_referral on agreement.matches is
    'Axiom A8: an agreement moves only along the state machine. Accepting makes it, whatever path wrote the answer; a cancelled referral accepts nobody.';

create trigger matches_never_deleted
before delete on agreement.matches
for each row execute function shared.refuse_change();

comment on trigger matches_never_deleted on agreement.matches is 'Axiom A8: an agreement is never deleted. Nor is the invitation it came from.';
