-- How a referral may change: along its edges, never its region, and cancelled by who answers for it.
-- depends: 0400_agreement_tables

set local role brokerflow_owner;

-- Compares the row with what it was, which no constraint sees.
create function agreement.referrals_follow_transitions() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if not exists (
        select from agreement.referral_transitions as t where t.from_status = old.status and t.to_status = new.status
    ) then
        perform shared.refuse('referrals_follow_transitions', format('a referral does not move from %s to %s', old.status, new.status));
    end if;
    return new;
end;
$$;

create trigger referrals_follow_transitions
before update on agreement.referrals
for each row when (old.status <> new.status)
execute function agreement.referrals_follow_transitions();

comment on trigger referrals_follow_transitions on agreement.referrals is
    'Axiom A8: a referral moves with its agreement, or is cancelled before it is signed. A signed one is beyond cancelling.';

-- Compares the row with what it was, and with the actor.
create function agreement.referrals_terms_fixed() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform shared.refuse('referrals_terms_fixed', 'a referral''s region, broker, terms and the reason of its end never change');
    return null;
end;
$$;

create trigger referrals_terms_fixed
before update of
    id, broker_id, region, price_min, price_max, property_type, deal_type, languages, sla_hours, created_by, created_at, cancel_reason
on agreement.referrals
for each row when (
    (old.id, old.broker_id, old.region, old.price_min, old.price_max, old.property_type, old.deal_type, old.languages, old.sla_hours, old.created_by, old.created_at)
    is distinct from
    (new.id, new.broker_id, new.region, new.price_min, new.price_max, new.property_type, new.deal_type, new.languages, new.sla_hours, new.created_by, new.created_at)
    or old.cancel_reason is distinct from new.cancel_reason and old.cancel_reason is not null
)
execute function agreement.referrals_terms_fixed();

comment on trigger referrals_terms_fixed on agreement.referrals is
    'Axiom A8: region never changes. Candidates accept what they were shown.';

create function agreement.referrals_cancelled_by_creator_or_admin() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
begin
    if v_actor.organization_id is distinct from old.broker_id
        or not (v_actor.user_id = old.created_by or v_actor.role >= 'admin')
    then
        perform shared.refuse(
            'referrals_cancelled_by_creator_or_admin', 'a referral is cancelled by its creator or an admin of its broker', 'insufficient_privilege'
        );
    end if;
    return new;
end;
$$;

create trigger referrals_cancelled_by_creator_or_admin
before update on agreement.referrals
for each row when (old.status <> 'cancelled' and new.status = 'cancelled')
execute function agreement.referrals_cancelled_by_creator_or_admin();

comment on trigger referrals_cancelled_by_creator_or_admin on agreement.referrals is
    'Axiom A9: nobody touches another tenant''s rows. Within the tenant, a referral is cancelled by its creator or an admin.';

-- Crosses row security: the agreement is the other party's as well.
create function agreement.referrals_cancelling_voids() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    update agreement.agreements as a set status = 'void'
    where a.referral_id = new.id and a.status in ('draft', 'pending_signature');
    return null;
end;
$$;

comment on function agreement.referrals_cancelling_voids() is 'Crosses into the agreements of a cancelled referral.';
revoke execute on function agreement.referrals_cancelling_voids() from public;

create trigger referrals_cancelling_voids
after update on agreement.referrals
for each row when (old.status <> 'cancelled' and new.status = 'cancelled')
execute function agreement.referrals_cancelling_voids();

comment on trigger referrals_cancelling_voids on agreement.referrals is
    'Axiom A8: cancelling voids the pending agreement. None is left stranded on a cancelled referral.';
