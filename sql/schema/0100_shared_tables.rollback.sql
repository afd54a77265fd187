drop table shared.audit_log;
drop table shared.outbox;
drop table shared.idempotency_keys;
drop table shared.platform_admins;
drop table shared.memberships;
drop table shared.organizations;
drop table shared.users;
drop table shared.axioms;
