-- What may be asked of the brokerage. Commands run as their caller, under his policies; they find the row that he
-- may see (or say there is none) and write. What is refused is refused by constraints, triggers and policies, which
-- hold for a plain UPDATE as well.
-- depends: 0460_contact_rules

set local role brokerflow_owner;

create function agreement.refuse_missing(what text) returns void
language sql volatile
set search_path = ''
as $$ select shared.refuse('not_found', format('no such %s', refuse_missing.what), 'no_data_found') $$;

comment on function agreement.refuse_missing(text) is 'What is not the caller''s does not exist for him.';

-- Lists below an agreement or a referral begin here, lest what is not the caller's answers as an empty list. A list
-- that joins laterally to the result cannot be planned to run before it.
create function agreement.find_agreement(id uuid) returns uuid
language plpgsql stable
set search_path = ''
as $$
begin
    if not exists (select from agreement.agreements as a where a.id = find_agreement.id) then
        perform agreement.refuse_missing('agreement');
    end if;
    return find_agreement.id;
end;
$$;

comment on function agreement.find_agreement(uuid) is 'The id of an agreement that the caller sees; what he does not see is said not to exist.';

create function agreement.find_referral(id uuid, broker_id uuid default null) returns uuid
language plpgsql stable
set search_path = ''
as $$
begin
    if not exists (
        select from agreement.referrals as r
        where r.id = find_referral.id and (find_referral.broker_id is null or r.broker_id = find_referral.broker_id)
    ) then
        perform agreement.refuse_missing('referral');
    end if;
    return find_referral.id;
end;
$$;

comment on function agreement.find_referral(uuid, uuid) is
    'The id of a referral that the caller sees, of that broker where one is named; what he does not see is said not to exist.';

create function agreement.register_broker(organization_id uuid, name text, fein text) returns agreement.brokers
language plpgsql volatile
set search_path = ''
as $$
declare
    v_broker agreement.brokers;
begin
    if shared.member_role_in(register_broker.organization_id) is null then
        perform agreement.refuse_missing('organization');
    end if;
    insert into agreement.brokers as b (id, name)
    values (register_broker.organization_id, register_broker.name)
    on conflict on constraint brokers_pkey do update set name = excluded.name
    returning b.* into v_broker;
    insert into agreement.broker_registrations (broker_id, fein)
    values (register_broker.organization_id, register_broker.fein)
    on conflict on constraint broker_registrations_pkey do update set fein = excluded.fein;
    return v_broker;
end;
$$;

comment on function agreement.register_broker(uuid, text, text) is 'Makes an organization a broker, or renames it; its owner''s right.';

create function agreement.create_referral(
    id uuid, region text[], price_min numeric, price_max numeric, property_type text, deal_type text, languages text[],
    sla_hours integer, ciphertext bytea default null, wrapped_key bytea default null
) returns agreement.referrals
language plpgsql volatile
set search_path = ''
as $$
declare
    v_referral agreement.referrals;
begin
    insert into agreement.referrals as r (
        id, broker_id, region, price_min, price_max, property_type, deal_type, languages, sla_hours, created_by
    )
    values (
        create_referral.id, shared.required_organization(shared.current_actor(), 'agreements:write'), create_referral.region,
        create_referral.price_min, create_referral.price_max, create_referral.property_type, create_referral.deal_type,
        create_referral.languages, create_referral.sla_hours, shared.current_user_id()
    )
    returning r.* into v_referral;
    if create_referral.ciphertext is not null then
        perform agreement.seal_contact(v_referral.id, create_referral.ciphertext, create_referral.wrapped_key);
    end if;
    return v_referral;
end;
$$;

comment on function agreement.create_referral(uuid, text[], numeric, numeric, text, text, text[], integer, bytea, bytea) is
    'Opens a referral, with its client''s contact where that is known. The service chooses the id, because it seals the contact to it.';

create function agreement.cancel_referral(id uuid, reason text) returns agreement.referrals
language plpgsql volatile
set search_path = ''
as $$
declare
    v_referral agreement.referrals;
begin
    -- Agreement before referral: the order in which a signature takes them, so that the two queue and do not deadlock.
    perform from agreement.agreements as a
    where a.referral_id = cancel_referral.id and a.status in ('draft', 'pending_signature')
    order by a.from_broker_id, a.id for no key update;    -- one broker, as the index has them
    update agreement.referrals as r set status = 'cancelled', cancel_reason = cancel_referral.reason
    where r.id = cancel_referral.id
    returning r.* into v_referral;
    if not found then
        perform agreement.refuse_missing('referral');
    end if;
    return v_referral;
end;
$$;

comment on function agreement.cancel_referral(uuid, text) is 'Cancels a referral that is not signed, and voids its pending agreement.';

create function agreement.invite_candidate(referral_id uuid, candidate_user_id uuid) returns agreement.matches
language plpgsql volatile
set search_path = ''
as $$
declare
    v_match agreement.matches;
begin
    if not exists (
        select from agreement.referrals as r
        where r.id = invite_candidate.referral_id and r.broker_id = shared.current_organization_id()
    ) then
        perform agreement.refuse_missing('referral');
    end if;
    insert into agreement.matches as m (referral_id, candidate_user_id)
    values (invite_candidate.referral_id, invite_candidate.candidate_user_id)
    returning m.* into v_match;
    return v_match;
end;
$$;

comment on function agreement.invite_candidate(uuid, uuid) is 'Invites an agent of another broker to take a referral.';

-- Accepting again answers with the same agreement: the second of two acceptances waits for the first, then finds
-- nothing to change. One statement where it is the first, since each asks the policies anew.
create function agreement.answer_match(referral_id uuid, id uuid, state agreement.match_state) returns agreement.matches
language plpgsql volatile
set search_path = ''
as $$
declare
    v_match agreement.matches;
begin
    update agreement.matches as m set state = answer_match.state
    where m.id = answer_match.id
        and m.referral_id = answer_match.referral_id
        and not (m.state = 'accepted' and answer_match.state = 'accepted' and m.candidate_user_id = shared.current_user_id())
    returning m.* into v_match;
    if found then
        return v_match;
    end if;
    select * into v_match
    from agreement.matches as m
    where m.id = answer_match.id and m.referral_id = answer_match.referral_id;
    if not found then
        perform agreement.refuse_missing('match');
    end if;
    return v_match;
end;
$$;

comment on function agreement.answer_match(uuid, uuid, agreement.match_state) is 'Accepts or declines an invitation, as its candidate.';

create function agreement.draft_agreement(referral_id uuid, to_broker_id uuid, fee_rate numeric, protect_days integer)
returns agreement.agreements
language plpgsql volatile
set search_path = ''
as $$
declare
    v_agreement agreement.agreements;
begin
    perform agreement.find_referral(draft_agreement.referral_id, shared.current_organization_id());
    insert into agreement.agreements as a (referral_id, from_broker_id, to_broker_id, fee_rate, protect_days)
    values (
        draft_agreement.referral_id, shared.current_organization_id(), draft_agreement.to_broker_id,
        draft_agreement.fee_rate, draft_agreement.protect_days
    )
    returning a.* into v_agreement;
    return v_agreement;
end;
$$;

comment on function agreement.draft_agreement(uuid, uuid, numeric, integer) is 'Drafts an agreement about a referral of the actor''s broker.';

-- The two columns that are granted: the status moves, and a region that differs meets its refusal.
create function agreement.change_agreement(
    id uuid, status agreement.agreement_status default null, region text[] default null, version integer default null
) returns agreement.agreements
language plpgsql volatile
set search_path = ''
as $$
declare
    v_agreement agreement.agreements;
begin
    select * into v_agreement from agreement.agreements as a where a.id = change_agreement.id for no key update;
    if not found then
        perform agreement.refuse_missing('agreement');
    end if;
    if change_agreement.version <> v_agreement.version then
        perform shared.refuse(
            'agreements_version_matches', format('the agreement is at version %s', v_agreement.version), 'object_not_in_prerequisite_state'
        );
    end if;
    update agreement.agreements as a
    set status = coalesce(change_agreement.status, a.status), region = coalesce(change_agreement.region, a.region)
    where a.id = change_agreement.id
    returning a.* into v_agreement;
    return v_agreement;
end;
$$;

comment on function agreement.change_agreement(uuid, agreement.agreement_status, text[], integer) is
    'Moves an agreement along the state machine, if it is still at the version that the caller saw.';

-- A signature that was reported before changes nothing. Crosses row security: the signing service is of no tenant and
-- sees no agreement but through this.
create function agreement.complete_signature(agreement_id uuid, signed_at timestamptz, envelope_id text) returns agreement.agreements
language plpgsql volatile security definer
set search_path = ''
as $$
declare
    v_agreement agreement.agreements;
begin
    if (shared.current_actor()).kind is distinct from 'esign' then
        perform shared.refuse('complete_signature', 'only the signing service reports a signature', 'insufficient_privilege');
    end if;
    -- No condition on the status: the state machine refuses what is not pending signature.
    update agreement.agreements as a
    set status = 'effective', signed_at = complete_signature.signed_at, envelope_id = complete_signature.envelope_id
    where a.id = complete_signature.agreement_id and a.envelope_id is distinct from complete_signature.envelope_id
    returning a.* into v_agreement;
    if found then
        return v_agreement;
    end if;
    select * into v_agreement from agreement.agreements as a where a.id = complete_signature.agreement_id;
    if not found then
        perform agreement.refuse_missing('agreement');
    end if;
    return v_agreement;
end;
$$;

comment on function agreement.complete_signature(uuid, timestamptz, text) is
    'Axiom A8: an agreement moves only along the state machine. Makes one effective, for the proved signing service only.';
revoke execute on function agreement.complete_signature(uuid, timestamptz, text) from public;

create function agreement.append_event(
    agreement_id uuid, type agreement.event_type, payload jsonb, occurred_at timestamptz default null, corrects_seq integer default null
) returns agreement.timeline_events
language plpgsql volatile
set search_path = ''
as $$
declare
    v_event agreement.timeline_events;
begin
    if not exists (select from agreement.agreements as a where a.id = append_event.agreement_id) then
        perform agreement.refuse_missing('agreement');
    end if;
    insert into agreement.timeline_events as e (agreement_id, type, payload, occurred_at, corrects_seq)
    values (append_event.agreement_id, append_event.type, append_event.payload, append_event.occurred_at, append_event.corrects_seq)
    returning e.* into v_event;
    return v_event;
end;
$$;

comment on function agreement.append_event(uuid, agreement.event_type, jsonb, timestamptz, integer) is 'Appends a party''s event to a timeline.';

create function agreement.grant_contact_read(agreement_id uuid, purpose text) returns agreement.contact_reads
language plpgsql volatile
set search_path = ''
as $$
declare
    v_read agreement.contact_reads;
begin
    if not exists (select from agreement.agreements as a where a.id = grant_contact_read.agreement_id) then
        perform agreement.refuse_missing('agreement');
    end if;
    insert into agreement.contact_reads as r (agreement_id, purpose)
    values (grant_contact_read.agreement_id, grant_contact_read.purpose)
    returning r.* into v_read;
    return v_read;
end;
$$;

comment on function agreement.grant_contact_read(uuid, text) is 'Grants one read of the client''s contact; commit it, then consume it.';

create function agreement.issue_invoice(agreement_id uuid, amount numeric, currency text) returns agreement.invoices
language plpgsql volatile
set search_path = ''
as $$
declare
    v_invoice agreement.invoices;
begin
    if not exists (select from agreement.agreements as a where a.id = issue_invoice.agreement_id) then
        perform agreement.refuse_missing('agreement');
    end if;
    insert into agreement.invoices as i (agreement_id, amount, currency)
    values (issue_invoice.agreement_id, issue_invoice.amount, issue_invoice.currency)
    returning i.* into v_invoice;
    return v_invoice;
end;
$$;

comment on function agreement.issue_invoice(uuid, numeric, text) is 'Issues an invoice under an agreement.';

create function agreement.open_dispute(agreement_id uuid, reason text) returns agreement.disputes
language plpgsql volatile
set search_path = ''
as $$
declare
    v_dispute agreement.disputes;
begin
    if not exists (select from agreement.agreements as a where a.id = open_dispute.agreement_id) then
        perform agreement.refuse_missing('agreement');
    end if;
    insert into agreement.disputes as d (agreement_id, reason)
    values (open_dispute.agreement_id, open_dispute.reason)
    returning d.* into v_dispute;
    return v_dispute;
end;
$$;

comment on function agreement.open_dispute(uuid, text) is 'Opens a dispute, as a party of an effective agreement.';

-- Agents of other brokers, the likeliest first. Crosses into the history of other tenants and lets out a score and
-- its reasons; the referral must be the actor's own.
create function agreement.rank_candidates(referral_id uuid)
returns table (user_id uuid, full_name text, broker_id uuid, broker_name text, score integer, reasons text[])
language sql stable security definer
set search_path = ''
as $$
    with wanted as (
        select r.id, r.broker_id, r.region, r.languages, r.deal_type
        from agreement.referrals as r
        where r.id = rank_candidates.referral_id and r.broker_id = shared.acting_organization('agreements:read')
    ),
    agents as (
        select distinct on (m.user_id) m.user_id, m.organization_id as broker_id, w.id as referral_id
        from wanted as w
        join shared.memberships as m on m.role >= 'agent' and m.organization_id <> w.broker_id
        join agreement.brokers as b on b.id = m.organization_id
        where not exists (
            select from shared.memberships as own where own.user_id = m.user_id and own.organization_id = w.broker_id
        )
        order by m.user_id, m.created_at, m.organization_id
    ),
    histories as (
        select
            a.user_id, a.broker_id, w.region, w.languages,
            count(*) filter (where g.status = 'success') as successes,
            count(*) filter (where g.status = 'success' and p.region && w.region) as local_successes,
            count(*) filter (where g.status = 'success' and p.languages && w.languages) as language_successes,
            count(m.id) as invitations,
            count(*) filter (where m.responded_at <= m.created_at + make_interval(hours => p.sla_hours)) as prompt_answers,
            count(*) filter (where g.status in ('pending_signature', 'effective')) as running
        from wanted as w
        cross join agents as a
        left join agreement.matches as m on m.candidate_user_id = a.user_id and m.referral_id <> w.id
        left join agreement.referrals as p on p.id = m.referral_id
        left join agreement.agreements as g on g.match_id = m.id
        group by a.user_id, a.broker_id, w.region, w.languages
    )
    select
        h.user_id, u.full_name, h.broker_id, b.name,
        (
            50
            + 10 * least(h.local_successes, 3) + 5 * least(h.language_successes, 2) + 3 * least(h.successes, 5)
            + case when h.invitations > 0 then (h.prompt_answers * 20 / h.invitations) - 10 else 0 end
            - 5 * least(h.running, 5)
        )::integer as score,
        array_remove(array[
            case when h.local_successes > 0 then format('closed %s in the same region', h.local_successes) end,
            case when h.language_successes > 0 then format('closed %s with a client of the same language', h.language_successes) end,
            case when h.successes > 0 then format('closed %s in all', h.successes) end,
            case when h.invitations > 0 then format('answered %s of %s invitations in time', h.prompt_answers, h.invitations) end,
            case when h.running > 0 then format('has %s agreements running', h.running) end,
            case when h.invitations = 0 then 'new: no invitation yet' end
        ], null)
    from histories as h
    join shared.users as u on u.id = h.user_id
    join agreement.brokers as b on b.id = h.broker_id
    order by score desc, h.user_id
    limit 50
$$;

comment on function agreement.rank_candidates(uuid) is
    'Axiom A9: nobody sees another tenant''s rows. Ranks agents of other brokers for the actor''s own referral; what leaves is a score and counts.';

revoke execute on function agreement.rank_candidates(uuid) from public;

grant execute on function
    agreement.refuse_missing(text),
    agreement.find_agreement(uuid),
    agreement.find_referral(uuid, uuid),
    agreement.register_broker(uuid, text, text),
    agreement.create_referral(uuid, text[], numeric, numeric, text, text, text[], integer, bytea, bytea),
    agreement.cancel_referral(uuid, text),
    agreement.invite_candidate(uuid, uuid),
    agreement.answer_match(uuid, uuid, agreement.match_state),
    agreement.draft_agreement(uuid, uuid, numeric, integer),
    agreement.change_agreement(uuid, agreement.agreement_status, text[], integer),
    agreement.complete_signature(uuid, timestamptz, text),
    agreement.append_event(uuid, agreement.event_type, jsonb, timestamptz, integer),
    agreement.grant_contact_read(uuid, text),
    agreement.issue_invoice(uuid, numeric, text),
    agreement.open_dispute(uuid, text),
    agreement.rank_candidates(uuid)
to brokerflow_app;

-- Volatile on purpose: it sees what the statement that calls it has just done, which a join would not.
create function agreement.agreement_of_match(match_id uuid) returns setof agreement.agreements
language sql volatile
set search_path = ''
as $$ select a.* from agreement.agreements as a where a.match_id = agreement_of_match.match_id $$;

comment on function agreement.agreement_of_match(uuid) is 'The agreement that a match became, also within the statement that accepts it.';

grant execute on function agreement.agreement_of_match(uuid) to brokerflow_app;
