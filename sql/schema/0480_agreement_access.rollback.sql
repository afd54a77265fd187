revoke all on
    agreement.brokers, agreement.broker_registrations, agreement.referrals, agreement.matches, agreement.agreements,
    agreement.transitions, agreement.referral_transitions, agreement.timeline_heads, agreement.timeline_events, agreement.contact_reads, agreement.disputes, agreement.invoices,
    archive.timeline_events, archive.all_timeline_events
from brokerflow_app, brokerflow_auditor;

drop policy select_auditor on agreement.invoices;
drop policy select_auditor on agreement.disputes;
drop policy select_auditor on agreement.contact_reads;
drop policy select_auditor on archive.timeline_events;
drop policy select_auditor on agreement.timeline_events;
drop policy select_auditor on agreement.timeline_heads;
drop policy select_auditor on agreement.agreements;
drop policy select_auditor on agreement.matches;
drop policy select_auditor on agreement.referrals;
drop policy select_auditor on agreement.broker_registrations;
drop policy select_auditor on agreement.brokers;
drop policy update_party on agreement.invoices;
drop policy insert_party on agreement.invoices;
drop policy select_party on agreement.invoices;
drop policy update_judge on agreement.disputes;
drop policy insert_party on agreement.disputes;
drop policy select_party on agreement.disputes;
drop policy insert_party on agreement.contact_reads;
drop policy select_party on agreement.contact_reads;
drop policy insert_party on agreement.timeline_events;
drop policy select_party on agreement.timeline_events;
drop policy select_anyone on agreement.referral_transitions;
drop policy select_anyone on agreement.transitions;
drop policy update_party on agreement.agreements;
drop policy insert_owner on agreement.agreements;
drop policy select_party on agreement.agreements;
drop policy update_either on agreement.matches;
drop policy insert_broker on agreement.matches;
drop policy select_candidate on agreement.matches;
drop policy select_broker on agreement.matches;
drop policy update_broker on agreement.referrals;
drop policy insert_broker on agreement.referrals;
drop policy select_candidate on agreement.referrals;
drop policy select_broker on agreement.referrals;
drop policy update_owner on agreement.broker_registrations;
drop policy insert_owner on agreement.broker_registrations;
drop policy select_member on agreement.broker_registrations;
drop policy update_owner on agreement.brokers;
drop policy insert_owner on agreement.brokers;
drop policy select_anyone on agreement.brokers;

alter table agreement.invoices disable row level security;
alter table agreement.disputes disable row level security;
alter table agreement.contact_reads disable row level security;
alter table archive.timeline_events disable row level security;
alter table agreement.timeline_events disable row level security;
alter table agreement.timeline_heads disable row level security;
alter table agreement.referral_transitions disable row level security;
alter table agreement.transitions disable row level security;
alter table agreement.agreements disable row level security;
alter table agreement.matches disable row level security;
alter table agreement.referrals disable row level security;
alter table agreement.broker_registrations disable row level security;
alter table agreement.brokers disable row level security;
