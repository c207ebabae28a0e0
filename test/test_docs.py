"""The documentation against the code."""

import json
from dataclasses import fields
from pathlib import Path

from pave_ros import catalogue, models
from pave_ros.ros.camera import PARAMETERS
from pave_ros.ros.parameters import rows
from pave_ros.ros.stream import PUBLISHERS
from pave_ros.training.config import TrainingConfig

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "node.md").read_text()


def test_every_parameter_of_the_node_has_its_row() -> None:
    table = PAGE.partition("| parameter |")[2].partition("\n\n")[0]
    written = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    expected = [
        [f"`{name}`", "`" + _yaml(default) + "`", "yes" if row.run_time else "", row.description]
        for name, (default, row) in rows().items()
    ]
    assert [[*cells[:3], cells[-1]] for cells in written] == expected


def _yaml(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool | list) else str(value) or '""'


def test_every_topic_of_the_node_is_named() -> None:
    for topic, _, _ in PUBLISHERS:
        assert f"| `{topic}` |" in PAGE


def test_every_parameter_of_the_camera_has_its_row() -> None:
    page = (DOCS / "camera.md").read_text()
    for name, default, text in PARAMETERS:
        assert f"| `{name}` | `{_yaml(default)}` | {text} |\n" in page


def test_every_setting_of_a_training_is_named() -> None:
    page = (DOCS / "training.md").read_text()
    assert [field.name for field in fields(TrainingConfig) if f"`{field.name}`" not in page] == []


def test_the_page_of_the_models_has_the_numbers_of_the_code() -> None:
    page = (DOCS / "models.md").read_text()
    assert _cells(page, "| model | parameters |") == [[f"`{name}`", *cells] for name, *cells in catalogue.rows()], (
        "python -m pave_ros.catalogue prints the tables"
    )
    assert _cells(page, "| system | good for |") == [
        [f"`{name}`: {system.title}", system.good_for, system.keypoint_score]
        for name, system in catalogue.SYSTEMS.items()
    ]


def test_every_model_is_in_the_catalogue() -> None:
    assert [row[0] for row in catalogue.rows()] == models.names()
    assert set(catalogue.SYSTEMS) == set(models.SYSTEMS)
    assert set(catalogue.AP) <= set(models.names())


def _cells(page: str, head: str) -> list[list[str]]:
    table = head + page.partition(head)[2].partition("\n\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
