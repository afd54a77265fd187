-- Who may see and touch what in the brokerage. The policy stands before the grant; what is not granted is said.
--
-- A party is `in (from_broker_id, to_broker_id)` rather than one or the other, since the seal is then verified once.
-- depends: 0470_agreement_commands

set local role brokerflow_owner;

alter table agreement.brokers enable row level security;
alter table agreement.broker_registrations enable row level security;
alter table agreement.referrals enable row level security;
alter table agreement.matches enable row level security;
alter table agreement.agreements enable row level security;
alter table agreement.transitions enable row level security;
alter table agreement.referral_transitions enable row level security;
alter table agreement.timeline_heads enable row level security;
alter table agreement.timeline_events enable row level security;
alter table archive.timeline_events enable row level security;
alter table agreement.contact_reads enable row level security;
alter table agreement.disputes enable row level security;
alter table agreement.invoices enable row level security;

-- Brokers know each other by name; a broker is made and renamed by the organization's owner. Delete is not granted.
create policy select_anyone on agreement.brokers for select to brokerflow_app
using ((select (shared.current_actor()).kind) not in ('public_key', 'esign'));
create policy insert_owner on agreement.brokers for insert to brokerflow_app
with check (shared.can_administer(id, 'owner'));
create policy update_owner on agreement.brokers for update to brokerflow_app
using (shared.can_administer(id, 'owner'));
grant select, insert (id, name), update (name) on agreement.brokers to brokerflow_app;

create policy select_member on agreement.broker_registrations for select to brokerflow_app
using (broker_id = any ((select shared.current_organization_ids())::uuid[]));
create policy insert_owner on agreement.broker_registrations for insert to brokerflow_app
with check (shared.can_administer(broker_id, 'owner'));
create policy update_owner on agreement.broker_registrations for update to brokerflow_app
using (shared.can_administer(broker_id, 'owner'));
grant select, insert (broker_id, fein), update (fein) on agreement.broker_registrations to brokerflow_app;

-- A referral is its broker's; a candidate sees the one he is invited to. Cancelling is the only change a caller may
-- make: the other statuses follow the agreement. Delete is not granted: referrals are cancelled, not removed.
create policy select_broker on agreement.referrals for select to brokerflow_app
using (broker_id = (select shared.acting_organization('agreements:read')));
-- Waived policies_side_by_side: agreement.referrals for r to brokerflow_app. Whose it is and who is asked to take it are two.
create policy select_candidate on agreement.referrals for select to brokerflow_app
using (
    exists (
        select from agreement.matches as m
        where m.referral_id = referrals.id and m.candidate_user_id = (select shared.acting_user('agreements:read'))
    )
);
create policy insert_broker on agreement.referrals for insert to brokerflow_app
with check (
    broker_id = (select shared.acting_organization('agreements:write'))
    and created_by = (select shared.current_user_id())
);
create policy update_broker on agreement.referrals for update to brokerflow_app
using (broker_id = (select shared.acting_organization('agreements:write')))
with check (status = 'cancelled');
grant select,
    insert (id, broker_id, region, price_min, price_max, property_type, deal_type, languages, sla_hours, created_by),
    update (status, cancel_reason)
on agreement.referrals to brokerflow_app;

-- Both sides see an invitation. Who answers is a trigger's question, so that the wrong side is refused by name.
-- Waived policies_without_an_index: agreement.matches select_broker. They are asked for by referral, and that has one.
create policy select_broker on agreement.matches for select to brokerflow_app
using (broker_id = (select shared.acting_organization('agreements:read')));
-- Waived policies_side_by_side: agreement.matches for r to brokerflow_app. Who asks and who is asked are two.
create policy select_candidate on agreement.matches for select to brokerflow_app
using (candidate_user_id = (select shared.acting_user('agreements:read')));
create policy insert_broker on agreement.matches for insert to brokerflow_app
with check (broker_id = (select shared.acting_organization('agreements:write')));
create policy update_either on agreement.matches for update to brokerflow_app
using (
    broker_id = (select shared.acting_organization('agreements:write'))
    or candidate_user_id = (select shared.current_user_id())
);
grant select, insert (referral_id, candidate_user_id), update (state) on agreement.matches to brokerflow_app;

-- Status is not granted on insert: what a caller makes is a draft. Delete is not granted: agreements are closed.
create policy select_party on agreement.agreements for select to brokerflow_app
using ((select shared.acting_organization('agreements:read')) in (from_broker_id, to_broker_id));
create policy insert_owner on agreement.agreements for insert to brokerflow_app
with check (from_broker_id = (select shared.acting_organization('agreements:write')));
create policy update_party on agreement.agreements for update to brokerflow_app
using ((select shared.acting_organization('agreements:write')) in (from_broker_id, to_broker_id));
grant select, insert (referral_id, from_broker_id, to_broker_id, fee_rate, protect_days), update (status, region)
on agreement.agreements to brokerflow_app;

-- The state machines are public knowledge and nobody's to change.
-- Waived policies_open_to_the_service: agreement.transitions select_anyone. The edges are no secret.
-- Waived policies_open_to_the_service: agreement.referral_transitions select_anyone. Nor are these.
create policy select_anyone on agreement.transitions for select to public using (true);
create policy select_anyone on agreement.referral_transitions for select to public using (true);
grant select on agreement.transitions, agreement.referral_transitions to brokerflow_app, brokerflow_auditor;

-- timeline_heads: nothing is granted. The chain's trigger moves it.

-- Number, time, actor and hash are not granted, so a caller's are refused; types of their own are the triggers'.
create policy select_party on agreement.timeline_events for select to brokerflow_app
using ((select shared.acting_organization('agreements:read')) in (from_broker_id, to_broker_id));
create policy insert_party on agreement.timeline_events for insert to brokerflow_app
with check (
    (select shared.acting_organization('agreements:write')) in (from_broker_id, to_broker_id)
    and type in ('CLIENT_CONTACTED', 'PROPERTY_SHOWN', 'OFFER_MADE', 'DEAL_CLOSED', 'CORRECTION_ADDED')
);
grant select, insert (agreement_id, type, payload, occurred_at, corrects_seq) on agreement.timeline_events to brokerflow_app;

-- Both parties see who read the contact. Update is not granted: the vault consumes.
create policy select_party on agreement.contact_reads for select to brokerflow_app
using (exists (select from agreement.agreements as a where a.id = agreement_id));
create policy insert_party on agreement.contact_reads for insert to brokerflow_app
with check (organization_id = (select shared.acting_organization('contacts:read')));
grant select, insert (agreement_id, purpose) on agreement.contact_reads to brokerflow_app;

-- Parties see their disputes, platform admins see all. Who judges is a trigger's question, so that a party that
-- tries is refused by name.
create policy select_party on agreement.disputes for select to brokerflow_app
using (
    (select (shared.current_actor()).is_platform_admin) and (select shared.can_use('agreements:read'))
    or exists (select from agreement.agreements as a where a.id = agreement_id)
);
create policy insert_party on agreement.disputes for insert to brokerflow_app
with check (
    opened_by_broker_id = (select shared.acting_organization('agreements:write'))
    and exists (select from agreement.agreements as a where a.id = agreement_id)
);
create policy update_judge on agreement.disputes for update to brokerflow_app
using (
    (select shared.can_use('agreements:write'))
    and (
        (select (shared.current_actor()).is_platform_admin)
        or exists (select from agreement.agreements as a where a.id = agreement_id)
    )
)
with check (outcome in ('upheld', 'dismissed'));
grant select, insert (agreement_id, reason), update (outcome, note) on agreement.disputes to brokerflow_app;

-- A caller pays or writes off; freezing and invalidating are the dispute's.
create policy select_party on agreement.invoices for select to brokerflow_app
using (exists (select from agreement.agreements as a where a.id = agreement_id));
create policy insert_party on agreement.invoices for insert to brokerflow_app
with check (
    (select shared.acting_organization('agreements:write')) is not null
    and exists (select from agreement.agreements as a where a.id = agreement_id)
);
create policy update_party on agreement.invoices for update to brokerflow_app
using (
    (select shared.acting_organization('agreements:write')) is not null
    and exists (select from agreement.agreements as a where a.id = agreement_id)
)
with check (status in ('paid', 'written_off'));
grant select, insert (agreement_id, amount, currency), update (status) on agreement.invoices to brokerflow_app;

create policy select_auditor on agreement.brokers for select to brokerflow_auditor using (true);
create policy select_auditor on agreement.broker_registrations for select to brokerflow_auditor using (true);
create policy select_auditor on agreement.referrals for select to brokerflow_auditor using (true);
create policy select_auditor on agreement.matches for select to brokerflow_auditor using (true);
create policy select_auditor on agreement.agreements for select to brokerflow_auditor using (true);
create policy select_auditor on agreement.timeline_heads for select to brokerflow_auditor using (true);
create policy select_auditor on agreement.timeline_events for select to brokerflow_auditor using (true);
create policy select_auditor on archive.timeline_events for select to brokerflow_auditor using (true);
create policy select_auditor on agreement.contact_reads for select to brokerflow_auditor using (true);
create policy select_auditor on agreement.disputes for select to brokerflow_auditor using (true);
create policy select_auditor on agreement.invoices for select to brokerflow_auditor using (true);
grant select on
    agreement.brokers, agreement.broker_registrations, agreement.referrals, agreement.matches, agreement.agreements,
    agreement.timeline_heads, agreement.timeline_events, agreement.contact_reads, agreement.disputes, agreement.invoices,
    archive.timeline_events, archive.all_timeline_events
to brokerflow_auditor;
