-- How disputes govern the money: opening freezes, a judge of neither party decides, the outcome drives agreement
-- and invoices.
-- depends: 0440_timeline_rules

set local role brokerflow_owner;

-- Fills in what the caller may not choose.
create function agreement.disputes_begin_open() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if new.outcome is not null then
        perform shared.refuse('disputes_begin_open', 'a dispute begins without an outcome');
    end if;
    new.opened_by := shared.current_user_id();
    new.opened_by_broker_id := shared.current_organization_id();
    new.opened_at := shared.clock();
    return new;
end;
$$;

create trigger disputes_begin_open
before insert on agreement.disputes
for each row execute function agreement.disputes_begin_open();

comment on trigger disputes_begin_open on agreement.disputes is
    'Axiom A12: a dispute governs the money. It begins open and by its proved opener: none is inserted as decided.';

-- Crosses into the agreement and its invoices. After the row's policy: only a party gets here.
create function agreement.disputes_freeze() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    update agreement.agreements as a set status = 'disputed' where a.id = new.agreement_id;
    update agreement.invoices as i set status = 'frozen' where i.agreement_id = new.agreement_id and i.status = 'issued';
    return null;
end;
$$;

comment on function agreement.disputes_freeze() is 'Crosses into the agreement and its invoices.';
revoke execute on function agreement.disputes_freeze() from public;

create trigger disputes_freeze
after insert on agreement.disputes
for each row execute function agreement.disputes_freeze();

comment on trigger disputes_freeze on agreement.disputes is
    'Axiom A12: opening freezes. The agreement is disputed and its unpaid invoices wait, whatever path opened the dispute.';

-- Compares the row with what it was. A withdrawal comes from the settled agreement, a verdict from a judge.
create function agreement.disputes_resolved_once() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    if old.outcome is not null or new.outcome is null
        or (old.id, old.agreement_id, old.reason, old.opened_by, old.opened_by_broker_id, old.opened_at)
            is distinct from (new.id, new.agreement_id, new.reason, new.opened_by, new.opened_by_broker_id, new.opened_at)
        or (new.outcome = 'withdrawn') is distinct from (
            select a.status = 'closed' from agreement.agreements as a where a.id = new.agreement_id
        )
    then
        perform shared.refuse('disputes_resolved_once', 'a dispute is resolved once, and not changed otherwise');
    end if;
    new.resolved_by := shared.current_user_id();
    new.resolved_at := shared.clock();
    return new;
end;
$$;

comment on function agreement.disputes_resolved_once() is 'Crosses row security to see the agreement: a judge is of neither party.';
revoke execute on function agreement.disputes_resolved_once() from public;

create trigger disputes_resolved_once
before update on agreement.disputes
for each row execute function agreement.disputes_resolved_once();

comment on trigger disputes_resolved_once on agreement.disputes is
    'Axiom A12: a dispute governs the money. It is resolved once; judge and time are the database''s.';

-- Asks the sealed actor and the memberships of both parties, whichever organization the judge works in just now, also
-- those that ended since there is an agreement: who leaves to judge is no stranger. Crosses row security for that.
create function agreement.disputes_judged_by_neither_party() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
begin
    if not coalesce(v_actor.is_platform_admin, false) or v_actor.user_id = old.opened_by or exists (
        select
        from agreement.agreements as a
        join shared.memberships as m on m.organization_id in (a.from_broker_id, a.to_broker_id)
        where a.id = old.agreement_id and m.user_id = v_actor.user_id
    ) or exists (
        select from archive.all_timeline_events as e
        where e.agreement_id = old.agreement_id
            and (e.impersonator_id = v_actor.user_id or e.user_id = v_actor.user_id and e.type <> 'DISPUTE_RESOLVED')
    ) or exists (
        select
        from agreement.agreements as a
        join archive.all_audit_log as l
            on l.subject in ('organization/' || a.from_broker_id, 'organization/' || a.to_broker_id)
        where a.id = old.agreement_id and l.recorded_at >= a.created_at and l.action like 'membership.%'
            and l.outcome = 'done' and l.detail ->> 'user_id' = v_actor.user_id::text
    ) then
        perform shared.refuse('disputes_judged_by_neither_party', 'a dispute is judged by a platform admin of neither party', 'insufficient_privilege');
    end if;
    return new;
end;
$$;

comment on function agreement.disputes_judged_by_neither_party() is 'Crosses row security to see the members of both parties.';
revoke execute on function agreement.disputes_judged_by_neither_party() from public;

create trigger disputes_judged_by_neither_party
before update on agreement.disputes
for each row when (new.outcome in ('upheld', 'dismissed'))
execute function agreement.disputes_judged_by_neither_party();

comment on trigger disputes_judged_by_neither_party on agreement.disputes is
    'Axiom A12: a party never judges its own case. Only a platform admin does who belongs to neither broker, nor did since there is an agreement, and who never acted on it, himself or as another.';

-- Crosses into the agreement and its invoices.
create function agreement.disputes_govern() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    update agreement.agreements as a
    set status = case new.outcome when 'upheld' then 'void' else 'effective' end::agreement.agreement_status
    where a.id = new.agreement_id and new.outcome in ('upheld', 'dismissed');
    update agreement.invoices as i
    set status = case new.outcome when 'upheld' then 'invalidated' else 'issued' end::agreement.invoice_status
    where i.agreement_id = new.agreement_id and i.status = 'frozen';
    return null;
end;
$$;

comment on function agreement.disputes_govern() is 'Crosses into the agreement and its invoices.';
revoke execute on function agreement.disputes_govern() from public;

create trigger disputes_govern
after update on agreement.disputes
for each row execute function agreement.disputes_govern();

comment on trigger disputes_govern on agreement.disputes is
    'Axiom A12: upheld voids the agreement and invalidates unpaid invoices, dismissed restores. Paid invoices are spared.';

create trigger disputes_never_deleted
before delete on agreement.disputes
for each row execute function shared.refuse_change();

create trigger disputes_never_emptied
before truncate on agreement.disputes
for each statement execute function shared.refuse_change();

comment on trigger disputes_never_deleted on agreement.disputes is 'Axiom A12: a dispute governs the money. It is resolved, not removed.';
comment on trigger disputes_never_emptied on agreement.disputes is 'Axiom A12: a dispute governs the money. TRUNCATE fires no row trigger, so it has its own.';

-- Compares with the agreement's row, and writes it as it is, against a dispute that opens at the same moment: he waits
-- and freezes this invoice, or meets a newer row. A lock alone would not tell a transaction whose snapshot is older, and
-- in which this invoice is not there to be frozen. Runs as its caller: another tenant's agreement is not there, and
-- refused alike.
create function agreement.invoices_not_while_disputed() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_status agreement.agreement_status;
begin
    update agreement.agreements as a set status = a.status where a.id = new.agreement_id returning a.status into v_status;
    if v_status is null or v_status not in ('effective', 'success') then
        perform shared.refuse('invoices_not_while_disputed', 'an invoice is issued under an effective or successful agreement');
    end if;
    new.created_by := shared.current_user_id();
    return new;
end;
$$;

create trigger invoices_not_while_disputed
before insert on agreement.invoices
for each row execute function agreement.invoices_not_while_disputed();

comment on trigger invoices_not_while_disputed on agreement.invoices is
    'Axiom A12: opening freezes. Nothing is invoiced under an agreement that is disputed, void or not yet effective.';

-- Compares the row with what it was, and frozen money with the dispute, which who may change an invoice sees.
create function agreement.invoices_follow_dispute() returns trigger
language plpgsql
set search_path = ''
as $$
declare
    v_is_disputed boolean := exists (select from agreement.disputes as d where d.agreement_id = old.agreement_id and d.outcome is null);
begin
    if (old.id, old.agreement_id, old.amount, old.currency, old.created_by, old.created_at)
            is distinct from (new.id, new.agreement_id, new.amount, new.currency, new.created_by, new.created_at)
        or not (case old.status
            when 'issued' then new.status in ('paid', 'written_off') and not v_is_disputed or new.status = 'frozen' and v_is_disputed
            when 'frozen' then new.status in ('issued', 'invalidated') and not v_is_disputed
            else false
        end)
    then
        perform shared.refuse('invoices_follow_dispute', format('an invoice that is %s does not become %s', old.status, new.status));
    end if;
    new.settled_at := case when new.status in ('paid', 'written_off') then shared.clock() end;
    return new;
end;
$$;

create trigger invoices_follow_dispute
before update on agreement.invoices
for each row execute function agreement.invoices_follow_dispute();

comment on trigger invoices_follow_dispute on agreement.invoices is
    'Axiom A12: a dispute governs the money. Frozen invoices are not paid, and what is settled stays settled.';

create trigger invoices_never_deleted
before delete on agreement.invoices
for each row execute function shared.refuse_change();

create trigger invoices_never_emptied
before truncate on agreement.invoices
for each statement execute function shared.refuse_change();

comment on trigger invoices_never_deleted on agreement.invoices is 'Axiom A12: a dispute governs the money. An invoice is written off, not removed.';
comment on trigger invoices_never_emptied on agreement.invoices is 'Axiom A12: a dispute governs the money. TRUNCATE fires no row trigger, so it has its own.';

-- Crosses into the audit log.
create function agreement.invoices_write_audit() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    perform shared.write_audit(
        'invoice.' || new.status, 'agreement/' || new.agreement_id,
        detail => jsonb_build_object('invoice_id', new.id, 'amount', new.amount::text, 'currency', new.currency)
    );
    return null;
end;
$$;

comment on function agreement.invoices_write_audit() is 'Crosses into the audit log.';
revoke execute on function agreement.invoices_write_audit() from public;

create trigger invoices_write_audit
after insert or update on agreement.invoices
for each row execute function agreement.invoices_write_audit();

comment on trigger invoices_write_audit on agreement.invoices is
    'Axiom A12: a dispute governs the money. Each change of an invoice is in the audit log with who made it.';
