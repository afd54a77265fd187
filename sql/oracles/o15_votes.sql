-- O15: A user has two votes for one API.
-- axioms: A13
select
    'user/' || v.user_id as subject,
    format('he has %s votes for %s', count(*), v.api_identifier) as finding
from vote.votes as v
group by v.user_id, v.api_identifier
having count(*) > 1
order by subject, finding;
