-- O16: A secret's versions are not numbered 1 to its latest.
-- axioms: A11
select
    'secret/' || s.id as subject,
    format('it is at version %s and has %s, the last of them %s', s.version, count(v.version), coalesce(max(v.version), 0)) as finding
from secretstore.secrets as s
left join secretstore.secret_versions as v on v.secret_id = s.id
group by s.id, s.version
having (s.version, s.version) is distinct from (count(v.version), coalesce(max(v.version), 0))
order by subject;
