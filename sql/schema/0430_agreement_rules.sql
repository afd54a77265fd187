-- How an agreement may change: along the state machine, each edge by its cause, and the rest of it never.
--
-- A trigger on columns fires for every statement that sets them, whoever asks; that no trigger here sets a fixed one
-- is to be read below. What sets none of them is spared the comparison, which is prepared anew for each statement.
-- depends: 0420_match_rules

set local role brokerflow_owner;

-- Fills in what the caller may not choose. Runs as its caller: another tenant's referral is not there, and refused as
-- the foreign key would refuse an unknown one; for the trigger that accepting fires it is.
create function agreement.agreements_begin_unsigned() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_referral_status agreement.referral_status;
begin
    if new.status not in ('draft', 'pending_signature') then
        perform shared.refuse('agreements_begin_unsigned', format('an agreement does not begin as %s', new.status));
    end if;
    select r.region, r.status into new.region, v_referral_status
    from agreement.referrals as r
    where r.id = new.referral_id and r.broker_id = new.from_broker_id;
    if not found then
        perform shared.refuse(
            'agreements_referral_id_from_broker_id_fkey', 'the broker has no such referral', 'foreign_key_violation'
        );
    end if;
    if v_referral_status in ('cancelled', 'closed') then
        perform shared.refuse('agreements_begin_unsigned', format('the referral is %s', v_referral_status));
    end if;
    new.created_by := shared.current_user_id();
    new.created_at := shared.clock();
    new.version := 1;
    return new;
end;
$$;

create trigger agreements_begin_unsigned
before insert on agreement.agreements
for each row execute function agreement.agreements_begin_unsigned();

comment on trigger agreements_begin_unsigned on agreement.agreements is
    'Axiom A8: an agreement moves only along the state machine. It begins as a draft or pending signature, of a referral that is neither cancelled nor closed, with its region.';

-- Compares the row with what it was, which no constraint sees.
create function agreement.agreements_follow_transitions() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if not exists (
        select from agreement.transitions as t where t.from_status = old.status and t.to_status = new.status
    ) then
        perform shared.refuse('agreements_follow_transitions', format('an agreement does not move from %s to %s', old.status, new.status));
    end if;
    return new;
end;
$$;

create trigger agreements_follow_transitions
before update on agreement.agreements
for each row when (old.status <> new.status)
execute function agreement.agreements_follow_transitions();

comment on trigger agreements_follow_transitions on agreement.agreements is
    'Axiom A8: an agreement moves only along the state machine. What is void or closed is not revived, by no path.';

-- Asks the sealed actor, which no constraint sees.
create function agreement.agreements_signed_by_the_signing_service() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if (shared.current_actor()).kind is distinct from 'esign' or new.envelope_id is null then
        perform shared.refuse('agreements_signed_by_the_signing_service', 'only the signing service makes an agreement effective');
    end if;
    return new;
end;
$$;

create trigger agreements_signed_by_the_signing_service
before update on agreement.agreements
for each row when (old.status = 'pending_signature' and new.status = 'effective')
execute function agreement.agreements_signed_by_the_signing_service();

comment on trigger agreements_signed_by_the_signing_service on agreement.agreements is
    'Axiom A8: an agreement moves only along the state machine. It becomes effective by a proved signature, not by a party''s word.';

-- Looks at the disputes of the agreement, which are rows of another table. Crosses row security to see them all.
create function agreement.agreements_follow_their_dispute() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_dispute agreement.disputes;
begin
    select * into v_dispute from agreement.disputes as d where d.agreement_id = new.id order by d.id desc limit 1;
    if not coalesce(
        case
            when new.status = 'disputed' then v_dispute.id is not null and v_dispute.outcome is null
            when new.status = 'void' then v_dispute.outcome = 'upheld'
            when new.status = 'effective' then v_dispute.outcome = 'dismissed'
            -- The complainant may settle; who is complained of may not close the case.
            when new.status = 'closed' then
                v_dispute.outcome is null and v_dispute.opened_by_broker_id = shared.current_organization_id()
        end,
        false
    ) then
        perform shared.refuse('agreements_follow_their_dispute', 'a dispute decides: it is opened, judged by neither party, or settled by who opened it');
    end if;
    return new;
end;
$$;

comment on function agreement.agreements_follow_their_dispute() is 'Crosses row security to see the dispute whoever moves the agreement.';
revoke execute on function agreement.agreements_follow_their_dispute() from public;

create trigger agreements_follow_their_dispute
before update on agreement.agreements
for each row when (old.status <> new.status and (old.status = 'disputed' or new.status = 'disputed'))
execute function agreement.agreements_follow_their_dispute();

comment on trigger agreements_follow_their_dispute on agreement.agreements is
    'Axiom A12: a dispute governs the money. Only an open dispute makes an agreement disputed, and only its end frees it.';

create function agreement.agreements_effective_at_once() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform shared.refuse('agreements_effective_at_once', 'effective_at is set once, by the signature, and never cleared');
    return null;
end;
$$;

create trigger agreements_effective_at_once
before update of effective_at on agreement.agreements
for each row when (old.effective_at is distinct from new.effective_at)
execute function agreement.agreements_effective_at_once();

comment on trigger agreements_effective_at_once on agreement.agreements is
    'Axiom A3: no caller sets a recorded time. effective_at is set once and never cleared; the trigger that sets it runs after this one.';

create function agreement.agreements_region_fixed() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform shared.refuse('agreements_region_fixed', 'an agreement''s region never changes');
    return null;
end;
$$;

create trigger agreements_region_fixed
before update of region on agreement.agreements
for each row when (old.region is distinct from new.region)
execute function agreement.agreements_region_fixed();

comment on trigger agreements_region_fixed on agreement.agreements is
    'Axiom A8: region never changes. The column is granted all the same, so that an attempt meets this refusal and is named.';

create function agreement.agreements_terms_fixed() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform shared.refuse('agreements_terms_fixed', 'an agreement''s parties and terms never change');
    return null;
end;
$$;

create trigger agreements_terms_fixed
before update of id, referral_id, match_id, from_broker_id, to_broker_id, fee_rate, protect_days, created_by, created_at, version
on agreement.agreements
for each row when (
    (old.id, old.referral_id, old.match_id, old.from_broker_id, old.to_broker_id, old.fee_rate, old.protect_days, old.created_by, old.created_at, old.version)
    is distinct from
    (new.id, new.referral_id, new.match_id, new.from_broker_id, new.to_broker_id, new.fee_rate, new.protect_days, new.created_by, new.created_at, new.version)
)
execute function agreement.agreements_terms_fixed();

comment on trigger agreements_terms_fixed on agreement.agreements is
    'Axiom A8: an agreement moves only along the state machine. Moving is all it does: parties and terms stay.';

create function agreement.agreements_signature_fixed() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    perform shared.refuse('agreements_signature_fixed', 'a signature comes with effectiveness, and never changes');
    return null;
end;
$$;

create trigger agreements_signature_fixed
before update of envelope_id, signed_at on agreement.agreements
for each row when (
    (old.envelope_id, old.signed_at) is distinct from (new.envelope_id, new.signed_at)
    and (old.envelope_id is not null or new.status <> 'effective')
)
execute function agreement.agreements_signature_fixed();

comment on trigger agreements_signature_fixed on agreement.agreements is
    'Axiom A8: an agreement moves only along the state machine. It is signed once, when it becomes effective.';

-- After the refusals above, by name: "stamp" sorts behind them.
create function agreement.agreements_stamp() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    new.version := old.version + 1;
    if new.status = 'effective' and old.effective_at is null then
        new.effective_at := shared.clock();
    end if;
    return new;
end;
$$;

create trigger agreements_zz_stamp
before update on agreement.agreements
for each row when (old.status <> new.status)
execute function agreement.agreements_stamp();

comment on trigger agreements_zz_stamp on agreement.agreements is
    'Axiom A3: business time is the database''s. Sets effective_at at the signature and counts the version; named to run last.';

create trigger agreements_never_deleted
before delete on agreement.agreements
for each row execute function shared.refuse_change();

create trigger agreements_never_emptied
before truncate on agreement.agreements
for each statement execute function shared.refuse_change();

comment on trigger agreements_never_deleted on agreement.agreements is 'Axiom A8: an agreement is never deleted. It is closed.';
comment on trigger agreements_never_emptied on agreement.agreements is 'Axiom A8: an agreement is never deleted. TRUNCATE fires no row trigger, so it has its own.';

-- Crosses into the referral, which may be the other party's.
create function agreement.agreements_carry_referral() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    if tg_op = 'UPDATE' and old.status = new.status then
        return null;
    end if;
    if new.status = 'draft' then
        -- Nothing changes, but who cancels at the same moment meets a newer row: he waits and voids this draft, or sees
        -- it too late to go on. A lock alone would not tell a transaction whose snapshot is older.
        update agreement.referrals as r set status = r.status
        where r.id = new.referral_id and r.status not in ('cancelled', 'closed');
        if not found then
            perform shared.refuse('agreements_carry_referral', 'the referral is cancelled or closed');
        end if;
    elsif new.status = 'pending_signature' then
        update agreement.referrals as r set status = 'matched' where r.id = new.referral_id and r.status = 'open';
        if not found then
            perform shared.refuse('agreements_carry_referral', 'the referral is not open');
        end if;
    elsif new.status = 'effective' and old.status = 'pending_signature' then
        update agreement.referrals as r set status = 'signed' where r.id = new.referral_id;
    elsif new.status = 'void' and old.status = 'pending_signature' then
        update agreement.referrals as r set status = 'open' where r.id = new.referral_id and r.status = 'matched';
    elsif old.status in ('effective', 'disputed') and new.status in ('success', 'void', 'closed') then
        update agreement.referrals as r set status = 'closed' where r.id = new.referral_id;
    end if;
    return null;
end;
$$;

comment on function agreement.agreements_carry_referral() is 'Crosses into the referral of the agreement.';
revoke execute on function agreement.agreements_carry_referral() from public;

create trigger agreements_carry_referral
after insert or update of status on agreement.agreements
for each row execute function agreement.agreements_carry_referral();

comment on trigger agreements_carry_referral on agreement.agreements is
    'Axiom A8: a referral moves with its agreement. Pending it is matched, effective it is signed, void before that it is open again.';

-- Crosses into the dispute. Named to run before the timeline is told, so that the event knows the outcome.
create function agreement.agreements_settle_dispute() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    update agreement.disputes as d set outcome = 'withdrawn' where d.agreement_id = new.id and d.outcome is null;
    return null;
end;
$$;

comment on function agreement.agreements_settle_dispute() is 'Crosses into the dispute of a settled agreement.';
revoke execute on function agreement.agreements_settle_dispute() from public;

create trigger agreements_settle_dispute
after update on agreement.agreements
for each row when (old.status = 'disputed' and new.status = 'closed')
execute function agreement.agreements_settle_dispute();

comment on trigger agreements_settle_dispute on agreement.agreements is
    'Axiom A12: a dispute governs the money. Closing a disputed agreement withdraws the complaint.';

-- Crosses into the timeline, where commands alone write these types.
create function agreement.agreements_tell_timeline() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_type agreement.event_type := 'AGREEMENT_CREATED';
    v_payload jsonb;
begin
    if tg_op = 'INSERT' then
        insert into agreement.timeline_heads (agreement_id, seq, recorded_at, hash)
        values (new.id, 0, new.created_at, sha256(convert_to('brokerflow timeline ' || new.id, 'UTF8')));
        v_payload := jsonb_build_object('status', new.status, 'referral_id', new.referral_id, 'match_id', new.match_id,
            'from_broker_id', new.from_broker_id, 'to_broker_id', new.to_broker_id, 'region', new.region,
            'fee_rate', new.fee_rate::text, 'protect_days', new.protect_days);
    else
        select t.event_type into v_type from agreement.transitions as t where t.from_status = old.status and t.to_status = new.status;
        v_payload := jsonb_build_object('from', old.status, 'to', new.status);
        if v_type = 'ESIGN_COMPLETED' then
            v_payload := v_payload || jsonb_build_object('envelope_id', new.envelope_id, 'signed_at', shared.iso8601(new.signed_at));
        elsif v_type in ('DISPUTE_OPENED', 'DISPUTE_RESOLVED') then
            select v_payload || jsonb_build_object('dispute_id', d.id, 'outcome', d.outcome)
            into v_payload
            from agreement.disputes as d where d.agreement_id = new.id order by d.id desc limit 1;
        end if;
    end if;
    insert into agreement.timeline_events (agreement_id, type, payload, occurred_at)
    values (new.id, v_type, v_payload, case when v_type = 'ESIGN_COMPLETED' then new.effective_at end);
    return null;
end;
$$;

comment on function agreement.agreements_tell_timeline() is 'Crosses into the timeline: its own types, and the head of a new chain.';
revoke execute on function agreement.agreements_tell_timeline() from public;

create trigger agreements_tell_created
after insert on agreement.agreements
for each row execute function agreement.agreements_tell_timeline();

create trigger agreements_tell_moved
after update on agreement.agreements
for each row when (old.status <> new.status)
execute function agreement.agreements_tell_timeline();

comment on trigger agreements_tell_created on agreement.agreements is
    'Axiom A5: an effect leaves in the transaction that caused it, whatever path wrote the state. A new agreement is an event.';
comment on trigger agreements_tell_moved on agreement.agreements is
    'Axiom A5: an effect leaves in the transaction that caused it, whatever path wrote the state. Each move is one event.';
