-- Several permissive policies of one role for one command: each is asked of every row, and together they are wider than
-- any of them reads.
select format('%s for %s to %s', p.polrelid::regclass, p.polcmd, r.role::regrole) as subject,
    'policies side by side: ' || string_agg(p.polname, ', ' order by p.polname) as finding
from pg_policy as p
cross join unnest(p.polroles) as r (role)
where p.polpermissive
group by p.polrelid, p.polcmd, r.role
having count(*) > 1
order by 1
