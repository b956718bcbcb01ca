from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT

HEAVY = ("numpy", "sklearn", "pandas", "datasets", "pyarrow", "scipy", "rich", "torch")


def run(code: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | variables, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_and_predicting_load_nothing_heavy() -> None:
    code = (
        "import sys, loopwise; loopwise.predict('Fix the flaky test');"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_the_predict_command_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['loopwise', 'predict', 'Fix the test']\n"
        "from loopwise.service.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print([m for m in {HEAVY} if m in sys.modules])"
    )
    assert run(code).strip().splitlines()[-1] == "[]"


def test_nothing_leaves_this_machine(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("title\nFix the test\n")
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from loopwise.service.cli import app\n"
        "from loopwise.training.corpus import Corpus\n"
        "Corpus.shipped()\n"
        f"arguments = ['classify', {str(tmp_path / 'in.csv')!r}, '-o', {str(tmp_path / 'out.csv')!r}]\n"
        "app(arguments, standalone_mode=False)\n"
        "app(['predict', 'Fix the test'], standalone_mode=False)\n"
    )
    run(code)
    assert (tmp_path / "out.csv").exists()


def test_serving_never_imports_training() -> None:
    offenders = []
    for folder, banned in (("model", ("training", "service")), ("service", ("training",))):
        for path in (ROOT / folder).glob("*.py"):
            for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
                at_top = line.startswith(("from ", "import "))
                if any(f"loopwise.{name}" in line for name in banned) and (at_top or "cli" not in path.name):
                    offenders.append(f"{path.name}:{number}")
    assert offenders == []


@pytest.mark.slow
def test_the_wheel_holds_the_tree_and_works_among_impostors(tmp_path: Path) -> None:
    source = tmp_path / "source"
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    links = {f"loopwise/{name}" for name in ("model", "training", "service", "data")}
    for name in filter(None, tracked):
        # A checkout without symbolic links holds small text files in their place.
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        content = b"../" + Path(name).name.encode() if name in links else (ROOT / name).read_bytes()
        (source / name).write_bytes(content)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(source),
    ]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    wheel = next(tmp_path.glob("loopwise-*.whl"))
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info" not in name}
    expected = set()
    for folder in ("loopwise", "model", "training", "service", "data"):
        prefix = "loopwise/" if folder == "loopwise" else f"loopwise/{folder}/"
        for name in filter(None, tracked):
            if name.startswith(f"{folder}/") and name not in links:
                expected.add(prefix + name.removeprefix(f"{folder}/"))
    assert held == expected

    # Installed without its dependencies beside this environment's, and run among impostors.
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    hostile = tmp_path / "hostile"
    (hostile / "model").mkdir(parents=True)
    (hostile / "model" / "__init__.py").write_text("raise RuntimeError('impostor')")
    (hostile / "service.py").write_text("raise RuntimeError('impostor')")
    code = (
        "import loopwise, sys; from loopwise import predict; print(loopwise.__file__); "
        "print(predict('Fix the flaky test').loop.label); "
        "from loopwise.training.corpus import Corpus; print(len(Corpus.shipped().rows) > 10000); "
        "from loopwise.model.vectors import WordVectors; print(len(WordVectors.shipped().words) > 1000); "
        "from loopwise.training.build import build; from loopwise.training.fit import Recipe; "
        "part = Corpus.shipped(); part = Corpus(part.rows.iloc[::40], part.lexicon[:50], part.out_of_scope); "
        "built = build(part, Recipe(), n_jobs=1); "
        "print(built.fields['corpus']['n_rows'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=hostile, env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    place, label, rows, words, trained_on = done.stdout.split()
    assert int(trained_on) > 200
    assert Path(place).is_relative_to(site)
    assert (label, rows, words) == ("code", "True", "True")


def test_every_package_folder_is_listed() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {"loopwise"}
    for folder in ("model", "training", "service", "data"):
        for init in (ROOT / folder).rglob("__init__.py"):
            found.add(".".join(["loopwise", *init.parent.relative_to(ROOT).parts]))
    assert listed == found
