-- What actors do over SQL, as the service's role: plain statements where a role may make them, for the rules hold on
-- every path, and commands where there is no other.

-- name: refer(mark)
-- Open a referral.
insert into agreement.referrals (broker_id, region, price_min, price_max, property_type, deal_type, sla_hours, created_by)
values (
    shared.current_organization_id(), array['Lakeside'], 350000, 520000, :mark, 'purchase', 48, shared.current_user_id()
)
returning id;

-- name: invite(referral_id, candidate_user_id)
-- Invite a candidate.
insert into agreement.matches (referral_id, candidate_user_id)
values (:referral_id, :candidate_user_id)
returning id;

-- name: answer(id, state)
-- Answer an invitation.
update agreement.matches as m set state = :state
where m.id = :id
returning m.id;

-- name: agreement_of(match_id)
-- What an accepted invitation became.
select a.id as agreement_id, a.version
from agreement.agreements as a
where a.match_id = :match_id;

-- name: draft(referral_id, to_broker_id, fee_rate)
-- Draft an agreement.
insert into agreement.agreements (referral_id, from_broker_id, to_broker_id, fee_rate)
values (:referral_id, shared.current_organization_id(), :to_broker_id, :fee_rate)
returning id, version;

-- name: sign(agreement_id, envelope_id)
-- Report a signature, as the signing service.
select a.id, a.status
from agreement.complete_signature(:agreement_id, shared.clock(), :envelope_id) as a;

-- name: move(id, status)
-- Move an agreement by a party's word.
update agreement.agreements as a set status = :status
where a.id = :id
returning a.id, a.status, a.version;

-- name: grant_read(agreement_id, purpose)
-- Ask for a read of the client's contact.
insert into agreement.contact_reads (agreement_id, purpose)
values (:agreement_id, :purpose)
returning id;

-- name: consume_read(id)
-- Use the grant, in another transaction.
select c.referral_id
from agreement.consume_contact_read(:id) as c;

-- name: append(agreement_id, type, payload, occurred_at, corrects_seq)
-- Append an event.
-- optional: occurred_at, corrects_seq
insert into agreement.timeline_events (agreement_id, type, payload, occurred_at, corrects_seq)
values (:agreement_id, :type, :payload, :occurred_at, :corrects_seq)
returning id, seq;

-- name: dispute(agreement_id, reason)
-- Open a dispute.
insert into agreement.disputes (agreement_id, reason)
values (:agreement_id, :reason)
returning id;

-- name: judge(id, outcome, note)
-- Decide a dispute.
update agreement.disputes as d set outcome = :outcome, note = :note
where d.id = :id
returning d.id;

-- name: invoice(agreement_id, amount)
-- Issue an invoice.
insert into agreement.invoices (agreement_id, amount, currency)
values (:agreement_id, :amount, 'USD')
returning id;

-- name: settle(id, status)
-- Settle an invoice.
update agreement.invoices as i set status = :status
where i.id = :id
returning i.id;

-- name: cancel(id, reason)
-- Cancel a referral.
update agreement.referrals as r set status = 'cancelled', cancel_reason = :reason
where r.id = :id
returning r.id;

-- name: vote(api_identifier)
-- Vote for an API.
insert into vote.votes (api_identifier)
values (:api_identifier)
returning api_identifier;

-- name: look_at(agreement_id)
-- Look at an agreement, its events and who read its contact.
select a.id
from agreement.agreements as a
where a.id = :agreement_id
union all
select e.id
from agreement.timeline_events as e
where e.agreement_id = :agreement_id
union all
select r.id
from agreement.contact_reads as r
where r.agreement_id = :agreement_id;

-- name: seal()
-- What an entrance wrote down of the actor.
select current_setting('brokerflow.actor') as seal;

-- name: forge(seal)
-- Write down an actor by hand.
select set_config('brokerflow.actor', :seal, true) as seal;
