-- O7: A region, or another term of an agreement, is not what its first event says.
-- axioms: A8
select
    'agreement/' || a.id as subject,
    format('its %s changed', t.term) as finding,
    e.payload ->> t.term as was,
    t.present ->> t.term as present
from agreement.agreements as a
left join archive.all_timeline_events as e on e.agreement_id = a.id and e.seq = 1
cross join lateral jsonb_build_object(
    'region', a.region, 'referral_id', a.referral_id, 'match_id', a.match_id, 'from_broker_id', a.from_broker_id,
    'to_broker_id', a.to_broker_id, 'fee_rate', a.fee_rate::text, 'protect_days', a.protect_days
) as n (terms)
cross join lateral (select k.term, n.terms from jsonb_object_keys(n.terms) as k (term)) as t (term, present)
where e.payload -> t.term is distinct from t.present -> t.term
union all
select 'agreement/' || a.id, 'its region is not its referral''s', to_jsonb(r.region)::text, to_jsonb(a.region)::text
from agreement.agreements as a
join agreement.referrals as r on r.id = a.referral_id
where a.region is distinct from r.region
order by subject, finding;
