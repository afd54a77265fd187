-- O1: A referral has more than one live agreement.
-- axioms: A1
select
    'referral/' || a.referral_id as subject,
    format('it has %s live agreements', count(*)) as finding,
    string_agg(a.id::text, ' ' order by a.id) as agreements
from agreement.agreements as a
where a.status in ('pending_signature', 'effective', 'disputed')
group by a.referral_id
having count(*) > 1
order by subject;
