"""Each oracle fires on each violation that is planted."""

import re

import pytest

from tests.oracles.conftest import ORACLES, Ask, Plant, plants, set_up
from tests.oracles.history import Scene
from tests.schema.stage import Stage

PLANTS = list(plants())


@pytest.mark.parametrize("plant", PLANTS, ids=str)
async def test_it_fires_on_a_planted_violation(stage: Stage, scene: Scene, ask: Ask, plant: Plant) -> None:
    assert await ask(plant.oracle) == []
    await set_up(stage, scene, plant)
    found = await ask(plant.oracle)
    told = {row["finding"] for row in found} | {f"{row['subject']}: {row['finding']}" for row in found}
    assert plant.finding in told


async def test_a_violation_is_told_by_its_subject(stage: Stage, scene: Scene, ask: Ask) -> None:
    await stage.unbound("update agreement.agreements set region = '{Tainan}' where id = %s", scene["agreement"])
    subject = f"agreement/{scene['agreement']}"
    assert await ask("O7") == [
        {"subject": subject, "finding": finding, "was": '["Taipei"]', "present": '["Tainan"]'}
        for finding in ("its region changed", "its region is not its referral's")
    ]


@pytest.mark.parametrize("name", [name for name in ORACLES if name != "O9"])
def test_every_finding_of_an_oracle_is_planted(name: str) -> None:
    planted = [plant.finding for plant in PLANTS if plant.oracle == name]
    text = re.sub(r"--.*", "", ORACLES[name].sql)
    unplanted = [
        sentence
        for sentence in findings(text)
        if not any(re.fullmatch(pattern(sentence), finding) for finding in planted)
    ]
    assert unplanted == []


def findings(text: str) -> list[str]:
    """Return what an oracle may say: its sentences of two words and more, as they stand in the SQL."""
    return [
        literal.replace("''", "'")
        for literal in re.findall(r"'((?:[^']|'')*)'", text)
        if re.fullmatch(r"(?:%s|[a-z_]+).* .+", literal) and not literal.startswith("brokerflow timeline")
    ]


def pattern(sentence: str) -> str:
    """Turn format's placeholders into what may stand there."""
    return ".+".join(re.escape(part) for part in sentence.split("%s"))
