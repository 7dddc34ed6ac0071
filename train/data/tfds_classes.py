"""TFDS imports whatever class the features.json of a prepared data set names: here, its own and those imported already.

A data set that somebody sent would run their code otherwise. A feature of one's own is imported by the configuration
that uses it.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from arch.spec import UserError


@functools.cache
def import_no_others() -> None:
    """For the rest of this process. Called before a data set is opened."""
    from tensorflow_datasets.core.features.feature import FeatureConnector

    lookup = FeatureConnector.cls_from_name.__func__

    def checked(kind: Any, name: str) -> Any:
        module = str(name).rpartition(".")[0]
        if module not in sys.modules and module.partition(".")[0] != "tensorflow_datasets":
            raise UserError(f"features.json names {name!r}, code that is not of TFDS and was not imported; if you "
                            f"trust it, import {module or 'its module'} in the configuration")  # fmt: skip
        return lookup(kind, name)

    FeatureConnector.cls_from_name = classmethod(checked)
