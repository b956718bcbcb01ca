from __future__ import annotations

import json
import re
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from loopwise.errors import LoopwiseError
from loopwise.service import plugin_bundle
from loopwise.service.plugin_bundle import MANIFEST, build_plugin, plugin_files
from tests.conftest import ROOT

SKILL = "skills/route-backlog/SKILL.md"


@pytest.fixture
def archive(tmp_path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(build_plugin(tmp_path / "dist" / "loopwise.plugin"))


def test_the_bundle_holds_the_plugin_and_nothing_else(archive: zipfile.ZipFile) -> None:
    assert archive.namelist() == [MANIFEST, ".mcp.json", "README.md", SKILL]
    for name in archive.namelist():
        assert archive.read(name) == (ROOT / "service" / "plugin" / name).read_bytes()


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    one, two = (build_plugin(tmp_path / name).read_bytes() for name in ("one.plugin", "two.plugin"))
    assert one == two


def test_the_manifest_says_what_a_client_needs(archive: zipfile.ZipFile) -> None:
    manifest = json.loads(archive.read(MANIFEST))
    assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", manifest["name"])
    assert manifest["version"] == version("loopwise")
    assert manifest["license"] == "MIT"
    assert manifest["author"]["name"]
    assert 40 < len(manifest["description"]) < 200


def test_the_server_it_starts_is_our_command(archive: zipfile.ZipFile) -> None:
    servers = json.loads(archive.read(".mcp.json"))["mcpServers"]
    assert servers == {"loopwise": {"command": "loopwise", "args": ["mcp"]}}


def test_the_skill_is_named_like_its_folder_and_says_when_to_use_it(archive: zipfile.ZipFile) -> None:
    _, head, body = archive.read(SKILL).decode().split("---\n", 2)
    fields = dict(line.split(": ", 1) for line in head.splitlines())
    assert fields["name"] == SKILL.split("/")[1]
    assert "Use when" in fields["description"]
    assert len(fields["description"]) < 1024
    for tool in ("route_task", "route_tasks", "route_backlog", "explain_task", "record_label"):
        assert f"`{tool}`" in body


def test_another_version_than_the_packages_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = plugin_files() | {MANIFEST: b'{"name": "loopwise", "version": "0.0.9"}'}
    monkeypatch.setattr(plugin_bundle, "plugin_files", lambda: stale)
    message = rf"plugin\.json: version 0\.0\.9, but the package is {re.escape(version('loopwise'))}"
    with pytest.raises(LoopwiseError, match=message):
        build_plugin(tmp_path / "stale.plugin")
    assert not (tmp_path / "stale.plugin").exists()
