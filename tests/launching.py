"""launch.py in this process, as from the command line, with no flag left from the call before."""

from absl import flags

import launch as program
from experiments.config.flags import parser


def launched(*words: object) -> int:
    """The exit status of `python launch.py WORDS...`."""
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        if flags.FLAGS[name].present and not name.startswith("config"):
            flags.FLAGS[name].unparse()
    verbs = {name: what for name, (_, what) in program.COMMANDS.items()}
    try:
        return program.main(parser(verbs, words=program.WORDS)(["launch.py", *map(str, words)]))
    except SystemExit as end:
        return end.code
