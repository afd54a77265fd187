-- PROPERTY_SHOWN, but the agreement never was effective
select pg_temp.forge(:pending_signature, 'PROPERTY_SHOWN');

-- DEAL_CLOSED, but the agreement never was effective
select pg_temp.forge(:closed_after_void, 'DEAL_CLOSED');
update agreement.agreements set effective_at = null where id = :closed_after_void;

-- OFFER_MADE occurred before effectiveness
select pg_temp.forge(:agreement, 'OFFER_MADE', earlier => interval '1 day');

-- OFFER_MADE was recorded while void
select pg_temp.forge(:void_after_effective, 'OFFER_MADE');

-- PROPERTY_SHOWN was recorded while disputed
select pg_temp.forge(:disputed, 'PROPERTY_SHOWN');

-- effective_at was cleared
update agreement.agreements set effective_at = null where id = :void_after_effective;

-- it is effective without an effective_at
alter table agreement.agreements drop constraint agreements_effective_since_signed cascade;
update agreement.agreements set effective_at = null, signed_at = null, envelope_id = null where id = :agreement;
delete from agreement.timeline_events where agreement_id = :agreement;

-- effective_at was set without a signature
update agreement.agreements set effective_at = now() where id = :void;

-- it was signed 2 times
select pg_temp.forge(:agreement, 'ESIGN_COMPLETED');

-- effective_at is not the time of its signature
update agreement.agreements set effective_at = effective_at + interval '1 hour' where id = :agreement;

-- it was signed after it became effective
alter table agreement.agreements drop constraint agreements_signed_by_effectiveness cascade;
update agreement.agreements set signed_at = effective_at + interval '1 second' where id = :agreement;

-- it is recorded before its predecessor
alter table agreement.timeline_events drop constraint timeline_events_occurred_by_recording cascade;
update agreement.timeline_events
set recorded_at = recorded_at - interval '1 day'
where agreement_id = :agreement and seq = 2;

-- it occurred after it was recorded
alter table agreement.timeline_events drop constraint timeline_events_occurred_by_recording cascade;
update agreement.timeline_events
set occurred_at = recorded_at + interval '1 second'
where agreement_id = :agreement and seq = 1;

-- it is recorded in the future
update agreement.timeline_events
set recorded_at = now() + interval '1 hour'
where agreement_id = :agreement and seq = (select h.seq from agreement.timeline_heads as h where h.agreement_id = :agreement);
