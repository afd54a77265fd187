-- Where things live: one schema a domain, and nothing executable by everybody.
-- depends: 0010_roles

create schema shared authorization brokerflow_owner;
create schema apiauth authorization brokerflow_owner;
create schema secretstore authorization brokerflow_owner;
create schema agreement authorization brokerflow_owner;
create schema vote authorization brokerflow_owner;
create schema partitions authorization brokerflow_owner;
create schema archive authorization brokerflow_owner;

comment on schema shared is 'People, organizations, the sealed actor, idempotency, the outbox and the audit log.';
comment on schema apiauth is 'Credentials and the entrances that prove them.';
comment on schema secretstore is 'Secrets, their versions, and the grants to read them.';
comment on schema agreement is 'Brokers, referrals, matches, agreements, their timeline, contacts, invoices and disputes.';
comment on schema vote is 'Which APIs users want.';
comment on schema partitions is 'The months of what grows for ever, and what belongs to none of them. Usage is granted to nobody: they are reached through their tables.';
comment on schema archive is 'Months that were taken out of daily work, for the auditor alone.';

-- PostgreSQL lets PUBLIC execute every new function; here each is granted by name.
alter default privileges for role brokerflow_owner, brokerflow_guard, brokerflow_vault
    revoke execute on functions from public;

set local role brokerflow_owner;

grant usage on schema shared, apiauth to brokerflow_app, brokerflow_guard, brokerflow_vault;
grant usage on schema secretstore, agreement to brokerflow_app, brokerflow_vault;
grant usage on schema vote to brokerflow_app;
grant usage on schema shared, secretstore, agreement, vote, archive to brokerflow_auditor;

-- The guard and the vault own what only they may touch, inside the domain where it belongs.
grant create on schema shared, apiauth to brokerflow_guard;
grant create on schema secretstore, agreement to brokerflow_vault;
