"""The code of exported folders that tests open is cached in a folder of their own."""

import os
import tempfile

os.environ.setdefault("HF_MODULES_CACHE", tempfile.mkdtemp(prefix="strata-hf-modules-"))
