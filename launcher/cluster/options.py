"""The words behind `launcher torchrun`: ours, torchrun's, the script and its own.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from launcher.cluster import values
from launcher.cluster.place import Said
from launcher.detect.torchrun import Option
from launcher.model.errors import BadSetting
from launcher.model.named_tuple import NamedTuple

_OURS = ("--dry-run", "--json")
_PREFIX = "PET_"  # torchrun's own variables (torch/distributed/argparse_util.py)
# What begins the script's process, which something of ours may come before.
STARTING = ("module", "no_python", "run_path")


class UnknownOption(ValueError):
    """A word that is no option of this torchrun's."""


class Words(NamedTuple):
    """What was typed, apart."""

    given: Mapping[str, Said]  # by dest; of flags "1"
    options: tuple[tuple[str, tuple[str, ...]], ...]  # dest and the words, in their order
    script: tuple[str, ...]  # and what is its own
    dry_run: bool = False
    json: bool = False


def read_words(
    words: Sequence[str], known: Mapping[str, Option], environ: Mapping[str, str]
) -> Words:
    """Tell the words apart as torchrun's own parser does; what is typed goes before PET_*.

    Raises UnknownOption, and BadSetting for a variable of a flag's that is neither yes nor no.
    """
    given = dict(_from_environment(known, environ))
    options: list[tuple[str, tuple[str, ...]]] = []
    ours: set[str] = set()
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word in _OURS:
            ours.add(word)
            continue
        name, equals, value = _split(word)
        option = _find(name, known)
        taken: tuple[str, ...] = (word,)
        if option.takes_value and not equals:
            if not rest:
                raise UnknownOption(f"argument {name}: expected one argument")
            value = rest.pop(0)
            taken = (word, value)
        options.append((option.dest, taken))
        given[option.dest] = Said(value if option.takes_value else "1", name)
    return Words(given, tuple(options), tuple(rest), bool(ours), "--json" in ours)


def _from_environment(
    known: Mapping[str, Option], environ: Mapping[str, str]
) -> Mapping[str, Said]:
    found = {}
    for option in known.values():
        name = _PREFIX + option.dest.upper()
        value = environ.get(name, "")
        if value and (option.takes_value or _is_on(name, value)):
            found[option.dest] = Said(value, name)
    return found


def _is_on(name: str, value: str) -> bool:
    """Return whether a variable turns a flag on.  Raises BadSetting: torchrun's int() would too."""
    found = values.number(value)
    if found is None:
        raise BadSetting(f"{name}={values.quoted(value)}: expected 1, or 0 for no")
    return found != 0


def empty_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return torchrun's variables that are set to nothing, of which it would die (ValueError)."""
    return tuple(name for name, value in environ.items() if name.startswith(_PREFIX) and not value)


def _split(word: str) -> tuple[str, str, str]:
    """Split "--nnodes=2" and "-t3"; underscores in a name are dashes."""
    if not word.startswith("--"):
        return word[:2], word[2:3], word[2:].removeprefix("=")
    name, equals, value = word.partition("=")
    return "--" + name[2:].replace("_", "-"), equals, value


def _find(name: str, known: Mapping[str, Option]) -> Option:
    """Return an option by its name, or by a beginning that only one has, as argparse takes it."""
    if name in known:
        return known[name]
    if name.startswith("--"):
        near = {option for other, option in known.items() if other.startswith(name)}
        if len(near) == 1:
            return near.pop()
    raise UnknownOption(f"unrecognized arguments: {name}")
