-- the number is given twice
alter table agreement.timeline_events drop constraint timeline_events_gapless cascade;
select pg_temp.forge(:agreement, 'CLIENT_CONTACTED', step => 0);

-- the event before it is 1
delete from agreement.timeline_events where agreement_id = :agreement and seq = 2;

-- the event before it is 0
delete from agreement.timeline_events where agreement_id = :agreement and seq = 1;

-- it is not linked to the event before it
update agreement.timeline_events set previous_hash = sha256('x') where agreement_id = :agreement and seq = 2;

-- its hash is not that of its text
update agreement.timeline_events set payload = '{"note": "altered"}' where agreement_id = :agreement and seq = 3;

-- its hash is not that of its text
update agreement.timeline_events set user_id = gen_random_uuid() where agreement_id = :agreement and seq = 1;

-- its hash is not that of its text
update agreement.timeline_events
set occurred_at = occurred_at - interval '1 microsecond'
where agreement_id = :agreement and seq = 2;

-- the timeline has no head
delete from agreement.timeline_heads where agreement_id = :agreement;

-- the head has no timeline
delete from agreement.timeline_events where agreement_id = :agreement;

-- the head is not the end of the timeline
delete
from agreement.timeline_events
where (agreement_id, seq) = (select h.agreement_id, h.seq from agreement.timeline_heads as h where h.agreement_id = :agreement);

-- the head is not the end of the timeline
update agreement.timeline_heads set seq = seq + 1 where agreement_id = :agreement;

-- the agreement has no timeline
delete from agreement.timeline_heads where agreement_id = :agreement;
delete from agreement.timeline_events where agreement_id = :agreement;

-- it corrects no earlier event of its agreement
alter table agreement.timeline_events drop constraint timeline_events_correction_cites cascade;
update agreement.timeline_events set type = 'CORRECTION_ADDED' where agreement_id = :agreement and seq = 4;

-- it corrects no earlier event of its agreement
alter table agreement.timeline_events drop constraint timeline_events_correction_cites cascade;
update agreement.timeline_events set corrects_seq = 1 where agreement_id = :agreement and seq = 4;

-- it has not as many events as were archived
insert into archive.months (table_name, month, from_id, before_id, rows)
values ('agreement.timeline_events', '2020-01-01', shared.first_id('2020-01-01'), shared.first_id('2020-02-01'), 1);
