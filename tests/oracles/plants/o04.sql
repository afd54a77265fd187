-- a read was told that was not granted
select pg_temp.forge(:agreement, 'PII_VIEWED', payload => '{"read_id": "none"}');

-- a read was told that was not granted
delete from agreement.contact_reads where id = :read;

-- a grant was not told to the timeline
select pg_temp.forge_grant(:agreement);

-- the grant is not its teller's
update agreement.contact_reads set user_id = :stranger where id = :read;

-- it was granted before effectiveness
update agreement.contact_reads set granted_at = granted_at - interval '1 day', consumed_at = null where id = :read;

-- it was granted before effectiveness
select pg_temp.forge_read(:draft);

-- it was granted while void
select pg_temp.forge_read(:void_after_effective);

-- it was used outside its minute
update agreement.contact_reads set consumed_at = granted_at + interval '2 minutes' where id = :read;

-- the audit log has no row of it
delete from shared.audit_log where action = 'agreement.pii_viewed' and subject = 'agreement/' || :agreement;

-- the audit log has no row of it
update shared.audit_log
set user_id = :stranger
where action = 'agreement.pii_viewed' and subject = 'agreement/' || :agreement;
