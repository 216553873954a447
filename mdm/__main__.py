"""The command `mdm`: `mdm train model=lmf penalty=kl`, `mdm table experiment=mdm/table1`; `mdm --help` lists the commands."""

from __future__ import annotations

import ast
import pkgutil
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from mdm import commands
from mdm.boundary import exit_on_error


def main() -> None:
    """What the console script calls."""
    with exit_on_error():
        sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int | None:
    """Hand the arguments after the first to the command that it names; its status, None for 0.

    Raises ValueError for what is no command.
    """
    name, *rest = arguments or ["--help"]
    if name in ("-h", "--help"):
        print(render_help())
        return None
    if name == "--version":
        import mdm

        print(mdm.__version__)
        return None
    if name not in list_commands():
        raise ValueError(f"A command of mdm is one of {', '.join(list_commands())}, got {name:.60}; see `mdm --help`.")
    status: int | None = import_module(f"mdm.commands.{name}").main(rest)
    return status


def list_commands() -> list[str]:
    """The commands that there are."""
    return sorted(module.name for module in pkgutil.iter_modules(commands.__path__) if not module.name.startswith("_"))


def render_help() -> str:
    """Each command and the first line of its docstring, which is read without importing what it needs."""
    lines = [f"  {name:<10}{read_first_line(name)}" for name in list_commands()]
    usage = ["mdm <command> [key=value …]", "", *lines, "", "`mdm <command> --help` says more."]
    return "\n".join(usage)


def read_first_line(name: str) -> str:
    spec = find_spec(f"mdm.commands.{name}")
    assert spec is not None
    assert spec.origin is not None
    doc = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    return (doc or "").partition("\n")[0]


if __name__ == "__main__":
    main()
