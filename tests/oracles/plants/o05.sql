-- the event left no message
delete
from shared.outbox
where event_id = (select id from agreement.timeline_events where agreement_id = :agreement and seq = 1);

-- the event left no message
select pg_temp.forge(:agreement, 'CLIENT_CONTACTED');

-- the message tells of no event
delete from agreement.timeline_events where agreement_id = :agreement and seq = 1;

-- the message is not its event's
update shared.outbox
set payload = payload || '{"seq": 9}'
where event_id = (select id from agreement.timeline_events where agreement_id = :agreement and seq = 1);

-- the event left 2 messages
alter table shared.outbox drop constraint outbox_one_message_per_event cascade;
insert into shared.outbox (topic, event_id, payload) select topic, event_id, payload
from shared.outbox
where event_id = (select id from agreement.timeline_events where agreement_id = :agreement and seq = 1);

-- it moved to version 3, and the timeline tells of 2
update agreement.agreements set status = 'void', version = version + 1 where id = :agreement;

-- the invitation left no message
delete
from shared.outbox
where topic = 'organization.invitation';

-- it has not as many messages as were archived
insert into archive.months (table_name, month, from_id, before_id, rows)
values ('shared.outbox', '2020-01-01', shared.first_id('2020-01-01'), shared.first_id('2020-02-01'), 1);
