"""A legal history of every kind, committed step by step as the service would: no oracle may find fault with it."""

import secrets
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from tests.schema.stage import Stage, World, device_code, user_code

Scene = dict[str, Any]

PAY = "update agreement.invoices set status = %s where id = %s"
MOVE = "update agreement.agreements set status = %s where id = %s"
CONSUME = "select agreement.consume_contact_read(%s)"


async def play(world: World) -> Scene:
    """Play it all; return the ids of what tests alter afterwards."""
    async with await AsyncConnection.connect(world.app_url) as connection:
        history = History(Stage(connection, world))
        for part in (history.statuses, history.reads, history.money, history.answers, history.traces):
            await part()
            await connection.commit()
    async with await AsyncConnection.connect(world.superuser_url) as connection:
        await rotate(Stage(connection, world))
    return history.scene


async def rotate(operator: Stage) -> None:
    """Rotate the master key, as the operator does."""
    await operator.run("set local role brokerflow_vault")
    await operator.run("select secretstore.rewrap_keys('0123456789abcdef', '{}', '{}', '{}', '{}')")
    await operator.run("select agreement.rewrap_contacts('{}', '{}', '{}')")
    await operator.run("select secretstore.keep_master_key('0123456789abcdef', sha256('proof'))")


class History:
    """Tells the parts of it on one stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.given = stage.given
        self.scene: Scene = {name: person.user_id for name, person in stage.people.items()}
        self.scene |= {f"{name}_broker": person.organization_id for name, person in stage.people.items()}

    async def statuses(self) -> None:
        """Bring agreements to every status, on every way there is."""
        for status in ("draft", "pending_signature", "effective", "success", "void"):
            self.scene[status] = await self.given.agreement(status)
        for name, *steps in (
            ("void_after_effective", "void"), ("closed_after_void", "void", "closed"),
            ("closed_after_effective", "closed"), ("closed_after_success", "success", "closed"),
            ("closed_after_dispute", "disputed", "closed"),
        ):  # fmt: skip
            agreement = self.scene[name] = await self.given.agreement("effective")
            for kind in ("CLIENT_CONTACTED", "PROPERTY_SHOWN", "OFFER_MADE", "DEAL_CLOSED"):
                await self.given.event(agreement, kind)
            for step in steps:
                if step == "closed":
                    await self.stage.as_referee(MOVE, step, agreement)
                else:
                    await self.given.move(agreement, step)
            await self.given.event(agreement, by="referrer")
        await self.stage.as_referrer(
            "insert into agreement.timeline_events (agreement_id, type, corrects_seq) "
            "values (%s, 'CORRECTION_ADDED', 3)",
            self.scene["closed_after_void"],
        )

    async def reads(self) -> None:
        """Read contacts, and shred one that was read."""
        referral = self.scene["referral"] = await self.given.referral()
        await self.given.contact(referral)
        agreement = self.scene["agreement"] = await self.given.accepted(referral)
        await self.given.sign(agreement)
        await self.given.sign(agreement)
        await self.given.event(agreement, "OFFER_MADE")
        self.scene["read"] = await self._read(agreement)
        other = self.scene["shredded"] = await self.given.referral()
        await self.given.contact(other)
        await self.given.contact(other)
        former = self.scene["shredded_agreement"] = await self.given.agreement("effective", other)
        self.scene["former_read"] = await self._read(former, by="referrer")
        await self.given.grant(former)
        await self.stage.as_referrer("select agreement.shred_contact(%s)", other)
        await self.given.move(former, "void")
        lonely = await self.given.referral()
        await self.given.contact(lonely)

    async def _read(self, agreement: UUID, by: str = "referee") -> UUID:
        read = await self.given.grant(agreement, by)
        await self.stage.connection.commit()
        await self.stage.party(by)(CONSUME, read)
        await self.stage.connection.commit()
        return read

    async def _device(self) -> UUID:
        """Let machines ask: one is approved and takes its token, one is denied, one waits."""
        nobody, referrer = self.stage.as_nobody, self.stage.as_referrer
        for name in ("approved", "denied", "waiting"):
            await self.given.device(name)
            if name != "waiting":
                await referrer("select apiauth.decide_device(%s, %s)", user_code(name), name == "approved")
            await self.stage.connection.commit()
        taken = "select token_id from apiauth.redeem_device(%s, %s, 'abcd')"
        token: UUID = await nobody.value(taken, device_code("approved"), secrets.token_bytes(32))
        return token

    async def money(self) -> None:
        """Dispute with paid and unpaid invoices, and end it in every way."""
        for name, *outcomes in (
            ("disputed",), ("upheld", "upheld"), ("dismissed", "dismissed"), ("again", "dismissed", "upheld"),
            ("withdrawn",),
        ):  # fmt: skip
            agreement = self.scene[name] = await self.given.agreement("effective")
            for status in ("paid", "written_off"):
                await self.stage.as_referee(PAY, status, await self.given.invoice(agreement))
            self.scene[f"{name}_invoice"] = await self.given.invoice(agreement)
            for outcome in outcomes:
                self.scene[f"{name}_dispute"] = await self.given.dispute(agreement)
                await self.given.judged(self.scene[f"{name}_dispute"], outcome)
        await self.stage.as_referee(PAY, "paid", self.scene["dismissed_invoice"])
        self.scene["disputed_dispute"] = await self.given.dispute(self.scene["disputed"])
        self.scene["withdrawn_dispute"] = await self.given.dispute(self.scene["withdrawn"])
        await self.stage.as_referee(MOVE, "closed", self.scene["withdrawn"])
        invoice = await self.given.invoice(self.scene["success"])
        await self.stage.as_referrer(PAY, "paid", invoice)

    async def answers(self) -> None:
        """Accept, decline and cancel; bring a freed referral to an end after all."""
        referral = await self.given.referral()
        declined = await self.given.match(referral, "rival")
        await self.stage.as_rival("update agreement.matches set state = 'declined' where id = %s", declined)
        first = self.scene["accepted"] = await self.given.accepted(referral)
        await self.given.move(first, "void")
        await self.given.agreement("success", referral)
        for make in (self.given.accepted, self.given.draft, None):
            cancelled = self.scene["cancelled"] = await self.given.referral()
            if make is not None:
                await make(cancelled)
            await self.stage.as_referrer("select agreement.cancel_referral(%s, 'sold')", cancelled)
        self.scene["open"] = await self.given.referral()
        self.scene["invited"] = await self.given.match(self.scene["open"])

    async def _impersonate(self) -> None:
        """Let the judge act as the referee, be refused as him, and stop."""
        impersonator = await self.given.impersonator()
        agreement = await self.given.agreement("effective")
        await impersonator(
            "insert into agreement.timeline_events (agreement_id, type) values (%s, 'CLIENT_CONTACTED')", agreement
        )
        await impersonator("select shared.record_denial('PUT /x', '/x', 'credential_scope', null)")
        await impersonator("select apiauth.stop_impersonation(%s)", secrets.token_bytes(32))

    async def traces(self) -> None:
        """Leave what else is left: tokens that ended, denials, stored answers, people who come and go."""
        referrer = self.stage.party("referrer")
        token = await referrer.token("agreements:read", "agreements:write")
        await self.stage.connection.commit()
        await token(MOVE, "pending_signature", await self.given.draft())
        [[self.scene["token"]]] = await referrer("select id from apiauth.list_personal_tokens()")
        await referrer("select apiauth.revoke_personal_token(%s)", self.scene["token"])
        await referrer("select shared.record_denial('PATCH /x', '/x', 'agreements_follow_transitions', null)")
        await referrer(
            "insert into shared.idempotency_keys (user_id, key, route, request_digest, status, response) "
            "values (%s, 'k', 'POST /x', sha256('x'), 201, %s)",
            referrer.user_id, secrets.token_bytes(40),
        )  # fmt: skip
        await self.given.account()
        await self.given.branch(await self.given.environment("PREVIEW"))
        invitation = await self.given.invitation()
        await self.stage.as_newcomer("update shared.invitations set state = 'accepted' where id = %s", invitation)
        self.scene["device_token"] = await self._device()
        await self._impersonate()
        # The judge joins a party when all is judged.
        north = referrer.organization_id
        await referrer("select shared.add_member(%s, 'judge@example.org', 'agent')", north)
        await referrer("update shared.memberships set role = 'admin' where user_id = %s", self.scene["colleague"])
        await referrer("delete from shared.memberships where user_id = %s", self.scene["viewer"])
