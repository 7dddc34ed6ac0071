"""The command line: a verb, `--config`, `--config.PATH=VALUE`, and absl flags for the rest.

    VERB --config=FILE.py[:FORM] [--config.PATH=VALUE ...] [--run_folder=...]
    VERB WORD WORD ...                          for a verb that is declared to take words in place of a configuration

`app.run(main, flags_parser=parser(verbs))` calls `main(command)`. Mistakes in flags and in the configuration are
reported together, one line each on standard error, and the exit status is 2; `--debug` shows the traceback.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import flags

from arch.spec import Spec, UserError, no_text
from experiments.config import render
from experiments.config.errors import ConfigError, hint, nearest, one_line
from experiments.config.load import load
from experiments.config.overrides import Override, apply

flags.disclaim_key_flags()  # those of `define_path` belong to the program, and to its help

HELP = {"--help", "-help", "--helpshort", "-helpshort", "-h", "-?", "--?"}


@dataclasses.dataclass(frozen=True)
class Command:
    """What the command line gives.

    Attributes:
      verb: what to do.
      spec: the resolved configuration; an empty `Spec` for a verb that takes words.
      original: the configuration as the file, or the run folder, has it.
      reference: FILE.py[:ARGUMENT], or "" if the configuration came from the run folder.
      given: the overrides as typed, by path; for `errors.spec_error_lines`.
      words: what stands after a verb that takes words.
    """

    verb: str
    spec: Spec
    original: Spec
    reference: str
    given: Mapping[str, str | None]
    words: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Words:
    """A command line taken apart: `others` are for absl."""

    verb: str | None
    reference: str | None
    overrides: tuple[Override, ...]
    others: tuple[str, ...]
    mistakes: tuple[str, ...]


def parser(
    verbs: Mapping[str, str],
    flag_values: flags.FlagValues = flags.FLAGS,
    start: Callable[[], None] = lambda: None,
    words: Mapping[str, str] | None = None,
) -> Callable[[list[str]], Command]:
    """A `flags_parser` for `app.run`.

    Args:
      verbs: name -> what it does, in one line.
      flag_values: the absl flags.
      start: called when the flags are right, before the configuration is executed and checked: the checks may ask
        for the devices, and whatever must come before the first use of a device belongs here.
      words: for the verbs that take words in place of --config: what they are, as RUN_FOLDER RUN_FOLDER ...
    """
    wordy = words or {}

    def parse(argv: list[str]) -> Command:
        if HELP & set(argv[1:]):
            print(guide(verbs, flag_values, wordy))
            sys.exit(0)
        try:
            return read(argv, verbs, flag_values, start, wordy)
        except UserError as error:
            if {"--debug", "-debug", "--debug=true"} & set(argv):
                raise
            print(error, file=sys.stderr)
            sys.exit(2)
        except (MemoryError, OverflowError) as error:
            if {"--debug", "-debug", "--debug=true"} & set(argv):
                raise
            why = one_line(error) or type(error).__name__
            print(f"the configuration is too large to be checked ({why}); take smaller numbers", file=sys.stderr)
            sys.exit(2)

    return parse


def guide(verbs: Mapping[str, str], flag_values: flags.FlagValues, wordy: Mapping[str, str]) -> str:
    """What `--help` prints."""
    width = max(map(len, verbs))
    lines = [f"  {verb:{width}}  {what}" for verb, what in verbs.items()]
    return "\n".join([
        "python launch.py VERB --config=experiments/FILE.py[:FORM] [--config.PATH=VALUE ...] [--FLAG=VALUE ...]",
        *(f"python launch.py {verb} {words} [--FLAG=VALUE ...]" for verb, words in wordy.items()),
        "",
        *lines,
        "",
        "The configuration is FILE's, or without --config that of --run_folder. Each of its fields can be changed:",
        "  --config.model.depth=12                      a number, text, true/false, None; tuples as 1,2,3",
        "  --config.model.block.norm=LayerNorm          another part by its name",
        "  --config.model.block.norm='LayerNorm(eps=1e-6)'",
        "  --config.optimizer.freeze.0=embedding        an item of a tuple, by its index",
        f"See all fields with: python launch.py {'inspect' if 'inspect' in verbs else next(iter(verbs))} --config=FILE",
        "",
        flag_values.main_module_help().strip(),
    ])  # fmt: skip


def read(
    argv: Sequence[str],
    verbs: Mapping[str, str],
    flag_values: flags.FlagValues,
    start: Callable[[], None],
    wordy: Mapping[str, str] | None = None,
) -> Command:
    """The command that `argv` (with the program's name first) gives. Raises ConfigError with all mistakes found."""
    refuse_other_bytes(argv)
    words = take_apart(argv)
    what = (wordy or {}).get(words.verb or "")
    if what is not None:
        return _read_words(argv[0], words, flag_values, start, what)
    lines = list(words.mistakes)
    if words.verb is None:
        lines.insert(0, f"say what to do: {argv[0]} {'|'.join(verbs)} --config=experiments/FILE.py")
    elif words.verb not in verbs:
        near = nearest(words.verb, verbs)
        lines.insert(0, f"{words.verb}: no such verb; " + (f"did you mean {near}?" if near else "|".join(verbs)))
    lines += parse_flags([argv[0], *words.others], flag_values)
    if words.verb not in verbs:  # a configuration may take seconds to execute
        raise ConfigError(lines)
    spec, original, causes = None, None, []
    try:
        if not lines:
            start()
        original = _original(words, flag_values)
        spec = apply(original, words.overrides)
    except UserError as error:
        causes.append(error)
        lines += str(error).splitlines()
    if spec is None or original is None or words.verb is None or lines:
        raise ConfigError(lines) from (causes[0] if causes else None)
    given = {override.path: override.text for override in words.overrides}
    return Command(words.verb, spec, original, words.reference or "", given)


def _read_words(
    program: str, words: Words, flag_values: flags.FlagValues, start: Callable[[], None], what: str
) -> Command:
    """The command of a verb that takes words; `what` says what they are."""
    verb, found = words.verb or "", list[str]()
    usage = f"{verb} {what}"
    given = ["--config"] if words.reference is not None or words.mistakes else []
    given += [f"--config.{override.path}" for override in words.overrides]
    lines = [f"{flag}: not expected here; {verb} takes no configuration: {usage}" for flag in given]
    lines += parse_flags([program, *words.others], flag_values, found)
    if not found and not lines:
        lines.append(f"{verb} needs {what.split()[0]}: {usage}")
    if lines:
        raise ConfigError(lines)
    start()
    return Command(verb, Spec(), Spec(), "", {}, tuple(map(os.path.expanduser, found)))


def _original(words: Words, flag_values: flags.FlagValues) -> Spec:
    if words.reference is not None:
        return load(words.reference).spec
    folder = flag_values["run_folder"].value if "run_folder" in flag_values else None
    if not folder:
        raise UserError(f"{words.verb} needs --config=experiments/FILE.py or the --run_folder of an earlier run")
    trust = "trust_code" in flag_values and flag_values["trust_code"].value
    return render.read(folder, trust=bool(trust))


def refuse_other_bytes(argv: Sequence[str]) -> None:
    """Raises ConfigError for words that are not UTF-8, which nothing could be done with: no prompt, no path."""
    wrong = [(word, why) for word in argv if (why := no_text(word))]
    if wrong:
        shown = [word.encode(errors="surrogateescape").decode(errors="replace") for word, _ in wrong]
        raise ConfigError(f"{word}: {why}" for word, (_, why) in zip(shown, wrong, strict=True))


class PathParser(flags.ArgumentParser[str | None]):
    """A flag that is a path: `~` is the home folder, which a shell does not see to after a `=`."""

    def parse(self, argument: str) -> str:
        return os.path.expanduser(argument)


def define_path(name: str, default: str | None, help: str, **options: Any) -> flags.FlagHolder[str | None]:
    """A flag that names a file or a folder."""
    holder: flags.FlagHolder[str | None] = flags.DEFINE(PathParser(), name, default, help, **options)
    return holder


def take_apart(argv: Sequence[str]) -> Words:
    """The verb, the configuration and its overrides out of `argv`; `--flag=value` and `--flag value` both work.

    An override that is last, or before another flag, stands alone: true. A number with a minus is a value.
    """
    rest = list(argv[1:])
    verb = rest.pop(0) if rest and not rest[0].startswith("-") else None
    reference, overrides, others, mistakes = None, [], [], []
    while rest:
        word = rest.pop(0)
        if word == "--":
            others += [word, *rest]
            break
        match = re.fullmatch(r"--?config(?:\.([^=]*))?(?:=(.*))?", word, re.DOTALL)
        if not match:
            others.append(word)
            continue
        path, text = match.groups()
        if text is None and rest and (not rest[0].startswith("-") or re.match(r"-[\d.]", rest[0])):
            text = rest.pop(0)
        if path is not None:
            overrides.append(Override(path, text))
        elif text:
            reference = text
        else:
            mistakes.append("--config: needs a file, as --config=experiments/FILE.py")
    return Words(verb, reference, tuple(overrides), tuple(others), tuple(mistakes))


def parse_flags(argv: Sequence[str], flag_values: flags.FlagValues, words: list[str] | None = None) -> list[str]:
    """Gives `argv` to absl; lines for what it does not know or refuses.

    Words that belong to no flag are added to `words`; None: they are mistakes too.
    """
    try:
        unknown: list[Any] = flag_values(list(argv), known_only=True)[1:]
    except flags.Error as error:
        return [one_line(error)]
    lines, after_unknown = [], False
    for word in unknown:
        if word.startswith("-") and word != "--":
            name = word.lstrip("-").partition("=")[0]
            lines.append(f"--{name}: no such flag{_suggestion(name, flag_values)}")
            after_unknown = "=" not in word
        else:
            if words is not None and word != "--" and not after_unknown:
                words.append(word)
            elif not after_unknown and word != "--":
                lines.append(f"{word}: not expected here; only the verb stands without --")
            after_unknown = False
    return lines


def _suggestion(name: str, flag_values: flags.FlagValues) -> str:
    head, dot, tail = name.partition(".")
    if dot:
        close = nearest(head, ["config"])
        return f"; did you mean --config.{tail if close else name}?"
    return hint(name, ["config", *flag_values]).replace("mean ", "mean --")
