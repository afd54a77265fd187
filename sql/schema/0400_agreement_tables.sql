-- The facts of the brokerage: who refers whom to whom, on which terms, and what happened since.
-- depends: 0360_secretstore_master_keys

set local role brokerflow_owner;

create type agreement.referral_status as enum ('open', 'matched', 'signed', 'closed', 'cancelled');
create type agreement.match_state as enum ('invited', 'accepted', 'declined');
create type agreement.agreement_status as enum ('draft', 'pending_signature', 'effective', 'success', 'disputed', 'void', 'closed');
create type agreement.event_type as enum (
    -- written by what happens to an agreement
    'AGREEMENT_CREATED', 'ESIGN_REQUESTED', 'ESIGN_COMPLETED', 'AGREEMENT_STATUS_CHANGED', 'PII_VIEWED', 'CONTACT_SHREDDED',
    'DISPUTE_OPENED', 'DISPUTE_RESOLVED',
    -- appended by parties
    'CLIENT_CONTACTED', 'PROPERTY_SHOWN', 'OFFER_MADE', 'DEAL_CLOSED', 'CORRECTION_ADDED'
);
create type agreement.invoice_status as enum ('issued', 'frozen', 'paid', 'written_off', 'invalidated');
create type agreement.dispute_outcome as enum ('upheld', 'dismissed', 'withdrawn');

-- A domain over text would be tidier, but arrays of domains are opaque to clients. In plpgsql, since constraints are
-- prepared anew for each statement: a function in SQL would be parsed each time, to see whether it can be inlined.
-- Without a backslash: whether one escapes in the text of a function is up to its caller's standard_conforming_strings.
create function agreement.are_labels(labels text[], most integer) returns boolean
language plpgsql immutable parallel safe strict
set search_path = ''
as $$
declare
    v_label text;
begin
    -- Both dimensions and bounds are null of an array without elements.
    if cardinality(are_labels.labels) > are_labels.most or array_ndims(are_labels.labels) > 1 or array_lower(are_labels.labels, 1) <> 1 then
        return false;
    end if;
    foreach v_label in array are_labels.labels loop
        if v_label is null or v_label !~ '[^[:space:]]' or length(v_label) > 100 then
            return false;
        end if;
    end loop;
    return true;
end;
$$;

comment on function agreement.are_labels(text[], integer) is 'Whether an array is a plain list of at most so many elements, each of them a text of 1 to 100 characters.';

grant execute on function agreement.are_labels(text[], integer) to brokerflow_app;

-- A broker is an organization that acts as one; the key is the organization's. What only its members may see stands
-- in a table of its own, because row security hides rows, not columns.
create table agreement.brokers (
    id uuid primary key references shared.organizations (id) on delete restrict,
    name text not null,
    created_at timestamptz not null default shared.clock(),
    constraint brokers_name_is_present check (name ~ '\S' and length(name) <= 200)
);

comment on table agreement.brokers is 'Organizations that refer and receive clients.';

create table agreement.broker_registrations (
    broker_id uuid primary key references agreement.brokers (id) on delete cascade,
    fein text not null,
    constraint broker_registrations_fein_is_well_formed check (fein ~ '^[0-9]{2}-?[0-9]{7}$')
);

comment on table agreement.broker_registrations is 'A broker''s federal employer identification number, for its own members.';

create table agreement.referrals (
    id uuid primary key default shared.uuidv7(),
    broker_id uuid not null references agreement.brokers (id) on delete restrict,
    region text[] not null,
    price_min numeric(14, 2) not null,
    price_max numeric(14, 2) not null,
    property_type text not null,
    deal_type text not null,
    languages text[] not null default '{}',
    sla_hours integer not null,
    status agreement.referral_status not null default 'open',
    cancel_reason text,
    created_by uuid not null references shared.users (id) on delete restrict,
    created_at timestamptz not null default shared.clock(),
    -- What agreements and matches refer to, so that theirs is provably the referral's own broker.
    constraint referrals_id_broker_id_key unique (id, broker_id),
    constraint referrals_region_is_named check (cardinality(region) > 0 and agreement.are_labels(region, 10)),
    -- Less than infinity also refuses NaN, which PostgreSQL sorts above all numbers.
    constraint referrals_price_min_is_at_most_price_max check (price_min >= 0 and price_min <= price_max and price_max < 'Infinity'),
    constraint referrals_property_type_is_a_label check (property_type ~ '\S' and length(property_type) <= 100),
    constraint referrals_deal_type_is_a_label check (deal_type ~ '\S' and length(deal_type) <= 100),
    constraint referrals_languages_are_labels check (agreement.are_labels(languages, 20)),
    constraint referrals_sla_hours_is_reasonable check (sla_hours between 1 and 720),
    constraint referrals_cancelled_with_a_reason check ((status = 'cancelled') = (cancel_reason is not null)),
    constraint referrals_cancel_reason_is_present check (cancel_reason ~ '\S' and length(cancel_reason) <= 1000)
);

-- Serve a broker's list by age and by price; the status filter is a recheck.
create index referrals_broker_id_idx on agreement.referrals (broker_id, id);
create index referrals_broker_id_price_min_idx on agreement.referrals (broker_id, price_min, id);
create index referrals_created_by_idx on agreement.referrals (created_by);

comment on table agreement.referrals is 'A client whom a broker offers to others. Who the client is stands in contacts.';

create table agreement.matches (
    id uuid primary key default shared.uuidv7(),
    referral_id uuid not null,
    broker_id uuid not null,
    candidate_user_id uuid not null references shared.users (id) on delete restrict,
    candidate_broker_id uuid not null references agreement.brokers (id) on delete restrict,
    state agreement.match_state not null default 'invited',
    invited_by uuid not null references shared.users (id) on delete restrict,
    created_at timestamptz not null default shared.clock(),
    responded_at timestamptz,
    constraint matches_referral_id_broker_id_fkey foreign key (referral_id, broker_id)
        references agreement.referrals (id, broker_id) on delete restrict,
    constraint matches_one_invitation_per_candidate unique (referral_id, candidate_user_id),
    constraint matches_candidate_of_another_broker check (broker_id <> candidate_broker_id),
    constraint matches_answer_is_dated check ((state = 'invited') = (responded_at is null))
);

-- Serve the candidate's inbox, the invitations of a referral (which all are its broker's), and the foreign keys.
create index matches_candidate_user_id_idx on agreement.matches (candidate_user_id, id);
create index matches_candidate_broker_id_idx on agreement.matches (candidate_broker_id);
create index matches_referral_id_broker_id_idx on agreement.matches (referral_id, broker_id, id);
create index matches_invited_by_idx on agreement.matches (invited_by);

comment on table agreement.matches is 'Invitations of an agent of another broker to take a referral.';

create table agreement.agreements (
    id uuid primary key default shared.uuidv7(),
    referral_id uuid not null,
    match_id uuid references agreement.matches (id) on delete restrict,
    from_broker_id uuid not null,
    to_broker_id uuid not null references agreement.brokers (id) on delete restrict,
    region text[] not null,
    fee_rate numeric(7, 4) not null default 25,     -- percent of the commission
    protect_days integer not null default 90,
    status agreement.agreement_status not null default 'draft',
    version integer not null default 1,
    envelope_id text,           -- the signing service's, with the time it reports
    signed_at timestamptz,
    created_by uuid not null references shared.users (id) on delete restrict,
    created_at timestamptz not null default shared.clock(),
    effective_at timestamptz,
    constraint agreements_referral_id_from_broker_id_fkey foreign key (referral_id, from_broker_id)
        references agreement.referrals (id, broker_id) on delete restrict,
    constraint agreements_match_id_key unique (match_id),
    constraint agreements_one_per_envelope unique (envelope_id),
    constraint agreements_between_two_brokers check (from_broker_id <> to_broker_id),
    constraint agreements_fee_rate_is_a_percentage check (fee_rate between 0 and 100),
    constraint agreements_protect_days_is_reasonable check (protect_days between 0 and 3650),
    constraint agreements_envelope_id_is_present check (envelope_id ~ '\S' and length(envelope_id) <= 255),
    constraint agreements_signature_is_whole check ((envelope_id is null) = (signed_at is null)),
    constraint agreements_signed_by_effectiveness check (isfinite(signed_at) and signed_at <= effective_at),
    constraint agreements_signed_in_readable_time check (signed_at >= '1900-01-01 00:00:00+00'),
    -- A void or closed agreement may have been effective or not: both histories are legal.
    constraint agreements_effective_since_signed check (
        case
            when status in ('draft', 'pending_signature') then effective_at is null
            when status in ('effective', 'success', 'disputed') then effective_at is not null
            else true
        end
    )
);

create unique index agreements_one_live_per_referral on agreement.agreements (referral_id)
where status in ('pending_signature', 'effective', 'disputed');

-- Serve each party's list, who cancels a referral, and the foreign keys.
create index agreements_from_broker_id_idx on agreement.agreements (from_broker_id, id);
create index agreements_to_broker_id_idx on agreement.agreements (to_broker_id, id);
create index agreements_referral_id_from_broker_id_idx on agreement.agreements (referral_id, from_broker_id, id);
create index agreements_created_by_idx on agreement.agreements (created_by);

comment on table agreement.agreements is 'What two brokers agreed on about one referral.';
comment on index agreement.agreements_one_live_per_referral is
    'Axiom A1: a referral has at most one live agreement. Live is pending_signature, effective or disputed; of racing writers one wins, on every path.';
comment on constraint agreements_signed_by_effectiveness on agreement.agreements is
    'Axiom A3: business time is the database''s. A reported signature does not lie in the future.';
comment on constraint agreements_effective_since_signed on agreement.agreements is
    'Axiom A3: business time is the database''s. An agreement has an effective_at from its signature on and not before.';

create table agreement.transitions (
    from_status agreement.agreement_status not null,
    to_status agreement.agreement_status not null,
    event_type agreement.event_type not null,
    constraint transitions_pkey primary key (from_status, to_status)
);

comment on table agreement.transitions is
    'Axiom A8: an agreement moves only along the state machine. These are its edges, each with the event that tells of it.';

insert into agreement.transitions (from_status, to_status, event_type)
values
    ('draft', 'pending_signature', 'ESIGN_REQUESTED'),
    ('draft', 'void', 'AGREEMENT_STATUS_CHANGED'),
    ('pending_signature', 'effective', 'ESIGN_COMPLETED'),             -- by the signing service alone
    ('pending_signature', 'void', 'AGREEMENT_STATUS_CHANGED'),
    ('effective', 'success', 'AGREEMENT_STATUS_CHANGED'),
    ('effective', 'disputed', 'DISPUTE_OPENED'),                       -- by opening a dispute
    ('effective', 'void', 'AGREEMENT_STATUS_CHANGED'),
    ('effective', 'closed', 'AGREEMENT_STATUS_CHANGED'),
    ('disputed', 'effective', 'DISPUTE_RESOLVED'),                     -- dismissed
    ('disputed', 'void', 'DISPUTE_RESOLVED'),                          -- upheld
    ('disputed', 'closed', 'DISPUTE_RESOLVED'),                        -- withdrawn by who opened it
    ('success', 'closed', 'AGREEMENT_STATUS_CHANGED'),
    ('void', 'closed', 'AGREEMENT_STATUS_CHANGED');

create table agreement.referral_transitions (
    from_status agreement.referral_status not null,
    to_status agreement.referral_status not null,
    constraint referral_transitions_pkey primary key (from_status, to_status)
);

comment on table agreement.referral_transitions is
    'Axiom A8: a referral moves with its agreement, or is cancelled before it is signed. These are its edges.';

insert into agreement.referral_transitions (from_status, to_status)
values
    ('open', 'matched'), ('matched', 'open'), ('matched', 'signed'), ('signed', 'closed'),
    ('open', 'cancelled'), ('matched', 'cancelled');

-- The lock and the end of each chain: an append takes this row, so appends to one agreement queue, to others do not.
create table agreement.timeline_heads (
    agreement_id uuid primary key references agreement.agreements (id) on delete restrict,
    seq integer not null,
    recorded_at timestamptz not null,
    hash bytea not null,
    constraint timeline_heads_hash_is_sha256 check (octet_length(hash) = 32)
-- Half of each page is free, so that a head moves within its own: no index entry, and the next one prunes the dead.
) with (fillfactor = 50);

comment on table agreement.timeline_heads is
    'Axiom A4: the timeline is gapless and hash-chained. The last event''s number, time and hash; granted to nobody, moved by the timeline''s trigger.';

-- By month of the agreement, so that a partition holds whole chains and every key and check stays within it. The
-- agreement's id is a UUIDv7 of the database's, and its first 48 bits are the time; no role may choose one.
-- 0800_partitions makes the months; what belongs to none is caught, also what follows on a month that was archived.
create table agreement.timeline_events (
    agreement_id uuid not null references agreement.agreements (id) on delete restrict,
    seq integer not null,
    id uuid not null,
    type agreement.event_type not null,
    payload jsonb not null default '{}',
    occurred_at timestamptz not null,
    recorded_at timestamptz not null,
    -- The proved actor: both null but for the credential's kind when the signing service speaks.
    credential_kind shared.credential_kind not null,
    credential_id uuid,
    user_id uuid,
    organization_id uuid,
    impersonator_id uuid,   -- who acted as the user
    -- The parties stand in each event, so that its policy compares and does not join.
    from_broker_id uuid not null,
    to_broker_id uuid not null,
    corrects_seq integer,
    previous_hash bytea not null,
    hash bytea not null,
    constraint timeline_events_gapless primary key (agreement_id, seq),
    -- That no two have one id is the outbox's to say, where each event has its message under it.
    constraint timeline_events_correction_cites check ((type = 'CORRECTION_ADDED') = (corrects_seq is not null)),
    -- A foreign key would say no more, and would not see a month that was archived.
    constraint timeline_events_correction_looks_back check (corrects_seq between 1 and seq - 1),
    constraint timeline_events_payload_is_an_object check (jsonb_typeof(payload) = 'object'),
    constraint timeline_events_occurred_by_recording check (isfinite(occurred_at) and occurred_at <= recorded_at),
    -- Years before Christ, to which an offset can lead, are beyond RFC 3339: none could read the timeline any more.
    constraint timeline_events_occurred_in_readable_time check (occurred_at >= '1900-01-01 00:00:00+00')
) partition by range (agreement_id);

create table partitions.timeline_events_default partition of agreement.timeline_events default;

-- Serve a party's feed across agreements, in order of recording.
create index timeline_events_from_broker_id_idx on agreement.timeline_events (from_broker_id, id);
create index timeline_events_to_broker_id_idx on agreement.timeline_events (to_broker_id, id);

comment on table agreement.timeline_events is 'What happened to each agreement, as it was recorded.';
comment on constraint timeline_events_gapless on agreement.timeline_events is
    'Axiom A4: the timeline is written once, gapless 1..n per agreement. No two events share a number.';
comment on constraint timeline_events_correction_cites on agreement.timeline_events is
    'Axiom A4: the timeline is written once. A correction says what it corrects, and nothing else does.';
comment on constraint timeline_events_correction_looks_back on agreement.timeline_events is
    'Axiom A4: the timeline is written once. A mistake is mended by a correction, which cites an earlier number of the same agreement; the numbers have no gap, so there is such an event.';
comment on constraint timeline_events_occurred_by_recording on agreement.timeline_events is
    'Axiom A3: business time is the database''s. Nothing is recorded before it occurred.';

-- As in shared: months that are archived keep their constraints.
-- Waived primary_keys: archive.timeline_events. Its partitions have theirs.
create table archive.timeline_events (like agreement.timeline_events) partition by range (agreement_id);

comment on table archive.timeline_events is 'Whole chains of agreements of archived months, up to the archiving.';

create view archive.all_timeline_events with (security_invoker = true) as
select * from agreement.timeline_events union all select * from archive.timeline_events;

comment on view archive.all_timeline_events is 'Every event, archived or not.';

create table agreement.contact_reads (
    id uuid primary key default shared.uuidv7(),
    agreement_id uuid not null references agreement.agreements (id) on delete restrict,
    user_id uuid not null references shared.users (id) on delete restrict,
    organization_id uuid not null references agreement.brokers (id) on delete restrict,
    purpose text not null,
    granted_at timestamptz not null default shared.clock(),
    granted_in xid8 not null default pg_current_xact_id(),
    consumed_at timestamptz,
    constraint contact_reads_purpose_is_present check (purpose ~ '\S' and length(purpose) <= 500),
    constraint contact_reads_consumed_after_grant check (consumed_at >= granted_at)
);

-- Serve "who read this contact", and the foreign keys.
create index contact_reads_agreement_id_idx on agreement.contact_reads (agreement_id, id);
create index contact_reads_user_id_idx on agreement.contact_reads (user_id);
create index contact_reads_organization_id_idx on agreement.contact_reads (organization_id);

comment on table agreement.contact_reads is 'Grants to read a contact once: who, why, when, and when it was used.';

create table agreement.disputes (
    id uuid primary key default shared.uuidv7(),
    agreement_id uuid not null references agreement.agreements (id) on delete restrict,
    reason text not null,
    opened_by uuid not null references shared.users (id) on delete restrict,
    opened_by_broker_id uuid not null references agreement.brokers (id) on delete restrict,
    opened_at timestamptz not null default shared.clock(),
    outcome agreement.dispute_outcome,
    note text,
    resolved_by uuid references shared.users (id) on delete restrict,
    resolved_at timestamptz,
    constraint disputes_reason_is_present check (reason ~ '\S' and length(reason) <= 4000),
    constraint disputes_note_is_bounded check (length(note) <= 4000),
    constraint disputes_resolved_whole check (num_nonnulls(outcome, resolved_by, resolved_at) in (0, 3))
);

create unique index disputes_one_open_per_agreement on agreement.disputes (agreement_id) where outcome is null;

-- Serve the foreign keys; the first also finds the latest dispute of an agreement.
create index disputes_agreement_id_idx on agreement.disputes (agreement_id, id);
create index disputes_opened_by_idx on agreement.disputes (opened_by);
create index disputes_opened_by_broker_id_idx on agreement.disputes (opened_by_broker_id);
create index disputes_resolved_by_idx on agreement.disputes (resolved_by);

comment on table agreement.disputes is 'Complaints of a party, and how they ended.';
comment on index agreement.disputes_one_open_per_agreement is
    'Axiom A12: a dispute governs the money. One at a time, so that it is clear which.';
comment on constraint disputes_resolved_whole on agreement.disputes is
    'Axiom A12: a dispute governs the money. An outcome has its judge and its time.';

create table agreement.invoices (
    id uuid primary key default shared.uuidv7(),
    agreement_id uuid not null references agreement.agreements (id) on delete restrict,
    amount numeric(14, 2) not null,
    currency text not null,
    status agreement.invoice_status not null default 'issued',
    created_by uuid not null references shared.users (id) on delete restrict,
    created_at timestamptz not null default shared.clock(),
    settled_at timestamptz,
    constraint invoices_amount_is_positive check (amount > 0 and amount < 'Infinity'),
    constraint invoices_currency_is_iso4217 check (currency ~ '^[A-Z]{3}$'),
    constraint invoices_settled_is_dated check ((status in ('paid', 'written_off')) = (settled_at is not null))
);

create index invoices_agreement_id_idx on agreement.invoices (agreement_id, id);
create index invoices_created_by_idx on agreement.invoices (created_by);

comment on table agreement.invoices is 'What one party of an agreement owes the other.';

-- The vault owns the contacts and refers to what they belong to.
grant references (id) on agreement.referrals to brokerflow_vault;
