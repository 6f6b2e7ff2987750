"""The command `es-rerank dashboards` writes the file, or installs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from es_rerank.cli import main
from es_rerank.dashboards.shipped import shipped
from tests.dashboards.fake_server import FakeServer, serving

if TYPE_CHECKING:
    from pathlib import Path


def test_export_writes_the_shipped_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bytes are those of the package, and the command says where to import them."""
    file = tmp_path / "boards.ndjson"
    assert main(["dashboards", "export", str(file)]) == 0
    assert file.read_bytes() == shipped()
    assert "Saved objects" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "says"), [("boards.json", "end in .ndjson"), ("no/boards.ndjson", "can't be written")]
)
def test_a_file_that_can_not_be_written_is_refused(
    name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that no server imports, and a folder that is missing, are misuses."""
    assert main(["dashboards", "export", str(tmp_path / name)]) == 2
    assert says in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_install_logs_in_with_the_password_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The password is taken from the environment, and the number of objects is printed."""
    monkeypatch.setenv("ES_RERANK_INGEST_PASSWORD", "secret")
    with serving(FakeServer(product="opensearch", authorization="Basic YW5uOnNlY3JldA==")) as server:
        assert main(["dashboards", "install", server.url, "--user", "ann", "--tenant", "global"]) == 0
    assert f"{len(shipped().splitlines())} objects installed" in capsys.readouterr().out


def test_a_failed_install_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    """What the server refuses is an error on standard error."""
    with serving(FakeServer(product="kibana", forbids=True)) as server:
        assert main(["dashboards", "install", server.url]) == 1
    assert "es-rerank: http" in capsys.readouterr().err


def test_a_space_and_a_tenant_are_two_products(capsys: pytest.CaptureFixture[str]) -> None:
    """Both at once are a misuse."""
    with pytest.raises(SystemExit) as ended:
        main(["dashboards", "install", "http://localhost:5601", "--space", "a", "--tenant", "b"])
    assert ended.value.code == 2
    assert "not allowed with" in capsys.readouterr().err
