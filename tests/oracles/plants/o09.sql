-- trigger/agreement.timeline_events timeline_events_written_once: it is missing
drop trigger timeline_events_written_once on agreement.timeline_events;

-- trigger/agreement.timeline_events timeline_events_written_once: it is altered
alter table agreement.timeline_events disable trigger timeline_events_written_once;

-- trigger/agreement.timeline_events timeline_events_written_once: it is altered
alter table agreement.timeline_events enable replica trigger timeline_events_written_once;

-- trigger/agreement.invoices t: it is not in the manifest
create trigger t before insert on agreement.invoices for each row execute function shared.refuse_change();

-- constraint/agreement.agreements agreements_match_id_fkey: it is altered
alter table agreement.agreements disable trigger all;

-- constraint/agreement.agreements agreements_between_two_brokers: it is missing
alter table agreement.agreements drop constraint agreements_between_two_brokers;

-- constraint/agreement.agreements agreements_between_two_brokers: it is altered
alter table agreement.agreements drop constraint agreements_between_two_brokers,
add constraint agreements_between_two_brokers check (true);

-- constraint/agreement.agreements agreements_between_two_brokers: it is altered
alter table agreement.agreements drop constraint agreements_between_two_brokers,
add constraint agreements_between_two_brokers check (from_broker_id <> to_broker_id) not valid;

-- unique index/agreement.agreements agreements_one_live_per_referral: it is missing
drop index agreement.agreements_one_live_per_referral;

-- unique index/agreement.agreements agreements_one_live_per_referral: it is altered
drop index agreement.agreements_one_live_per_referral;
create unique index agreements_one_live_per_referral on agreement.agreements (referral_id)
where status = 'effective';

-- unique index/agreement.agreements agreements_one_live_per_referral: it is altered
update pg_index set indisvalid = false where indexrelid = 'agreement.agreements_one_live_per_referral'::regclass;

-- function/shared.clock(): it is altered
create or replace function shared.clock() returns timestamptz language sql volatile parallel safe as 'select now()';

-- function/shared.current_actor(): it is altered
alter function shared.current_actor() security invoker;

-- function/shared.current_actor(): it is altered
alter function shared.current_actor() reset search_path;

-- function/shared.current_actor(): it is altered
alter function shared.current_actor() owner to brokerflow_owner;

-- function/shared.clock(integer): it is not in the manifest
create function shared.clock(integer) returns integer language sql as 'select 1';

-- policy/agreement.agreements select_party: it is altered
alter policy select_party on agreement.agreements using (true);

-- policy/agreement.agreements select_party: it is altered
alter policy select_party on agreement.agreements to public;

-- policy/agreement.agreements select_all: it is not in the manifest
create policy select_all on agreement.agreements for select using (true);

-- rule/agreement.invoices r: it is not in the manifest
create rule r as on delete to agreement.invoices do instead nothing;

-- table/agreement.agreements: it is altered
alter table agreement.agreements disable row level security;

-- table/agreement.contacts: it is altered
alter table agreement.contacts no force row level security;

-- table/agreement.contacts: it is altered
alter table agreement.contacts owner to brokerflow_owner;

-- table/agreement.copies: it is not in the manifest
create table agreement.copies (id integer);

-- column/agreement.agreements.created_by: it is altered
alter table agreement.agreements alter created_by drop not null;

-- column/shared.audit_log.recorded_at: it is altered
alter table shared.audit_log alter recorded_at set default '2020-01-01';

-- column/agreement.referrals.client_email: it is not in the manifest
alter table agreement.referrals add client_email text;

-- type/shared.member_role: it is altered
alter type shared.member_role rename value 'owner' to 'boss';

-- grant on table/agreement.agreements to brokerflow_app: it is altered
grant delete on agreement.agreements to brokerflow_app;

-- grant on table/agreement.agreements to brokerflow_app: it is altered
grant select on agreement.agreements to brokerflow_app with grant option;

-- grant on table/agreement.timeline_heads to brokerflow_app: it is not in the manifest
grant update on agreement.timeline_heads to brokerflow_app;

-- grant on column/agreement.agreements.effective_at to brokerflow_app: it is not in the manifest
grant update (effective_at) on agreement.agreements to brokerflow_app;

-- grant on function/apiauth.make_seal_key() to public: it is not in the manifest
grant execute on function apiauth.make_seal_key() to public;

-- grant on schema/agreement to brokerflow_app: it is altered
grant create on schema agreement to brokerflow_app;

-- default grants/brokerflow_owner on f: it is altered
alter default privileges for role brokerflow_owner grant execute on functions to brokerflow_app;

-- role/brokerflow_app: it is altered
alter role brokerflow_app bypassrls;

-- role/brokerflow_owner: it is altered
alter role brokerflow_owner login;

-- membership/brokerflow_app in brokerflow_guard: it is not in the manifest
grant brokerflow_guard to brokerflow_app;

-- setting/session_replication_role of brokerflow_app: it is not in the manifest
alter role brokerflow_app set session_replication_role = replica;

-- setting/session_replication_role: it is altered
set local session_replication_role = replica;

-- edge/agreement from void to effective: it is not in the manifest
insert into agreement.transitions values ('void', 'effective', 'AGREEMENT_STATUS_CHANGED');

-- edge/agreement from void to closed: it is missing
delete from agreement.transitions where from_status = 'void';

-- edge/referral from closed to open: it is not in the manifest
insert into agreement.referral_transitions values ('closed', 'open');

-- partition/partitions.timeline_events_default: it lacks a rule of its table
drop trigger timeline_events_never_emptied on partitions.timeline_events_default;

-- partition/partitions.timeline_events_default: it lacks a rule of its table
alter table partitions.timeline_events_default disable trigger timeline_events_written_once;

-- partition/partitions.timeline_events_default: it lacks a rule of its table
alter table partitions.timeline_events_default enable replica trigger timeline_events_never_emptied;

-- partition/partitions.timeline_events_default: it lacks a rule of its table
alter table partitions.timeline_events_default disable row level security;

-- partition/partitions.timeline_events_default: it lacks a rule of its table
alter table partitions.timeline_events_default owner to brokerflow_guard;

-- partition/partitions.timeline_events_default: it lacks a rule of its table
alter table partitions.timeline_events_default disable trigger timeline_events_chain;

-- partition/partitions.timeline_events_default: it has what its table has not
grant select on partitions.timeline_events_default to brokerflow_app;

-- partition/partitions.timeline_events_default: it has what its table has not
grant insert (payload) on partitions.timeline_events_default to brokerflow_app;

-- partition/partitions.timeline_events_default: it has what its table has not
create policy select_all on partitions.timeline_events_default for select using (true);

-- partition/partitions.timeline_events_default: it has what its table has not
create trigger t before insert on partitions.timeline_events_default for each row execute function shared.refuse_change();

-- partition/partitions.timeline_events_default: it has what its table has not
create rule r as on delete to partitions.timeline_events_default do instead nothing;

-- partition/partitions.timeline_events_default: it has what its table has not
alter table partitions.timeline_events_default disable trigger all;

-- partition/partitions.outbox_2000_01: it lacks a rule of its table
create table partitions.outbox_2000_01 partition of shared.outbox
for values from ('00000000-0000-0000-0000-000000000000') to ('00000000-0000-7000-0000-000000000000');

-- partition/archive.outbox_2000_01: it lacks a rule of its table
create table archive.outbox_2000_01 partition of archive.outbox
for values from ('00000000-0000-0000-0000-000000000000') to ('00000000-0000-7000-0000-000000000000');

-- table/partitions.copies: it is not in the manifest
create table partitions.copies (id integer);
