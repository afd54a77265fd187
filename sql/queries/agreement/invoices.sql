-- name: issue_invoice(agreement_id, amount, currency)<!
-- Issue an invoice under an agreement.
-- record: Invoice
select i.id, i.agreement_id, i.amount, i.currency, i.status, i.created_by, i.created_at, i.settled_at
from agreement.issue_invoice(:agreement_id, :amount, :currency) as i;

-- name: list_invoices(agreement_id, after, limit)
-- The invoices under one agreement.
-- record: Invoice
-- optional: after
select i.id, i.agreement_id, i.amount, i.currency, i.status, i.created_by, i.created_at, i.settled_at
from agreement.find_agreement(:agreement_id) as f (agreement_id)
cross join lateral (
    select *
    from agreement.invoices as t
    where t.agreement_id = f.agreement_id and t.id > (select coalesce(:after::uuid, '00000000-0000-0000-0000-000000000000'))
    order by t.id
    limit :limit
) as i
order by i.id;

-- name: settle_invoice(id, status)^
-- Record that an invoice is paid or written off.
-- record: Invoice
update agreement.invoices as i
set status = :status
where i.id = :id
returning i.id, i.agreement_id, i.amount, i.currency, i.status, i.created_by, i.created_at, i.settled_at;
