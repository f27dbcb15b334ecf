"""The compose file of a team's box: its references, variables and commands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[1] / "deploy"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return document


def test_services_volumes_and_configs_exist(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        named = [v.split(":")[0] for v in service.get("volumes", ()) if v[0] not in "./$"]
        assert set(named) <= set(compose["volumes"])
        assert {c["source"] for c in service.get("configs", ())} <= set(compose["configs"])


def test_every_variable_without_a_default_is_in_the_example(compose: dict[str, Any]) -> None:
    needed = set(re.findall(r"\$\{([A-Z_]+)\}", (FOLDER / "compose.yaml").read_text()))
    lines = (FOLDER / "example.env").read_text().splitlines()
    assert needed == {line.split("=")[0] for line in lines if not line.startswith("#")}


def test_only_the_loopback_interface_is_published(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert len(ports) == 3 and all(port.startswith("127.0.0.1:") for port in ports)


def test_the_image_copies_files_that_exist() -> None:
    copied = re.findall(r"^COPY (\S+)", (FOLDER / "Dockerfile").read_text(), re.MULTILINE)
    assert copied == ["requirements.lock", "build/wheel/*.whl", "deploy/buckets.py"]
    assert all((FOLDER.parent / name).exists() for name in copied if "*" not in name)
