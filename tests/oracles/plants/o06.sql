-- the invoice went from frozen to paid
select pg_temp.log_step(:disputed_invoice, 'paid');
update agreement.invoices set status = 'paid', settled_at = now() where id = :disputed_invoice;

-- the invoice went from invalidated to paid
select pg_temp.log_step(:upheld_invoice, 'paid');
update agreement.invoices set status = 'paid', settled_at = now() where id = :upheld_invoice;

-- the invoice began as paid
select pg_temp.log_step(:draft, 'paid');

-- the invoice is paid, and the audit log says frozen
update agreement.invoices set status = 'paid', settled_at = now() where id = :disputed_invoice;

-- the invoice is invalidated, and the audit log says nothing
delete from shared.audit_log where detail ->> 'invoice_id' = :upheld_invoice::text;

-- the invoice is frozen without an open dispute
update agreement.disputes
set outcome = 'upheld', resolved_by = :judge, resolved_at = now()
where id = :disputed_dispute;

-- the invoice is not frozen by its dispute
update agreement.invoices set status = 'issued', settled_at = null where id = :disputed_invoice;
select pg_temp.log_step(:disputed_invoice, 'issued');

-- the invoice is invalidated without an upheld dispute
update agreement.disputes set outcome = 'dismissed' where id = :upheld_dispute;

-- the invoice is issued under an upheld dispute
update agreement.disputes set outcome = 'upheld' where id = :withdrawn_dispute;
update agreement.invoices set status = 'issued', settled_at = null where id = :withdrawn_invoice;

-- a dispute is open, and the agreement is effective
update agreement.agreements set status = 'effective' where id = :disputed;

-- a dispute was upheld, and the agreement is effective
update agreement.agreements set status = 'effective' where id = :upheld;

-- the timeline tells otherwise of the dispute
update agreement.disputes set opened_by = :stranger where id = :disputed_dispute;

-- the timeline tells otherwise of the dispute
update agreement.disputes set outcome = 'dismissed' where id = :withdrawn_dispute;

-- the dispute was withdrawn by another than its opener
update agreement.disputes set opened_by_broker_id = :referrer_broker where id = :withdrawn_dispute;

-- a party judged the dispute
update shared.memberships set created_at = created_at - interval '1 day' where user_id = :judge;

-- a party judged the dispute
update agreement.timeline_events
set organization_id = to_broker_id
where type = 'DISPUTE_RESOLVED' and agreement_id = :upheld;

-- a party judged the dispute
update agreement.disputes set resolved_by = opened_by where id = :upheld_dispute;
update agreement.timeline_events set user_id = :referee where type = 'DISPUTE_RESOLVED' and agreement_id = :upheld;

-- it is disputed, with 0 open disputes
update agreement.agreements set status = 'disputed' where id = :effective;

-- a party judged the dispute
update agreement.timeline_events set impersonator_id = :judge where agreement_id = :upheld and seq = 1;
