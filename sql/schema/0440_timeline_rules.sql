-- How the timeline grows: by a party or a command, numbered and chained under one lock, told to the outbox and the
-- audit log in the same breath, and never changed.
--
-- The BEFORE triggers run in the order of their names: by_party, chain, gated.
-- depends: 0430_agreement_rules

set local role brokerflow_owner;

-- Runs as its caller: under row security a stranger's agreement is not there, for the triggers of commands it is.
-- It comes first, so that nothing later tells a stranger about the agreement.
create function agreement.timeline_events_by_party() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if not exists (select from agreement.agreements as a where a.id = new.agreement_id) then
        perform shared.refuse('timeline_events_by_party', 'only a party appends to an agreement', 'insufficient_privilege');
    end if;
    return new;
end;
$$;

create trigger timeline_events_by_party
before insert on agreement.timeline_events
for each row execute function agreement.timeline_events_by_party();

comment on trigger timeline_events_by_party on agreement.timeline_events is
    'Axiom A9: nobody touches another tenant''s rows. That somebody proved himself at all is what the event''s credential_kind says, which is not null.';

-- What is told of an event. Stable and without settings of its own, as the next one, so that both are inlined where
-- a million hashes are computed again.
create function agreement.event_document(event agreement.timeline_events) returns jsonb
language sql stable parallel safe
as $$
    select jsonb_build_object(
        'agreement_id', event_document.event.agreement_id,
        'seq', event_document.event.seq,
        'id', event_document.event.id,
        'type', event_document.event.type,
        'payload', event_document.event.payload,
        'occurred_at', shared.iso8601(event_document.event.occurred_at),
        'recorded_at', shared.iso8601(event_document.event.recorded_at),
        'credential_kind', event_document.event.credential_kind,
        'credential_id', event_document.event.credential_id,
        'user_id', event_document.event.user_id,
        'organization_id', event_document.event.organization_id,
        'impersonator_id', event_document.event.impersonator_id,
        'corrects_seq', event_document.event.corrects_seq
    )
$$;

comment on function agreement.event_document(agreement.timeline_events) is 'An event as the outbox carries it.';
grant execute on function agreement.event_document(agreement.timeline_events) to brokerflow_app, brokerflow_auditor;

-- The exact text that is hashed, and that a proof carries: RFC 3339 times, jsonb's own order of keys.
create function agreement.event_body(event agreement.timeline_events) returns text
language sql stable parallel safe
as $$ select agreement.event_document(event_body.event)::text $$;

comment on function agreement.event_body(agreement.timeline_events) is
    'Axiom A4: the timeline is hash-chained. hash = SHA-256(previous_hash || this text in UTF-8).';
grant execute on function agreement.event_body(agreement.timeline_events) to brokerflow_app, brokerflow_auditor;

-- Numbers an event and links it to the one before. The lock on the head makes appends to one agreement queue, which
-- a sequence (gaps) or a unique key alone (retries) would not. Crosses into the heads and the agreement's parties.
create function agreement.timeline_events_chain() returns trigger
language plpgsql security definer
set search_path = ''
as $$
declare
    v_actor shared.actor := shared.current_actor();
    v_head agreement.timeline_heads;
begin
    select * into v_head from agreement.timeline_heads as h where h.agreement_id = new.agreement_id for update;
    select a.from_broker_id, a.to_broker_id into new.from_broker_id, new.to_broker_id
    from agreement.agreements as a where a.id = new.agreement_id;

    new.id := shared.uuidv7();
    new.seq := v_head.seq + 1;
    new.recorded_at := greatest(shared.clock(), v_head.recorded_at);
    new.occurred_at := coalesce(new.occurred_at, new.recorded_at);
    new.credential_kind := v_actor.kind;
    new.credential_id := v_actor.credential_id;
    new.user_id := v_actor.user_id;
    new.organization_id := v_actor.organization_id;
    new.impersonator_id := v_actor.impersonator_id;
    new.previous_hash := v_head.hash;
    new.hash := sha256(v_head.hash || convert_to(agreement.event_body(new), 'UTF8'));

    update agreement.timeline_heads as h set seq = new.seq, recorded_at = new.recorded_at, hash = new.hash
    where h.agreement_id = new.agreement_id;
    return new;
end;
$$;

comment on function agreement.timeline_events_chain() is 'Crosses into timeline_heads, which nobody may write.';
revoke execute on function agreement.timeline_events_chain() from public;

create trigger timeline_events_chain
before insert on agreement.timeline_events
for each row execute function agreement.timeline_events_chain();

comment on trigger timeline_events_chain on agreement.timeline_events is
    'Axiom A4: the timeline is gapless 1..n per agreement and hash-chained. Number, time, actor and hash are the database''s, whatever a caller says.';

-- Compares with the agreement's row, after the chain has locked its head: a status change writes an event too, so
-- the status read here is the one that this event follows. Crosses row security for that look.
-- Spared by scripts/mutate: function agreement.timeline_events_gated(): as its caller. timeline_events_by_party comes first and lets pass who sees the agreement; this look costs no policy again.
create function agreement.timeline_events_gated() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    if not exists (
        select from agreement.agreements as a
        where a.id = new.agreement_id and a.status in ('effective', 'success') and new.occurred_at >= a.effective_at
    ) then
        perform shared.refuse('timeline_events_gated', format('%s occurs while its agreement is effective, and not before', new.type));
    end if;
    return new;
end;
$$;

comment on function agreement.timeline_events_gated() is 'Crosses row security to read the agreement''s status.';
revoke execute on function agreement.timeline_events_gated() from public;

create trigger timeline_events_gated
before insert on agreement.timeline_events
for each row when (new.type in ('PROPERTY_SHOWN', 'OFFER_MADE', 'ESIGN_COMPLETED', 'DEAL_CLOSED'))
execute function agreement.timeline_events_gated();

comment on trigger timeline_events_gated on agreement.timeline_events is
    'Axiom A3: occurred_at lies between effectiveness and now for gated events. Nothing is shown, offered or closed before the signature.';

create trigger timeline_events_written_once
before update or delete on agreement.timeline_events
for each row execute function shared.refuse_change();

create trigger timeline_events_never_emptied
before truncate on agreement.timeline_events
for each statement execute function shared.refuse_change();

comment on trigger timeline_events_written_once on agreement.timeline_events is
    'Axiom A4: the timeline is written once. UPDATE and DELETE are refused, also to the owner.';
comment on trigger timeline_events_never_emptied on agreement.timeline_events is
    'Axiom A4: the timeline is written once. TRUNCATE is refused, also to the owner.';

-- An archived month arrives as a partition, with all of its events: none is inserted.
create trigger archived_timeline_events_kept
before insert or update or delete on archive.timeline_events
for each row execute function shared.refuse_change();

create trigger archived_timeline_events_never_emptied
before truncate on archive.timeline_events
for each statement execute function shared.refuse_change();

comment on trigger archived_timeline_events_kept on archive.timeline_events is
    'Axiom A4: the timeline is written once. What is archived is neither added to nor changed nor removed, also not by the owner.';
comment on trigger archived_timeline_events_never_emptied on archive.timeline_events is
    'Axiom A4: the timeline is written once. TRUNCATE fires no row trigger, so the archive has its own.';

-- A head that moved without an event would break the chain; who may write it is nobody, but the owner is somebody.
create function agreement.timeline_heads_move_with_events() returns trigger
language plpgsql
set search_path = ''
as $$
begin
    if pg_trigger_depth() < 2 then
        perform shared.refuse('timeline_heads_move_with_events', 'a chain''s head moves with its events only');
    end if;
    return new;
end;
$$;

create trigger timeline_heads_move_with_events
before insert or update on agreement.timeline_heads
for each row execute function agreement.timeline_heads_move_with_events();

create trigger timeline_heads_never_deleted
before delete on agreement.timeline_heads
for each row execute function shared.refuse_change();

create trigger timeline_heads_never_emptied
before truncate on agreement.timeline_heads
for each statement execute function shared.refuse_change();

comment on trigger timeline_heads_move_with_events on agreement.timeline_heads is
    'Axiom A4: the timeline is gapless and hash-chained. The head moves when an event is appended, at no other time.';
comment on trigger timeline_heads_never_deleted on agreement.timeline_heads is
    'Axiom A4: the timeline is hash-chained. Without its head a chain could be cut short unnoticed.';
comment on trigger timeline_heads_never_emptied on agreement.timeline_heads is
    'Axiom A4: the timeline is hash-chained. TRUNCATE fires no row trigger, so it has its own.';

-- Crosses into the outbox and the audit log, which nobody writes directly.
create function agreement.timeline_events_leave() returns trigger
language plpgsql security definer
set search_path = ''
as $$
begin
    insert into shared.outbox (topic, event_id, payload)
    values ('agreement.timeline', new.id, agreement.event_document(new));
    perform shared.write_audit('agreement.' || lower(new.type::text), 'agreement/' || new.agreement_id, detail => jsonb_build_object('seq', new.seq));
    return null;
end;
$$;

comment on function agreement.timeline_events_leave() is 'Crosses into the outbox and the audit log.';
revoke execute on function agreement.timeline_events_leave() from public;

create trigger timeline_events_leave
after insert on agreement.timeline_events
for each row execute function agreement.timeline_events_leave();

comment on trigger timeline_events_leave on agreement.timeline_events is
    'Axiom A5: an effect leaves only through the outbox, in the transaction that caused it. Every event is one message, whatever path wrote it.';
