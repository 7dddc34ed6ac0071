"""The configuration front end: from `--config=FILE.py:FORM --config.model.depth=12` to a checked Spec, or to lines
that say all that is wrong.

    load         finds and executes the configuration file
    annotations  what a type allows
    values       text -> value of an annotated type
    parts        a part by its name, among the subclasses of the annotated type
    overrides    `--config.PATH=VALUE` onto frozen specs, all problems at once
    rebuild      the tree of specs anew, from the leaves to the root
    errors       a SpecError, wherever it was raised, as lines with the path in the configuration
    flags        the command line, on absl
    stored       a configuration as JSON and back
    render       a configuration as text, in a run folder and in the terminal
    golden       golden files of every experiment's configuration and parameters
"""
