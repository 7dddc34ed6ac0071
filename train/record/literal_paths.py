"""A folder is itself where its files are looked for: only the argument of `glob` is a pattern.

`epath.Path(folder).glob(pattern)` joins the two and so takes `runs/s[1]` for `runs/s1`. Orbax looks for its files that
way too: it would not find those of the one folder, and would merge and remove those of the other. Importing this makes
`glob` of local paths what that of `pathlib` is.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator

from etils.epath import gpath

_joined = gpath._GPath.glob


def _glob(self: gpath._GPath, pattern: str) -> Iterator[gpath._GPath]:
    if "://" in str(self):
        return _joined(self, pattern)
    return (type(self)(found) for found in glob.glob(self._PATH.join(glob.escape(str(self)), pattern), recursive=True))


gpath._GPath.glob = _glob
