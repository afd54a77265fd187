-- it has no actor
alter table agreement.timeline_events alter credential_kind drop not null;
update agreement.timeline_events set credential_kind = null where agreement_id = :agreement and seq = 3;

-- the signing service acts as a person
update agreement.timeline_events
set user_id = :referee
where agreement_id = :agreement and type = 'ESIGN_COMPLETED';

-- its actor is nobody
update agreement.timeline_events set user_id = null where agreement_id = :agreement and seq = 3;

-- ESIGN_COMPLETED came by session
update agreement.timeline_events
set credential_kind = 'session', credential_id = gen_random_uuid(), user_id = :referee
where agreement_id = :agreement and type = 'ESIGN_COMPLETED';

-- OFFER_MADE came by esign
update agreement.timeline_events
set credential_kind = 'esign', credential_id = null, user_id = null, organization_id = null
where agreement_id = :agreement and type = 'OFFER_MADE';

-- the invitation was accepted by another than its candidate
update agreement.timeline_events set user_id = :referrer where agreement_id = :agreement and seq = 1;

-- its actor is no party
update agreement.timeline_events
set organization_id = :stranger_broker
where agreement_id = :agreement and type = 'OFFER_MADE';

-- its actor is no party
update agreement.timeline_events set organization_id = null where agreement_id = :agreement and type = 'PII_VIEWED';

-- the audit log has no row of the event
delete from shared.audit_log where subject = 'agreement/' || :agreement and detail ->> 'seq' = '1';

-- the audit log tells of an event that is not there
delete from agreement.timeline_events where agreement_id = :agreement and seq = 1;

-- the audit log names another actor
update shared.audit_log
set user_id = :stranger
where subject = 'agreement/' || :agreement and detail ->> 'seq' = '1';

-- contact.seal was done by nobody
insert into shared.audit_log (action, subject, outcome) values ('contact.seal', 'x', 'done');

-- session.open was denied by nobody
insert into shared.audit_log (action, subject, outcome, reason) values ('session.open', 'x', 'denied', 'x');

-- contact.seal was done by who acted as another
insert into shared.audit_log (credential_kind, user_id, impersonator_id, action, subject, outcome)
values ('session', :referee, :judge, 'contact.seal', 'x', 'done');

-- agreement.offer_made was done by who had no right to act as another
insert into shared.audit_log (credential_kind, user_id, impersonator_id, action, subject, outcome)
values ('session', :referee, :referrer, 'agreement.offer_made', 'x', 'done');

-- agreement.client_contacted was done by who had no right to act as another
update shared.audit_log set recorded_at = recorded_at + interval '2 hours'
where action = 'agreement.client_contacted' and impersonator_id is not null;

-- it has not as many rows as were archived
insert into archive.months (table_name, month, from_id, before_id, rows)
values ('shared.audit_log', '2020-01-01', shared.first_id('2020-01-01'), shared.first_id('2020-02-01'), 1);
