"""Before everything: where a command meets the shell, each error ends it with one message and a status, and no traceback.

    if __name__ == "__main__":
        with ended():
            main(sys.argv[1:])

A command that a contract, a file or the machine refuses ends with status 2, an interrupted one with 130. Our own mistakes end with
70, and the message names the line that made them. HYDRA_FULL_ERROR=1 lets every error through as it is.
"""

from __future__ import annotations

import contextlib
import errno
import linecache
import os
import re
import select
import sys
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from mdm import extras
from mdm.owned import OWNED, explain_owned

ROOT = Path(__file__).resolve().parents[1]
"""The repository, or the folder that the package was installed into, beside others."""

FULL = os.environ.get("HYDRA_FULL_ERROR") == "1"
"""Whether errors are wanted whole; as it was at the start, since `silence_hydra` sets the variable."""

REFUSED, MISTAKE, INTERRUPTED, CLOSED = 2, 70, 130, 141
"""Statuses; the last is that of a process whose reader has gone, as `| head` does."""


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """Run a command's work; whatever it raises becomes a message on stderr and a SystemExit. SystemExit itself passes."""
    try:
        yield
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:
        if FULL:
            raise
        text, status = describe_error(error)
        if not flush_stdout():
            drop_stdout()
        if text:
            print(text, file=sys.stderr)
        raise SystemExit(status) from None


def silence_hydra() -> None:
    """Let Hydra pass its errors on to `exit_on_error` instead of printing them, with a traceback for any that are not its own."""
    os.environ["HYDRA_FULL_ERROR"] = "1"


def flush_stdout() -> bool:
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        return False
    return True


def is_reader_gone() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no file at all
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


def drop_stdout() -> None:
    """Send stdout nowhere: what could not be written would fail again at exit, and Python would complain once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ---- messages


def describe_error(error: BaseException) -> tuple[str, int]:
    """The message for an error, and the status that the command ends with."""
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted. What was finished is kept; the same command goes on from there.", INTERRUPTED
    if isinstance(error, BrokenPipeError) and is_reader_gone():
        return "", CLOSED
    text = explain_error(error)
    if text is None:
        return f"{describe_mistake(error)}\n(HYDRA_FULL_ERROR=1 shows all of it.)", MISTAKE
    return f"{escape_controls(text)}\n(HYDRA_FULL_ERROR=1 shows where.)", REFUSED


def format_error(error: BaseException) -> str:
    """An error in a line or a few, for those who list several."""
    return escape_controls(explain_error(error) or describe_mistake(error))


def explain_error(error: BaseException) -> str | None:
    """What went wrong and what to do about it; None for an error that nobody foresaw, which is our own mistake."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    if isinstance(error, HydraException | OmegaConfBaseException):
        return explain_hydra(error)
    if isinstance(error, YAMLError):
        return f"A YAML file must be well formed, but one is not: {join_lines(str(error))}; correct it."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's is of a GPU
        of = f"{find_place(error) or 'This'} needs more memory than there is"
        cause = f" ({join_lines(str(error))[:300]})" if str(error) else ""
        return f"{of}{cause}; use smaller batches, less data, or less at once."
    if isinstance(error, BrokenProcessPool):
        return "A worker was killed, as happens when memory runs out, and its pool with it; try again with fewer at once."
    if isinstance(error, OSError):
        return explain_system(error)
    if type(error) is RuntimeError and re.search(r"inline_container|PytorchStreamWriter", str(error)):  # torch.save's words
        return explain_system(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), find_place(error) or "A checkpoint"))
    if isinstance(error, ValueError) or type(error) is RuntimeError:
        return str(error) if str(error) and find_origin(error).deliberate else None
    return None


def explain_hydra(error: BaseException) -> str:
    """Hydra's message, and OmegaConf's below it, in one line, without its advice or with ours in its place."""
    whole = join_lines(" – ".join(str(one) for one in (error, error.__cause__) if one is not None and str(one)))
    owned = re.search(r"Could not override 'trainer\.(\w+)'", whole)
    if owned and any(owned[1] in names.split() for names in OWNED):
        return explain_owned(owned[1])
    for pattern, ours in HYDRA:
        whole = re.sub(pattern, ours, whole)
    lost = re.search(r"Could not find '(\w+)/[^']*'", whole)
    if lost:
        whole += f"; {lost[1]}= may be {', '.join(list_options(lost[1], str(error))) or 'nothing'}"
    if SLURM_LACKS in whole:
        return extras.format_missing("hydra_plugins.hydra_submitit_launcher", "hydra/launcher=slurm")
    return f"Arguments are key=value for keys and options of configs/, but: {whole[:1500]}. See `mdm train --help`."


def list_options(group: str, text: str) -> list[str]:
    """What a group offers in all folders of the search path, which Hydra lists in its message; not what its files share."""
    folders = [Path(folder) / group for folder in re.findall(r"path=file://(.+)", text)]
    names = {file.relative_to(folder).with_suffix("").as_posix() for folder in folders for file in folder.rglob("*.yaml")}
    return sorted(name for name in names if not name.startswith("base/"))


SLURM_LACKS = "hydra/launcher/submitit_slurm"
"""What Hydra cannot find where the launcher's package is not installed."""


HYDRA = (
    (r" Available options in .*", ""),
    (r" Config search path:.*", ""),
    (r" To append to your config use \S+", ""),
    (r" See https://hydra.cc\S* for details", ""),
    (r"\. – ", ": "),
    (r" full_key: \S+", ""),
    (r" reference_type=\S+", ""),
    (r" object_type=\S+", ""),
    (r" expecting \{.*\}", ""),
    (r"LexerNoViableAltException: ", "this is none: "),
    (r"no viable alternative at input", "a value ends too early after"),
    (r"ConfigLoader is not set", "got glob(…), which no command reads; name the options, as penalty=kl,f"),
    (r"requires --multirun", "are many runs, which need mdm train -m"),
)
"""A pattern of Hydra's messages → what replaces it."""


SYSTEM = {
    errno.ENOSPC: ("needs space on its disk, but none is left", "free some, or choose another paths.outputs"),
    errno.EDQUOT: ("needs space on its disk, but the quota is used up", "free some, or choose another paths.outputs"),
    errno.EROFS: ("must be written, but lies on a disk that can only be read", "choose another paths.outputs"),
    errno.EACCES: ("must be open to this user, but is not", "change its permissions, or choose another place"),
    errno.EPERM: ("must be open to this user, but is not", "change its permissions, or choose another place"),
    errno.ENOENT: ("must be there, but is not", "correct the path"),
    errno.ENOTDIR: ("must lie in a folder, but there is a file in its place", "remove the file, or choose another place"),
    errno.EEXIST: ("must be a folder, or nothing yet, but is a file", "remove it, or choose another place"),
    errno.EISDIR: ("must be a file, but is a folder", "remove it, or choose another place"),
    errno.ENOTEMPTY: ("must be a file or empty, but is a folder that holds something", "remove it, or choose another place"),
    errno.ELOOP: ("must lead to a file, but leads round and round by links", "remove the link"),
    errno.ENAMETOOLONG: ("must have a name that its disk can hold, but it is too long", "choose a shorter name or paths.outputs"),
    errno.EMFILE: ("must be opened, but this process has too many files open", "raise `ulimit -n`, or do less at once"),
    errno.EIO: ("must be read and written, but its disk fails", "copy what can be read, and choose another place"),
    errno.ESTALE: ("must be there, but its file server has lost it", "give the command again"),
}
"""Errors of the system: what was needed and what was found, and what to do."""


def explain_system(error: OSError) -> str:
    """An OSError with the path that it is about, which the system does not say of a full disk."""
    named = error.filename2 if error.filename2 is not None else error.filename
    path = os.fsdecode(named) if isinstance(named, str | bytes | os.PathLike) else find_place(error) or "A file"
    came, todo = SYSTEM.get(
        error.errno or 0, (f"must be read or written, but the system says: {join_lines(str(error))}", "see to it")
    )
    return f"{path} {came}; {todo}, and give the command again."


def describe_mistake(error: BaseException) -> str:
    """An error that nobody foresaw, with the line of ours that it came from."""
    what = f"{type(error).__name__}: {join_lines(str(error))[:500]}"
    return f"This is a mistake in mdm, not yours: {what} ({find_origin(error).line}); please report it."


def join_lines(text: str) -> str:
    return " ".join(text.split())


def escape_controls(text: str) -> str:
    """A text with control characters escaped, so that it cannot steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def join_errors(found: Sequence[str], most: int = 5) -> str:
    """Messages one below the other: the first few, and how many more there are."""
    rest = [f"… and {len(found) - most} more like these; `mdm verify` lists them."] * (len(found) > most)
    return "\n".join([*found[:most], *rest])


# ---- where it came from


@dataclass(frozen=True)
class Origin:
    """line: ``mdm/runs/build.py:80, in place``, the innermost of ours; deliberate: whether a ``raise`` of ours made the error."""

    line: str
    deliberate: bool


def find_origin(error: BaseException) -> Origin:
    """Where an error came from, in this process or in a worker, whose traceback joblib brings as text."""
    steps = [(f.filename, f.lineno or 0, f.name) for f in traceback.extract_tb(error.__traceback__)]
    if type(error.__cause__).__name__ == "_RemoteTraceback":
        steps = [
            (file, int(line), name) for file, line, name in re.findall(r'File "(.+)", line (\d+), in (\S+)', str(error.__cause__))
        ]
    ours = [step for step in steps if is_ours(step[0])]
    if not ours:
        return Origin("outside of it", False)
    file, number, name = ours[-1]
    deliberate = ours[-1] == steps[-1] and linecache.getline(file, number).lstrip().startswith("raise ")
    return Origin(f"{Path(file).relative_to(ROOT)}:{number}, in {name}", deliberate)


def is_ours(file: str) -> bool:
    path = Path(file)
    if path == Path(__file__):
        return False
    parts = path.relative_to(ROOT).parts if path.is_relative_to(ROOT) else ("",)
    return parts[0] in ("mdm", "scripts", "train.py") or (parts[0] == "hydra_plugins" and parts[-1].startswith("mdm_"))


def find_place(error: BaseException) -> str:
    """The path that the innermost of our functions worked on, from its variables ``path`` or ``folder``; empty without either."""
    found = ""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if is_ours(frame.f_code.co_filename):
            at = next((frame.f_locals[name] for name in ("path", "folder") if isinstance(frame.f_locals.get(name), Path)), None)
            found = str(at) if at is not None else found
    return found
